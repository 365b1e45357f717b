//! Paths: relative to a directory, and never above it.

use volume::tree::TreeError;

use super::{Place, Vfs, error::Error, mount::Kind};

/// The longest path, in bytes.
pub(crate) const MAX_PATH: usize = 4096;

/// Follows `path` down from `base`. `..` only takes back a step of the same path.
pub(super) fn resolve(vfs: &Vfs, base: Place, path: &str) -> Result<Place, Error> {
    check(path)?;
    let mut trail = vec![base];
    for part in path.split('/') {
        let here = trail.last().copied().unwrap_or(base);
        // Also where the path only says `.`, or ends with a slash.
        if vfs.mount(here.mount)?.stat(here.node)?.kind != Kind::Directory {
            return Err(TreeError::NotDirectory.into());
        }
        match part {
            "" | "." => {}
            ".." if trail.len() == 1 => return Err(Error::Outside),
            ".." => {
                trail.pop();
            }
            name => trail.push(vfs.step(here, name)?),
        }
    }
    trail.pop().ok_or(Error::Invalid)
}

/// The directory that `path` ends in, and the name there, which need not exist. `must_be_directory` tells whether the
/// path ends with a slash.
pub(super) struct Last<'a> {
    pub(super) directory: Place,
    pub(super) name: &'a str,
    pub(super) must_be_directory: bool,
}

/// Follows `path` down to its last name.
pub(super) fn resolve_last<'a>(vfs: &Vfs, base: Place, path: &'a str) -> Result<Last<'a>, Error> {
    check(path)?;
    let trimmed = path.trim_end_matches('/');
    let (folders, name) = trimmed.rsplit_once('/').unwrap_or((".", trimmed));
    if matches!(name, "" | "." | "..") {
        return Err(Error::Invalid);
    }
    let directory = resolve(vfs, base, folders)?;
    Ok(Last { directory, name, must_be_directory: trimmed.len() < path.len() })
}

fn check(path: &str) -> Result<(), Error> {
    if path.is_empty() || path.contains('\0') {
        return Err(Error::Invalid);
    }
    if path.len() > MAX_PATH {
        return Err(Error::Tree(TreeError::NameTooLong));
    }
    if path.starts_with('/') {
        return Err(Error::Outside);
    }
    Ok(())
}
