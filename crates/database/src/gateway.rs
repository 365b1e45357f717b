//! The gateway: the one way from outside to the data. It speaks PostgreSQL's protocol over TLS 1.3, knows clients by
//! the anchor that verified their certificates, reads every statement before PostgreSQL does, and answers calls of
//! algorithms itself.
//!
//! ```text
//!  client ══TLS══▶ start-up ─▶ identity ─▶ conversation (statements, refusals, calls) ──unix socket──▶ PostgreSQL
//!                                               │                                                     as party_<name>
//!                                       audit, Algorithms, barrier
//! ```
//!
//! It is not where rights are kept: roles in PostgreSQL have no more of them than the manifest says, so that what slips
//! through here still meets those.

mod barrier;
mod cancel;
mod connection;
mod conversation;
mod message;
mod session;
mod settings;
mod startup;
mod statement;
mod upstream;

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use attested_tls::{clock::Clock, service};
use database_manifest::AlgorithmName;
use rustls::server::ResolvesServerCert;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Rules,
    algorithms::{Algorithms, Answer, Denied},
    audit::Audit,
    identity::Caller,
    lsn::SealedPosition,
};

pub use fuzzing::{admit, converse};
pub(crate) use statement::shown;
pub use statement::{Refusal, Rights};

mod fuzzing;

/// The name of PostgreSQL's protocol in ALPN.
const PROTOCOL: &[u8] = b"postgresql";

/// Whoever answers calls of algorithms, and records them.
#[async_trait]
pub trait Answers: Send + Sync {
    /// Answers a call; the arguments are in their text forms.
    async fn answer(
        &self,
        caller: &Caller,
        name: &AlgorithmName,
        arguments: Vec<String>,
    ) -> Result<Answer, Denied>;
}

#[async_trait]
impl Answers for Algorithms {
    async fn answer(
        &self,
        caller: &Caller,
        name: &AlgorithmName,
        arguments: Vec<String>,
    ) -> Result<Answer, Denied> {
        self.call(caller, name, arguments, false).await
    }
}

/// How much of everything.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Of these, how many may be starting: they have shown no certificate yet.
    pub starting: usize,
    /// Sessions of one party at a time.
    pub sessions_per_party: usize,
    /// How long a client may take from its first byte to its session.
    pub start: Duration,
    /// How long a statement may take, unless its client sends rows meanwhile.
    pub statement: Duration,
    /// Tells when there is no room for more rows: then sessions of parties that write end, and none begins.
    pub full: Option<watch::Receiver<bool>>,
}

impl Limits {
    /// Whether there is no room for more rows.
    fn is_full(&self) -> bool {
        self.full.as_ref().is_some_and(|full| *full.borrow())
    }

    /// Returns when there is no room for more rows.
    async fn filled(&self) {
        let Some(mut full) = self.full.clone() else { return std::future::pending().await };
        if full.wait_for(|full| *full).await.is_err() {
            std::future::pending().await
        }
    }
}

/// What whoever writes is told while there is no room: SQLSTATE and sentence.
const FULL: (&str, &str) = (
    "53100",
    "the database has as many rows as its manifest or its memory allows: nothing is written any more",
);

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 240,
            starting: 64,
            sessions_per_party: 200,
            start: Duration::from_secs(20),
            statement: Duration::from_secs(600),
            full: None,
        }
    }
}

/// What the gateway is made of.
pub struct Gateway {
    /// The rules in force.
    pub rules: watch::Receiver<Arc<Rules>>,
    /// The folder of PostgreSQL's socket.
    pub socket: PathBuf,
    /// Where logins and refusals are recorded.
    pub audit: Audit,
    /// Who answers calls.
    pub algorithms: Arc<dyn Answers>,
    /// Up to where PostgreSQL's log is sealed.
    pub sealed: SealedPosition,
    /// The server's certificate.
    pub certificate: Arc<dyn ResolvesServerCert>,
    /// The time, which certificates are held against.
    pub clock: Clock,
    /// How much of everything.
    pub limits: Limits,
}

/// Returns when the database ends, and why.
async fn ended(ending: &mut watch::Receiver<Option<String>>) -> String {
    match ending.wait_for(Option::is_some).await.map(|why| why.clone()) {
        Ok(Some(why)) => why,
        // Nobody will say.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

struct Shared {
    gateway: Gateway,
    tls: TlsAcceptor,
    starting: Semaphore,
    keys: cancel::Keys,
    seats: cancel::Seats,
    barrier: barrier::Barrier,
    ending: watch::Receiver<Option<String>>,
}

impl Gateway {
    /// Serves clients until it is dropped; then all sessions end.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub async fn serve(self, listener: TcpListener) -> Result<(), rustls::Error> {
        let (_never, ending) = watch::channel(None);
        self.serve_until(listener, ending).await
    }

    /// Serves clients until `ending` has a sentence for them why the database ends, and all were told.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub async fn serve_until(
        self,
        listener: TcpListener,
        mut ending: watch::Receiver<Option<String>>,
    ) -> Result<(), rustls::Error> {
        let config =
            service::renewable_server(Arc::clone(&self.certificate), &[PROTOCOL], self.clock.clone())?;
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let shared = Arc::new(Shared {
            tls: TlsAcceptor::from(Arc::new(config)),
            starting: Semaphore::new(self.limits.starting),
            keys: cancel::Keys::default(),
            seats: cancel::Seats::new(self.limits.sessions_per_party),
            barrier: barrier::Barrier::new(self.sealed.clone(), self.socket.clone()),
            gateway: self,
            ending: ending.clone(),
        });
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = ended(&mut ending) => break,
            };
            // One too many is closed at once: who waits here would hold up cancel requests.
            match accepted {
                Ok((stream, _)) => {
                    if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                        let shared = Arc::clone(&shared);
                        connections.spawn(async move {
                            connection::serve(&shared, stream).await;
                            drop(place);
                        });
                    }
                }
                // No descriptors are left, for example; that passes.
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}
