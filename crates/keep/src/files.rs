//! The workload's file system: a read-only tree in memory, made from the manifest's files. It is never on a
//! disk, and no path of the host can be named in it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use zeroize::Zeroizing;

const MAX_PATH: usize = 4096;

/// A directory or a file of the tree.
pub(crate) struct Node {
    /// Unique within the tree, for `is-same-object` and `metadata-hash`.
    pub(crate) id: u64,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    Directory(BTreeMap<String, Arc<Node>>),
    File(Bytes),
}

/// Why a file of the manifest cannot be placed in the tree.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("file {path:?} {fault}")]
pub struct BadFile {
    /// The path as the manifest has it.
    pub path: String,
    /// What is wrong with it.
    pub fault: FileFault,
}

/// What is wrong with a file's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// It does not begin with `/`.
    #[error("is not an absolute path")]
    NotAbsolute,
    /// It has an empty, `.` or `..` component, a zero byte, or is longer than 4096 bytes.
    #[error("is not a plain path")]
    NotPlain,
    /// A file where another path needs a directory, or the reverse.
    #[error("is both a file and a directory")]
    Clash,
}

/// Keeps the wiping allocation alive under a [`Bytes`], so that handing out streams copies no secret.
struct Secret(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

enum Draft {
    Directory(BTreeMap<String, Draft>),
    File(Bytes),
}

/// Builds the tree; its root is a directory.
pub(crate) fn tree(files: BTreeMap<String, Zeroizing<Vec<u8>>>) -> Result<Arc<Node>, BadFile> {
    let mut root = BTreeMap::new();
    for (path, content) in files {
        place(&mut root, &path, content).map_err(|fault| BadFile { path, fault })?;
    }
    Ok(freeze(Draft::Directory(root), &mut 0))
}

fn place(
    root: &mut BTreeMap<String, Draft>,
    path: &str,
    content: Zeroizing<Vec<u8>>,
) -> Result<(), FileFault> {
    let relative = path.strip_prefix('/').ok_or(FileFault::NotAbsolute)?;
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    if path.len() > MAX_PATH || !relative.split('/').all(plain) {
        return Err(FileFault::NotPlain);
    }
    let mut directory = root;
    let mut parts = relative.split('/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return match directory.insert(part.to_owned(), Draft::File(Bytes::from_owner(Secret(content)))) {
                None => Ok(()),
                Some(_) => Err(FileFault::Clash),
            };
        }
        let next = directory.entry(part.to_owned()).or_insert_with(|| Draft::Directory(BTreeMap::new()));
        directory = match next {
            Draft::Directory(entries) => entries,
            Draft::File(_) => return Err(FileFault::Clash),
        };
    }
    Ok(())
}

fn freeze(draft: Draft, ids: &mut u64) -> Arc<Node> {
    *ids += 1;
    let id = *ids;
    let content = match draft {
        Draft::File(bytes) => Content::File(bytes),
        Draft::Directory(entries) => {
            Content::Directory(entries.into_iter().map(|(name, entry)| (name, freeze(entry, ids))).collect())
        }
    };
    Arc::new(Node { id, content })
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    Absent,
    NotADirectory,
    /// Absolute, or above the directory that it starts from.
    Outside,
    Malformed,
}

/// Follows `path` down from `base`. There are no symbolic links, so `..` only takes back a step of the same
/// path, and can never lead above `base`.
pub(crate) fn resolve(base: &Arc<Node>, path: &str) -> Result<Arc<Node>, Lookup> {
    if path.is_empty() || path.len() > MAX_PATH || path.contains('\0') {
        return Err(Lookup::Malformed);
    }
    if path.starts_with('/') {
        return Err(Lookup::Outside);
    }
    let mut trail = vec![Arc::clone(base)];
    for part in path.split('/') {
        let here = trail.last().unwrap_or(base);
        let Content::Directory(entries) = &here.content else {
            return Err(Lookup::NotADirectory);
        };
        match part {
            "" | "." => {}
            ".." if trail.len() == 1 => return Err(Lookup::Outside),
            ".." => {
                trail.pop();
            }
            name => {
                let next = entries.get(name).cloned().ok_or(Lookup::Absent)?;
                trail.push(next);
            }
        }
    }
    trail.pop().ok_or(Lookup::Absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[&str]) -> BTreeMap<String, Zeroizing<Vec<u8>>> {
        paths.iter().map(|path| ((*path).to_owned(), Zeroizing::new(path.as_bytes().to_vec()))).collect()
    }

    fn fault(paths: &[&str]) -> Option<FileFault> {
        tree(files(paths)).err().map(|bad| bad.fault)
    }

    #[test]
    fn a_path_that_is_not_plain_is_refused() {
        assert_eq!(fault(&["a"]), Some(FileFault::NotAbsolute));
        for path in ["/", "/a/", "//a", "/a/../b", "/./a", "/a\0b"] {
            assert_eq!(fault(&[path]), Some(FileFault::NotPlain), "{path:?}");
        }
        assert_eq!(fault(&["/a", "/a/b"]), Some(FileFault::Clash));
        assert_eq!(fault(&["/a/b", "/a.txt"]), None);
    }

    #[test]
    fn no_path_leads_above_its_directory() {
        let root = tree(files(&["/d/e/f", "/top"])).unwrap();
        let d = resolve(&root, "d").unwrap();
        assert_eq!(resolve(&d, "..").err(), Some(Lookup::Outside));
        assert_eq!(resolve(&d, "e/../../top").err(), Some(Lookup::Outside));
        assert_eq!(resolve(&d, "/top").err(), Some(Lookup::Outside));
        assert_eq!(resolve(&root, "d/e/f/..").err(), Some(Lookup::NotADirectory));
        assert_eq!(resolve(&root, "d/e/f/").err(), Some(Lookup::NotADirectory));
        assert_eq!(resolve(&root, "d/x").err(), Some(Lookup::Absent));
        assert_eq!(resolve(&root, "d/../top").unwrap().id, resolve(&root, "./top").unwrap().id);
    }
}
