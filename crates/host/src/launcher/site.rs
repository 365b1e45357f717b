//! The site of a process: a directory of the agent's, mode 0700, in which its back end keeps what it needs to
//! find the process again: ids, sockets, handles. It outlives the agent, and goes when the process is gone.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::process;

/// The largest file that is read back from a site, in bytes.
const MAX_FILE: usize = 1 << 20;

/// How long processes live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// They end with their agent, however that ends.
    #[default]
    WithAgent,
    /// They go on when the agent dies, is stopped or replaced, and are adopted by the next.
    BeyondAgent,
}

/// Where a process is launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    directory: PathBuf,
    life: Life,
}

/// Why a site cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct SiteError {
    path: PathBuf,
    source: io::Error,
}

impl Site {
    /// The site in a directory, which need not exist yet.
    pub fn new(directory: PathBuf, life: Life) -> Self {
        Self { directory, life }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// How long the process is to live.
    pub fn life(&self) -> Life {
        self.life
    }

    /// The path of a file in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes the directory, mode 0700, with nothing in it of an earlier launch.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn prepare(&self) -> Result<(), SiteError> {
        self.clear()?;
        let error = |source| SiteError { path: self.directory.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(error)
    }

    /// Removes the directory with all that is in it.
    ///
    /// # Errors
    /// When the operating system refuses; that there is none is no error.
    pub fn clear(&self) -> Result<(), SiteError> {
        match fs::remove_dir_all(&self.directory) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(SiteError { path: self.directory.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// Writes a file, mode 0600, whole or not at all. It need not be on the disk: a machine's end is the end of its
    /// processes.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SiteError> {
        write_whole(&self.path(name), bytes).map_err(|source| SiteError { path: self.path(name), source })
    }

    /// Reads a file back; `None` when there is none.
    ///
    /// # Errors
    /// When it is no regular file, too large, or the operating system refuses.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, SiteError> {
        match process::read_regular(&self.path(name), MAX_FILE) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(SiteError { path: self.path(name), source }),
        }
    }
}

/// Writes a file by a new one that takes its place, mode 0600.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_private_and_begins_empty() {
        let directory = tempfile::tempdir().unwrap();
        let site = Site::new(directory.path().join("sites/x"), Life::BeyondAgent);
        site.prepare().unwrap();
        site.write("handle", b"secret").unwrap();
        assert_eq!(site.read("handle").unwrap().unwrap(), b"secret");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(site.directory()), mode(&site.path("handle"))), (0o700, 0o600));
        site.prepare().unwrap();
        assert_eq!(site.read("handle").unwrap(), None);
        site.clear().unwrap();
        site.clear().unwrap();
        assert!(!site.directory().exists());
    }

    #[test]
    fn s27_links_in_a_site_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let site = Site::new(directory.path().join("x"), Life::WithAgent);
        site.prepare().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", site.path("handle")).unwrap();
        assert!(site.read("handle").is_err());
    }
}
