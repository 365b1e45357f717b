//! Files of the configuration: read-only, in memory, never on a disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use volume::tree::{self, MAX_NAME, NodeId, ROOT, Time, Tree, TreeError};
use zeroize::Zeroizing;

use super::{
    Files,
    error::Error,
    mount::{Entry, Kind, Mount, Stat},
    path::MAX_PATH,
};

/// Why a file of the configuration, or a mount, cannot be placed in the tree.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("file {path:?} {fault}")]
pub struct BadFile {
    /// The path as the configuration has it.
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
    /// It has an empty, `.` or `..` component, a zero byte, one of more than 255 bytes, or is longer than 4096 bytes.
    #[error("is not a plain path")]
    NotPlain,
    /// A file where another path needs a directory, or the reverse; or a file below a mount.
    #[error("is both a file and a directory")]
    Clash,
    /// More than a tree can hold.
    #[error("is one too many")]
    TooMany,
}

/// Keeps the wiping allocation alive under a [`Bytes`], so that handing out streams copies no secret.
struct Secret(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The tree of these files.
pub(crate) struct Fixed(Tree<Bytes>);

/// Builds the tree, with an empty directory for each of `mounts`: which nodes these are, in the same order.
pub(crate) fn lay_out<'a>(
    files: Files,
    mounts: impl Iterator<Item = &'a str>,
) -> Result<(Fixed, Vec<NodeId>), BadFile> {
    let mut tree = Tree::new(Time::default());
    for (path, content) in files {
        let content = tree::Kind::File(Bytes::from_owner(Secret(content)));
        place(&mut tree, &path, content).map_err(|fault| BadFile { path, fault })?;
    }
    let mut places = Vec::new();
    for path in mounts {
        let bad = |fault| BadFile { path: path.to_owned(), fault };
        places.push(place(&mut tree, path, tree::Kind::Directory(BTreeMap::new())).map_err(bad)?);
    }
    // A mount below another one would be hidden by it.
    for (place, below) in places.iter().flat_map(|a| places.iter().map(move |b| (a, b))) {
        if place != below && tree.entries(*place).is_ok_and(|entries| !entries.is_empty()) {
            return Err(BadFile { path: "mounts".to_owned(), fault: FileFault::Clash });
        }
    }
    Ok((Fixed(tree), places))
}

fn place(tree: &mut Tree<Bytes>, path: &str, content: tree::Kind<Bytes>) -> Result<NodeId, FileFault> {
    let relative = path.strip_prefix('/').ok_or(FileFault::NotAbsolute)?;
    let plain =
        |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0') && part.len() <= MAX_NAME;
    if path.len() > MAX_PATH || !relative.split('/').all(plain) {
        return Err(FileFault::NotPlain);
    }
    let (folders, name) = relative.rsplit_once('/').unwrap_or(("", relative));
    let mut directory = ROOT;
    for part in folders.split('/').filter(|part| !part.is_empty()) {
        directory = match tree.lookup(directory, part) {
            Ok(next) => next,
            Err(_) => tree
                .create(directory, part, tree::Kind::Directory(BTreeMap::new()), Time::default())
                .map_err(fault)?,
        };
    }
    tree.create(directory, name, content, Time::default()).map_err(fault)
}

fn fault(error: TreeError) -> FileFault {
    match error {
        TreeError::TooMany => FileFault::TooMany,
        _ => FileFault::Clash,
    }
}

impl Fixed {
    /// All of a file, without a copy.
    fn content(&self, node: NodeId) -> Result<&Bytes, Error> {
        Ok(self.0.file(node)?)
    }
}

impl Mount for Fixed {
    fn is_read_only(&self) -> bool {
        true
    }

    fn waits(&self) -> bool {
        false
    }

    fn lookup(&self, directory: NodeId, name: &str) -> Result<NodeId, Error> {
        Ok(self.0.lookup(directory, name)?)
    }

    fn stat(&self, node: NodeId) -> Result<Stat, Error> {
        let (kind, size) = match &self.0.node(node)?.kind {
            tree::Kind::Directory(_) => (Kind::Directory, 0),
            tree::Kind::File(content) => (Kind::File, content.len() as u64),
        };
        Ok(Stat { kind, size, times: None, device: 0, node: node.0 })
    }

    fn entries(&self, directory: NodeId) -> Result<Vec<Entry>, Error> {
        self.0
            .entries(directory)?
            .iter()
            .map(|(name, node)| Ok(Entry { name: name.clone(), kind: self.stat(*node)?.kind, node: node.0 }))
            .collect()
    }

    fn open(&self, node: NodeId) -> Result<(), Error> {
        self.0.node(node)?;
        Ok(())
    }

    fn close(&self, _node: NodeId) {}

    fn read_at(&self, node: NodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let content = self.content(node)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let rest = &content[from..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, _node: NodeId, _offset: u64, _bytes: &[u8]) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    fn append(&self, _node: NodeId, _bytes: &[u8]) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    fn set_size(&self, _node: NodeId, _size: u64) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    fn sync(&self) -> Result<(), Error> {
        Ok(())
    }

    fn set_times(&self, _node: NodeId, _: Option<Time>, _: Option<Time>) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    fn create(&self, _directory: NodeId, _name: &str, _kind: Kind) -> Result<NodeId, Error> {
        Err(Error::ReadOnly)
    }

    fn unlink(&self, _directory: NodeId, _name: &str) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    fn remove_directory(&self, _directory: NodeId, _name: &str) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }

    fn rename(&self, _from: (NodeId, &str), _to: (NodeId, &str)) -> Result<(), Error> {
        Err(Error::ReadOnly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(paths: &[&str], mounts: &[&str]) -> Option<FileFault> {
        let files = paths.iter().map(|path| ((*path).to_owned(), Zeroizing::new(Vec::new()))).collect();
        lay_out(files, mounts.iter().copied()).err().map(|bad| bad.fault)
    }

    #[test]
    fn a_path_that_is_not_plain_is_refused() {
        assert_eq!(fault(&["a"], &[]), Some(FileFault::NotAbsolute));
        for path in ["/", "/a/", "//a", "/a/../b", "/./a", "/a\0b"] {
            assert_eq!(fault(&[path], &[]), Some(FileFault::NotPlain), "{path:?}");
            assert_eq!(fault(&[], &[path]), Some(FileFault::NotPlain), "{path:?}");
        }
        assert_eq!(fault(&["/a", "/a/b"], &[]), Some(FileFault::Clash));
        assert_eq!(fault(&["/a/b", "/a.txt"], &[]), None);
    }

    #[test]
    fn nothing_is_hidden_by_a_mount() {
        assert_eq!(fault(&["/data/file"], &["/data"]), Some(FileFault::Clash));
        assert_eq!(fault(&["/data"], &["/data"]), Some(FileFault::Clash));
        assert_eq!(fault(&[], &["/data", "/data"]), Some(FileFault::Clash));
        assert_eq!(fault(&[], &["/data", "/data/inner"]), Some(FileFault::Clash));
        assert_eq!(fault(&[], &["/data/inner", "/data"]), Some(FileFault::Clash));
        assert_eq!(fault(&["/etc/x"], &["/etc/data", "/tmp"]), None);
    }
}
