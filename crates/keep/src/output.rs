//! The workload's standard output and error. By default it is counted and thrown away, because the host reads
//! the Keep's log; where the manifest says so, lines go to that log, bounded in length and rate.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use owner_log::{Sealer, Stream};
use tokio::{io::AsyncWrite, sync::mpsc};
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::{
    admission::LogPolicy,
    metrics::{self, Counted, Metrics, Of},
};

/// Longest line written to the log; the rest of it is cut off.
const MAX_LINE: usize = 4096;
const LINES_PER_SECOND: f64 = 100.0;
const BURST: f64 = 500.0;
/// Lines that wait for the caller.
const LINES_AHEAD: usize = 256;
const WRITE_PERMIT: usize = 64 << 10;

/// What all instances of one workload print.
pub(crate) struct Output {
    marble: String,
    policy: LogPolicy,
    bytes: AtomicU64,
    dropped: AtomicU64,
    rate: Mutex<Rate>,
    /// For [`LogPolicy::Owner`].
    sealer: Option<Sealer>,
    /// Who deployed the workload, and is told besides.
    caller: Option<mpsc::Sender<Line>>,
    /// Lines that the caller did not take, and has not been told of.
    untold: AtomicU64,
    /// Of the world that prints here.
    metrics: Arc<Metrics>,
    /// How often they are told.
    every: Duration,
}

/// A line for the caller, with its end.
pub(crate) struct Line {
    pub(crate) stream: &'static str,
    pub(crate) bytes: Vec<u8>,
}

struct Rate {
    tokens: f64,
    at: Instant,
}

impl Output {
    pub(crate) fn new(marble: &str, policy: LogPolicy, metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self::with(marble, policy, metrics, None))
    }

    /// The same, and the caller is told each line, as far as it takes them: nobody waits for it.
    pub(crate) fn for_caller(
        marble: &str,
        policy: LogPolicy,
        metrics: &Arc<Metrics>,
    ) -> (Arc<Self>, mpsc::Receiver<Line>) {
        let (caller, lines) = mpsc::channel(LINES_AHEAD);
        (Arc::new(Self::with(marble, policy, metrics, Some(caller))), lines)
    }

    fn with(
        marble: &str,
        policy: LogPolicy,
        metrics: &Arc<Metrics>,
        caller: Option<mpsc::Sender<Line>>,
    ) -> Self {
        Self {
            marble: marble.to_owned(),
            policy,
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            rate: Mutex::new(Rate { tokens: BURST, at: Instant::now() }),
            sealer: match policy {
                LogPolicy::Owner(key) => Sealer::new(key, marble),
                LogPolicy::Discard | LogPolicy::Host => None,
            },
            caller,
            untold: AtomicU64::new(0),
            metrics: Arc::clone(metrics),
            every: metrics::EVERY,
        }
    }

    fn counted(&self, of: Of) -> Counted {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        self.metrics.counted(of, load(&self.bytes), load(&self.dropped))
    }

    /// Tells what was counted to whom the log is for: to nobody, to the host in the clear, or to its owner alone.
    pub(crate) fn tell_metrics(&self, of: Of) {
        let counted = self.counted(of);
        match self.policy {
            LogPolicy::Discard => {}
            LogPolicy::Host => {
                let Counted { requests, cpu_ms, memory_bytes, output_bytes, lines_dropped } = counted;
                tracing::info!(
                    target: "workload",
                    code = "WORKLOAD_METRICS",
                    marble = %self.marble,
                    requests = requests.map(|it| it.answered),
                    failed = requests.map(|it| it.failed),
                    cpu_ms, memory_bytes, output_bytes, lines_dropped,
                );
            }
            LogPolicy::Owner(_) => {
                self.seal(Stream::Metrics, counted.to_string().as_bytes(), true);
            }
        }
    }

    /// Each minute. Where nobody is told, nothing wakes up.
    pub(crate) async fn tell_metrics_regularly(&self, of: Of) -> Infallible {
        if self.policy == LogPolicy::Discard {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(self.every).await;
            self.tell_metrics(of);
        }
    }

    fn admit(&self) -> bool {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let gained = now.duration_since(rate.at).as_secs_f64() * LINES_PER_SECOND;
        rate.tokens = (rate.tokens + gained).min(BURST);
        rate.at = now;
        if rate.tokens < 1.0 {
            return false;
        }
        rate.tokens -= 1.0;
        true
    }

    /// The host sees that a line was printed, when, and about how long it is. What cannot be sealed is dropped: nothing
    /// goes to the host instead.
    fn seal(&self, stream: Stream, line: &[u8], wanted: bool) {
        // The line's number is taken before it may be dropped, so that its owner sees that one is missing.
        let sealed = self.sealer.as_ref().and_then(|sealer| sealer.seal(stream, line, wanted));
        match sealed {
            Some(sealed) => {
                tracing::info!(target: "workload", code = "WORKLOAD_OUTPUT_SEALED", marble = %self.marble, sealed);
            }
            None => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Nothing that is printed goes anywhere.
    fn is_discarded(&self) -> bool {
        self.policy == LogPolicy::Discard && self.caller.is_none()
    }

    fn tell(&self, stream: &'static str, line: &[u8]) {
        let Some(caller) = &self.caller else { return };
        let untold = self.untold.swap(0, Ordering::Relaxed);
        let mut bytes = match untold {
            0 => Vec::new(),
            count => format!("-- {count} line(s) were printed faster than they were taken\n").into_bytes(),
        };
        bytes.extend(line);
        bytes.push(b'\n');
        if caller.try_send(Line { stream, bytes }).is_err() {
            self.untold.fetch_add(untold + 1, Ordering::Relaxed);
        }
    }

    fn line(&self, stream: &'static str, line: &[u8]) {
        self.tell(stream, line);
        if self.policy == LogPolicy::Discard {
            return;
        }
        if let LogPolicy::Owner(_) = self.policy {
            let stream = if stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
            self.seal(stream, line, self.admit());
        } else if self.admit() {
            // Escaped, so that a workload can neither forge log lines nor drive a terminal.
            let line = String::from_utf8_lossy(line).escape_debug().to_string();
            tracing::info!(target: "workload", code = "WORKLOAD_OUTPUT", marble = %self.marble, stream, line);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One instance's standard output or error.
pub(crate) struct Stdio {
    pub(crate) output: Arc<Output>,
    pub(crate) stream: &'static str,
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.lines())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.lines())
    }
}

impl Stdio {
    pub(crate) fn lines(&self) -> Lines {
        Lines { output: Arc::clone(&self.output), stream: self.stream, partial: Vec::new() }
    }
}

/// Cuts what is written into lines.
pub(crate) struct Lines {
    output: Arc<Output>,
    stream: &'static str,
    partial: Vec<u8>,
}

impl Lines {
    /// Cuts what was printed into lines.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.output.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if self.output.is_discarded() {
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = MAX_LINE - self.partial.len();
            self.partial.extend_from_slice(&text[..text.len().min(room)]);
            if ends {
                self.output.line(self.stream, &self.partial);
                self.partial.clear();
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.output.line(self.stream, &self.partial);
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PERMIT)
    }
}

impl AsyncWrite for Lines {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
