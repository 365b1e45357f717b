//! The agent's HTTPS API, by which tenants get Keeps: the routes and messages of `keep_protocol::host`. Its TLS tells
//! a client nothing about the Keep, and the agent nothing about what passes: a client's connection to its Keep is
//! relayed as bytes, and what is inside is attested TLS between those two.
//!
//! ```text
//!  TCP ─▶ bounds (connections, per address) ─▶ TLS 1.3 ─▶ HTTP/1.1 (head in 10 s, body in 10 s)
//!      ─▶ who is it? (certificate or token) ─▶ how often? ─▶ route ─▶ ledger of Keeps
//!                                                             └─ channel ─▶ relay ─▶ Keep
//! ```

mod admission;
mod bounds;
mod metrics;
mod relay;
mod routes;
mod tls;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use self::admission::{Admission, Caller};
use self::bounds::PerAddress;
pub(crate) use self::metrics::Metrics;
pub use self::tls::ApiError;
use crate::agent::{Office, Sockets};
use crate::config::Api;
use crate::keeps::Keeps;

/// How long a client may take for the TLS handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take for a request's head, also the next one on its connection.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The largest head.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// How long what is relayed may go on after another agent has taken over.
const RELAY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// How long requests in work may go on when the agent ends.
const FINISH_WITHIN: Duration = Duration::from_secs(5);

/// What requests need.
pub(crate) struct Shared {
    keeps: Arc<Keeps>,
    office: Arc<Office>,
    admission: Admission,
    metrics: Metrics,
    /// How long a relay may be silent.
    silence: Duration,
    relays: watch::Sender<usize>,
}

/// The API as it is served, on threads of its own.
pub(crate) struct Server {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    shared: Arc<Shared>,
    /// Dropped to end it.
    end: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(
        api: &Api,
        directory: &Path,
        sockets: Sockets,
        office: Arc<Office>,
    ) -> Result<Self, ApiError> {
        let config = tls::config(api, directory)?;
        let Some(keeps) = office.keeps() else { return Err(ApiError::NoKeeps) };
        let shared = Arc::new(Shared {
            keeps,
            admission: Admission::new(api, Arc::clone(&office.around().clock)),
            metrics: Metrics::default(),
            silence: Duration::from_secs(api.keeps.silence_s),
            relays: watch::Sender::new(0),
            office,
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("host-api")
            .enable_all()
            .build()
            .map_err(ApiError::Runtime)?;
        let address = sockets.api.local_addr().map_err(ApiError::Runtime)?;
        let metrics_address = sockets.metrics.as_ref().and_then(|listener| listener.local_addr().ok());
        let (end, ended) = watch::channel(false);
        let serving = Arc::clone(&shared);
        let (acceptor, connections) = (TlsAcceptor::from(config), api.connections);
        let serve = move || {
            runtime.block_on(async {
                let metrics = sockets.metrics.map(|listener| metrics::serve(listener, Arc::clone(&serving)));
                if let Some(metrics) = metrics {
                    tokio::spawn(metrics);
                }
                accept(sockets.api, acceptor, connections, &serving).await;
                finish(&serving, ended).await;
            });
            runtime.shutdown_timeout(FINISH_WITHIN);
        };
        let thread =
            std::thread::Builder::new().name("host-api".into()).spawn(serve).map_err(ApiError::Runtime)?;
        tracing::info!(%address, "the API listens");
        Ok(Self { address, metrics_address, shared, end, thread })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Ends it; with `relaying`, when the last client's connection to its Keep has ended.
    pub(crate) fn stop(self, relaying: bool) {
        let left = *self.shared.relays.borrow();
        if relaying && left > 0 {
            tracing::info!(left, "connections go on until they end");
        } else {
            self.end.send_replace(true);
        }
        if self.thread.join().is_err() {
            tracing::error!("the API's thread panicked");
        }
    }
}

/// After the last connection was taken: until nothing is relayed, or the end is wanted.
async fn finish(shared: &Shared, mut ended: watch::Receiver<bool>) {
    let mut relays = shared.relays.subscribe();
    tokio::select! {
        _ = relays.wait_for(|relays| *relays == 0) => {}
        _ = ended.wait_for(|ended| *ended) => {}
        () = tokio::time::sleep(RELAY_AFTER) => {}
    }
}

/// Takes connections until the agent ends.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, most: usize, shared: &Arc<Shared>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the API cannot listen");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(most));
    // One address may not take all places, unless it is the only one that can connect at all.
    let per_address = PerAddress::new(if shared.admission.is_open() { most } else { (most / 4).max(8) });
    let mut closing = shared.office.closing();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closed(&mut closing) => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (Ok(place), Some(share)) = (Arc::clone(&places).try_acquire_owned(), per_address.take(peer.ip()))
        else {
            shared.metrics.turned_away();
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(shared));
        tokio::spawn(async move {
            let _held = (place, share);
            connection(stream, peer.ip(), acceptor, shared).await;
        });
    }
}

/// Returns when the agent is ending.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the agent is gone already.
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn connection(stream: tokio::net::TcpStream, peer: IpAddr, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await else {
        shared.metrics.handshake_failed();
        return;
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let caller = Arc::new(Caller::new(peer, certificate.map(AsRef::as_ref)));
    let mut closing = shared.office.closing();
    let service = service_fn(move |request| {
        let (shared, caller) = (Arc::clone(&shared), Arc::clone(&caller));
        async move { Ok::<_, std::convert::Infallible>(routes::answer(&shared, &caller, request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    let finished = tokio::select! {
        finished = connection.as_mut() => finished,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = finished {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
