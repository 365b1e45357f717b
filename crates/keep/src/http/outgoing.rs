//! Requests of the workload. `http://NAME/` reaches the Marble NAME, if the manifest names it as a peer, over
//! mutual TLS that the workload does not see; anything else is denied.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error as StdError,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use attested_tls::marble;
use http::{Extensions, Request, Response, Uri, uri::Scheme};
use http_body_util::BodyExt;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::ClientConfig;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_service::Service;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::body::{Taken, Timed};
use crate::admission::LogPolicy;

const CONNECT: Duration = Duration::from_secs(10);
const FIRST_BYTE: Duration = Duration::from_secs(60);
const BETWEEN_BYTES: Duration = Duration::from_secs(60);
/// Below the time after which a Keep closes an idle connection.
const IDLE: Duration = Duration::from_secs(20);
const MAX_IDLE: usize = 32;

/// What went wrong in a [`PeerTls`].
pub type PeerTlsError = Box<dyn StdError + Send + Sync>;

/// How to speak TLS with a peer.
pub trait PeerTls: Send + Sync + 'static {
    /// The configuration for a new connection to the Marble `peer`, and to no other.
    ///
    /// # Errors
    /// When this Keep's credential cannot be used.
    fn client_config(&self, peer: &str) -> Result<Arc<ClientConfig>, PeerTlsError>;
}

impl<F> PeerTls for F
where
    F: Fn(&str) -> Result<Arc<ClientConfig>, PeerTlsError> + Send + Sync + 'static,
{
    fn client_config(&self, peer: &str) -> Result<Arc<ClientConfig>, PeerTlsError> {
        self(peer)
    }
}

/// The peers of one Keep, and its connections to them.
pub struct Peers {
    marble: String,
    log: LogPolicy,
    addresses: BTreeMap<String, String>,
    tls: Arc<dyn PeerTls>,
    open: Mutex<HashMap<String, PeerClient>>,
}

type PeerClient = Client<Connector, Taken>;

impl Peers {
    /// No peers at all.
    pub(crate) fn none() -> Arc<Self> {
        let tls = |_: &str| Err(PeerTlsError::from("there are no peers"));
        Self::new(String::new(), LogPolicy::Discard, BTreeMap::new(), Arc::new(tls))
    }

    /// Marbles by name, with the addresses that the host claims for them.
    pub fn new(
        marble: String,
        log: LogPolicy,
        addresses: BTreeMap<String, String>,
        tls: Arc<dyn PeerTls>,
    ) -> Arc<Self> {
        Arc::new(Self { marble, log, addresses, tls, open: Mutex::default() })
    }

    /// The peer that `uri` names. Names are compared as the manifest has them; where a URL library has made
    /// them lower case, a single peer that differs in case only is meant.
    fn peer(&self, uri: &Uri) -> Option<(&str, &str)> {
        if uri.scheme() != Some(&Scheme::HTTP) || !matches!(uri.port_u16(), None | Some(80)) {
            return None;
        }
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host();
        let exact = self.addresses.get_key_value(host);
        let found = exact.or_else(|| {
            let mut alike = self.addresses.iter().filter(|(name, _)| name.eq_ignore_ascii_case(host));
            alike.next().filter(|_| alike.next().is_none())
        });
        found.map(|(name, address)| (name.as_str(), address.as_str()))
    }

    /// The connections to `peer`.
    fn client(&self, peer: &str, address: &str) -> PeerClient {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = open.get(peer) {
            return client.clone();
        }
        let connector = Connector { peer: peer.into(), address: address.into(), tls: Arc::clone(&self.tls) };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .set_host(false)
            .build(connector);
        open.insert(peer.to_owned(), client.clone());
        client
    }

    /// Uses no open connection any more: they were made with a credential that was replaced.
    pub(crate) fn forget_connections(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn send(
        &self,
        request: Request<Taken>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>, Error> {
        let Some((peer, address)) = self.peer(request.uri()) else {
            // The workload chose the destination; it reaches the log only where its words may.
            let destination = match self.log {
                LogPolicy::Host => request.uri().authority().map(ToString::to_string),
                LogPolicy::Discard => None,
            };
            tracing::warn!(
                code = "DESTINATION_NOT_ALLOWED",
                marble = %self.marble,
                destination,
                "the workload may reach its named peers only"
            );
            return Err(Error::HttpRequestDenied);
        };
        let patience = options.first_byte_timeout.unwrap_or(FIRST_BYTE);
        let patience = options.connect_timeout.map_or(patience, |connect| connect.min(CONNECT) + patience);
        match timeout(patience, self.client(peer, address).request(request)).await {
            Ok(Ok(response)) => {
                let silence = options.between_bytes_timeout.unwrap_or(BETWEEN_BYTES);
                Ok(response.map(|body| Timed::new(body, silence).boxed_unsync()))
            }
            Ok(Err(error)) => Err(self.failed(peer, &error)),
            Err(_) => {
                tracing::warn!(code = "PEER_SILENT", marble = %self.marble, peer, "a peer did not answer in time");
                Err(Error::HttpResponseTimeout)
            }
        }
    }

    fn failed(&self, peer: &str, error: &hyper_util::client::legacy::Error) -> Error {
        let remembered = error.connect_info().and_then(|info| {
            let mut extras = Extensions::new();
            info.get_extras(&mut extras);
            extras.get::<Remembered>().and_then(|remembered| remembered.0.get().cloned())
        });
        let (code, reason, told) = match remembered {
            Some((code, reason)) => (code, reason, Error::TlsProtocolError),
            None => explain(error),
        };
        tracing::warn!(code, marble = %self.marble, peer, reason, "a peer was not reached");
        told
    }
}

/// Code and sentence for the log, and what the workload is told: enough to act on, and nothing about who said
/// what in the handshake.
fn explain(error: &(dyn StdError + 'static)) -> (&'static str, String, Error) {
    let mut cause = Some(error);
    while let Some(current) = cause {
        match current.downcast_ref::<ConnectError>() {
            Some(ConnectError::Unreachable(error)) => {
                return ("PEER_UNREACHABLE", error.to_string(), Error::ConnectionRefused);
            }
            Some(ConnectError::TimedOut) => {
                return ("PEER_UNREACHABLE", "no connection in time".to_owned(), Error::ConnectionTimeout);
            }
            Some(ConnectError::Tls(error)) => {
                return ("PEER_TLS_UNUSABLE", error.to_string(), Error::ConfigurationError);
            }
            Some(ConnectError::Handshake(error)) => {
                let (code, reason) = marble::handshake_refusal(error);
                return (code, reason, Error::TlsCertificateError);
            }
            None => cause = current.source(),
        }
    }
    let causes = std::iter::successors(Some(error), |&cause| cause.source());
    let reason = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    ("PEER_UNREACHABLE", reason, Error::ConnectionTerminated)
}

/// The hooks that wasmtime's `wasi:http` calls.
pub(crate) struct Outgoing(pub(crate) Arc<Peers>);

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Io,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Io), Error>> + Send> {
        let peers = Arc::clone(&self.0);
        let request = request.map(Taken::new);
        Box::new(async move {
            let response = peers.send(request, options.unwrap_or_default()).await?;
            let io: Io = Box::new(async { Ok(()) });
            Ok((response, io))
        })
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("the peer's address cannot be reached")]
    Unreachable(#[source] io::Error),
    #[error("the peer did not take the connection in time")]
    TimedOut,
    #[error("this Keep has no TLS for the peer")]
    Tls(#[source] PeerTlsError),
    #[error("the handshake failed")]
    Handshake(#[source] io::Error),
}

/// Opens connections to one peer, whatever the URI says: the name was resolved before.
#[derive(Clone)]
struct Connector {
    peer: Arc<str>,
    address: Arc<str>,
    tls: Arc<dyn PeerTls>,
}

impl Service<Uri> for Connector {
    type Response = PeerStream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<PeerStream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(
            async move { timeout(CONNECT, connector.connect()).await.unwrap_or(Err(ConnectError::TimedOut)) },
        )
    }
}

impl Connector {
    async fn connect(self) -> Result<PeerStream, ConnectError> {
        let config = self.tls.client_config(&self.peer).map_err(ConnectError::Tls)?;
        let tcp = TcpStream::connect(&*self.address).await.map_err(ConnectError::Unreachable)?;
        tcp.set_nodelay(true).map_err(ConnectError::Unreachable)?;
        let stream = TlsConnector::from(config).connect(marble::server_name(), tcp).await;
        let stream = TokioIo::new(stream.map_err(ConnectError::Handshake)?);
        Ok(PeerStream { stream, remembered: Remembered::default() })
    }
}

/// Why a peer ended a connection. In TLS 1.3 a client learns that its certificate was refused only when it
/// reads, after its handshake is over; HTTP then reports no more than an end.
#[derive(Debug, Clone, Default)]
struct Remembered(Arc<OnceLock<(&'static str, String)>>);

/// A connection to a peer.
struct PeerStream {
    stream: TokioIo<TlsStream<TcpStream>>,
    remembered: Remembered,
}

impl Connection for PeerStream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.remembered.clone());
        match self.stream.inner().get_ref().1.alpn_protocol() {
            Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

impl Read for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &read
            && let alert @ ("PEER_REFUSED_US", _) = marble::handshake_refusal(error)
        {
            // Only the first reason counts; that there is one already is no error.
            let _ = self.remembered.0.set(alert);
        }
        read
    }
}

impl Write for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(names: &[&str]) -> Arc<Peers> {
        let addresses = names.iter().map(|name| ((*name).to_owned(), "127.0.0.1:1".to_owned())).collect();
        let none = |_: &str| Err("unused".into());
        Peers::new("frontend".into(), LogPolicy::Discard, addresses, Arc::new(none))
    }

    #[test]
    fn only_named_peers_are_reached() {
        let peers = peers(&["tally", "Ledger", "twin", "Twin"]);
        let found = |uri: &str| peers.peer(&uri.parse().unwrap()).map(|(name, _)| name.to_owned());
        assert_eq!(found("http://tally/votes").as_deref(), Some("tally"));
        assert_eq!(found("http://tally:80/").as_deref(), Some("tally"));
        assert_eq!(found("http://ledger/").as_deref(), Some("Ledger"));
        assert_eq!(found("http://twin/").as_deref(), Some("twin"));
        assert_eq!(found("http://TWIN/"), None);
        for uri in [
            "https://tally/",
            "http://tally:8080/",
            "http://a@tally/",
            "http://tally.example/",
            "http://127.0.0.1/",
        ] {
            assert_eq!(found(uri), None, "{uri}");
        }
    }
}
