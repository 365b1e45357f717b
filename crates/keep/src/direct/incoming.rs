//! The request's body: what the client says, one message after the other.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use keep_protocol::{
    Message, ProtocolError, Sequence, VERSION,
    keep::{Preface, Refused, RefusedCode, ToKeep},
};
use tokio::time::timeout;

/// The messages of one request.
pub(super) struct Messages {
    body: Incoming,
    sequence: Sequence<ToKeep>,
}

impl Messages {
    /// Reads the preface.
    pub(super) async fn open(mut body: Incoming, patience: Duration) -> Result<Self, Refused> {
        let mut sequence = Sequence::<Preface>::new();
        let reading = next(&mut body, &mut sequence);
        let preface = timeout(patience, reading).await.map_err(|_| silent())??;
        match preface.map(|preface| preface.version()) {
            None => Err(Refused::new(RefusedCode::OutOfOrder, "the request is empty")),
            Some(VERSION) => {
                let mut messages = Self { body, sequence: Sequence::new() };
                messages.sequence.push(&sequence.rest());
                Ok(messages)
            }
            Some(version) => {
                let message = format!("this Keep speaks version {VERSION}, and the client version {version}");
                Err(Refused::new(RefusedCode::VersionUnsupported, message))
            }
        }
    }

    /// The next message, which is to come in time.
    pub(super) async fn next_within(&mut self, patience: Duration) -> Result<Option<ToKeep>, Refused> {
        timeout(patience, self.next()).await.map_err(|_| silent())?
    }

    /// The next message; `None` at the end of the request.
    pub(super) async fn next(&mut self) -> Result<Option<ToKeep>, Refused> {
        next(&mut self.body, &mut self.sequence).await
    }
}

async fn next<M: Message>(body: &mut Incoming, sequence: &mut Sequence<M>) -> Result<Option<M>, Refused> {
    loop {
        if let Some(message) = sequence.next().map_err(malformed)? {
            return Ok(Some(message));
        }
        match body.frame().await {
            None => {
                std::mem::take(sequence).end().map_err(malformed)?;
                return Ok(None);
            }
            // Trailers say nothing here.
            Some(Ok(frame)) => frame.into_data().ok().iter().for_each(|bytes| sequence.push(bytes)),
            Some(Err(_)) => return Err(Refused::new(RefusedCode::Malformed, "the request broke off")),
        }
    }
}

fn silent() -> Refused {
    Refused::new(RefusedCode::Timeout, "the client said nothing for too long")
}

fn malformed(error: ProtocolError) -> Refused {
    Refused { detail: Some(error.code().into()), ..Refused::new(RefusedCode::Malformed, error.to_string()) }
}
