//! Whether a connection has requests in work: one that had none for a while is closed, so that idle clients
//! cannot hold all places.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{sync::watch, time::timeout};
use wasmtime_wasi_http::{Error, p2::body::HyperOutgoingBody};

/// Requests in work on one connection.
#[derive(Clone)]
pub(super) struct Activity(Arc<watch::Sender<usize>>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// A request begins; it ends with the result.
    pub(super) fn begin(&self) -> Busy {
        self.0.send_modify(|requests| *requests += 1);
        Busy(self.clone())
    }

    /// Returns when there was no request for `patience`.
    pub(super) async fn idle(&self, patience: Duration) {
        let mut requests = self.0.subscribe();
        // `self` holds the sender, so neither wait can fail.
        while requests.wait_for(|requests| *requests == 0).await.is_ok() {
            if timeout(patience, requests.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// A request in work.
pub(super) struct Busy(Activity);

impl Busy {
    /// The request is in work until its answer was sent or given up.
    pub(super) fn until_end_of(self, body: HyperOutgoingBody) -> Observed {
        Observed { body, _busy: self }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.send_modify(|requests| *requests -= 1);
    }
}

/// An answer being sent.
pub(super) struct Observed {
    body: HyperOutgoingBody,
    _busy: Busy,
}

impl Body for Observed {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Polled by hand, without a clock: with a request in work the patience does not even begin.
    #[tokio::test]
    async fn a_connection_is_idle_only_without_requests() {
        let activity = Activity::new();
        let busy = activity.begin();
        let none = Duration::ZERO;
        assert!(
            timeout(Duration::from_millis(20), activity.idle(none)).await.is_err(),
            "busy, and called idle"
        );
        drop(busy);
        activity.idle(none).await;
        let long = Duration::from_secs(3600);
        assert!(
            timeout(Duration::from_millis(20), activity.idle(long)).await.is_err(),
            "patience was cut short"
        );
    }
}
