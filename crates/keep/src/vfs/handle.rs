//! An open file or directory.

use std::sync::Arc;

use volume::tree::{Time, TreeError};

use super::{
    Place, Vfs,
    error::Error,
    mount::{Entry, Kind, Mount, Stat},
    path::{self, Last},
};

/// What a descriptor was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// Content may be read, a directory listed.
    pub(crate) read: bool,
    /// Content may be written; in a directory, names may be made and removed.
    pub(crate) write: bool,
}

/// How to open a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Open {
    /// Make a file if the name is free.
    pub(crate) create: bool,
    /// With `create`: fail if it is not.
    pub(crate) exclusive: bool,
    /// Drop the content that is there.
    pub(crate) truncate: bool,
    /// Fail unless it is a directory.
    pub(crate) directory: bool,
    /// To read.
    pub(crate) read: bool,
    /// To write, or to make and remove names.
    pub(crate) write: bool,
}

/// An open file or directory. A clone is the same open file; the last one that is dropped closes it.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Opened>);

struct Opened {
    vfs: Arc<Vfs>,
    mount: Arc<dyn Mount>,
    place: Place,
    kind: Kind,
    access: Access,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.mount.close(self.place.node);
        self.vfs.give_back();
    }
}

impl Handle {
    pub(super) fn new(vfs: &Arc<Vfs>, place: Place, access: Access) -> Result<Self, Error> {
        vfs.take_one()?;
        let opened = vfs.mount(place.mount).and_then(|mount| {
            let kind = mount.stat(place.node)?.kind;
            mount.open(place.node)?;
            Ok((Arc::clone(mount), kind))
        });
        match opened {
            Ok((mount, kind)) => {
                Ok(Self(Arc::new(Opened { vfs: Arc::clone(vfs), mount, place, kind, access })))
            }
            Err(error) => {
                vfs.give_back();
                Err(error)
            }
        }
    }

    /// Runs an operation; where it can wait for a disk or the network, on a thread for that.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if !self.0.vfs.waits {
            return operation(self);
        }
        let handle = self.clone();
        tokio::task::spawn_blocking(move || operation(&handle))
            .await
            .unwrap_or(Err(Error::Storage("OPERATION_LOST")))
    }

    /// Whether operations on this file can wait for a disk or the network.
    pub(crate) fn waits(&self) -> bool {
        self.0.mount.waits()
    }

    /// What it was opened for.
    pub(crate) fn access(&self) -> Access {
        self.0.access
    }

    /// What it is; it never changes.
    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether it was opened to be read.
    pub(crate) fn readable(&self) -> Result<(), Error> {
        if self.0.access.read { Ok(()) } else { Err(Error::BadDescriptor) }
    }

    /// Whether it was opened to be written, where anything may be.
    pub(crate) fn writable(&self) -> Result<(), Error> {
        self.to_write().map(drop)
    }

    /// Whether both are the same file or directory.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.place == other.0.place
    }

    /// What it is now.
    pub(crate) fn stat(&self) -> Result<Stat, Error> {
        self.stat_of(self.0.place)
    }

    /// What `path` is.
    pub(crate) fn stat_at(&self, path: &str) -> Result<Stat, Error> {
        self.stat_of(path::resolve(&self.0.vfs, self.0.place, path)?)
    }

    /// Opens `path`.
    pub(crate) fn open_at(&self, path: &str, open: Open) -> Result<Self, Error> {
        let vfs = &self.0.vfs;
        let access = Access { read: open.read, write: open.write };
        if (open.create || open.truncate || open.write) && !self.0.access.write {
            return Err(Error::BadDescriptor);
        }
        let place = match path::resolve(vfs, self.0.place, path) {
            Ok(_) if open.create && open.exclusive => return Err(TreeError::Exists.into()),
            Ok(place) => place,
            Err(Error::Tree(TreeError::Absent)) if open.create && !open.directory => {
                let Last { directory, name, must_be_directory } =
                    path::resolve_last(vfs, self.0.place, path)?;
                if must_be_directory {
                    return Err(TreeError::IsDirectory.into());
                }
                let node = vfs.mount(directory.mount)?.create(directory.node, name, Kind::File)?;
                Place { mount: directory.mount, node }
            }
            Err(error) => return Err(error),
        };
        let mount = vfs.mount(place.mount)?;
        match mount.stat(place.node)?.kind {
            Kind::File if open.directory => return Err(TreeError::NotDirectory.into()),
            Kind::File if open.write && mount.is_read_only() => return Err(Error::ReadOnly),
            Kind::Directory if open.truncate => return Err(TreeError::IsDirectory.into()),
            _ => {}
        }
        let handle = Self::new(vfs, place, access)?;
        if open.truncate {
            mount.set_size(place.node, 0)?;
        }
        Ok(handle)
    }

    /// Reads at `offset`: how many bytes, fewer than asked for only at the end.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        self.readable()?;
        self.0.mount.read_at(self.0.place.node, offset, buffer)
    }

    /// Writes all of it at `offset`.
    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.to_write()?.write_at(self.0.place.node, offset, bytes)
    }

    /// Writes all of it at the end.
    pub(crate) fn append(&self, bytes: &[u8]) -> Result<(), Error> {
        self.to_write()?.append(self.0.place.node, bytes)
    }

    /// Cuts a file, or lengthens it with zeros.
    pub(crate) fn set_size(&self, size: u64) -> Result<(), Error> {
        self.to_write()?.set_size(self.0.place.node, size)
    }

    /// Returns when everything that was written to this mount so far is to stay.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.0.mount.sync()
    }

    /// Sets its times; `None` leaves one as it is.
    pub(crate) fn set_times(&self, accessed: Option<Time>, modified: Option<Time>) -> Result<(), Error> {
        self.0.mount.set_times(self.0.place.node, accessed, modified)
    }

    /// Sets the times of `path`.
    pub(crate) fn set_times_at(
        &self,
        path: &str,
        accessed: Option<Time>,
        modified: Option<Time>,
    ) -> Result<(), Error> {
        let place = path::resolve(&self.0.vfs, self.0.place, path)?;
        self.0.vfs.mount(place.mount)?.set_times(place.node, accessed, modified)
    }

    /// The names in this directory, in order, as they are now.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, Error> {
        self.readable()?;
        self.0.mount.entries(self.0.place.node)
    }

    /// Makes a directory.
    pub(crate) fn create_directory_at(&self, path: &str) -> Result<(), Error> {
        let Last { directory, name, .. } = self.last(path)?;
        self.0.vfs.mount(directory.mount)?.create(directory.node, name, Kind::Directory).map(drop)
    }

    /// Removes an empty directory.
    pub(crate) fn remove_directory_at(&self, path: &str) -> Result<(), Error> {
        let Last { directory, name, .. } = self.last(path)?;
        self.0.vfs.mount(directory.mount)?.remove_directory(directory.node, name)
    }

    /// Removes a file's name.
    pub(crate) fn unlink_at(&self, path: &str) -> Result<(), Error> {
        let Last { directory, name, must_be_directory } = self.last(path)?;
        if must_be_directory {
            return Err(TreeError::NotDirectory.into());
        }
        self.0.vfs.mount(directory.mount)?.unlink(directory.node, name)
    }

    /// Moves `path` to `new_path` below `new_directory`, within one mount.
    pub(crate) fn rename_at(&self, path: &str, new_directory: &Self, new_path: &str) -> Result<(), Error> {
        let from = self.last(path)?;
        let to = new_directory.last(new_path)?;
        if from.directory.mount != to.directory.mount {
            return Err(Error::CrossDevice);
        }
        let mount = self.0.vfs.mount(from.directory.mount)?;
        if from.must_be_directory || to.must_be_directory {
            let node = mount.lookup(from.directory.node, from.name)?;
            if mount.stat(node)?.kind != Kind::Directory {
                return Err(TreeError::NotDirectory.into());
            }
        }
        mount.rename((from.directory.node, from.name), (to.directory.node, to.name))
    }

    fn last<'a>(&self, path: &'a str) -> Result<Last<'a>, Error> {
        if !self.0.access.write {
            return Err(Error::BadDescriptor);
        }
        path::resolve_last(&self.0.vfs, self.0.place, path)
    }

    fn to_write(&self) -> Result<&Arc<dyn Mount>, Error> {
        if self.0.mount.is_read_only() {
            return Err(Error::ReadOnly);
        }
        if !self.0.access.write {
            return Err(Error::BadDescriptor);
        }
        Ok(&self.0.mount)
    }

    fn stat_of(&self, place: Place) -> Result<Stat, Error> {
        let stat = self.0.vfs.mount(place.mount)?.stat(place.node)?;
        Ok(Stat { device: place.mount as u64, ..stat })
    }
}
