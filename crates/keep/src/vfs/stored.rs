//! A volume as a mount. What is wrong with the host's files is told to the Keep's log, by name; the program is told
//! that its storage failed.

use std::sync::Arc;

use volume::{Entry as VolumeEntry, Error as VolumeError, Volume, tree::NodeId, tree::Time};

use super::{
    error::Error,
    mount::{Entry, Kind, Mount, Stat},
    now,
};

/// An open volume.
pub(crate) struct Stored {
    name: String,
    volume: Arc<Volume>,
}

impl Stored {
    pub(crate) fn new(name: String, volume: Arc<Volume>) -> Self {
        Self { name, volume }
    }

    fn told<T>(&self, result: Result<T, VolumeError>) -> Result<T, Error> {
        result.map_err(|error| match error {
            VolumeError::Tree(error) => Error::Tree(error),
            VolumeError::ReadOnly => Error::ReadOnly,
            VolumeError::NoSpace => Error::NoSpace,
            VolumeError::TooLarge => Error::TooLarge,
            error => {
                let (code, remedy) = (error.code(), error.remedy());
                tracing::error!(code, volume = self.name, reason = %error, remedy, "a volume failed");
                if error == VolumeError::HostFull { Error::NoSpace } else { Error::Storage(code) }
            }
        })
    }
}

fn kind(kind: volume::Kind) -> Kind {
    match kind {
        volume::Kind::Directory => Kind::Directory,
        volume::Kind::File => Kind::File,
    }
}

impl Mount for Stored {
    fn is_read_only(&self) -> bool {
        self.volume.is_read_only()
    }

    fn waits(&self) -> bool {
        true
    }

    fn lookup(&self, directory: NodeId, name: &str) -> Result<NodeId, Error> {
        self.told(self.volume.lookup(directory, name))
    }

    fn stat(&self, node: NodeId) -> Result<Stat, Error> {
        let stat = self.told(self.volume.stat(node))?;
        Ok(Stat { kind: kind(stat.kind), size: stat.size, times: Some(stat.times), device: 0, node: node.0 })
    }

    fn entries(&self, directory: NodeId) -> Result<Vec<Entry>, Error> {
        let entries = self.told(self.volume.entries(directory))?;
        let entry = |VolumeEntry { name, kind: of, node }| Entry { name, kind: kind(of), node: node.0 };
        Ok(entries.into_iter().map(entry).collect())
    }

    fn open(&self, node: NodeId) -> Result<(), Error> {
        self.told(self.volume.hold(node))
    }

    /// Handles are dropped on async threads, and a commit can hold the volume while it waits for the network, which
    /// those threads serve: they do not wait for it.
    fn close(&self, node: NodeId) {
        let volume = Arc::clone(&self.volume);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || volume.release(node))),
            Err(_) => volume.release(node),
        }
    }

    fn read_at(&self, node: NodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        self.told(self.volume.read_at(node, offset, buffer))
    }

    fn write_at(&self, node: NodeId, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.told(self.volume.write_at(node, offset, bytes, now()))
    }

    fn append(&self, node: NodeId, bytes: &[u8]) -> Result<(), Error> {
        self.told(self.volume.append(node, bytes, now()))
    }

    fn set_size(&self, node: NodeId, size: u64) -> Result<(), Error> {
        self.told(self.volume.set_size(node, size, now()))
    }

    fn sync(&self) -> Result<(), Error> {
        self.told(self.volume.commit())
    }

    fn set_times(&self, node: NodeId, accessed: Option<Time>, modified: Option<Time>) -> Result<(), Error> {
        self.told(self.volume.set_times(node, accessed, modified, now()))
    }

    fn create(&self, directory: NodeId, name: &str, kind: Kind) -> Result<NodeId, Error> {
        let kind = match kind {
            Kind::Directory => volume::Kind::Directory,
            Kind::File => volume::Kind::File,
        };
        self.told(self.volume.create(directory, name, kind, now()))
    }

    fn unlink(&self, directory: NodeId, name: &str) -> Result<(), Error> {
        self.told(self.volume.unlink(directory, name, now()))
    }

    fn remove_directory(&self, directory: NodeId, name: &str) -> Result<(), Error> {
        self.told(self.volume.remove_directory(directory, name, now()))
    }

    fn rename(&self, from: (NodeId, &str), to: (NodeId, &str)) -> Result<(), Error> {
        self.told(self.volume.rename(from, to, now()))
    }
}
