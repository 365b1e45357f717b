//! Bytes between the module's memory and its descriptors. One call moves a bounded number, so that it never holds the
//! thread for long: programs go on where a short read or write ended.

use std::{
    io::IoSlice,
    task::{Context, Poll, Waker},
};

use wiggle::{GuestMemory, GuestPtr};

use super::{
    Instance,
    abi::types::{
        CiovecArray, Errno, Error, Fd, Fdflags, Filesize, IovecArray, Riflags, Rights, Roflags, Sdflags, Size,
    },
    table::{Descriptor, File, Open},
};
use crate::{
    net::{Connection, Side},
    stdio::Printer,
};

type Result<T> = std::result::Result<T, Error>;

/// Most bytes that one call moves.
const MOST: u32 = 1 << 20;
/// Most pieces of memory that one call names.
const MAX_PIECES: u32 = 1024;

impl Instance {
    pub(super) async fn read(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        to: IovecArray,
    ) -> Result<Size> {
        let descriptor = self.table.able(fd, Rights::FD_READ)?;
        let nonblocking = descriptor.is_nonblocking();
        let mut read = 0;
        for (place, buffer) in buffers(memory, to)?.iter().enumerate() {
            let part = match read_into(descriptor, memory, buffer, nonblocking || place > 0).await {
                Ok(part) => part,
                // Bytes first; what ended them is said the next time.
                Err(_) if place > 0 => break,
                Err(error) => return Err(error),
            };
            read += part;
            if part < buffer.len() as usize {
                break;
            }
        }
        size(read)
    }

    pub(super) async fn read_at(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        to: IovecArray,
        offset: Filesize,
    ) -> Result<Size> {
        let descriptor = self.table.get(fd)?;
        descriptor.file()?;
        let buffer = first(memory, to)?;
        descriptor.needs(Rights::FD_READ)?;
        let Some(buffer) = buffer else { return Ok(0) };
        size(read_file(descriptor.file()?, memory, &buffer, offset).await?)
    }

    pub(super) async fn write(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        from: CiovecArray,
    ) -> Result<Size> {
        let descriptor = self.table.able(fd, Rights::FD_WRITE)?;
        let pieces = pieces(memory, from)?;
        let nonblocking = descriptor.is_nonblocking();
        let append = descriptor.flags.contains(Fdflags::APPEND);
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let written = match &mut descriptor.open {
            Open::Null => total,
            _ if total == 0 => 0,
            Open::Printer(printer) => print(printer, &pieces, nonblocking).await?,
            Open::Connection(connection) => send(connection, &pieces, nonblocking).await?,
            Open::File(file) => {
                let written =
                    write_file(file, &pieces, if append { None } else { Some(file.offset) }).await?;
                file.offset = match append {
                    true => file.handle.run(|handle| handle.stat()).await?.size,
                    false => file.offset.saturating_add(written as u64),
                };
                written
            }
            Open::Directory(_) => return Err(Errno::Isdir.into()),
            Open::Stdin(_) | Open::Listener(_) => return Err(Errno::Badf.into()),
        };
        size(written)
    }

    pub(super) async fn write_at(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        from: CiovecArray,
        offset: Filesize,
    ) -> Result<Size> {
        let descriptor = self.table.get(fd)?;
        descriptor.file()?;
        descriptor.needs(Rights::FD_WRITE)?;
        let pieces = pieces(memory, from)?;
        size(write_file(descriptor.file()?, &pieces, Some(offset)).await?)
    }

    /// A connection starts blocking, unless the flags say otherwise.
    pub(super) async fn accept(&mut self, fd: Fd, flags: Fdflags) -> Result<Fd> {
        if !(flags & !Fdflags::NONBLOCK).is_empty() {
            return Err(Errno::Inval.into());
        }
        let descriptor = self.table.get(fd)?;
        let nonblocking = descriptor.is_nonblocking();
        let Open::Listener(listener) = &descriptor.open else {
            return Err(match &descriptor.open {
                Open::Connection(_) => Errno::Inval.into(),
                _ => Errno::Notsock.into(),
            });
        };
        let connection = match nonblocking {
            true => listener.try_accept().ok_or(Errno::Again)?,
            false => listener.accept().await,
        };
        let accepted = Descriptor { flags, ..Descriptor::new(Open::Connection(connection)) };
        Ok(self.table.insert(accepted)?)
    }

    pub(super) async fn receive(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        to: IovecArray,
        flags: Riflags,
    ) -> Result<(Size, Roflags)> {
        let descriptor = self.table.get(fd)?;
        let connection = descriptor.connection()?;
        descriptor.needs(Rights::FD_READ)?;
        let Some(buffer) = first(memory, to)? else { return Ok((0, Roflags::empty())) };
        let nonblocking = descriptor.is_nonblocking();
        let mut received = 0;
        if flags.contains(Riflags::RECV_PEEK) {
            received = peek(connection, memory, &buffer, nonblocking).await?;
        } else {
            loop {
                let rest = buffer.get_range(received..buffer.len()).ok_or(Errno::Fault)?;
                match receive(connection, memory, &rest, nonblocking).await {
                    Ok(0) => break,
                    Ok(more) => received += u32::try_from(more).unwrap_or(0),
                    // Bytes first; what ended them is said the next time.
                    Err(_) if received > 0 => break,
                    Err(error) => return Err(error),
                }
                if !flags.contains(Riflags::RECV_WAITALL) || received == buffer.len() {
                    break;
                }
            }
        }
        Ok((received, Roflags::empty()))
    }

    pub(super) async fn send(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: Fd,
        from: CiovecArray,
        flags: u16,
    ) -> Result<Size> {
        if flags != 0 {
            return Err(Errno::Inval.into());
        }
        let descriptor = self.table.get(fd)?;
        let connection = descriptor.connection()?;
        descriptor.needs(Rights::FD_WRITE)?;
        let pieces = pieces(memory, from)?;
        if pieces.iter().all(|piece| piece.is_empty()) {
            return Ok(0);
        }
        size(send(connection, &pieces, descriptor.is_nonblocking()).await?)
    }

    pub(super) fn shut_down(&mut self, fd: Fd, how: Sdflags) -> Result<()> {
        let descriptor = self.table.get(fd)?;
        let connection = descriptor.connection()?;
        descriptor.needs(Rights::SOCK_SHUTDOWN)?;
        let side = match (how.contains(Sdflags::RD), how.contains(Sdflags::WR)) {
            (true, true) => Side::Both,
            (true, false) => Side::Read,
            (false, true) => Side::Write,
            (false, false) => return Err(Errno::Inval.into()),
        };
        connection.shutdown(side);
        Ok(())
    }
}

fn size(bytes: usize) -> Result<Size> {
    Ok(Size::try_from(bytes).map_err(|_| Errno::Overflow)?)
}

fn now<T>(polled: Poll<T>) -> std::result::Result<T, Errno> {
    match polled {
        Poll::Ready(ready) => Ok(ready),
        Poll::Pending => Err(Errno::Again),
    }
}

/// The first piece that is not empty.
fn first(memory: &GuestMemory<'_>, pieces: IovecArray) -> Result<Option<GuestPtr<[u8]>>> {
    if pieces.len() > MAX_PIECES {
        return Err(Errno::Inval.into());
    }
    for piece in pieces.iter() {
        let piece = memory.read(piece?)?;
        if piece.buf_len > 0 {
            return Ok(Some(piece.buf.as_array(piece.buf_len.min(MOST))));
        }
    }
    Ok(None)
}

/// All pieces that are not empty, up to [`MOST`] bytes. Each can be written, so that nothing is read that would be lost.
fn buffers(memory: &mut GuestMemory<'_>, pieces: IovecArray) -> Result<Vec<GuestPtr<[u8]>>> {
    if pieces.len() > MAX_PIECES {
        return Err(Errno::Inval.into());
    }
    let (mut buffers, mut left) = (Vec::new(), MOST);
    for piece in pieces.iter() {
        let piece = memory.read(piece?)?;
        let length = piece.buf_len.min(left);
        left -= length;
        if length > 0 {
            let buffer = piece.buf.as_array(length);
            writable(memory, &buffer)?;
            buffers.push(buffer);
        }
    }
    Ok(buffers)
}

/// All pieces, up to [`MOST`] bytes.
fn pieces<'a>(memory: &'a GuestMemory<'_>, pieces: CiovecArray) -> Result<Vec<IoSlice<'a>>> {
    if pieces.len() > MAX_PIECES {
        return Err(Errno::Inval.into());
    }
    let mut slices = Vec::new();
    let mut left = MOST;
    for piece in pieces.iter() {
        let piece = memory.read(piece?)?;
        let length = piece.buf_len.min(left);
        left -= length;
        // Shared memory is not offered, so there always is a slice.
        let slice = memory.as_slice(piece.buf.as_array(length))?.ok_or(Errno::Notsup)?;
        slices.push(IoSlice::new(slice));
        if length < piece.buf_len {
            break;
        }
    }
    Ok(slices)
}

fn part(buffer: &GuestPtr<[u8]>, length: usize) -> Result<GuestPtr<[u8]>> {
    let length = u32::try_from(length).map_err(|_| Errno::Overflow)?;
    Ok(buffer.get_range(0..length).ok_or(Errno::Fault)?)
}

fn writable<'a>(memory: &'a mut GuestMemory<'_>, buffer: &GuestPtr<[u8]>) -> Result<&'a mut [u8]> {
    Ok(memory.as_slice_mut(*buffer)?.ok_or(Errno::Notsup)?)
}

/// Into one piece. A piece after the first is never waited for.
async fn read_into(
    descriptor: &mut Descriptor,
    memory: &mut GuestMemory<'_>,
    buffer: &GuestPtr<[u8]>,
    nonblocking: bool,
) -> Result<usize> {
    Ok(match &mut descriptor.open {
        Open::Null => 0,
        Open::Stdin(pipe) => {
            if nonblocking {
                now(pipe.poll_available(&Context::from_waker(Waker::noop())))?;
            }
            let available = pipe.available().await.min(buffer.len() as usize);
            let bytes = pipe.take(available);
            memory.copy_from_slice(&bytes, part(buffer, bytes.len())?)?;
            bytes.len()
        }
        Open::Connection(connection) => receive(connection, memory, buffer, nonblocking).await?,
        Open::File(file) => {
            let read = read_file(file, memory, buffer, file.offset).await?;
            file.offset = file.offset.saturating_add(read as u64);
            read
        }
        Open::Directory(_) => return Err(Errno::Isdir.into()),
        Open::Printer(_) | Open::Listener(_) => return Err(Errno::Badf.into()),
    })
}

async fn receive(
    connection: &Connection,
    memory: &mut GuestMemory<'_>,
    buffer: &GuestPtr<[u8]>,
    nonblocking: bool,
) -> Result<usize> {
    let buffer = writable(memory, buffer)?;
    loop {
        match connection.try_read(buffer)? {
            Some(read) => return Ok(read),
            None if nonblocking => return Err(Errno::Again.into()),
            None => connection.readable().await,
        }
    }
}

async fn peek(
    connection: &Connection,
    memory: &mut GuestMemory<'_>,
    buffer: &GuestPtr<[u8]>,
    nonblocking: bool,
) -> Result<Size> {
    let buffer = writable(memory, buffer)?;
    loop {
        match connection.peek(buffer)? {
            Some(seen) => return size(seen),
            None if nonblocking => return Err(Errno::Again.into()),
            None => connection.readable().await,
        }
    }
}

async fn send(connection: &Connection, pieces: &[IoSlice<'_>], nonblocking: bool) -> Result<usize> {
    loop {
        match connection.try_write_vectored(pieces)? {
            Some(written) => return Ok(written),
            None if nonblocking => return Err(Errno::Again.into()),
            None => connection.writable().await,
        }
    }
}

async fn print(printer: &Printer, pieces: &[IoSlice<'_>], nonblocking: bool) -> Result<usize> {
    let mut printed = 0;
    for piece in pieces {
        let mut rest: &[u8] = piece;
        while !rest.is_empty() {
            let room = if nonblocking {
                match printer.poll_room(&Context::from_waker(Waker::noop())) {
                    Poll::Pending if printed > 0 => return Ok(printed),
                    polled => now(polled)??,
                }
            } else {
                std::future::poll_fn(|cx| printer.poll_room(cx)).await?
            };
            let (begin, later) = rest.split_at(rest.len().min(room));
            printer.print(begin).map_err(|exceeded| Error::trap(exceeded.into()))?;
            printed += begin.len();
            rest = later;
        }
    }
    Ok(printed)
}

async fn read_file(
    file: &File,
    memory: &mut GuestMemory<'_>,
    buffer: &GuestPtr<[u8]>,
    offset: u64,
) -> Result<usize> {
    let slice = writable(memory, buffer)?;
    if !file.handle.waits() {
        return Ok(file.handle.read_at(offset, slice)?);
    }
    let mut bytes = vec![0; slice.len()];
    let read = file
        .handle
        .run(move |handle| {
            let read = handle.read_at(offset, &mut bytes)?;
            bytes.truncate(read);
            Ok(bytes)
        })
        .await?;
    slice[..read.len()].copy_from_slice(&read);
    Ok(read.len())
}

/// `None`: at the end.
async fn write_file(file: &File, pieces: &[IoSlice<'_>], offset: Option<u64>) -> Result<usize> {
    let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
    let length = bytes.len();
    let write = move |handle: &crate::vfs::Handle| match offset {
        Some(offset) => handle.write_at(offset, &bytes),
        None => handle.append(&bytes),
    };
    match file.handle.waits() {
        true => file.handle.run(write).await?,
        false => write(&file.handle)?,
    }
    Ok(length)
}
