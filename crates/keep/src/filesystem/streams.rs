//! Streams over files. What can wait for a disk is done on a thread for that, one operation of a stream at a time.

use bytes::Bytes;
use tokio::task::JoinHandle;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::vfs::{Error, Handle};

/// What one operation reads or writes at most.
pub(crate) const BLOCK: usize = 256 << 10;

fn failed(error: Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

/// Reads a file from an offset to its end.
pub(super) struct Reader {
    handle: Handle,
    offset: u64,
    state: Reading,
}

enum Reading {
    Idle,
    Waiting(JoinHandle<Result<Bytes, Error>>),
    Read(Bytes),
    Failed(Error),
    Closed,
}

/// At most `size` bytes from `offset`, or a block; none: the end.
pub(crate) fn read(handle: &Handle, offset: u64, size: usize) -> Result<Bytes, Error> {
    let left = usize::try_from(handle.stat()?.size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut buffer = vec![0; size.min(left).min(BLOCK)];
    let read = handle.read_at(offset, &mut buffer)?;
    buffer.truncate(read);
    Ok(buffer.into())
}

impl Reader {
    pub(super) fn new(handle: Handle, offset: u64) -> Self {
        Self { handle, offset, state: Reading::Idle }
    }

    fn start(&mut self, size: usize) {
        if self.handle.waits() {
            let (handle, offset) = (self.handle.clone(), self.offset);
            let task = tokio::task::spawn_blocking(move || read(&handle, offset, size));
            self.state = Reading::Waiting(task);
        } else {
            self.arrived(read(&self.handle, self.offset, size));
        }
    }

    fn arrived(&mut self, result: Result<Bytes, Error>) {
        self.state = match result {
            Ok(bytes) if bytes.is_empty() => Reading::Closed,
            Ok(bytes) => Reading::Read(bytes),
            Err(error) => Reading::Failed(error),
        };
    }
}

#[async_trait::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        if matches!(self.state, Reading::Idle) {
            self.start(BLOCK);
        }
        if let Reading::Waiting(task) = &mut self.state {
            let result = task.await.unwrap_or(Err(Error::Storage("OPERATION_LOST")));
            self.arrived(result);
        }
    }
}

#[async_trait::async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        if matches!(self.state, Reading::Idle) {
            self.start(size);
        }
        match &mut self.state {
            Reading::Idle | Reading::Waiting(_) => Ok(Bytes::new()),
            Reading::Read(bytes) => {
                let part = bytes.split_to(size.min(bytes.len()));
                self.offset += part.len() as u64;
                if bytes.is_empty() {
                    self.state = Reading::Idle;
                }
                Ok(part)
            }
            Reading::Failed(error) => {
                let error = *error;
                self.state = Reading::Closed;
                Err(failed(error))
            }
            Reading::Closed => Err(StreamError::Closed),
        }
    }
}

/// Where a stream writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Position {
    /// There, and on.
    At(u64),
    /// At the end, always.
    End,
}

impl Position {
    /// Writes `bytes` there.
    pub(crate) fn write(self, handle: &Handle, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::At(offset) => handle.write_at(offset, bytes),
            Self::End => handle.append(bytes),
        }
    }

    /// Where what follows `length` bytes goes.
    pub(crate) fn after(self, length: usize) -> Self {
        match self {
            Self::At(offset) => Self::At(offset.saturating_add(length as u64)),
            Self::End => Self::End,
        }
    }
}

/// Writes a file.
pub(super) struct Writer {
    handle: Handle,
    position: Position,
    state: Writing,
}

enum Writing {
    Ready,
    Waiting(JoinHandle<Result<(), Error>>),
    Failed(Error),
    Closed,
}

impl Writer {
    pub(super) fn new(handle: Handle, position: Position) -> Self {
        Self { handle, position, state: Writing::Ready }
    }

    fn done(&mut self, result: Result<(), Error>) {
        self.state = match result {
            Ok(()) => Writing::Ready,
            Err(error) => Writing::Failed(error),
        };
    }

    fn check(&mut self) -> StreamResult<()> {
        match self.state {
            Writing::Ready | Writing::Waiting(_) => Ok(()),
            Writing::Failed(error) => {
                self.state = Writing::Closed;
                Err(failed(error))
            }
            Writing::Closed => Err(StreamError::Closed),
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if let Writing::Waiting(task) = &mut self.state {
            let result = task.await.unwrap_or(Err(Error::Storage("OPERATION_LOST")));
            self.done(result);
        }
    }
}

#[async_trait::async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.check()?;
        if matches!(self.state, Writing::Waiting(_)) || bytes.len() > BLOCK {
            return Err(StreamError::trap("written without permission"));
        }
        let position = self.position;
        self.position = position.after(bytes.len());
        if self.handle.waits() {
            let handle = self.handle.clone();
            let write = move || position.write(&handle, &bytes);
            self.state = Writing::Waiting(tokio::task::spawn_blocking(write));
        } else {
            let result = position.write(&self.handle, &bytes);
            self.done(result);
        }
        Ok(())
    }

    /// What is written is in the file when the stream is ready again.
    fn flush(&mut self) -> StreamResult<()> {
        self.check()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.check()?;
        Ok(if matches!(self.state, Writing::Ready) { BLOCK } else { 0 })
    }

    /// A stream that is dropped has still written what it was given.
    async fn cancel(&mut self) {
        self.ready().await;
    }
}
