//! Bodies on their way through the Keep: a request's is bounded in length, a peer's answer in its silences, the
//! workload's answer is cut off visibly when the workload fails in the middle of it, and what the workload sends
//! to a peer is taken to its end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, Sleep, sleep},
};
use wasmtime_wasi_http::{Error, WasiBody, p2::body::HyperOutgoingBody};

/// A flag that one side of a request raises, and the other reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flag(Arc<AtomicBool>);

impl Flag {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A request's body, of which at most `left` more bytes are handed on.
pub(crate) struct Bounded {
    pub(crate) body: Incoming,
    pub(crate) left: u64,
    /// Raised when there were more.
    pub(crate) exceeded: Flag,
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        let length = frame.data_ref().map_or(0, Buf::remaining) as u64;
        match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                self.exceeded.raise();
                Poll::Ready(Some(Err(Error::HttpRequestBodySize(None))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The workload's answer. Its end counts only if the workload has not failed by then; otherwise the client must
/// see that the answer is incomplete.
pub(crate) struct Answer {
    pub(crate) body: HyperOutgoingBody,
    /// Raised, before its streams are closed, when the workload failed.
    pub(crate) failed: Flag,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(poll_filled(&mut self.body, cx)) {
            None if self.failed.is_raised() => Poll::Ready(Some(Err(Error::HttpResponseIncomplete))),
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer of a workload of WASI 0.3, whose instance must live until it is through.
pub(crate) struct Held {
    pub(crate) body: WasiBody,
    /// Dropped with the body: then the instance may end.
    pub(crate) _through: oneshot::Sender<()>,
}

impl Body for Held {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The next frame that is not empty. Workloads write empty chunks; over HTTP/2 each would be a frame of its own,
/// and h2 ends a connection after a hundred of them.
fn poll_filled(body: &mut WasiBody, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
    loop {
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
            other => return Poll::Ready(other),
        }
    }
}

/// What the workload sends to a peer. When the request is given up early (denied, not connected, answered before
/// its end), the rest is still taken and thrown away: otherwise the workload would fail at writing, and never
/// learn why. It ends with the workload's instance at the latest.
pub(crate) struct Taken(Option<WasiBody>);

impl Taken {
    pub(crate) fn new(body: WasiBody) -> Self {
        Self(Some(body))
    }
}

impl Body for Taken {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = ready!(poll_filled(body, cx));
        if !matches!(frame, Some(Ok(_))) {
            self.0 = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(mut body) = self.0.take().filter(|body| !body.is_end_stream())
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
        }
    }
}

/// A peer's answer, of which the next part must come within `patience`.
pub(crate) struct Timed {
    body: Incoming,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl Timed {
    pub(crate) fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, deadline: Box::pin(sleep(patience)) }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                let next = Instant::now() + self.patience;
                self.deadline.as_mut().reset(next);
                Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
            }
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(cx));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
