//! Requests of the workload. `http://NAME/` reaches the Marble NAME, if the manifest names it as a peer, over
//! mutual TLS that the workload does not see; what `[[connect]]` lists is reached by its name and port, protected as it
//! says there; anything else is denied.

use std::{
    collections::HashMap,
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
use keep_config::{Connect, Protection, Roots};
use tokio::time::timeout;
use tower_service::Service;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::body::{Taken, Timed};
use crate::{
    admission::LogPolicy,
    net::{self, Broken, Net, NetError},
};

const CONNECT: Duration = Duration::from_secs(10);
const FIRST_BYTE: Duration = Duration::from_secs(60);
const BETWEEN_BYTES: Duration = Duration::from_secs(60);
/// Below the time after which a Keep closes an idle connection.
const IDLE: Duration = Duration::from_secs(20);
const MAX_IDLE: usize = 32;

/// The destinations of one Keep's requests, and its connections to them.
pub(crate) struct Peers {
    marble: String,
    log: LogPolicy,
    net: Option<Net>,
    open: Mutex<HashMap<(String, u16), PeerClient>>,
}

type PeerClient = Client<Connector, Taken>;

impl Peers {
    /// Without a network nothing is reached.
    pub(crate) fn new(marble: String, log: LogPolicy, net: Option<Net>) -> Arc<Self> {
        Arc::new(Self { marble, log, net, open: Mutex::default() })
    }

    /// Whom `uri` names. A workload that asks for `https` gets TLS or nothing; one that asks for `http` gets what the
    /// configuration says.
    fn destination(&self, uri: &Uri) -> Option<(&Net, Connect)> {
        let net = self.net.as_ref()?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let is_https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return None,
        };
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let to = net.destination(host, port)?;
        let may = match &to.protection {
            Protection::Tls(Roots::Marbles) => !is_https,
            Protection::Tls(_) => true,
            Protection::Tcp => !is_https,
        };
        may.then_some((net, to))
    }

    /// The connections to it.
    fn client(&self, net: &Net, to: &Connect) -> PeerClient {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (to.host.clone(), to.port);
        if let Some(client) = open.get(&key) {
            return client.clone();
        }
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            .set_host(false)
            .build(Connector { net: net.clone(), to: to.clone() });
        open.insert(key, client.clone());
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
        let Some((net, to)) = self.destination(request.uri()) else {
            // The workload chose the destination; it reaches the log only where its words may.
            let destination = match self.log {
                LogPolicy::Host => request.uri().authority().map(ToString::to_string),
                LogPolicy::Owner(_) | LogPolicy::Discard => None,
            };
            tracing::warn!(
                code = "DESTINATION_NOT_ALLOWED",
                marble = %self.marble,
                destination,
                "the workload may reach its peers and what [[connect]] lists only"
            );
            return Err(Error::HttpRequestDenied);
        };
        let patience = options.first_byte_timeout.unwrap_or(FIRST_BYTE);
        let patience = options.connect_timeout.map_or(patience, |connect| connect.min(CONNECT) + patience);
        let peer = to.host.as_str();
        match timeout(patience, self.client(net, &to).request(request)).await {
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
        match current.downcast_ref::<NetError>() {
            Some(error) => return told(error),
            None => cause = current.source(),
        }
    }
    let causes = std::iter::successors(Some(error), |&cause| cause.source());
    let reason = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    ("PEER_UNREACHABLE", reason, Error::ConnectionTerminated)
}

fn told(error: &NetError) -> (&'static str, String, Error) {
    let because = |source: &dyn StdError| format!("{error}: {source}");
    match error {
        NetError::Unreachable { source, .. } => (error.code(), because(source), Error::ConnectionRefused),
        NetError::TimedOut { .. } => (error.code(), error.to_string(), Error::ConnectionTimeout),
        NetError::Handshake { source, .. } => {
            let (code, reason) = marble::handshake_refusal(source);
            (code, reason, Error::TlsCertificateError)
        }
        NetError::TooMany(_) => (error.code(), error.to_string(), Error::ConnectionLimitReached),
        _ => (error.code(), error.to_string(), Error::ConfigurationError),
    }
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

/// Opens connections to one destination, whatever the URI says: the name was looked up before.
#[derive(Clone)]
struct Connector {
    net: Net,
    to: Connect,
}

impl Service<Uri> for Connector {
    type Response = PeerStream;
    type Error = NetError;
    type Future = Pin<Box<dyn Future<Output = Result<PeerStream, NetError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), NetError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        let Self { net, to } = self.clone();
        Box::pin(async move {
            let stream = TokioIo::new(net.connect(&to, net::HTTP).await?);
            Ok(PeerStream { stream, remembered: Remembered::default() })
        })
    }
}

/// Why a peer ended a connection. In TLS 1.3 a client learns that its certificate was refused only when it
/// reads, after its handshake is over; HTTP then reports no more than an end.
#[derive(Debug, Clone, Default)]
struct Remembered(Arc<OnceLock<(&'static str, String)>>);

/// A connection to a peer.
struct PeerStream {
    stream: TokioIo<net::Connection>,
    remembered: Remembered,
}

impl Connection for PeerStream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.remembered.clone());
        if self.stream.inner().protocol().is_some_and(|protocol| protocol == b"h2") {
            connected.negotiated_h2()
        } else {
            connected
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
            && let Some(Broken::Tls { code, reason }) = error.get_ref().and_then(|error| error.downcast_ref())
        {
            // Only the first reason counts; that there is one already is no error.
            let _ = self.remembered.0.set((code, reason.clone()));
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
    use attested_tls::{clock, key::TeeKey};
    use keep_config::KeepConfig;
    use tokio::sync::watch;

    use super::*;
    use crate::net::Identity;

    fn peers(names: &[&str], config: &str) -> Arc<Peers> {
        let marbles = names.iter().map(|name| ((*name).to_owned(), "127.0.0.1:1".to_owned())).collect();
        let identity = Arc::new(Identity::self_signed(&TeeKey::generate().unwrap()));
        let (_, identity) = watch::channel(identity);
        let config = KeepConfig::parse(config).unwrap();
        let net = Net::new(&config, marbles, identity, clock::system()).unwrap();
        Peers::new("frontend".into(), LogPolicy::Discard, Some(net))
    }

    fn found(peers: &Peers, uri: &str) -> Option<String> {
        peers.destination(&uri.parse().unwrap()).map(|(_, to)| to.host)
    }

    #[tokio::test]
    async fn only_named_peers_are_reached() {
        let peers = peers(&["tally", "Ledger", "twin", "Twin"], "");
        let found = |uri: &str| found(&peers, uri);
        assert_eq!(found("http://tally/votes").as_deref(), Some("tally"));
        assert_eq!(found("http://tally:80/").as_deref(), Some("tally"));
        assert_eq!(found("http://ledger/").as_deref(), Some("Ledger"));
        assert_eq!(found("http://twin/").as_deref(), Some("twin"));
        assert_eq!(found("http://TWIN/"), None);
        for uri in [
            "https://tally/",
            "https://tally:80/",
            "http://tally:8080/",
            "http://a@tally/",
            "http://tally.example/",
            "http://127.0.0.1/",
        ] {
            assert_eq!(found(uri), None, "{uri}");
        }
    }

    #[tokio::test]
    async fn what_the_configuration_lists_is_reached_as_it_says() {
        let config = "[[connect]]\nprot = \"tls\"\nhost = \"api.example\"\n\
                      [[connect]]\nprot = \"tcp\"\nhost = \"old.example\"\nport = 8080\n\
                      [[connect]]\nprot = \"tls\"\nhost = \"::1\"\nport = 8443";
        let peers = peers(&[], config);
        for uri in [
            "https://api.example/",
            "https://API.example:443/x",
            "http://api.example:443/",
            "http://old.example:8080/",
            "https://[::1]:8443/",
        ] {
            assert!(found(&peers, uri).is_some(), "{uri}");
        }
        for uri in [
            "http://api.example/",
            "https://api.example:8443/",
            // Who asks for TLS does not get less.
            "https://old.example:8080/",
            "http://old.example/",
            "ftp://api.example:443/",
            "https://a@api.example/",
            "https://[::2]:8443/",
        ] {
            assert_eq!(found(&peers, uri), None, "{uri}");
        }
    }
}
