//! The host's files, behind a trait so that tests can play every host: one that loses power, fills up, or lies.

use std::{
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Keeps the volume from other Keeps of this host until it is dropped. It only protects an honest host's data; what a
/// hostile one does about it is found by the anchor.
pub trait Lock: Send + Sync {}

impl Lock for File {}

/// A folder of the host for one volume.
pub trait Host: Send + Sync {
    /// Names of the files in it.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file that is there; to read and write unless `read_only`.
    fn open(&self, name: &str, read_only: bool) -> io::Result<Box<dyn HostFile>>;
    /// Makes an empty file, in the place of one that is there.
    fn create(&self, name: &str) -> io::Result<Box<dyn HostFile>>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Returns when files made and removed so far stay so after a loss of power.
    fn sync_names(&self) -> io::Result<()>;
    /// `None`: another one has it.
    fn lock(&self, read_only: bool) -> io::Result<Option<Box<dyn Lock>>>;
}

impl Host for Box<dyn Host> {
    fn list(&self) -> io::Result<Vec<String>> {
        (**self).list()
    }

    fn open(&self, name: &str, read_only: bool) -> io::Result<Box<dyn HostFile>> {
        (**self).open(name, read_only)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn HostFile>> {
        (**self).create(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (**self).remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        (**self).sync_names()
    }

    fn lock(&self, read_only: bool) -> io::Result<Option<Box<dyn Lock>>> {
        (**self).lock(read_only)
    }
}

/// One file of the host.
pub trait HostFile: Send + Sync {
    /// Bytes that it has.
    fn length(&self) -> io::Result<u64>;
    /// Reads until the buffer is full, or to the end: how many bytes.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts it.
    fn set_length(&self, length: u64) -> io::Result<()>;
    /// Returns when what was written stays after a loss of power.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of a real file system.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    changing_users: bool,
}

impl Folder {
    /// `path` is made when it is first written to.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), changing_users: false }
    }

    /// For a host that gives each launch of a Keep another user id: whoever reaches the folder may read and write it.
    /// That only its own Keeps reach it, is the host's affair: a folder above it that is closed.
    #[must_use]
    pub fn for_changing_users(self) -> Self {
        Self { changing_users: true, ..self }
    }

    fn make(&self) -> io::Result<()> {
        if self.path.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.path)?;
        self.open_up(&self.path, 0o777)
    }

    fn open_up(&self, path: &Path, mode: u32) -> io::Result<()> {
        if !self.changing_users {
            return Ok(());
        }
        match fs::set_permissions(path, Permissions::from_mode(mode)) {
            // Made by a launch before this one, which opened it up.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        }
    }
}

const LOCK: &str = "lock";

impl Host for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, name: &str, read_only: bool) -> io::Result<Box<dyn HostFile>> {
        Ok(Box::new(File::options().read(true).write(!read_only).open(self.path.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn HostFile>> {
        self.make()?;
        let (mut options, path) = (File::options(), self.path.join(name));
        let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
        self.open_up(&path, 0o666)?;
        Ok(Box::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn lock(&self, read_only: bool) -> io::Result<Option<Box<dyn Lock>>> {
        self.make()?;
        let (mut options, path) = (File::options(), self.path.join(LOCK));
        let file = options.read(true).write(true).create(true).truncate(false).open(&path)?;
        self.open_up(&path, 0o666)?;
        match if read_only { file.try_lock_shared() } else { file.try_lock() } {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl HostFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<usize> {
        let mut total = 0;
        while !buffer.is_empty() {
            match FileExt::read_at(self, buffer, offset) {
                Ok(0) => break,
                Ok(read) => {
                    total += read;
                    offset += read as u64;
                    buffer = &mut buffer[read..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(total)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
