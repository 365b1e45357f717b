//! A file system in the Keep's memory. It ends with the workload; nothing of it is ever on a disk.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use volume::tree::{self, NodeId, Time, Tree};
use zeroize::Zeroizing;

use super::{
    error::Error,
    mount::{Entry, Kind, Mount, Stat},
    now,
};

type Content = Zeroizing<Vec<u8>>;

/// Files in memory, at most so many bytes of content.
pub(crate) struct Tmpfs {
    max: u64,
    state: Mutex<State>,
}

struct State {
    tree: Tree<Content>,
    used: u64,
}

impl Tmpfs {
    pub(crate) fn new(max: u64) -> Self {
        Self { max, state: Mutex::new(State { tree: Tree::new(now()), used: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives a file its new length, if there is room.
    fn resize(&mut self, node: NodeId, size: u64, max: u64) -> Result<&mut Content, Error> {
        let old = self.tree.file(node)?.len() as u64;
        let used = (self.used - old).checked_add(size).ok_or(Error::TooLarge)?;
        if used > max && size > old {
            return Err(Error::NoSpace);
        }
        let size = usize::try_from(size).map_err(|_| Error::TooLarge)?;
        let content = self.tree.file_mut(node, Some(now()))?;
        if size > content.len() {
            let more = size - content.len();
            content.try_reserve(more).map_err(|_| Error::NoSpace)?;
        }
        content.resize(size, 0);
        self.used = used;
        Ok(content)
    }

    fn free(&mut self, content: Option<Content>) {
        self.used -= content.map_or(0, |content| content.len() as u64);
    }

    fn write(&mut self, node: NodeId, offset: u64, bytes: &[u8], max: u64) -> Result<(), Error> {
        let old = self.tree.file(node)?.len() as u64;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or(Error::TooLarge)?;
        let content = self.resize(node, end.max(old), max)?;
        let from = usize::try_from(offset).map_err(|_| Error::TooLarge)?;
        content[from..from + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

impl Mount for Tmpfs {
    fn is_read_only(&self) -> bool {
        false
    }

    fn waits(&self) -> bool {
        false
    }

    fn lookup(&self, directory: NodeId, name: &str) -> Result<NodeId, Error> {
        Ok(self.state().tree.lookup(directory, name)?)
    }

    fn stat(&self, node: NodeId) -> Result<Stat, Error> {
        let state = self.state();
        let found = state.tree.node(node)?;
        let (kind, size) = match &found.kind {
            tree::Kind::Directory(_) => (Kind::Directory, 0),
            tree::Kind::File(content) => (Kind::File, content.len() as u64),
        };
        Ok(Stat { kind, size, times: Some(found.times), device: 0, node: node.0 })
    }

    fn entries(&self, directory: NodeId) -> Result<Vec<Entry>, Error> {
        let state = self.state();
        let kind = |node: NodeId| match state.tree.entries(node) {
            Ok(_) => Kind::Directory,
            Err(_) => Kind::File,
        };
        let entries = state.tree.entries(directory)?;
        Ok(entries
            .iter()
            .map(|(name, node)| Entry { name: name.clone(), kind: kind(*node), node: node.0 })
            .collect())
    }

    fn open(&self, node: NodeId) -> Result<(), Error> {
        Ok(self.state().tree.open(node)?)
    }

    fn close(&self, node: NodeId) {
        let mut state = self.state();
        let content = state.tree.close(node);
        state.free(content);
    }

    fn read_at(&self, node: NodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let state = self.state();
        let content = state.tree.file(node)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let rest = &content[from..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, node: NodeId, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.state().write(node, offset, bytes, self.max)
    }

    fn append(&self, node: NodeId, bytes: &[u8]) -> Result<(), Error> {
        let mut state = self.state();
        let end = state.tree.file(node)?.len() as u64;
        state.write(node, end, bytes, self.max)
    }

    fn set_size(&self, node: NodeId, size: u64) -> Result<(), Error> {
        self.state().resize(node, size, self.max).map(drop)
    }

    fn sync(&self) -> Result<(), Error> {
        Ok(())
    }

    fn set_times(&self, node: NodeId, accessed: Option<Time>, modified: Option<Time>) -> Result<(), Error> {
        Ok(self.state().tree.set_times(node, accessed, modified, now())?)
    }

    fn create(&self, directory: NodeId, name: &str, kind: Kind) -> Result<NodeId, Error> {
        let kind = match kind {
            Kind::Directory => tree::Kind::Directory(BTreeMap::new()),
            Kind::File => tree::Kind::File(Content::default()),
        };
        Ok(self.state().tree.create(directory, name, kind, now())?)
    }

    fn unlink(&self, directory: NodeId, name: &str) -> Result<(), Error> {
        let mut state = self.state();
        let content = state.tree.unlink(directory, name, now())?;
        state.free(content);
        Ok(())
    }

    fn remove_directory(&self, directory: NodeId, name: &str) -> Result<(), Error> {
        Ok(self.state().tree.remove_directory(directory, name, now())?)
    }

    fn rename(&self, from: (NodeId, &str), to: (NodeId, &str)) -> Result<(), Error> {
        let mut state = self.state();
        let content = state.tree.rename(from, to, now())?;
        state.free(content);
        Ok(())
    }
}
