//! The host's files, behind a trait so that tests can play every host: one that loses power, fills up, or lies.

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::FileExt,
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
pub struct Folder(PathBuf);

impl Folder {
    /// `path` is made when it is first written to.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

const LOCK: &str = "lock";

impl Host for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, name: &str, read_only: bool) -> io::Result<Box<dyn HostFile>> {
        Ok(Box::new(File::options().read(true).write(!read_only).open(self.0.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn HostFile>> {
        fs::create_dir_all(&self.0)?;
        let mut options = File::options();
        Ok(Box::new(options.read(true).write(true).create(true).truncate(true).open(self.0.join(name))?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn lock(&self, read_only: bool) -> io::Result<Option<Box<dyn Lock>>> {
        fs::create_dir_all(&self.0)?;
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(self.0.join(LOCK))?;
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
