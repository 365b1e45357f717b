//! The request's body: what the client says, as fast as the Keep takes it.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

/// Messages that wait for the Keep.
const AHEAD: usize = 4;

pub(crate) struct Said(mpsc::Receiver<Bytes>);

pub(crate) fn said() -> (mpsc::Sender<Bytes>, Said) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    (sender, Said(receiver))
}

impl Body for Said {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
