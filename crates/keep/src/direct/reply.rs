//! The response's body: what the Keep tells its client, in order, as fast as the client takes it.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};
use keep_protocol::{
    Message,
    keep::{FromKeep, Preface},
};
use serde_bytes::ByteBuf;
use tokio::{
    io::{AsyncReadExt, DuplexStream},
    sync::mpsc,
    task::JoinHandle,
};

/// Messages that wait for the client, each of at most [`PIECE`] bytes and a little.
const AHEAD: usize = 8;
/// Output in one message.
const PIECE: usize = 64 << 10;

/// Our end. Clones tell the same client.
#[derive(Clone)]
pub(super) struct Reply(mpsc::Sender<Bytes>);

/// The client takes no more.
#[derive(Debug)]
pub(super) struct Gone;

/// The body.
pub(super) struct Replies(mpsc::Receiver<Bytes>);

pub(super) fn reply() -> (Reply, Replies) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    (Reply(sender), Replies(receiver))
}

impl Reply {
    pub(super) fn preface() -> Bytes {
        Preface::ours().to_bytes().into()
    }

    pub(super) async fn begin(&self) -> Result<(), Gone> {
        self.0.send(Self::preface()).await.map_err(|_| Gone)
    }

    pub(super) async fn tell(&self, message: &FromKeep) -> Result<(), Gone> {
        self.0.send(message.to_bytes().into()).await.map_err(|_| Gone)
    }

    /// Returns when the client is gone.
    pub(super) async fn gone(&self) {
        self.0.closed().await;
    }

    /// A stream for the workload's output. What is written to it goes to the client as `message`s, and holds the
    /// workload up while the client does not take it. The task ends with the stream, or with the client.
    pub(super) fn stream(
        &self,
        message: fn(ByteBuf) -> FromKeep,
    ) -> (DuplexStream, JoinHandle<io::Result<()>>) {
        let (workload, mut ours) = tokio::io::duplex(PIECE);
        let reply = self.clone();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; PIECE];
            loop {
                let read = ours.read(&mut buffer).await?;
                if read == 0 || reply.tell(&message(ByteBuf::from(&buffer[..read]))).await.is_err() {
                    return Ok(());
                }
            }
        });
        (workload, task)
    }
}

impl Replies {
    /// Exactly this.
    pub(super) fn of(preface: &Bytes, message: &FromKeep) -> Self {
        let (sender, receiver) = mpsc::channel(2);
        for bytes in [preface.clone(), message.to_bytes().into()] {
            // There is room for both.
            let _ = sender.try_send(bytes);
        }
        Self(receiver)
    }
}

impl Body for Replies {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
