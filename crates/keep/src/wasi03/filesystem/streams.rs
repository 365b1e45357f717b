//! Streams over files and directories. What can wait for a disk is done on a thread for that, one operation of a stream
//! at a time; an operation that has begun is not cancelled, because nobody could say what of it was done.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    vec,
};

use bytes::Bytes;
use tokio::task::{JoinError, JoinHandle};
use wasmtime::{
    StoreContextMut,
    component::{Destination, Source, StreamConsumer, StreamProducer, StreamResult, VecBuffer},
};

use super::{DirectoryEntry, ErrorCode, kind};
use crate::{
    filesystem::streams::{BLOCK, Position, read},
    vfs::{Entry, Error, Handle},
    wasi03::End,
};

/// Entries that are told at a time.
const ENTRIES: usize = 64;

fn done<T>(finished: Result<Result<T, Error>, JoinError>) -> Result<T, Error> {
    finished.unwrap_or(Err(Error::Storage("OPERATION_LOST")))
}

/// Reads a file from an offset to its end.
pub(super) struct Reader {
    handle: Handle,
    offset: u64,
    end: End<ErrorCode>,
    under_way: Option<JoinHandle<Result<Bytes, Error>>>,
}

impl Reader {
    pub(super) fn new(handle: Handle, offset: u64, end: End<ErrorCode>) -> Self {
        Self { handle, offset, end, under_way: None }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<Result<Bytes, Error>> {
        if !self.handle.waits() {
            return Poll::Ready(read(&self.handle, self.offset, size));
        }
        let (handle, offset) = (&self.handle, self.offset);
        let task = self.under_way.get_or_insert_with(|| {
            let handle = handle.clone();
            tokio::task::spawn_blocking(move || read(&handle, offset, size))
        });
        let finished = ready!(Pin::new(task).poll(cx));
        self.under_way = None;
        Poll::Ready(done(finished))
    }
}

impl<T> StreamProducer<T> for Reader {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        mut destination: Destination<'a, u8, Bytes>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let room = destination.remaining(&mut store).unwrap_or(BLOCK);
        // Files are always ready.
        if room == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        Poll::Ready(Ok(match ready!(self.poll_read(cx, room)) {
            Ok(bytes) if bytes.is_empty() => StreamResult::Dropped,
            Ok(bytes) => {
                self.offset = self.offset.saturating_add(bytes.len() as u64);
                destination.set_buffer(bytes);
                StreamResult::Completed
            }
            Err(error) => {
                self.end.tell(Err(error.into()));
                StreamResult::Dropped
            }
        }))
    }
}

/// Writes a file.
pub(super) struct Writer {
    handle: Handle,
    position: Position,
    end: End<ErrorCode>,
    /// With how many bytes it writes.
    under_way: Option<(usize, JoinHandle<Result<(), Error>>)>,
}

impl Writer {
    pub(super) fn new(handle: Handle, position: Position, end: End<ErrorCode>) -> Self {
        Self { handle, position, end, under_way: None }
    }

    /// How many of `bytes` are in the file now: never none.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        let part = &bytes[..bytes.len().min(BLOCK)];
        let position = self.position;
        if !self.handle.waits() {
            return Poll::Ready(position.write(&self.handle, part).map(|()| part.len()));
        }
        let handle = &self.handle;
        let (length, task) = self.under_way.get_or_insert_with(|| {
            let (handle, part) = (handle.clone(), Bytes::copy_from_slice(part));
            (part.len(), tokio::task::spawn_blocking(move || position.write(&handle, &part)))
        });
        let (length, finished) = (*length, ready!(Pin::new(task).poll(cx)));
        self.under_way = None;
        Poll::Ready(done(finished).map(|()| length))
    }
}

impl<T> StreamConsumer<T> for Writer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<T>,
        source: Source<'_, u8>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        if source.remaining().is_empty() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        Poll::Ready(Ok(match ready!(self.poll_write(cx, source.remaining())) {
            Ok(written) => {
                self.position = self.position.after(written);
                source.mark_read(written);
                StreamResult::Completed
            }
            Err(error) => {
                self.end.tell(Err(error.into()));
                StreamResult::Dropped
            }
        }))
    }
}

/// Lists a directory, as it is when listing begins.
pub(super) struct Listing {
    listing: Option<JoinHandle<Result<Vec<Entry>, Error>>>,
    entries: vec::IntoIter<Entry>,
    end: End<ErrorCode>,
}

impl Listing {
    pub(super) fn new(handle: Handle, end: End<ErrorCode>) -> Self {
        let listing = tokio::spawn(async move { handle.run(Handle::entries).await });
        Self { listing: Some(listing), entries: Vec::new().into_iter(), end }
    }
}

impl<T> StreamProducer<T> for Listing {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        mut destination: Destination<'a, DirectoryEntry, VecBuffer<DirectoryEntry>>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let room = destination.remaining(&mut store).unwrap_or(ENTRIES).min(ENTRIES);
        if room == 0 {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        if let Some(listing) = &mut self.listing {
            let listed = done(ready!(Pin::new(listing).poll(cx)));
            self.listing = None;
            match listed {
                Ok(entries) => self.entries = entries.into_iter(),
                Err(error) => {
                    self.end.tell(Err(error.into()));
                    return Poll::Ready(Ok(StreamResult::Dropped));
                }
            }
        }
        let told = |entry: Entry| DirectoryEntry { type_: kind(entry.kind), name: entry.name };
        let entries: Vec<_> = self.entries.by_ref().take(room).map(told).collect();
        if entries.is_empty() {
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        destination.set_buffer(entries.into());
        Poll::Ready(Ok(StreamResult::Completed))
    }
}
