//! The standard streams of a command: the caller's, with as much output as the limits allow.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use wasmtime_wasi::{
    WasiCtxBuilder,
    cli::{IsTerminal, StdinStream, StdoutStream},
    p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult},
};

use crate::{
    limit::{Alarm, Exceeded, Which},
    pipe::{Broken, Pipe},
    world::World,
};

/// How long a caller has to take the last output.
const LAST_OUTPUT: Duration = Duration::from_secs(10);

/// Where a command's standard streams lead. A stream that its configuration does not name is not connected.
pub struct Stdio {
    /// Read when the workload first asks for input, and then ahead of it by at most 64 KiB.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Shut down at the end.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Shut down at the end.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Stdio {
    /// No input, and output that is thrown away.
    pub fn null() -> Self {
        Self {
            stdin: Box::new(tokio::io::empty()),
            stdout: Box::new(tokio::io::sink()),
            stderr: Box::new(tokio::io::sink()),
        }
    }

    /// The workload's ends, and what moves bytes between them and the caller.
    pub(crate) fn split(self, limits: &keep_config::Limits, alarm: &Alarm) -> (Streams, Drivers) {
        let budget = Arc::new(Budget { left: Mutex::new(limits.output), alarm: alarm.clone() });
        let printer = || Printer { pipe: Pipe::default(), budget: Arc::clone(&budget) };
        let streams = Streams { stdin: Pipe::default(), stdout: printer(), stderr: printer() };
        let input = Box::pin(streams.stdin.clone().fill(self.stdin));
        let stdout = streams.stdout.pipe.clone().drain(self.stdout);
        let stderr = streams.stderr.pipe.clone().drain(self.stderr);
        let output = Box::pin(async {
            tokio::join!(stdout, stderr);
        });
        (streams, Drivers { input, output })
    }
}

type Moving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is behind a command's streams. It runs in the task of its instance, which yields every few milliseconds: tasks of its
/// own would have to be woken on other threads, and that takes longer than a small workload.
pub(crate) struct Drivers {
    input: Moving,
    output: Moving,
}

impl Drivers {
    /// Moves bytes while `running`, and then what it printed last.
    pub(crate) async fn during<T>(mut self, streams: &Streams, running: impl Future<Output = T>) -> T {
        let mut running = pin!(running);
        let (mut reads, mut prints) = (true, true);
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut running => break ended,
                () = &mut self.output, if prints => prints = false,
                () = &mut self.input, if reads => reads = false,
            }
        };
        streams.stdout.pipe.end();
        streams.stderr.pipe.end();
        if prints && timeout(LAST_OUTPUT, self.output).await.is_err() {
            tracing::warn!(code = "OUTPUT_NOT_TAKEN", "the caller did not take the workload's last output");
        }
        ended
    }
}

/// The workload's ends of its streams.
#[derive(Clone)]
pub(crate) struct Streams {
    pub(crate) stdin: Pipe,
    pub(crate) stdout: Printer,
    pub(crate) stderr: Printer,
}

impl Streams {
    /// Connects the streams that the configuration names.
    pub(crate) fn wire(&self, world: &World, wasi: &mut WasiCtxBuilder) {
        for file in &world.descriptors {
            match file {
                keep_config::File::Stdin { .. } => {
                    wasi.stdin(Input(self.stdin.clone()));
                }
                keep_config::File::Stdout { .. } => {
                    wasi.stdout(self.stdout.clone());
                }
                keep_config::File::Stderr { .. } => {
                    wasi.stderr(self.stderr.clone());
                }
                _ => {}
            }
        }
    }
}

/// What may still be printed, over both streams.
struct Budget {
    left: Mutex<Option<u64>>,
    alarm: Alarm,
}

/// Standard output or error.
#[derive(Clone)]
pub(crate) struct Printer {
    pipe: Pipe,
    budget: Arc<Budget>,
}

impl Printer {
    /// How many bytes can be printed now; never zero.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<usize, Broken>> {
        self.pipe.poll_room(cx)
    }

    /// Prints, within the room; what exceeds the limit is cut off, and the instance's alarm raised.
    pub(crate) fn print(&self, bytes: &[u8]) -> Result<(), Exceeded> {
        let mut left = self.budget.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = left.as_mut() else {
            self.pipe.push(bytes);
            return Ok(());
        };
        let allowed = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
        *left -= allowed as u64;
        self.pipe.push(&bytes[..allowed]);
        if allowed == bytes.len() { Ok(()) } else { Err(self.budget.alarm.raise(Which::Output)) }
    }
}

impl IsTerminal for Printer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Printer {
    async fn ready(&mut self) {
        // A stream that nobody reads is ready to say so.
        let _ = std::future::poll_fn(|cx| self.poll_room(cx)).await;
    }
}

impl OutputStream for Printer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.print(&bytes).map_err(|exceeded| StreamError::Trap(exceeded.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.poll_room(&Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(Ok(room)) => Ok(room),
            Poll::Ready(Err(Broken)) => Err(StreamError::Closed),
            Poll::Pending => Ok(0),
        }
    }
}

impl AsyncWrite for Printer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let Ok(room) = ready!(self.poll_room(cx)) else {
            return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        };
        let length = bytes.len().min(room);
        Poll::Ready(self.print(&bytes[..length]).map(|()| length).map_err(std::io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Standard input.
#[derive(Clone)]
struct Input(Pipe);

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.0.available().await;
    }
}

impl InputStream for Input {
    fn read(&mut self, most: usize) -> StreamResult<Bytes> {
        // Asking is what begins the reading of the caller's input.
        match self.0.poll_available(&Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(0) => Err(StreamError::Closed),
            Poll::Ready(_) => Ok(self.0.take(most)),
            Poll::Pending => Ok(Bytes::new()),
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        ready!(self.0.poll_available(cx));
        buffer.put_slice(&self.0.take(buffer.remaining()));
        Poll::Ready(Ok(()))
    }
}
