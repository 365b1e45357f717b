//! The broker's interface to guests: RCAR as CoCo's key broker has it (reference: Trustee, `kbs/docs`, protocol 0.4.0 and
//! those before it), on a listener of its own with the client API's certificate. Every path is guests'; operators use the
//! client API.

mod attest;
mod body;
pub(in crate::service) mod explain;
mod failure;
mod keys;
mod resource;
mod sessions;
mod svid;
mod unwrap;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State as Extracted,
    http::{HeaderMap, Request, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use self::failure::Failure;
pub(super) use self::sessions::Broker;
use super::{Coordinator, StartError, certificate::Tls, connections};
use crate::core::{Refusal, State};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Tokens of guests with many devices are long: Trustee's own limit.
const HEADERS: u32 = 128 * 1024;
/// A request's head and a piece of its body.
const BUFFER: usize = 192 * 1024;

fn router(coordinator: Arc<Coordinator>) -> Router {
    Router::new()
        .route("/kbs/v0/auth", post(attest::auth))
        .route("/kbs/v0/attest", post(attest::attest))
        .route("/kbs/v0/resource/{*path}", get(resource::read))
        .merge(keys::routes())
        .route("/kbs/v0/unwrap-key", post(unwrap::packet))
        .route("/kbs/v0/svid/x509", post(svid::x509))
        .route("/kbs/v0/svid/jwt", post(svid::jwt))
        .route("/kbs/v0/svid/bundle", get(svid::bundle))
        .fallback(|| async { Failure::path() })
        .method_not_allowed_fallback(|| async { Failure::method() })
        .with_state(coordinator)
}

pub(super) async fn serve(
    coordinator: Arc<Coordinator>,
    listener: TcpListener,
    tls: watch::Receiver<Tls>,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let router = router(coordinator);
    let serve = |stream, place| {
        let acceptor = TlsAcceptor::from(tls.borrow().client_api.clone());
        let served = connection(stream, acceptor, router.clone(), shutdown.clone());
        async move {
            let _place = place;
            served.await;
        }
    };
    connections::each(listener, shutdown.clone(), serve).await;
    Ok(())
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, shutdown: CancellationToken) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(router.call(request.map(Body::new)).await.into_response()) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .max_header_list_size(HEADERS)
        .max_concurrent_streams(32);
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
        tracing::debug!(error = %error, "a guest's connection ended with an error");
    }
}

type Shared = Extracted<Arc<Coordinator>>;

/// The newest state, if its manifest has a broker.
async fn serving(coordinator: &Arc<Coordinator>) -> Result<Arc<State>, Failure> {
    coordinator.confirmed().await?;
    let state = coordinator.snapshot()?.state;
    match state.mesh().map(|mesh| mesh.manifest().broker().is_some()) {
        Some(true) => Ok(state),
        _ => Err(Failure::not_configured()),
    }
}

/// The values of the session's cookie; there should be one at most.
fn cookies(headers: &HeaderMap) -> Vec<&str> {
    let fields = headers.get_all(header::COOKIE).iter().filter_map(|field| field.to_str().ok());
    let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == rcar::SESSION_COOKIE).map(|(_, value)| value).collect()
}

/// Does what costs a core some time, off the threads that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let cancelled = || Err(Refusal::Internal("the request was cancelled".into()).into());
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| cancelled())
}

/// What a handler found, as an answer; counted.
fn answer(coordinator: &Coordinator, found: Result<Response, Failure>) -> Response {
    let response = found.unwrap_or_else(IntoResponse::into_response);
    coordinator.metrics.guest_answered(response.status().as_u16());
    response
}
