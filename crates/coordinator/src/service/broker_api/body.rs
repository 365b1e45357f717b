//! Reading a guest's body: no longer than the protocol's 2 MiB, no slower than some seconds, and with a bound on what all
//! guests send at a time. What is short, as SNP's and TDX's Evidence is, never waits for what is long.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Trustee's `payload_request_size`.
pub(super) const LONGEST: usize = 2 * 1024 * 1024;
/// Of each body so much is not counted: a thousand connections hold 64 MiB by it.
const FREE: usize = 64 * 1024;
/// What longer bodies hold together.
const TOGETHER: usize = 96 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

static ROOM: Semaphore = Semaphore::const_new(TOGETHER);

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is too long.
    TooLong,
    /// Others are sending too much.
    Busy,
    /// It did not come in time.
    Slow,
    /// The connection broke.
    Broken,
}

/// What was read, and its share of the room.
pub(super) struct Read {
    pub(super) bytes: Vec<u8>,
    room: Option<SemaphorePermit<'static>>,
}

pub(super) async fn read(body: Body) -> Result<Read, Unread> {
    within(PATIENCE, body).await
}

async fn within(patience: Duration, body: Body) -> Result<Read, Unread> {
    tokio::time::timeout(patience, collect(body)).await.unwrap_or(Err(Unread::Slow))
}

async fn collect(mut body: Body) -> Result<Read, Unread> {
    let mut read = Read { bytes: Vec::new(), room: None };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Unread::Broken)?;
        let Ok(data) = frame.into_data() else { continue };
        let length = read.bytes.len() + data.len();
        if length > LONGEST {
            return Err(Unread::TooLong);
        }
        let more = length.saturating_sub(read.bytes.len().max(FREE));
        if more > 0 {
            let more = u32::try_from(more).map_err(|_| Unread::TooLong)?;
            let room = ROOM.try_acquire_many(more).map_err(|_| Unread::Busy)?;
            match &mut read.room {
                Some(held) => held.merge(room),
                none => *none = Some(room),
            }
        }
        read.bytes.extend_from_slice(&data);
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use tokio_stream::StreamExt;

    use super::*;

    #[tokio::test]
    async fn bodies_end_where_the_protocol_ends() {
        let whole = read(Body::from(vec![7; LONGEST])).await.map(|read| read.bytes.len());
        assert_eq!(whole, Ok(LONGEST));
        assert_eq!(
            read(Body::from(vec![7; LONGEST + 1])).await.map(|read| read.bytes.len()),
            Err(Unread::TooLong)
        );
        // Without a length, in pieces.
        let pieces = tokio_stream::iter(0..).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![7; 65_536])));
        assert_eq!(read(Body::from_stream(pieces)).await.map(|read| read.bytes.len()), Err(Unread::TooLong));
        assert_eq!(ROOM.available_permits(), TOGETHER, "what was held is free again");
    }

    #[tokio::test]
    async fn s43_a_body_that_does_not_come_is_not_waited_for() {
        let never = tokio_stream::pending::<Result<Bytes, std::io::Error>>();
        let read = within(Duration::from_millis(5), Body::from_stream(never)).await;
        assert_eq!(read.map(|read| read.bytes.len()), Err(Unread::Slow));
    }
}
