//! The Keep's side.

use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
    sync::{Arc, Mutex, PoisonError},
};

use super::wire::{self, Operation, PIECE, Request};
use crate::{
    cipher::VolumeKey,
    host::{Host, HostFile, Lock},
};

/// More names than of any volume, in bytes.
const MAX_NAMES: usize = 64 << 10;

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// The way to the host: one request at a time.
pub struct Link(Mutex<Option<Box<dyn Stream>>>);

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    /// Over this stream, whose reads and writes are to end: a host that is silent must not stop the Keep.
    pub fn new(stream: impl Read + Write + Send + 'static) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Box::new(stream)))))
    }

    /// What the host says: at most `most` bytes.
    fn ask(&self, request: &Request<'_>, most: usize) -> io::Result<Vec<u8>> {
        let mut link = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = link.as_mut().ok_or(ErrorKind::NotConnected)?;
        let asked = stream.write_all(&request.to_bytes()).and_then(|()| stream.flush());
        let answer = asked.and_then(|()| wire::frame(stream, most.saturating_add(1)));
        let answer = match answer {
            Ok(Some(answer)) => answer,
            broken => {
                *link = None;
                return Err(broken.err().unwrap_or_else(|| ErrorKind::UnexpectedEof.into()));
            }
        };
        wire::answer(&answer).map(<[u8]>::to_vec)
    }
}

/// The files of one volume.
#[derive(Debug, Clone)]
pub struct Remote {
    link: Arc<Link>,
    volume: [u8; 16],
}

impl Remote {
    /// Of the volume of this key.
    pub fn new(link: Arc<Link>, key: &VolumeKey) -> Self {
        Self { link, volume: key.id() }
    }

    fn ask(
        &self,
        operation: Operation,
        file: &str,
        offset: u64,
        bytes: &[u8],
        most: usize,
    ) -> io::Result<Vec<u8>> {
        let request = Request { operation, volume: self.volume, offset, file, bytes };
        self.link.ask(&request, most)
    }

    fn tell(&self, operation: Operation, file: &str, offset: u64) -> io::Result<()> {
        self.ask(operation, file, offset, &[], 0).map(drop)
    }
}

impl Host for Remote {
    fn list(&self) -> io::Result<Vec<String>> {
        let names = self.ask(Operation::List, "", 0, &[], MAX_NAMES)?;
        let names = String::from_utf8(names).map_err(|_| ErrorKind::InvalidData)?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    fn open(&self, name: &str, _read_only: bool) -> io::Result<Box<dyn HostFile>> {
        let file = RemoteFile { host: self.clone(), name: name.to_owned() };
        file.length()?;
        Ok(Box::new(file))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn HostFile>> {
        self.tell(Operation::Create, name, 0)?;
        Ok(Box::new(RemoteFile { host: self.clone(), name: name.to_owned() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.tell(Operation::Remove, name, 0)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.tell(Operation::SyncNames, "", 0)
    }

    fn lock(&self, read_only: bool) -> io::Result<Option<Box<dyn Lock>>> {
        match self.tell(Operation::Lock, "", u64::from(read_only)) {
            Ok(()) => Ok(Some(Box::new(RemoteLock(self.clone())))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

struct RemoteLock(Remote);

impl Lock for RemoteLock {}

impl Drop for RemoteLock {
    fn drop(&mut self) {
        // A host that does not hear it unlocks at the end of the link.
        let _ = self.0.tell(Operation::Unlock, "", 0);
    }
}

struct RemoteFile {
    host: Remote,
    name: String,
}

impl HostFile for RemoteFile {
    fn length(&self) -> io::Result<u64> {
        let bytes = self.host.ask(Operation::Length, &self.name, 0, &[], 8)?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| ErrorKind::InvalidData)?))
    }

    fn read_at(&self, mut offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut total = 0;
        for piece in buffer.chunks_mut(PIECE) {
            let wanted = u32::try_from(piece.len()).unwrap_or(0).to_le_bytes();
            let read = self.host.ask(Operation::Read, &self.name, offset, &wanted, piece.len())?;
            piece[..read.len()].copy_from_slice(&read);
            total += read.len();
            offset += read.len() as u64;
            if read.len() < piece.len() {
                break;
            }
        }
        Ok(total)
    }

    fn write_at(&self, mut offset: u64, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            self.host.ask(Operation::Write, &self.name, offset, piece, 0)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.host.tell(Operation::SetLength, &self.name, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.host.tell(Operation::Sync, &self.name, 0)
    }
}
