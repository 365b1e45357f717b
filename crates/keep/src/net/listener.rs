//! Connections that come in. Each handshake is a task of its own, bounded in number and time; what the workload gets to
//! accept is ready for use.

use std::{
    collections::VecDeque,
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use attested_tls::marble;
use keep_config::{Clients, Listen, Protection};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Alpn, Connection, Identity, Inner, Net, NetError, STREAM};

const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at a time. When more begin, the oldest of them is ended: who is slow makes room for who is not.
const MAX_HANDSHAKES: usize = 128;
/// Connections that wait to be accepted; further ones wait in the host's kernel.
const BACKLOG: usize = 128;
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);

/// A listener. Dropping it closes it, and the connections that nobody accepted.
pub struct Listener {
    queue: Arc<Queue>,
    address: SocketAddr,
    task: AbortHandle,
}

struct Queue {
    ready: Mutex<VecDeque<(Connection, OwnedSemaphorePermit)>>,
    arrived: Notify,
    room: Arc<Semaphore>,
}

impl Queue {
    fn ready(&self) -> MutexGuard<'_, VecDeque<(Connection, OwnedSemaphorePermit)>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Net {
    /// Listens where `listen` says; port 0 takes any. Must be called within a tokio runtime, as all here.
    ///
    /// # Errors
    /// When the host does not let us, or TLS cannot be had as it is asked for.
    pub fn listen(&self, listen: &Listen, alpn: Alpn<'static>) -> Result<Listener, NetError> {
        let address = SocketAddr::new(listen.addr, listen.port);
        let listener = bind(address).map_err(|source| NetError::Listen { address, source })?;
        self.listen_on(listener, &listen.protection, alpn)
    }

    /// Listens on a socket that is there already.
    ///
    /// # Errors
    /// When TLS cannot be had as it is asked for.
    pub fn listen_on(
        &self,
        listener: TcpListener,
        protection: &Protection<Clients>,
        alpn: Alpn<'static>,
    ) -> Result<Listener, NetError> {
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let address =
            listener.local_addr().map_err(|source| NetError::Listen { address: unknown, source })?;
        let mut identity = self.0.identity.clone();
        let tls = self.0.server(&identity.borrow_and_update(), protection, alpn)?;
        let room = Arc::new(Semaphore::new(BACKLOG));
        let queue = Arc::new(Queue { ready: Mutex::default(), arrived: Notify::new(), room });
        let accepting = Accepting {
            net: Arc::clone(&self.0),
            listener,
            protection: protection.clone(),
            alpn,
            tls,
            identity,
            queue: Arc::clone(&queue),
            handshakes: JoinSet::new(),
            oldest: VecDeque::new(),
        };
        let task = tokio::spawn(accepting.run()).abort_handle();
        Ok(Listener { queue, address, task })
    }
}

/// As Enarx: `::` is both families; on a machine without IPv6 it is what there is.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match bind_one(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            let other = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            if error.kind() == io::ErrorKind::AddrInUse { Err(error) } else { bind_one(other) }
        }
        bound => bound,
    }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

impl Listener {
    /// The next connection, if one is ready.
    pub fn try_accept(&self) -> Option<Connection> {
        self.queue.ready().pop_front().map(|(connection, _room)| connection)
    }

    /// Waits until there is a connection to accept. Any number may wait; one of them gets it.
    pub async fn readable(&self) {
        loop {
            let arrived = self.queue.arrived.notified();
            let mut arrived = std::pin::pin!(arrived);
            arrived.as_mut().enable();
            if !self.queue.ready().is_empty() {
                return;
            }
            arrived.await;
        }
    }

    /// The next connection.
    pub async fn accept(&self) -> Connection {
        loop {
            if let Some(connection) = self.try_accept() {
                return connection;
            }
            self.readable().await;
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The task behind a [`Listener`].
struct Accepting {
    net: Arc<Inner>,
    listener: TcpListener,
    protection: Protection<Clients>,
    alpn: Alpn<'static>,
    tls: Option<Arc<ServerConfig>>,
    identity: watch::Receiver<Arc<Identity>>,
    queue: Arc<Queue>,
    handshakes: JoinSet<Option<Shaken>>,
    oldest: VecDeque<AbortHandle>,
}

/// A handshake that is over.
struct Shaken {
    io: TcpStream,
    tls: Option<rustls::Connection>,
    /// Under which it was made.
    identity: Arc<Identity>,
}

impl Accepting {
    async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                Some(shaken) = self.handshakes.join_next() => {
                    // One that was ended to make room is an error here, and a failed one was logged.
                    if let Ok(Some(shaken)) = shaken {
                        self.hand_over(shaken).await;
                    }
                }
                accepted = self.listener.accept() => match accepted {
                    Ok((io, _)) => self.begin(io).await,
                    Err(error) => {
                        // It concerns one client, or passes.
                        tracing::warn!(code = "ACCEPT_FAILED", reason = %error, "a connection was not accepted");
                        sleep(AFTER_ACCEPT_ERROR).await;
                    }
                }
            }
        }
    }

    async fn begin(&mut self, io: TcpStream) {
        if self.identity.has_changed().unwrap_or(false) {
            self.renew();
        }
        let identity = Arc::clone(&self.identity.borrow());
        let Some(tls) = &self.tls else { return self.hand_over(Shaken { io, tls: None, identity }).await };
        self.oldest.retain(|handshake| !handshake.is_finished());
        if self.oldest.len() >= MAX_HANDSHAKES
            && let Some(slow) = self.oldest.pop_front()
        {
            slow.abort();
            tracing::info!(code = "HANDSHAKE_DISPLACED", "a slow handshake made room for another");
        }
        let handshake = shake(TlsAcceptor::from(Arc::clone(tls)), io, identity);
        self.oldest.push_back(self.handshakes.spawn(handshake));
    }

    fn renew(&mut self) {
        let identity = Arc::clone(&self.identity.borrow_and_update());
        match self.net.server(&identity, &self.protection, self.alpn) {
            Ok(tls) => self.tls = tls,
            // The old one, until there is another.
            Err(error) => {
                tracing::error!(code = error.code(), reason = %error, "the listener's TLS was not replaced");
            }
        }
    }

    /// Waits for a place among the connections and in the queue: until then nothing else is accepted here.
    async fn hand_over(&mut self, shaken: Shaken) {
        let places = Arc::clone(&self.net.places);
        let place = match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                tracing::warn!(
                    code = "CONNECTION_LIMIT",
                    limit = self.net.limit,
                    "as many connections are open as limits.connections allows: others wait"
                );
                let Ok(place) = places.acquire_owned().await else { return };
                place
            }
        };
        let Ok(room) = Arc::clone(&self.queue.room).acquire_owned().await else { return };
        // Who was let in under another manifest is not let in under this one.
        if !shaken.identity.same_mesh(&self.identity.borrow()) {
            return;
        }
        let marbles = self.alpn == STREAM && Inner::takes_marbles(&self.identity.borrow(), &self.protection);
        // One that is gone already needs no place.
        let Ok(connection) = Connection::new(shaken.io, shaken.tls, place) else { return };
        if marbles {
            self.net.remember_marble(connection.shared());
        }
        self.queue.ready().push_back((connection, room));
        self.queue.arrived.notify_waiters();
    }
}

async fn shake(acceptor: TlsAcceptor, io: TcpStream, identity: Arc<Identity>) -> Option<Shaken> {
    match timeout(HANDSHAKE, acceptor.accept(io).into_fallible()).await {
        Ok(Ok(stream)) => {
            let (io, tls) = stream.into_inner();
            Some(Shaken { io, tls: Some(tls.into()), identity })
        }
        Ok(Err((error, io))) => {
            let (code, reason) = marble::handshake_refusal(&error);
            tracing::info!(code, reason, "a connection was refused");
            let_the_alert_arrive(io).await;
            None
        }
        Err(_) => {
            tracing::info!(code = "HANDSHAKE_TIMEOUT", "a connection was refused");
            None
        }
    }
}

/// Closing a socket that has unread data resets the connection, and the client would see that instead of the alert that
/// says why.
async fn let_the_alert_arrive(mut io: TcpStream) {
    const PATIENCE: Duration = Duration::from_secs(1);
    const MOST: u64 = 64 << 10;
    let drained = async {
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(MOST), &mut tokio::io::sink()).await
    };
    // Whether it arrived is not known here, and changes nothing.
    let _: Result<io::Result<u64>, _> = timeout(PATIENCE, drained).await;
}
