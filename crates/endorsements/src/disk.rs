//! The one door to the disk: a directory, held open, in which files are read and replaced by name. No link is
//! followed, nothing but regular files is read, and none beyond a limit, so that whoever else can write there can
//! make us forget, and nothing more.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};

pub(crate) struct Directory(OwnedFd);

const FILE: Mode = Mode::from_raw_mode(0o600);
const DIRECTORY: Mode = Mode::from_raw_mode(0o700);
/// Names that start so are files that are being written, or were when their writer ended.
pub(crate) const TEMPORARY: &str = ".new-";

impl Directory {
    /// Opens a directory, and makes it and those above it, for us alone, when there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens a directory in this one, and makes it when there is none.
    pub(crate) fn below(&self, name: &str) -> io::Result<Self> {
        match rustix::fs::mkdirat(&self.0, name, DIRECTORY) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(&self.0, name, flags, Mode::empty())?))
    }

    /// The contents of a regular file of at most `limit` bytes.
    pub(crate) fn read(&self, name: &str, limit: usize) -> io::Result<Vec<u8>> {
        // Without NONBLOCK, opening a pipe would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&self.0, name, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > limit {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Replaces a file whole: whoever reads sees the old one or the new one, also after a crash.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (temporary, mut file) = self.temporary()?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let placed = written.and_then(|()| Ok(rustix::fs::renameat(&self.0, &temporary, &self.0, name)?));
        if placed.is_err() {
            // The error that counts is that of writing.
            let _ = self.remove(&temporary);
        }
        placed?;
        Ok(rustix::fs::fsync(&self.0)?)
    }

    /// A new file under a name that nobody has.
    fn temporary(&self) -> io::Result<(String, File)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{TEMPORARY}{}-{next}", std::process::id());
            match rustix::fs::openat(&self.0, &name, flags, FILE) {
                Ok(file) => return Ok((name, file.into())),
                // Left by another process of this number.
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// At most `limit` names, in no order.
    pub(crate) fn names(&self, limit: usize) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) if names.len() < limit => names.push(name.to_owned()),
                _ => {}
            }
        }
        Ok(names)
    }

    /// A file to lock, which holds nothing.
    pub(crate) fn lock_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(&self.0, name, flags, FILE)?))
    }
}
