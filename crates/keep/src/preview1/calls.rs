//! The calls, one by one, as the standard names them.

use wiggle::{GuestMemory, GuestPtr};

use super::{
    Instance,
    abi::{types, types::*, wasi_snapshot_preview1::WasiSnapshotPreview1},
    clock,
    table::{Open, is_preopened},
};
use crate::{command::Exit, vfs::Handle};

type Memory<'a> = GuestMemory<'a>;
type Result<T> = std::result::Result<T, types::Error>;

/// Random bytes made between two looks at the other tasks.
const RANDOM: u32 = 64 << 10;

impl WasiSnapshotPreview1 for Instance {
    fn args_get(
        &mut self,
        memory: &mut Memory<'_>,
        list: GuestPtr<GuestPtr<u8>>,
        text: GuestPtr<u8>,
    ) -> Result<()> {
        strings(memory, &self.args, list, text)
    }

    fn args_sizes_get(&mut self, _: &mut Memory<'_>) -> Result<(Size, Size)> {
        sizes(&self.args)
    }

    fn environ_get(
        &mut self,
        memory: &mut Memory<'_>,
        list: GuestPtr<GuestPtr<u8>>,
        text: GuestPtr<u8>,
    ) -> Result<()> {
        strings(memory, &self.env, list, text)
    }

    fn environ_sizes_get(&mut self, _: &mut Memory<'_>) -> Result<(Size, Size)> {
        sizes(&self.env)
    }

    fn clock_res_get(&mut self, _: &mut Memory<'_>, id: Clockid) -> Result<Timestamp> {
        match id {
            Clockid::Realtime | Clockid::Monotonic => Ok(1),
            Clockid::ProcessCputimeId | Clockid::ThreadCputimeId => Err(Errno::Inval.into()),
        }
    }

    fn clock_time_get(&mut self, _: &mut Memory<'_>, id: Clockid, _: Timestamp) -> Result<Timestamp> {
        let time = match id {
            Clockid::Realtime => clock::real(),
            Clockid::Monotonic => self.begun.elapsed(),
            Clockid::ProcessCputimeId | Clockid::ThreadCputimeId => return Err(Errno::Inval.into()),
        };
        Ok(clock::nanoseconds(time).ok_or(Errno::Overflow)?)
    }

    fn fd_advise(
        &mut self,
        _: &mut Memory<'_>,
        fd: Fd,
        offset: Filesize,
        length: Filesize,
        _: Advice,
    ) -> Result<()> {
        self.table.get(fd)?.file()?;
        offset.checked_add(length).ok_or(Errno::Inval)?;
        Ok(())
    }

    async fn fd_allocate(
        &mut self,
        _: &mut Memory<'_>,
        fd: Fd,
        offset: Filesize,
        length: Filesize,
    ) -> Result<()> {
        self.allocate(fd, offset, length).await
    }

    fn fd_close(&mut self, _: &mut Memory<'_>, fd: Fd) -> Result<()> {
        // As wasi-libc relies on: what it found at the start stays.
        if is_preopened(self.table.get(fd)?) {
            return Err(Errno::Notsup.into());
        }
        Ok(self.table.close(fd)?)
    }

    async fn fd_datasync(&mut self, _: &mut Memory<'_>, fd: Fd) -> Result<()> {
        self.sync(fd).await
    }

    fn fd_fdstat_get(&mut self, _: &mut Memory<'_>, fd: Fd) -> Result<Fdstat> {
        let descriptor = self.table.get(fd)?;
        Ok(Fdstat {
            fs_filetype: descriptor.filetype(),
            fs_flags: descriptor.flags,
            fs_rights_base: descriptor.rights,
            fs_rights_inheriting: descriptor.inheriting,
        })
    }

    fn fd_fdstat_set_flags(&mut self, _: &mut Memory<'_>, fd: Fd, flags: Fdflags) -> Result<()> {
        let descriptor = self.table.able(fd, Rights::FD_FDSTAT_SET_FLAGS)?;
        let allowed = match descriptor.open {
            Open::File(_) | Open::Directory(_) => Fdflags::NONBLOCK | Fdflags::APPEND,
            _ => Fdflags::NONBLOCK,
        };
        if !(flags & !allowed).is_empty() {
            return Err(Errno::Inval.into());
        }
        descriptor.flags = flags;
        Ok(())
    }

    fn fd_fdstat_set_rights(
        &mut self,
        _: &mut Memory<'_>,
        fd: Fd,
        rights: Rights,
        inheriting: Rights,
    ) -> Result<()> {
        let descriptor = self.table.get(fd)?;
        if !descriptor.rights.contains(rights) || !descriptor.inheriting.contains(inheriting) {
            return Err(Errno::Notcapable.into());
        }
        (descriptor.rights, descriptor.inheriting) = (rights, inheriting);
        Ok(())
    }

    async fn fd_filestat_get(&mut self, _: &mut Memory<'_>, fd: Fd) -> Result<Filestat> {
        self.stat(fd).await
    }

    async fn fd_filestat_set_size(&mut self, _: &mut Memory<'_>, fd: Fd, size: Filesize) -> Result<()> {
        self.set_size(fd, size).await
    }

    async fn fd_filestat_set_times(
        &mut self,
        _: &mut Memory<'_>,
        fd: Fd,
        accessed: Timestamp,
        modified: Timestamp,
        which: Fstflags,
    ) -> Result<()> {
        self.set_times(fd, [accessed, modified], which).await
    }

    async fn fd_pread(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        to: IovecArray,
        offset: Filesize,
    ) -> Result<Size> {
        self.read_at(memory, fd, to, offset).await
    }

    fn fd_prestat_get(&mut self, _: &mut Memory<'_>, fd: Fd) -> Result<Prestat> {
        self.prestat(fd)
    }

    fn fd_prestat_dir_name(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        to: GuestPtr<u8>,
        length: Size,
    ) -> Result<()> {
        let name = self.preopened(fd)?;
        let needed = u32::try_from(name.len()).map_err(|_| Errno::Overflow)?;
        if needed > length {
            return Err(Errno::Nametoolong.into());
        }
        Ok(memory.copy_from_slice(name, to.as_array(needed))?)
    }

    async fn fd_pwrite(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        from: CiovecArray,
        offset: Filesize,
    ) -> Result<Size> {
        self.write_at(memory, fd, from, offset).await
    }

    async fn fd_read(&mut self, memory: &mut Memory<'_>, fd: Fd, to: IovecArray) -> Result<Size> {
        self.read(memory, fd, to).await
    }

    async fn fd_readdir(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        to: GuestPtr<u8>,
        length: Size,
        cookie: Dircookie,
    ) -> Result<Size> {
        self.list(memory, fd, to, length, cookie).await
    }

    fn fd_renumber(&mut self, _: &mut Memory<'_>, from: Fd, to: Fd) -> Result<()> {
        if is_preopened(self.table.get(from)?) || is_preopened(self.table.get(to)?) {
            return Err(Errno::Notsup.into());
        }
        Ok(self.table.renumber(from, to)?)
    }

    async fn fd_seek(&mut self, _: &mut Memory<'_>, fd: Fd, by: Filedelta, from: Whence) -> Result<Filesize> {
        self.seek(fd, by, from).await
    }

    async fn fd_sync(&mut self, _: &mut Memory<'_>, fd: Fd) -> Result<()> {
        self.sync(fd).await
    }

    fn fd_tell(&mut self, _: &mut Memory<'_>, fd: Fd) -> Result<Filesize> {
        Ok(self.table.get(fd)?.file()?.offset)
    }

    async fn fd_write(&mut self, memory: &mut Memory<'_>, fd: Fd, from: CiovecArray) -> Result<Size> {
        self.write(memory, fd, from).await
    }

    async fn path_create_directory(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        self.change_at(memory, fd, path, Rights::PATH_CREATE_DIRECTORY, Handle::create_directory_at).await
    }

    async fn path_filestat_get(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        _: Lookupflags,
        path: GuestPtr<str>,
    ) -> Result<Filestat> {
        self.stat_at(memory, fd, path).await
    }

    async fn path_filestat_set_times(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        _: Lookupflags,
        path: GuestPtr<str>,
        accessed: Timestamp,
        modified: Timestamp,
        which: Fstflags,
    ) -> Result<()> {
        self.set_times_at(memory, fd, path, [accessed, modified], which).await
    }

    fn path_link(
        &mut self,
        _: &mut Memory<'_>,
        fd: Fd,
        _: Lookupflags,
        _: GuestPtr<str>,
        _: Fd,
        _: GuestPtr<str>,
    ) -> Result<()> {
        self.no_link(fd)
    }

    async fn path_open(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        _: Lookupflags,
        path: GuestPtr<str>,
        how: Oflags,
        rights: Rights,
        _: Rights,
        flags: Fdflags,
    ) -> Result<Fd> {
        self.open(memory, fd, path, how, rights, flags).await
    }

    async fn path_readlink(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
        _: GuestPtr<u8>,
        _: Size,
    ) -> Result<Size> {
        self.read_link(memory, fd, path).await
    }

    async fn path_remove_directory(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        self.change_at(memory, fd, path, Rights::PATH_REMOVE_DIRECTORY, Handle::remove_directory_at).await
    }

    async fn path_rename(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        path: GuestPtr<str>,
        new_fd: Fd,
        new_path: GuestPtr<str>,
    ) -> Result<()> {
        self.rename(memory, (fd, path), (new_fd, new_path)).await
    }

    fn path_symlink(&mut self, _: &mut Memory<'_>, _: GuestPtr<str>, fd: Fd, _: GuestPtr<str>) -> Result<()> {
        self.no_link(fd)
    }

    async fn path_unlink_file(&mut self, memory: &mut Memory<'_>, fd: Fd, path: GuestPtr<str>) -> Result<()> {
        self.change_at(memory, fd, path, Rights::PATH_UNLINK_FILE, Handle::unlink_at).await
    }

    async fn poll_oneoff(
        &mut self,
        memory: &mut Memory<'_>,
        subscriptions: GuestPtr<Subscription>,
        events: GuestPtr<Event>,
        count: Size,
    ) -> Result<Size> {
        let subscriptions = Self::subscriptions(memory, subscriptions, count)?;
        self.poll(memory, subscriptions, events).await
    }

    fn proc_exit(&mut self, _: &mut Memory<'_>, code: Exitcode) -> wiggle::error::Error {
        Exit(code).into()
    }

    fn proc_raise(&mut self, _: &mut Memory<'_>, _: Signal) -> Result<()> {
        Err(Errno::Notsup.into())
    }

    async fn sched_yield(&mut self, _: &mut Memory<'_>) -> Result<()> {
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn random_get(&mut self, memory: &mut Memory<'_>, to: GuestPtr<u8>, length: Size) -> Result<()> {
        let whole = to.as_array(length);
        let mut done = 0;
        while done < length {
            let next = length.min(done.saturating_add(RANDOM));
            let part = whole.get_range(done..next).ok_or(Errno::Fault)?;
            let slice = memory.as_slice_mut(part)?.ok_or(Errno::Notsup)?;
            aws_lc_rs::rand::fill(slice).map_err(|_| Errno::Io)?;
            done = next;
            if done < length {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn sock_accept(&mut self, _: &mut Memory<'_>, fd: Fd, flags: Fdflags) -> Result<Fd> {
        self.accept(fd, flags).await
    }

    async fn sock_recv(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        to: IovecArray,
        flags: Riflags,
    ) -> Result<(Size, Roflags)> {
        self.receive(memory, fd, to, flags).await
    }

    async fn sock_send(
        &mut self,
        memory: &mut Memory<'_>,
        fd: Fd,
        from: CiovecArray,
        flags: Siflags,
    ) -> Result<Size> {
        self.send(memory, fd, from, flags).await
    }

    fn sock_shutdown(&mut self, _: &mut Memory<'_>, fd: Fd, how: Sdflags) -> Result<()> {
        self.shut_down(fd, how)
    }
}

/// Each with a zero byte after it, and where each begins.
fn strings(
    memory: &mut Memory<'_>,
    strings: &[String],
    mut list: GuestPtr<GuestPtr<u8>>,
    mut text: GuestPtr<u8>,
) -> Result<()> {
    for string in strings {
        memory.write(list, text)?;
        list = list.add(1)?;
        for bytes in [string.as_bytes(), &[0]] {
            let length = u32::try_from(bytes.len()).map_err(|_| Errno::Overflow)?;
            memory.copy_from_slice(bytes, text.as_array(length))?;
            text = text.add(length)?;
        }
    }
    Ok(())
}

fn sizes(strings: &[String]) -> Result<(Size, Size)> {
    let bytes: usize = strings.iter().map(|string| string.len() + 1).sum();
    let size = |number| Size::try_from(number).map_err(|_| Errno::Overflow);
    Ok((size(strings.len())?, size(bytes)?))
}
