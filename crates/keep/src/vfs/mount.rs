//! What a part of the tree can do. Nodes are named by number; a node that is open stays until it is closed.

use volume::tree::{NodeId, Time, Times};

use super::error::Error;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has entries.
    Directory,
    /// It has bytes.
    File,
}

/// A node, described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// What it is.
    pub(crate) kind: Kind,
    /// Bytes of content; 0 of directories.
    pub(crate) size: u64,
    /// `None` where nothing is known: files of the configuration.
    pub(crate) times: Option<Times>,
    /// Which mount, and which node of it: together unique in the tree.
    pub(crate) device: u64,
    /// Which node.
    pub(crate) node: u64,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name.
    pub(crate) name: String,
    /// What has it.
    pub(crate) kind: Kind,
    /// Which node.
    pub(crate) node: u64,
}

/// A file system that can be mounted. Paths, rights and open files are not its concern.
pub(crate) trait Mount: Send + Sync {
    /// Whether everything that writes fails.
    fn is_read_only(&self) -> bool;
    /// Whether operations can wait for a disk or the network.
    fn waits(&self) -> bool;
    fn lookup(&self, directory: NodeId, name: &str) -> Result<NodeId, Error>;
    /// [`Stat::device`] is the caller's to set.
    fn stat(&self, node: NodeId) -> Result<Stat, Error>;
    fn entries(&self, directory: NodeId) -> Result<Vec<Entry>, Error>;
    fn open(&self, node: NodeId) -> Result<(), Error>;
    fn close(&self, node: NodeId);
    /// How many bytes were read: fewer than asked for only at the end.
    fn read_at(&self, node: NodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, Error>;
    /// Writes all of it; what lies between the old end and `offset` is zeros.
    fn write_at(&self, node: NodeId, offset: u64, bytes: &[u8]) -> Result<(), Error>;
    /// Writes at the end, whoever else does so at the same time.
    fn append(&self, node: NodeId, bytes: &[u8]) -> Result<(), Error>;
    fn set_size(&self, node: NodeId, size: u64) -> Result<(), Error>;
    /// Returns when everything written so far survives the end of the Keep and of its host.
    fn sync(&self) -> Result<(), Error>;
    fn set_times(&self, node: NodeId, accessed: Option<Time>, modified: Option<Time>) -> Result<(), Error>;
    fn create(&self, directory: NodeId, name: &str, kind: Kind) -> Result<NodeId, Error>;
    fn unlink(&self, directory: NodeId, name: &str) -> Result<(), Error>;
    fn remove_directory(&self, directory: NodeId, name: &str) -> Result<(), Error>;
    fn rename(&self, from: (NodeId, &str), to: (NodeId, &str)) -> Result<(), Error>;
}
