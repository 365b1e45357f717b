//! The replica's side: who is let in, until when it waits, and a session that only reads.

use std::{io, sync::Arc, time::Duration};

use attested_tls::{
    clock::Clock,
    marble::{self, Access, handshake_refusal},
};
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
};
use tokio_postgres::Client;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{Credentials, PROTOCOL, Reply, Request};
use crate::{
    accepting,
    algorithms::LONGEST_QUERY,
    engine::{Engine, EngineError, SUPERUSER},
    installation::READER,
    lsn::Lsn,
};

/// So many at a time; more are closed at once, and the primary goes on without.
const MAX_CONNECTIONS: usize = 64;
/// TLS and the request.
const START: Duration = Duration::from_secs(10);
/// However long a primary would wait.
const LONGEST_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at what is replayed.
const LOOK: Duration = Duration::from_millis(5);
/// Of the message that begins a session.
const MAX_START: usize = 10_000;
/// Version 3.0 of PostgreSQL's protocol.
const VERSION: u32 = 3 << 16;

/// What serves queries of other instances of the same Marble.
pub struct Reads {
    /// The PostgreSQL that follows.
    pub engine: Arc<Engine>,
    /// What it shows, and by which peers are known.
    pub credentials: Credentials,
    /// The time.
    pub clock: Clock,
}

/// Why a connection ended before its session.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("no PostgreSQL")]
    Engine(#[from] EngineError),
    #[error("PostgreSQL does not say how far it is")]
    Position,
    #[error("not the beginning of a session")]
    Start,
}

impl Reads {
    /// Serves until `shutdown`.
    pub async fn serve(self, listener: &TcpListener, shutdown: CancellationToken) {
        let this = Arc::new(self);
        let accepted = |stream| {
            let (this, ending) = (Arc::clone(&this), shutdown.clone());
            async move {
                tokio::select! {
                    () = ending.cancelled() => {}
                    served = this.connection(stream) => if let Err(fault) = served {
                        tracing::debug!(%fault, "a query of another instance ended");
                    },
                }
            }
        };
        accepting::connections(listener, MAX_CONNECTIONS, &shutdown, accepted).await;
    }

    async fn connection(&self, stream: TcpStream) -> Result<(), Fault> {
        let started = tokio::time::timeout(START, self.started(stream)).await;
        let Some((mut tls, request)) = started.map_err(io::Error::from)?? else { return Ok(()) };
        let reply = self.waited(request).await?;
        tls.write_all(&reply.to_bytes()).await?;
        if !reply.ready {
            return Ok(tls.shutdown().await?);
        }
        // No query is longer, so a session that is was left behind.
        let session = self.session(tls);
        tokio::time::timeout(LONGEST_QUERY * 2, session).await.map_err(io::Error::from)?
    }

    /// `None`: it is not one of us.
    async fn started(&self, stream: TcpStream) -> Result<Option<(TlsStream<TcpStream>, Request)>, Fault> {
        let credential = Arc::clone(&self.credentials.borrow());
        let ours = [credential.identity.marble.clone()].into();
        let config = marble::server_config(&credential, Access::Peers(ours), Arc::clone(&self.clock));
        let mut config = Arc::unwrap_or_clone(config.map_err(io::Error::other)?);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        let mut tls = match TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            Ok(tls) if tls.get_ref().1.alpn_protocol() == Some(PROTOCOL) => tls,
            Ok(_) => return Ok(None),
            Err(error) => {
                let (code, reason) = handshake_refusal(&error);
                tracing::info!(code, reason, "a peer was refused");
                return Ok(None);
            }
        };
        let mut request = [0; Request::LENGTH];
        tls.read_exact(&mut request).await?;
        Ok(Some((tls, Request::from_bytes(request))))
    }

    /// Waits until everything is replayed that was asked for.
    async fn waited(&self, request: Request) -> Result<Reply, Fault> {
        let client = self.engine.session(SUPERUSER).await?;
        let until = tokio::time::Instant::now() + request.patience.min(LONGEST_PATIENCE);
        loop {
            let position = replayed(&client).await.ok_or(Fault::Position)?;
            let ready = position >= request.position;
            if ready || tokio::time::Instant::now() >= until {
                return Ok(Reply { ready, position });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A session of the reading role, whoever it was begun as.
    async fn session(&self, mut tls: TlsStream<TcpStream>) -> Result<(), Fault> {
        let length = tls.read_u32().await?;
        let length = usize::try_from(length).ok().and_then(|it| it.checked_sub(4));
        let mut start = vec![0; length.filter(|it| *it <= MAX_START).ok_or(Fault::Start)?];
        tls.read_exact(&mut start).await?;
        if start.first_chunk() != Some(&VERSION.to_be_bytes()) {
            return Err(Fault::Start);
        }
        let own = [
            ("user", READER),
            ("database", self.engine.database()),
            ("client_encoding", "UTF8"),
            ("application_name", "reads"),
        ];
        let mut message = BytesMut::new();
        frontend::startup_message(own, &mut message)?;
        let mut upstream = UnixStream::connect(self.engine.socket().join(".s.PGSQL.5432")).await?;
        upstream.write_all(&message).await?;
        copy_bidirectional(&mut tls, &mut upstream).await?;
        Ok(())
    }
}

/// `None`: it is no replica, or does not answer.
async fn replayed(client: &Client) -> Option<Lsn> {
    let row = client.query_one("SELECT pg_last_wal_replay_lsn()::text", &[]).await.ok()?;
    row.try_get::<_, Option<&str>>(0).ok()??.parse().ok()
}
