//! The volume: names in memory, content in chunks of the data file, one commit after another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use zeroize::Zeroizing;

use crate::{
    anchor::{Anchor, Head},
    cipher::VolumeKey,
    error::Error,
    host::Host,
    record::Chunk,
    tree::{self, NodeId, Time, Times},
};

mod begin;
mod commit;
mod content;

use content::Inner;

/// Bytes of a file that are sealed together. Large enough that AES-GCM, not the host's calls, takes the time of
/// sequential reading; a write within one seals it anew.
pub const CHUNK: usize = 64 << 10;
/// The largest volume. Its metadata takes about 64 MiB of memory.
pub const MAX_SIZE: u64 = 64 << 30;

/// A file's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Content {
    pub(crate) size: u64,
    /// What is in none of them, or beyond one's length, is zeros.
    pub(crate) chunks: BTreeMap<u32, Chunk>,
}

/// How to open a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Most bytes of content, at most [`MAX_SIZE`]. A volume that has more already only shrinks.
    pub size: u64,
    /// Nothing is written, nor is the anchor moved; the volume must exist.
    pub read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { size: 1 << 30, read_only: false }
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It has entries.
    Directory,
    /// It has bytes.
    File,
}

/// A node, described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Bytes; 0 of directories.
    pub size: u64,
    /// When it was touched.
    pub times: Times,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// What has it.
    pub kind: Kind,
    /// Which node.
    pub node: NodeId,
}

/// An open volume. What is written stays after the next [`commit`](Self::commit); a volume that is dropped without one
/// is as after the last.
pub struct Volume {
    inner: Mutex<Inner>,
    read_only: bool,
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume").field("read_only", &self.read_only).finish_non_exhaustive()
    }
}

fn kind<F>(node: &tree::Node<F>) -> Kind {
    match node.kind {
        tree::Kind::Directory(_) => Kind::Directory,
        tree::Kind::File(_) => Kind::File,
    }
}

impl Volume {
    /// Opens the volume of `key` on `host`, or makes it if `anchor` has never heard of it. To be written, it is taken
    /// over: the anchor moves on, and whoever has it open elsewhere writes no more.
    ///
    /// # Errors
    /// When the host's files are not what the anchor says, each way by name; when the host or the anchor fails.
    pub fn open(
        host: impl Host + 'static,
        key: &VolumeKey,
        anchor: impl Anchor + 'static,
        options: &Options,
    ) -> Result<Self, Error> {
        let inner = begin::open(Box::new(host), key, Box::new(anchor), options)?;
        Ok(Self { inner: Mutex::new(inner), read_only: options.read_only })
    }

    /// Whether it was opened to be read.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The last acknowledged commit.
    pub fn head(&self) -> Head {
        self.inner().head
    }

    /// Bytes of content.
    pub fn used(&self) -> u64 {
        self.inner().used
    }

    /// Returns when everything that was written so far is on the host's disk, and the anchor knows.
    pub fn commit(&self) -> Result<(), Error> {
        if self.read_only {
            return Ok(());
        }
        self.inner().commit()
    }

    /// What `name` stands for.
    pub fn lookup(&self, directory: NodeId, name: &str) -> Result<NodeId, Error> {
        Ok(self.inner().tree.lookup(directory, name)?)
    }

    /// Describes a node.
    pub fn stat(&self, id: NodeId) -> Result<Stat, Error> {
        let inner = self.inner();
        let node = inner.tree.node(id)?;
        let size = inner.tree.file(id).map_or(0, |content| content.size);
        Ok(Stat { kind: kind(node), size, times: node.times })
    }

    /// The names in a directory.
    pub fn entries(&self, directory: NodeId) -> Result<Vec<Entry>, Error> {
        let inner = self.inner();
        let entries = inner.tree.entries(directory)?;
        entries
            .iter()
            .map(|(name, node)| {
                Ok(Entry { name: name.clone(), kind: kind(inner.tree.node(*node)?), node: *node })
            })
            .collect()
    }

    /// Holds a node, though its name may go.
    pub fn hold(&self, id: NodeId) -> Result<(), Error> {
        Ok(self.inner().tree.open(id)?)
    }

    /// Ends what [`hold`](Self::hold) began.
    pub fn release(&self, id: NodeId) {
        let mut inner = self.inner();
        if let Some(content) = inner.tree.close(id) {
            inner.discard(id, &content);
        }
    }

    /// Reads: how many bytes, fewer than asked for only at the end.
    pub fn read_at(&self, id: NodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        self.inner().read(id, offset, buffer)
    }

    /// Writes all of it.
    pub fn write_at(&self, id: NodeId, offset: u64, bytes: &[u8], now: Time) -> Result<(), Error> {
        let mut inner = self.writable()?;
        inner.write(id, offset, bytes, now)?;
        inner.commit_if_much()
    }

    /// Writes all of it at the end.
    pub fn append(&self, id: NodeId, bytes: &[u8], now: Time) -> Result<(), Error> {
        let mut inner = self.writable()?;
        let end = inner.tree.file(id)?.size;
        inner.write(id, end, bytes, now)?;
        inner.commit_if_much()
    }

    /// Cuts a file, or lengthens it with zeros.
    pub fn set_size(&self, id: NodeId, size: u64, now: Time) -> Result<(), Error> {
        self.writable()?.set_size(id, size, now)
    }

    /// Sets times; `None` leaves one as it is.
    pub fn set_times(
        &self,
        id: NodeId,
        accessed: Option<Time>,
        modified: Option<Time>,
        now: Time,
    ) -> Result<(), Error> {
        Ok(self.writable()?.tree.set_times(id, accessed, modified, now)?)
    }

    /// Makes an empty file or directory.
    pub fn create(&self, directory: NodeId, name: &str, kind: Kind, now: Time) -> Result<NodeId, Error> {
        let kind = match kind {
            Kind::Directory => tree::Kind::Directory(BTreeMap::new()),
            Kind::File => tree::Kind::File(Content::default()),
        };
        Ok(self.writable()?.tree.create(directory, name, kind, now)?)
    }

    /// Takes a file's name.
    pub fn unlink(&self, directory: NodeId, name: &str, now: Time) -> Result<(), Error> {
        let mut inner = self.writable()?;
        let id = inner.tree.lookup(directory, name)?;
        if let Some(content) = inner.tree.unlink(directory, name, now)? {
            inner.discard(id, &content);
        }
        inner.commit_if_much()
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, directory: NodeId, name: &str, now: Time) -> Result<(), Error> {
        Ok(self.writable()?.tree.remove_directory(directory, name, now)?)
    }

    /// Moves a node, in the place of what has the new name.
    pub fn rename(&self, from: (NodeId, &str), to: (NodeId, &str), now: Time) -> Result<(), Error> {
        let mut inner = self.writable()?;
        let replaced = inner.tree.lookup(to.0, to.1).ok();
        if let (Some(content), Some(id)) = (inner.tree.rename(from, to, now)?, replaced) {
            inner.discard(id, &content);
        }
        Ok(())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writable(&self) -> Result<MutexGuard<'_, Inner>, Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let inner = self.inner();
        match &inner.stopped {
            Some(error) => Err(error.clone()),
            None => Ok(inner),
        }
    }
}

/// Content in plaintext, wiped when it goes.
type Plaintext = Zeroizing<Vec<u8>>;
/// Chunks that are elsewhere than in the last record.
type ChangedChunks = BTreeSet<(NodeId, u32)>;
