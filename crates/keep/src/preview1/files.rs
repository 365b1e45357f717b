//! Files and directories: paths, metadata, listings.

use volume::tree::Time;
use wiggle::{GuestMemory, GuestPtr};

use super::{
    Instance,
    abi::types::{
        Dircookie, Dirent, Errno, Error, Fd, Fdflags, Filedelta, Filesize, Filestat, Filetype, Fstflags,
        Oflags, Prestat, PrestatDir, Rights, Size, Timestamp, Whence,
    },
    table::{Descriptor, Directory, File, Open},
};
use crate::vfs::{self, Entry, Handle, Kind, Stat};

type Result<T> = std::result::Result<T, Error>;

/// Longest path, as everywhere in the Keep.
const MAX_PATH: u32 = 4096;
/// What `/` is called.
const ROOT: &[u8] = b"/";

impl Instance {
    fn at(&mut self, fd: Fd, needed: Rights) -> Result<Handle> {
        let descriptor = self.table.get(fd)?;
        let handle = descriptor.directory()?.handle.clone();
        descriptor.needs(needed)?;
        Ok(handle)
    }

    pub(super) async fn open(
        &mut self,
        memory: &GuestMemory<'_>,
        directory: Fd,
        path: GuestPtr<str>,
        how: Oflags,
        rights: Rights,
        flags: Fdflags,
    ) -> Result<Fd> {
        let path = text(memory, path)?;
        let base = self.at(directory, Rights::PATH_OPEN)?;
        let synchronised = Fdflags::DSYNC | Fdflags::RSYNC | Fdflags::SYNC;
        if flags.intersects(synchronised) {
            return Err(Errno::Notsup.into());
        }
        let to_write = Rights::FD_WRITE | Rights::FD_ALLOCATE | Rights::FD_FILESTAT_SET_SIZE;
        let open = vfs::Open {
            create: how.contains(Oflags::CREAT),
            exclusive: how.contains(Oflags::EXCL),
            truncate: how.contains(Oflags::TRUNC),
            directory: how.contains(Oflags::DIRECTORY),
            read: rights.intersects(Rights::FD_READ | Rights::FD_READDIR),
            write: rights.intersects(to_write) || how.contains(Oflags::TRUNC),
        };
        if open.create && open.directory {
            return Err(Errno::Inval.into());
        }
        let handle = base.run(move |base| open_at(base, &path, open)).await?;
        let open = match handle.kind() {
            Kind::File => Open::File(File { handle, offset: 0 }),
            Kind::Directory => Open::Directory(Directory { handle, preopened: false, entries: Vec::new() }),
        };
        Ok(self.table.insert(Descriptor { flags, ..Descriptor::new(open) })?)
    }

    pub(super) async fn seek(&mut self, fd: Fd, by: Filedelta, from: Whence) -> Result<Filesize> {
        let descriptor = self.table.get(fd)?;
        let file =
            descriptor.file().map_err(|fault| if fault == Errno::Isdir { Errno::Badf } else { fault })?;
        let base = match from {
            Whence::Set => 0,
            Whence::Cur => file.offset,
            Whence::End => file.handle.run(Handle::stat).await?.size,
        };
        let offset = base.checked_add_signed(by).filter(|offset| i64::try_from(*offset).is_ok());
        let offset = offset.ok_or(Errno::Inval)?;
        file.offset = offset;
        Ok(offset)
    }

    pub(super) async fn sync(&mut self, fd: Fd) -> Result<()> {
        match &self.table.get(fd)?.open {
            Open::File(File { handle, .. }) | Open::Directory(Directory { handle, .. }) => {
                Ok(handle.run(Handle::sync).await?)
            }
            _ => Err(Errno::Inval.into()),
        }
    }

    /// Makes room, which here is a longer file.
    pub(super) async fn allocate(&mut self, fd: Fd, offset: Filesize, length: Filesize) -> Result<()> {
        let descriptor = self.table.get(fd)?;
        let handle = descriptor.file()?.handle.clone();
        descriptor.needs(Rights::FD_ALLOCATE)?;
        let end = offset.checked_add(length).ok_or(Errno::Inval)?;
        let grow = move |handle: &Handle| match handle.stat()?.size {
            size if size < end => handle.set_size(end),
            _ => Ok(()),
        };
        Ok(handle.run(grow).await?)
    }

    pub(super) async fn set_size(&mut self, fd: Fd, size: Filesize) -> Result<()> {
        let descriptor = self.table.get(fd)?;
        let handle = descriptor.file().map_err(|_| Errno::Inval)?.handle.clone();
        descriptor.needs(Rights::FD_FILESTAT_SET_SIZE)?;
        Ok(handle.run(move |handle| handle.set_size(size)).await?)
    }

    /// Whatever is no file has a type and nothing else.
    pub(super) async fn stat(&mut self, fd: Fd) -> Result<Filestat> {
        let descriptor = self.table.able(fd, Rights::FD_FILESTAT_GET)?;
        match &descriptor.open {
            Open::File(File { handle, .. }) | Open::Directory(Directory { handle, .. }) => {
                Ok(filestat(handle.run(Handle::stat).await?))
            }
            _ => Ok(Filestat {
                dev: 0,
                ino: 0,
                filetype: descriptor.filetype(),
                nlink: 1,
                size: 0,
                atim: 0,
                mtim: 0,
                ctim: 0,
            }),
        }
    }

    pub(super) async fn set_times(&mut self, fd: Fd, times: [Timestamp; 2], which: Fstflags) -> Result<()> {
        let (accessed, modified) = chosen(times, which)?;
        match &self.table.able(fd, Rights::FD_FILESTAT_SET_TIMES)?.open {
            Open::File(File { handle, .. }) | Open::Directory(Directory { handle, .. }) => {
                Ok(handle.run(move |handle| handle.set_times(accessed, modified)).await?)
            }
            _ => Err(Errno::Badf.into()),
        }
    }

    pub(super) async fn stat_at(
        &mut self,
        memory: &GuestMemory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
    ) -> Result<Filestat> {
        let path = text(memory, path)?;
        let base = self.at(fd, Rights::PATH_FILESTAT_GET)?;
        Ok(filestat(base.run(move |base| base.stat_at(&path)).await?))
    }

    pub(super) async fn set_times_at(
        &mut self,
        memory: &GuestMemory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
        times: [Timestamp; 2],
        which: Fstflags,
    ) -> Result<()> {
        let path = text(memory, path)?;
        let (accessed, modified) = chosen(times, which)?;
        let base = self.at(fd, Rights::PATH_FILESTAT_SET_TIMES)?;
        Ok(base.run(move |base| base.set_times_at(&path, accessed, modified)).await?)
    }

    /// An operation on one path.
    pub(super) async fn change_at(
        &mut self,
        memory: &GuestMemory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
        needed: Rights,
        change: fn(&Handle, &str) -> std::result::Result<(), vfs::Error>,
    ) -> Result<()> {
        let path = text(memory, path)?;
        let base = self.at(fd, needed)?;
        Ok(base.run(move |base| change(base, &path)).await?)
    }

    pub(super) async fn rename(
        &mut self,
        memory: &GuestMemory<'_>,
        from: (Fd, GuestPtr<str>),
        to: (Fd, GuestPtr<str>),
    ) -> Result<()> {
        let (old, new) = (text(memory, from.1)?, text(memory, to.1)?);
        let base = self.at(from.0, Rights::PATH_RENAME_SOURCE)?;
        let target = self.at(to.0, Rights::PATH_RENAME_TARGET)?;
        Ok(base.run(move |base| base.rename_at(&old, &target, &new)).await?)
    }

    /// There are no links, so nothing that is there can be read as one.
    pub(super) async fn read_link(
        &mut self,
        memory: &GuestMemory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
    ) -> Result<Size> {
        let path = text(memory, path)?;
        let base = self.at(fd, Rights::PATH_READLINK)?;
        base.run(move |base| base.stat_at(&path)).await?;
        Err(Errno::Inval.into())
    }

    /// Links, of both kinds, cannot be made.
    pub(super) fn no_link(&mut self, fd: Fd) -> Result<()> {
        self.table.get(fd)?.directory()?;
        Err(vfs::Error::Unsupported.into())
    }

    /// Entries as [`Dirent`] and name, after that numbered `cookie`; the last one may be cut off, as the interface has
    /// it.
    pub(super) async fn list(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        buffer: GuestPtr<u8>,
        length: Size,
        cookie: Dircookie,
    ) -> Result<Size> {
        let descriptor = self.table.get(fd)?;
        descriptor.directory()?;
        descriptor.needs(Rights::FD_READDIR)?;
        let directory = descriptor.directory()?;
        if cookie == 0 {
            directory.entries = directory.handle.run(all_entries).await?;
        }
        let mut to = buffer;
        let mut left = length;
        let first = usize::try_from(cookie).unwrap_or(usize::MAX);
        for (entry, next) in directory.entries.iter().zip(1..).skip(first) {
            let head = Dirent {
                d_next: next,
                d_ino: entry.node,
                d_namlen: u32::try_from(entry.name.len()).map_err(|_| Errno::Overflow)?,
                d_type: filetype(entry.kind),
            };
            for bytes in [dirent_bytes(&head).as_slice(), entry.name.as_bytes()] {
                let fits = u32::try_from(bytes.len()).map_or(left, |length| length.min(left));
                memory.copy_from_slice(&bytes[..fits as usize], to.as_array(fits))?;
                to = to.add(fits)?;
                left -= fits;
            }
            if left == 0 {
                break;
            }
        }
        Ok(length - left)
    }

    /// `/`, where the workload has files, is the descriptor after the configured ones. wasi-libc looks for directories
    /// from descriptor 3 on, and stops at the first number that it is told is none; so streams and sockets before `/`
    /// answer as directories without a name, in which no path can be found.
    pub(super) fn preopened(&mut self, fd: Fd) -> Result<&'static [u8]> {
        match &self.table.look(fd)?.open {
            Open::Directory(Directory { preopened: true, .. }) => Ok(ROOT),
            Open::Directory(_) | Open::File(_) => Err(Errno::Badf.into()),
            _ if self.table.is_before_preopened(fd) => Ok(b""),
            _ => Err(Errno::Badf.into()),
        }
    }

    pub(super) fn prestat(&mut self, fd: Fd) -> Result<Prestat> {
        let name = self.preopened(fd)?;
        let pr_name_len = u32::try_from(name.len()).map_err(|_| Errno::Overflow)?;
        Ok(Prestat::Dir(PrestatDir { pr_name_len }))
    }
}

/// A directory keeps the rights of the one that it is opened from.
fn open_at(base: &Handle, path: &str, open: vfs::Open) -> std::result::Result<Handle, vfs::Error> {
    let is_directory = base.stat_at(path).is_ok_and(|stat| stat.kind == Kind::Directory);
    if is_directory && !(open.create && open.exclusive) {
        if open.truncate || (open.write && !open.directory) {
            return Err(volume::tree::TreeError::IsDirectory.into());
        }
        let access = base.access();
        return base
            .open_at(path, vfs::Open { create: false, read: access.read, write: access.write, ..open });
    }
    base.open_at(path, open)
}

fn all_entries(directory: &Handle) -> std::result::Result<Vec<Entry>, vfs::Error> {
    let node = directory.stat()?.node;
    let itself = |name: &str| Entry { name: name.to_owned(), kind: Kind::Directory, node };
    let mut entries = vec![itself("."), itself("..")];
    entries.extend(directory.entries()?);
    Ok(entries)
}

/// A path, bounded before it is looked at.
fn text(memory: &GuestMemory<'_>, path: GuestPtr<str>) -> Result<String> {
    if path.len() > MAX_PATH {
        return Err(Errno::Nametoolong.into());
    }
    Ok(memory.as_cow_str(path)?.into_owned())
}

fn chosen([accessed, modified]: [Timestamp; 2], which: Fstflags) -> Result<(Option<Time>, Option<Time>)> {
    let one = |time, set, now| match (which.contains(set), which.contains(now)) {
        (true, true) => Err(Errno::Inval),
        (true, false) => Ok(Some(Time(time))),
        (false, true) => Ok(Some(vfs::now())),
        (false, false) => Ok(None),
    };
    Ok((
        one(accessed, Fstflags::ATIM, Fstflags::ATIM_NOW)?,
        one(modified, Fstflags::MTIM, Fstflags::MTIM_NOW)?,
    ))
}

fn filetype(kind: Kind) -> Filetype {
    match kind {
        Kind::File => Filetype::RegularFile,
        Kind::Directory => Filetype::Directory,
    }
}

fn filestat(stat: Stat) -> Filestat {
    let times = stat.times.unwrap_or_default();
    Filestat {
        dev: stat.device,
        ino: stat.node,
        filetype: filetype(stat.kind),
        nlink: 1,
        size: stat.size,
        atim: times.accessed.0,
        mtim: times.modified.0,
        ctim: times.changed.0,
    }
}

/// Its layout in the module's memory: `d_next`, `d_ino`, `d_namlen`, `d_type`, and three bytes of padding.
fn dirent_bytes(entry: &Dirent) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&entry.d_next.to_le_bytes());
    bytes[8..16].copy_from_slice(&entry.d_ino.to_le_bytes());
    bytes[16..20].copy_from_slice(&entry.d_namlen.to_le_bytes());
    bytes[20] = u8::from(entry.d_type);
    bytes
}
