//! The numbered descriptors of one instance, and what each may be used for.

use std::collections::BTreeMap;

use super::abi::types::{Errno, Fd, Fdflags, Filetype, Rights};
use crate::{
    net::{Connection, Listener},
    pipe::Pipe,
    stdio::Printer,
    vfs::{Entry, Handle},
};

/// What a descriptor is.
pub(super) enum Open {
    /// Reads nothing, swallows what is written.
    Null,
    Stdin(Pipe),
    Printer(Printer),
    Listener(Listener),
    Connection(Connection),
    File(File),
    Directory(Directory),
}

/// An open file.
pub(super) struct File {
    pub(super) handle: Handle,
    pub(super) offset: u64,
}

/// An open directory.
pub(super) struct Directory {
    pub(super) handle: Handle,
    /// Whether it was there at the start, as `/`.
    pub(super) preopened: bool,
    /// As they were when listing began.
    pub(super) entries: Vec<Entry>,
}

/// One of them.
pub(super) struct Descriptor {
    pub(super) open: Open,
    pub(super) flags: Fdflags,
    pub(super) rights: Rights,
    pub(super) inheriting: Rights,
}

impl Descriptor {
    /// With all rights that its kind has.
    pub(super) fn new(open: Open) -> Self {
        let (rights, inheriting) = match &open {
            Open::Null => (stream() | Rights::FD_READ | Rights::FD_WRITE, Rights::empty()),
            Open::Stdin(_) => (stream() | Rights::FD_READ, Rights::empty()),
            Open::Printer(_) => (stream() | Rights::FD_WRITE, Rights::empty()),
            Open::Listener(_) => (stream() | Rights::FD_READ | Rights::SOCK_ACCEPT, connection()),
            Open::Connection(_) => (connection(), Rights::empty()),
            Open::File(file) => (of_file(&file.handle), Rights::empty()),
            Open::Directory(_) => (directory(), directory() | file()),
        };
        Self { open, flags: Fdflags::empty(), rights, inheriting }
    }

    pub(super) fn is_nonblocking(&self) -> bool {
        self.flags.contains(Fdflags::NONBLOCK)
    }

    /// What lacks is named as Enarx' engine did: reading and writing as a wrong descriptor, all else as a missing right.
    pub(super) fn needs(&self, needed: Rights) -> Result<(), Errno> {
        let missing = needed & !self.rights;
        if missing.is_empty() {
            Ok(())
        } else if missing.intersects(Rights::FD_READ | Rights::FD_WRITE) {
            Err(Errno::Badf)
        } else {
            Err(Errno::Perm)
        }
    }

    pub(super) fn file(&mut self) -> Result<&mut File, Errno> {
        match &mut self.open {
            Open::File(file) => Ok(file),
            Open::Directory(_) => Err(Errno::Isdir),
            _ => Err(Errno::Spipe),
        }
    }

    pub(super) fn directory(&mut self) -> Result<&mut Directory, Errno> {
        match &mut self.open {
            Open::Directory(directory) => Ok(directory),
            _ => Err(Errno::Notdir),
        }
    }

    pub(super) fn connection(&self) -> Result<&Connection, Errno> {
        match &self.open {
            Open::Connection(connection) => Ok(connection),
            Open::Listener(_) => Err(Errno::Notconn),
            _ => Err(Errno::Notsock),
        }
    }

    /// Streams of the caller are no terminals.
    pub(super) fn filetype(&self) -> Filetype {
        match &self.open {
            Open::Null | Open::Stdin(_) | Open::Printer(_) => Filetype::Unknown,
            Open::Listener(_) | Open::Connection(_) => Filetype::SocketStream,
            Open::File(_) => Filetype::RegularFile,
            Open::Directory(_) => Filetype::Directory,
        }
    }
}

fn stream() -> Rights {
    Rights::FD_FDSTAT_SET_FLAGS | Rights::FD_FILESTAT_GET | Rights::POLL_FD_READWRITE
}

fn connection() -> Rights {
    stream() | Rights::FD_READ | Rights::FD_WRITE | Rights::SOCK_SHUTDOWN
}

fn file() -> Rights {
    stream()
        | Rights::FD_READ
        | Rights::FD_WRITE
        | Rights::FD_SEEK
        | Rights::FD_TELL
        | Rights::FD_SYNC
        | Rights::FD_DATASYNC
        | Rights::FD_ADVISE
        | Rights::FD_ALLOCATE
        | Rights::FD_FILESTAT_SET_SIZE
        | Rights::FD_FILESTAT_SET_TIMES
}

fn of_file(handle: &Handle) -> Rights {
    let (read, write) =
        (Rights::FD_READ, Rights::FD_WRITE | Rights::FD_ALLOCATE | Rights::FD_FILESTAT_SET_SIZE);
    let access = handle.access();
    let mut rights = file();
    if !access.read {
        rights.remove(read);
    }
    if !access.write {
        rights.remove(write);
    }
    rights
}

fn directory() -> Rights {
    Rights::FD_FDSTAT_SET_FLAGS
        | Rights::FD_SYNC
        | Rights::FD_DATASYNC
        | Rights::FD_ADVISE
        | Rights::FD_READDIR
        | Rights::FD_FILESTAT_GET
        | Rights::FD_FILESTAT_SET_TIMES
        | Rights::PATH_CREATE_DIRECTORY
        | Rights::PATH_CREATE_FILE
        | Rights::PATH_LINK_SOURCE
        | Rights::PATH_LINK_TARGET
        | Rights::PATH_OPEN
        | Rights::PATH_READLINK
        | Rights::PATH_RENAME_SOURCE
        | Rights::PATH_RENAME_TARGET
        | Rights::PATH_FILESTAT_GET
        | Rights::PATH_FILESTAT_SET_SIZE
        | Rights::PATH_FILESTAT_SET_TIMES
        | Rights::PATH_SYMLINK
        | Rights::PATH_REMOVE_DIRECTORY
        | Rights::PATH_UNLINK_FILE
}

/// The descriptors by number.
#[derive(Default)]
pub(super) struct Table(BTreeMap<u32, Descriptor>);

impl Table {
    /// Under the lowest number that is free.
    pub(super) fn insert(&mut self, descriptor: Descriptor) -> Result<Fd, Errno> {
        // Numbers ascend, so the first place where they part is the first gap.
        let taken = self.0.keys().zip(0_u32..).take_while(|(number, place)| *number == place).count();
        let number = u32::try_from(taken).map_err(|_| Errno::Nfile)?;
        self.0.insert(number, descriptor);
        Ok(Fd::from(number))
    }

    pub(super) fn get(&mut self, fd: Fd) -> Result<&mut Descriptor, Errno> {
        self.0.get_mut(&u32::from(fd)).ok_or(Errno::Badf)
    }

    /// One that has these rights.
    pub(super) fn able(&mut self, fd: Fd, needed: Rights) -> Result<&mut Descriptor, Errno> {
        let descriptor = self.get(fd)?;
        descriptor.needs(needed)?;
        Ok(descriptor)
    }

    pub(super) fn look(&self, fd: Fd) -> Result<&Descriptor, Errno> {
        self.0.get(&u32::from(fd)).ok_or(Errno::Badf)
    }

    pub(super) fn close(&mut self, fd: Fd) -> Result<(), Errno> {
        self.0.remove(&u32::from(fd)).map(drop).ok_or(Errno::Badf)
    }

    /// Both must be open; what was `to` is closed.
    pub(super) fn renumber(&mut self, from: Fd, to: Fd) -> Result<(), Errno> {
        let (from, to) = (u32::from(from), u32::from(to));
        if !self.0.contains_key(&to) {
            return Err(Errno::Badf);
        }
        let moved = self.0.remove(&from).ok_or(Errno::Badf)?;
        self.0.insert(to, moved);
        Ok(())
    }

    /// Whether a directory with a higher number was there at the start.
    pub(super) fn is_before_preopened(&self, fd: Fd) -> bool {
        let later = self.0.range(u32::from(fd).saturating_add(1)..);
        later.into_iter().any(|(_, descriptor)| is_preopened(descriptor))
    }
}

pub(super) fn is_preopened(descriptor: &Descriptor) -> bool {
    matches!(descriptor.open, Open::Directory(Directory { preopened: true, .. }))
}
