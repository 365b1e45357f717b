//! Between a client and its Keep: bytes, and nothing else. Ends when the Keep has said all, when nobody has said
//! anything for too long, or when either of them is gone. Half-closing is passed on.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::launcher::Reach;

/// How long connecting to a Keep may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// One of these per direction is all the memory that a relay has.
const BUFFER: usize = 32 * 1024;

/// A connection to a Keep.
pub(super) enum Inside {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// How many bytes went which way.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) to_keep: AtomicU64,
    pub(super) to_client: AtomicU64,
}

pub(super) async fn connect(reach: &Reach) -> io::Result<Inside> {
    let connecting = async {
        match reach {
            Reach::Unix(path) => UnixStream::connect(path).await.map(Inside::Unix),
            Reach::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Inside::Tcp(stream))
            }
        }
    };
    tokio::time::timeout(CONNECT_WITHIN, connecting)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Relays until it is over.
pub(super) async fn relay(
    client: impl AsyncRead + AsyncWrite + Unpin,
    inside: Inside,
    silence: Duration,
    carried: &Carried,
) {
    match inside {
        Inside::Unix(mut keep) => {
            let (reader, writer) = keep.split();
            between(client, reader, writer, silence, carried).await;
        }
        Inside::Tcp(mut keep) => {
            let (reader, writer) = keep.split();
            between(client, reader, writer, silence, carried).await;
        }
    }
}

async fn between(
    client: impl AsyncRead + AsyncWrite + Unpin,
    from_keep: impl AsyncRead + Unpin,
    to_keep: impl AsyncWrite + Unpin,
    silence: Duration,
    carried: &Carried,
) {
    let (from_client, to_client) = tokio::io::split(client);
    let upward = async {
        match pump(from_client, to_keep, &carried.to_keep).await {
            // The client has said all, and the Keep may still answer; or the Keep listens no more, because it has ended, and
            // what it said last is still to be carried.
            Ok(()) | Err(Lost::Reader) => std::future::pending().await,
            Err(Lost::Writer) => {}
        }
    };
    tokio::select! {
        _ = pump(from_keep, to_client, &carried.to_client) => {}
        () = upward => {}
        () = silent(silence, carried) => {}
    }
}

/// Which end of a direction is gone.
enum Lost {
    /// Whoever says something.
    Writer,
    /// Whoever is to hear it.
    Reader,
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> Result<(), Lost> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await.map_err(|_| Lost::Writer)? {
            0 => return to.shutdown().await.map_err(|_| Lost::Reader),
            length => {
                to.write_all(&buffer[..length]).await.map_err(|_| Lost::Reader)?;
                to.flush().await.map_err(|_| Lost::Reader)?;
                count.fetch_add(length as u64, Ordering::Relaxed);
            }
        }
    }
}

/// Returns when nothing has passed for so long.
async fn silent(limit: Duration, carried: &Carried) {
    let total = || carried.to_keep.load(Ordering::Relaxed) + carried.to_client.load(Ordering::Relaxed);
    let mut before = total();
    loop {
        tokio::time::sleep(limit).await;
        let now = total();
        if now == before {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn what_a_keep_said_last_arrives_though_it_listens_no_more() {
        let (mut near, client) = duplex(64);
        let (mut keep, from_keep) = duplex(64);
        let (gone, to_keep) = duplex(64);
        drop(gone);
        near.write_all(b"too late").await.unwrap();
        let carried = Carried::default();
        let mut relaying = pin!(between(client, from_keep, to_keep, CONNECT_WITHIN, &carried));
        tokio::select! {
            biased;
            () = &mut relaying => panic!("the relay ended before the Keep had said all"),
            () = tokio::task::yield_now() => {}
        }
        keep.write_all(b"the end").await.unwrap();
        drop(keep);
        relaying.await;
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"the end");
    }
}
