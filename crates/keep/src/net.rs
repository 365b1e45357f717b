//! The network of one Keep. Every socket that a workload uses, by preview 1, `wasi:sockets` or HTTP, is a
//! [`Connection`] or a [`Listener`] of here: TLS 1.3 or plain TCP as the configuration says, and the workload cannot
//! tell which.
//!
//! ```text
//!   KeepConfig ─┐                       ┌─ Listener: handshakes in tasks of their own; only finished ones are accepted
//!               ├─▶ Net ─┬─▶ listen ────┤
//!   Identity ───┘        │              └─ Connection: try_read, try_write, peek, available, shutdown, readiness
//!   (in a watch)         └─▶ connect ──────────┘
//! ```
//!
//! Names decide, never addresses (S-30): where a name leads is the host's word, and what TLS proves is not. A Marble is
//! known by its certificate, a server by its name below the roots that the configuration gives.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use attested_tls::clock::Clock;
use keep_config::{Clients, Connect, KeepConfig, Listen, Protection, Roots};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::{Semaphore, watch};

mod connect;
mod connection;
mod fault;
mod identity;
mod listener;
mod names;
mod roots;
mod session;

use self::{connection::Shared, roots::NamedRoots};
pub use self::{
    connection::{Connection, Side},
    fault::{Broken, NetError},
    identity::Identity,
    listener::Listener,
    session::MAX_TAKEN,
};

/// Protocols to agree on by ALPN, the preferred one first. Streams have none.
pub type Alpn<'a> = &'a [&'a [u8]];

/// A stream of bytes: nothing is agreed on.
pub const STREAM: Alpn<'static> = &[];
/// HTTP/2 or HTTP/1.1.
pub const HTTP: Alpn<'static> = &[b"h2", b"http/1.1"];

/// What a workload may reach and where it may be reached. A copy costs nothing.
#[derive(Clone)]
pub struct Net(Arc<Inner>);

struct Inner {
    listen: Vec<Listen>,
    connect: Vec<Connect>,
    marbles: BTreeMap<String, String>,
    roots: NamedRoots,
    identity: watch::Receiver<Arc<Identity>>,
    clock: Clock,
    /// Connections at a time, in both directions.
    places: Arc<Semaphore>,
    limit: usize,
    /// Streams whose peer is a Marble: they end when it counts no more. HTTP ends its connections by itself.
    marble_connections: Mutex<Vec<Weak<Shared>>>,
}

impl Net {
    /// The network that `config` describes. `marbles`: where the host says that the Marbles listen that the manifest
    /// lets this one call (`NAME` → `host:port`). Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When `[roots]` holds what is no certificate.
    pub fn new(
        config: &KeepConfig,
        marbles: BTreeMap<String, String>,
        identity: watch::Receiver<Arc<Identity>>,
        clock: Clock,
    ) -> Result<Self, NetError> {
        let limit = usize::try_from(config.limits.connections).unwrap_or(usize::MAX);
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        let inner = Arc::new(Inner {
            listen: config.listen.clone(),
            connect: config.connect.clone(),
            marbles,
            roots: NamedRoots::new(&config.roots)?,
            identity: identity.clone(),
            clock,
            places: Arc::new(Semaphore::new(limit)),
            limit,
            marble_connections: Mutex::default(),
        });
        tokio::spawn(end_what_counts_no_more(Arc::downgrade(&inner), identity));
        Ok(Self(inner))
    }

    /// Where a component may listen on `port` by `wasi:sockets`.
    pub fn listening_on(&self, port: u16) -> Option<&Listen> {
        self.0.listen.iter().find(|listen| listen.port == port)
    }

    /// Whom a component reaches as `host` on `port`: what `[[connect]]` lists, or else, on port 80, a Marble that the
    /// manifest lets it call.
    pub fn destination(&self, host: &str, port: u16) -> Option<Connect> {
        let listed =
            self.0.connect.iter().find(|to| to.port == port && to.host.eq_ignore_ascii_case(host)).cloned();
        listed.or_else(|| {
            let protection = Protection::Tls(Roots::Marbles);
            let marble = self.marble(host).filter(|_| port == 80)?;
            Some(Connect { host: marble.to_owned(), port, protection })
        })
    }

    /// All names and addresses that a component may connect to, in a fixed order.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.0.connect.iter().map(|to| to.host.as_str()).chain(self.0.marbles.keys().map(String::as_str))
    }

    /// The Marble that `name` means. Names are compared as the manifest has them; where a URL library has made them
    /// lower case, a single one that differs in case only is meant.
    pub fn marble(&self, name: &str) -> Option<&str> {
        let marbles = &self.0.marbles;
        let exact = marbles.get_key_value(name).map(|(name, _)| name.as_str());
        exact.or_else(|| {
            let mut alike = marbles.keys().filter(|known| known.eq_ignore_ascii_case(name));
            alike.next().filter(|_| alike.next().is_none()).map(String::as_str)
        })
    }

    /// Tells when the identity was replaced: what was made before should then end.
    pub fn identity(&self) -> watch::Receiver<Arc<Identity>> {
        self.0.identity.clone()
    }
}

impl Inner {
    /// TLS of a listener under the identity of now; `None`: plain TCP.
    ///
    /// Where the manifest says which Marbles may call this one, that holds for listeners that the configuration opens
    /// to anyone: the narrower of the two counts.
    fn server(
        &self,
        identity: &Identity,
        protection: &Protection<Clients>,
        alpn: Alpn<'_>,
    ) -> Result<Option<Arc<ServerConfig>>, NetError> {
        let closed = identity.is_closed();
        let clients = match protection {
            Protection::Tcp if closed => return Err(NetError::ListenerOpen),
            Protection::Tcp => return Ok(None),
            Protection::Tls(Clients::Anyone) if closed => &Clients::Marbles,
            Protection::Tls(clients) => clients,
        };
        let mut config = match clients {
            Clients::Anyone => identity.server(None, &self.clock)?,
            Clients::Named(_) if closed => return Err(NetError::ListenerOpen),
            Clients::Named(name) => identity.server(Some(self.roots.named(name)?), &self.clock)?,
            Clients::Marbles => identity.server_for_marbles(&self.clock)?,
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Some(Arc::new(config)))
    }

    fn client(&self, roots: &Roots, host: &str, alpn: Alpn<'_>) -> Result<Arc<ClientConfig>, NetError> {
        let identity = Arc::clone(&self.identity.borrow());
        let mut config = match roots {
            Roots::Web => Identity::client(self.roots.web(), None, &self.clock)?,
            Roots::Named(name) => Identity::client(self.roots.named(name)?, Some(&identity), &self.clock)?,
            Roots::Marbles => identity.client_of_marble(host, &self.clock)?,
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// Whether who comes in is a Marble.
    fn takes_marbles(identity: &Identity, protection: &Protection<Clients>) -> bool {
        identity.is_closed() || *protection == Protection::Tls(Clients::Marbles)
    }

    fn remember_marble(&self, connection: &Arc<Shared>) {
        let mut known = self.marble_connections.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|connection| connection.strong_count() > 0);
        known.push(Arc::downgrade(connection));
    }
}

/// Ends the streams with Marbles when the manifest, or the list of those that count no more, is another one.
/// A certificate that is renewed with the same identity ends none.
async fn end_what_counts_no_more(net: Weak<Inner>, mut identity: watch::Receiver<Arc<Identity>>) {
    let mut known = Arc::clone(&identity.borrow_and_update());
    while identity.changed().await.is_ok() {
        let new = Arc::clone(&identity.borrow_and_update());
        let Some(net) = net.upgrade() else { return };
        if !known.same_mesh(&new) {
            let connections =
                std::mem::take(&mut *net.marble_connections.lock().unwrap_or_else(PoisonError::into_inner));
            for connection in connections.iter().filter_map(Weak::upgrade) {
                connection.cut();
            }
        }
        known = new;
    }
}

/// The roots that `config` gives the name `name`, or those of the web.
pub(crate) fn roots_or_web(config: &KeepConfig, name: &str) -> Result<Store, NetError> {
    let roots = NamedRoots::new(&config.roots)?;
    if config.roots.contains_key(name) { roots.named(name) } else { Ok(roots.web()) }
}

type Store = Arc<RootCertStore>;
