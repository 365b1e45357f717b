//! A Keep of direct deployments. It waits, launched and attestable, until one client has verified it; takes that
//! client's deployment over the attested connection (`keep_protocol::keep`), runs it, tells what becomes of it, and
//! ends. It serves nobody else, before or after.
//!
//! ```text
//!  waiting ──(a client accepts our Evidence)──▶ taken ──(deployment)──▶ running ──▶ ended
//!     ▲  │ a client is silent, breaks off,        │ refused, or nothing comes in time ─────▲
//!     └──┘ or refuses our Evidence                └ the client is gone: cancelled ─────────┘
//! ```
//!
//! Whoever connects to a Keep that is taken hears so. The host's log hears that a client came and went; of the
//! workload, its configuration, its output and how it ended it hears nothing.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use attested_tls::{
    clock::Clock,
    direct::{self as channel, Accepted, Server},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::sleep,
};

use crate::{
    cache::Cache,
    runtime::{ENGINE_VERSION, Runtime},
    storage::Storage,
};

mod attention;
mod command;
mod deployment;
mod incoming;
mod network;
mod package;
mod printed;
mod reply;
mod service;
mod session;
mod volumes;

/// The version of the protocol, which is part of the measured launch configuration.
pub const VERSION: u16 = keep_protocol::VERSION;

/// Clients that verify at a time, or are told that the Keep is taken. Further ones wait in the host's kernel.
const MAX_ATTEMPTS: usize = 8;
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);

/// Bytes both ways.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where clients arrive: from the host, who relays bytes.
#[derive(Debug)]
pub enum Door {
    /// A socket that the host made.
    Unix(UnixListener),
    /// A port of this machine.
    Tcp(TcpListener),
}

impl Door {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// A Keep that is ready for its client.
pub struct Waiting {
    server: Server,
    runtime: Runtime,
    cache: Option<Arc<Cache>>,
    clock: Clock,
    /// The host's, for volumes.
    storage: Option<Storage>,
}

impl Waiting {
    /// With an engine that is set up, and a TEE to prove it.
    pub fn new(tee: Arc<dyn attester::Tee>, runtime: Runtime, cache: Option<Cache>, clock: Clock) -> Self {
        let server = Server { tee, clock: clock.clone(), engine: ENGINE_VERSION.into() };
        Self { server, runtime, cache: cache.map(Arc::new), clock, storage: None }
    }

    /// With storage of the host for volumes.
    #[must_use]
    pub fn with_storage(self, storage: Option<Storage>) -> Self {
        Self { storage, ..self }
    }

    /// Serves one client that comes in by `door`, until its deployment has ended, or `shutdown`.
    pub async fn serve(self, door: Door, shutdown: impl Future<Output = ()> + Send) {
        let (keep, taken) = (Arc::new(self), Arc::new(AtomicBool::new(false)));
        let places = Arc::new(Semaphore::new(MAX_ATTEMPTS));
        let (won, mut winner) = mpsc::channel(1);
        let session = async {
            if let Some(accepted) = winner.recv().await {
                session::run(accepted, &keep).await;
            }
        };
        let (mut session, mut shutdown) = (pin!(session), pin!(shutdown));
        let mut attempts = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = &mut session => break,
                Some(_) = attempts.join_next() => {}
                (stream, place) = arrival(&door, &places) => {
                    let attempt = attempt(stream, Arc::clone(&keep), Arc::clone(&taken), won.clone());
                    attempts.spawn(async move {
                        attempt.await;
                        drop(place);
                    });
                }
            }
        }
        attempts.shutdown().await;
    }
}

type Won = Accepted<Box<dyn Stream>>;

/// The next connection, once there is a place for it.
async fn arrival(door: &Door, places: &Arc<Semaphore>) -> (Box<dyn Stream>, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed, so there always is a permit in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match door.accept().await {
            Ok(stream) => return (stream, place),
            Err(error) => {
                tracing::warn!(code = "ACCEPT_FAILED", reason = %error, "a connection was not accepted");
                sleep(AFTER_ACCEPT_ERROR).await;
            }
        }
    }
}

/// One client, until it has the Keep or does not get it. The first that accepts our Evidence has it.
async fn attempt(
    stream: Box<dyn Stream>,
    keep: Arc<Waiting>,
    taken: Arc<AtomicBool>,
    won: mpsc::Sender<Won>,
) {
    let take = || !taken.swap(true, Ordering::AcqRel);
    match channel::accept(stream, &keep.server, take).await {
        Ok(accepted) => {
            // There is one winner, so there is room.
            let _ = won.send(accepted).await;
        }
        Err(error) => {
            let codes = error.codes().join(",");
            tracing::info!(code = "CLIENT_NOT_SERVED", codes, "a client did not get this Keep");
        }
    }
}
