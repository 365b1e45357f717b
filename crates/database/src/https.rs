//! The HTTPS listener: a router behind the database's certificate, with the same bounds for everyone who connects.
//!
//! Each request carries, as extensions, `Option<Caller>` and [`Stranger`]: who calls is decided for each request anew, by
//! the rules of that moment. A certificate that is no party's is an entry in the audit log, as over SQL, but once for a
//! connection: [`turned_away`]. Whoever shows none at all asks for what anyone may have.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::{
    accepting,
    audit::{Audit, Interface},
    identity::{Caller, NotAParty},
    refusal::refusal,
};

/// So many at a time; more are closed at once.
const MAX_CONNECTIONS: usize = 512;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_secs(20);
const HEADERS: u32 = 16 * 1024;
const BUFFER: usize = 64 * 1024;
const STREAMS: u32 = 32;

/// The ALPN names of the listener.
pub const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A client that showed certificates of no party.
#[derive(Clone)]
pub struct Stranger {
    chain: Arc<Vec<CertificateDer<'static>>>,
    why: NotAParty,
    recorded: Arc<AtomicBool>,
}

/// Who has certificates, by the rules of now.
pub type Identify = Arc<dyn Fn(&[CertificateDer<'static>]) -> Result<Caller, NotAParty> + Send + Sync>;

/// Records strangers, before they are answered.
pub async fn turned_away(
    State(audit): State<Audit>,
    Extension(stranger): Extension<Option<Stranger>>,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    if let Some(Stranger { chain, why, recorded }) = stranger
        && !recorded.swap(true, Ordering::Relaxed)
        && let Err(error) = audit.turned_away(&chain, Interface::Https, &why).await
    {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, error.code(), &error.to_string());
    }
    next.run(request).await
}

/// Serves `router` until `shutdown`; requests in work then end.
pub async fn serve(
    router: Router,
    listener: &TcpListener,
    tls: Arc<ServerConfig>,
    identify: Identify,
    shutdown: CancellationToken,
) {
    let accepted = |stream| {
        let acceptor = TlsAcceptor::from(Arc::clone(&tls));
        connection(stream, acceptor, router.clone(), Arc::clone(&identify), shutdown.clone())
    };
    accepting::connections(listener, MAX_CONNECTIONS, &shutdown, accepted).await;
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    identify: Identify,
    shutdown: CancellationToken,
) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = Arc::new(chain.iter().map(|it| it.clone().into_owned()).collect::<Vec<_>>());
    let recorded = Arc::new(AtomicBool::new(false));
    let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
        let (caller, stranger) = match identify(&chain) {
            Ok(caller) => (Some(caller), None),
            Err(_) if chain.is_empty() => (None, None),
            Err(why) => {
                let (chain, recorded) = (Arc::clone(&chain), Arc::clone(&recorded));
                (None, Some(Stranger { chain, why, recorded }))
            }
        };
        request.extensions_mut().insert::<Option<Caller>>(caller);
        request.extensions_mut().insert::<Option<Stranger>>(stranger);
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(router.call(request.map(Body::new)).await.into_response()) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .max_header_list_size(HEADERS)
        .max_concurrent_streams(STREAMS);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let finished = tokio::select! {
        finished = connection.as_mut() => finished,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = finished {
        tracing::debug!(error = %error, "an HTTPS connection ended with an error");
    }
}
