//! The two streams of a connection, as `wasi:io` has them.

use std::{io, sync::Arc};

use bytes::Bytes;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::net::{Broken, Connection, MAX_TAKEN};

/// Most bytes that one call reads.
const MAX_READ: usize = 64 << 10;

fn failed(broken: Broken) -> StreamError {
    StreamError::LastOperationFailed(io::Error::from(broken).into())
}

/// The half that reads.
pub(super) struct Input {
    connection: Arc<Connection>,
    /// A failure is told once; after it the stream is closed.
    closed: bool,
}

impl Input {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, closed: false }
    }
}

#[async_trait::async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        let room = self.connection.available().clamp(1, MAX_READ).min(size);
        let mut buffer = vec![0; room];
        match self.connection.try_read(&mut buffer) {
            Ok(None) => Ok(Bytes::new()),
            Ok(Some(0)) => {
                self.closed = true;
                Err(StreamError::Closed)
            }
            Ok(Some(read)) => {
                buffer.truncate(read);
                Ok(buffer.into())
            }
            Err(broken) => {
                self.closed = true;
                Err(failed(broken))
            }
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        if !self.closed {
            self.connection.readable().await;
        }
    }
}

/// The half that writes.
pub(super) struct Output {
    connection: Arc<Connection>,
    closed: bool,
}

impl Output {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, closed: false }
    }

    fn ended<T>(&mut self, broken: Broken) -> StreamResult<T> {
        self.closed = true;
        Err(if broken == Broken::Shut { StreamError::Closed } else { failed(broken) })
    }
}

#[async_trait::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        match self.connection.try_take(&bytes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StreamError::trap("written without a permit")),
            Err(broken) => self.ended(broken),
        }
    }

    /// What was taken is on its way without being asked for.
    fn flush(&mut self) -> StreamResult<()> {
        if self.closed { Err(StreamError::Closed) } else { Ok(()) }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        match self.connection.try_flush() {
            Ok(sent) => Ok(if sent { MAX_TAKEN } else { 0 }),
            Err(broken) => self.ended(broken),
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        if !self.closed {
            self.connection.writable().await;
        }
    }
}
