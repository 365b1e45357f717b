//! What a command prints: to its client, and in lines to whom `[log]` names.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncWrite, DuplexStream};

use crate::{
    admission::LogPolicy,
    metrics::Metrics,
    output::{Lines, Output, Stdio},
    world::WORKLOAD_NAME,
};

/// One of a command's streams: the client takes it, and what it took is logged.
pub(super) struct Printed {
    client: DuplexStream,
    lines: Lines,
}

/// Standard output and error, leading to these, and what is told besides.
pub(super) fn printed(
    log: &keep_config::Log,
    metrics: &Arc<Metrics>,
    stdout: DuplexStream,
    stderr: DuplexStream,
) -> ([Printed; 2], Arc<Output>) {
    let output = Output::new(WORKLOAD_NAME, LogPolicy::of(log), metrics);
    let streams = [("stdout", stdout), ("stderr", stderr)].map(|(stream, client)| {
        let lines = Stdio { output: Arc::clone(&output), stream }.lines();
        Printed { client, lines }
    });
    (streams, output)
}

impl AsyncWrite for Printed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = ready!(Pin::new(&mut self.client).poll_write(cx, bytes))?;
        self.lines.take(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_shutdown(cx)
    }
}
