//! The primary's side: which replica a query goes to, and when it is given up.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use attested_tls::{
    clock::Clock,
    marble::{self, handshake_refusal},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_postgres::{Client, Config, NoTls};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Credentials, PROTOCOL, Reply, Request};
use crate::{installation::READER, lsn::Lsn};

/// All that a call waits for replicas, before its query runs here.
const WAIT: Duration = Duration::from_secs(2);
/// How long one that was not there is left alone, and one that was late.
const GONE: Duration = Duration::from_secs(5);
const LATE: Duration = Duration::from_millis(500);
/// While a query runs there, the replica is asked this often whether it still lives, and may take as long to answer.
const PULSE: Duration = Duration::from_secs(3);

/// How replicas are spoken with.
pub struct Peers {
    /// What we show, and by which they are known.
    pub credentials: Credentials,
    /// The time.
    pub clock: Clock,
}

/// The replicas that queries may run on. Clones share what is known of them.
#[derive(Clone, Default)]
pub struct Replicas(Option<Arc<Shared>>);

struct Shared {
    peers: Peers,
    replicas: Vec<Replica>,
    next: AtomicUsize,
}

struct Replica {
    /// The host's hint; who is there is known by its certificate.
    address: String,
    rests_until: Mutex<Option<Instant>>,
}

/// The replica that a query runs on.
pub struct Chosen {
    shared: Arc<Shared>,
    index: usize,
}

impl Replicas {
    /// Those at these addresses, of the same Marble as we are.
    pub fn new(addresses: Vec<String>, peers: Peers) -> Self {
        let replica = |address| Replica { address, rests_until: Mutex::default() };
        let replicas: Vec<_> = addresses.into_iter().map(replica).collect();
        let shared = Shared { peers, replicas, next: AtomicUsize::new(0) };
        Self((!shared.replicas.is_empty()).then(|| Arc::new(shared)))
    }

    /// A session of the reading role on a replica that has replayed up to a position at least; one after the other has
    /// its turn. `None`: there is none in time.
    pub async fn session(&self, position: Lsn, database: &str) -> Option<(Client, Chosen)> {
        let shared = self.0.as_ref()?;
        let (count, until) = (shared.replicas.len(), Instant::now() + WAIT);
        let first = shared.next.fetch_add(1, Ordering::Relaxed);
        for turn in 0..count {
            let chosen = Chosen { shared: Arc::clone(shared), index: first.wrapping_add(turn) % count };
            let left = until.saturating_duration_since(Instant::now());
            if chosen.rests() || left.is_zero() {
                continue;
            }
            match timeout_at(until, chosen.begun(Request { position, patience: left }, database)).await {
                Ok(Ok(Some(client))) => return Some((client, chosen)),
                Ok(Ok(None)) => chosen.rest("REPLICA_LATE", "it has not replayed what is needed", LATE),
                Ok(Err(error)) => {
                    let (code, reason) = handshake_refusal(&error);
                    let code = if code == "HANDSHAKE_FAILED" { "REPLICA_UNREACHABLE" } else { code };
                    chosen.rest(code, &reason, GONE);
                }
                Err(_) => chosen.rest("REPLICA_LATE", "it does not answer in time", GONE),
            }
        }
        None
    }
}

impl Chosen {
    fn replica(&self) -> &Replica {
        &self.shared.replicas[self.index]
    }

    fn rests(&self) -> bool {
        let until = *self.replica().rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self, code: &str, reason: &str, time: Duration) {
        let address = &self.replica().address;
        tracing::warn!(code, reason, address, "queries run without this replica for a while");
        let mut until = self.replica().rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + time);
    }

    /// Leaves it alone for a while: a query did not come to its end there.
    pub fn give_up(&self) {
        self.rest("REPLICA_LOST", "a query did not come to its end there", GONE);
    }

    /// Returns when it does not answer any more, which a broken network would not tell.
    pub async fn lost(&self) {
        let pulse = Request { position: Lsn(0), patience: Duration::ZERO };
        loop {
            tokio::time::sleep(PULSE).await;
            if !matches!(timeout(PULSE, self.asked(pulse)).await, Ok(Ok(_))) {
                return;
            }
        }
    }

    async fn begun(&self, request: Request, database: &str) -> io::Result<Option<Client>> {
        let (tls, reply) = self.asked(request).await?;
        if !reply.ready || reply.position < request.position {
            return Ok(None);
        }
        let mut config = Config::new();
        config.user(READER).dbname(database);
        let (client, connection) = config.connect_raw(tls, NoTls).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            // Whoever holds the client sees the error with its next request.
            let _ = connection.await;
        });
        Ok(Some(client))
    }

    async fn asked(&self, request: Request) -> io::Result<(TlsStream<TcpStream>, Reply)> {
        let Peers { credentials, clock } = &self.shared.peers;
        let credential = Arc::clone(&credentials.borrow());
        let config = marble::client_config(&credential, &credential.identity.marble, Arc::clone(clock));
        let mut config = Arc::unwrap_or_clone(config.map_err(io::Error::other)?);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        let stream = TcpStream::connect(&self.replica().address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(config));
        let mut tls = connector.connect(marble::server_name(), stream).await?;
        tls.write_all(&request.to_bytes()).await?;
        tls.flush().await?;
        let mut reply = [0; Reply::LENGTH];
        tls.read_exact(&mut reply).await?;
        let reply = Reply::from_bytes(reply).map_err(io::Error::other)?;
        Ok((tls, reply))
    }
}
