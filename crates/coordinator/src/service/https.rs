//! HTTPS as the client API and the broker serve it: a router behind the certificate of the client API, with the same
//! bounds for everyone who connects.

use std::{convert::Infallible, time::Duration};

use axum::{Router, body::Body, http::Request, response::IntoResponse};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{certificate::Tls, connections};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_secs(20);
/// Tokens of guests with many devices are long: Trustee's own limit.
const HEADERS: u32 = 128 * 1024;
/// A request's head and a piece of its body.
const BUFFER: usize = 192 * 1024;
const STREAMS: u32 = 32;

/// Serves `router` until `shutdown`; requests in work then end. Each request carries, as an extension, what `caller`
/// makes of the connection's client certificate.
pub(super) async fn serve<C: Clone + Send + Sync + 'static>(
    router: Router,
    listener: TcpListener,
    tls: watch::Receiver<Tls>,
    shutdown: CancellationToken,
    caller: fn(Option<&CertificateDer<'_>>) -> C,
) {
    let serve = |stream, place| {
        let acceptor = TlsAcceptor::from(tls.borrow().client_api.clone());
        let served = connection(stream, acceptor, router.clone(), shutdown.clone(), caller);
        async move {
            let _place = place;
            served.await;
        }
    };
    connections::each(listener, shutdown.clone(), serve).await;
}

async fn connection<C: Clone + Send + Sync + 'static>(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    shutdown: CancellationToken,
    caller: fn(Option<&CertificateDer<'_>>) -> C,
) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let caller = caller(stream.get_ref().1.peer_certificates().and_then(<[_]>::first));
    let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(caller.clone());
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
