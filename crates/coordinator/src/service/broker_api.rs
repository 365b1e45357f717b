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

use std::sync::Arc;

use axum::{
    Router,
    extract::State as Extracted,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use self::failure::Failure;
pub(super) use self::sessions::Broker;
use super::{Coordinator, StartError, certificate::Tls, https};
use crate::core::{Refusal, State};

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
    // Guests are known by what they attest, never by a certificate.
    https::serve(router(coordinator), listener, tls, shutdown, |_| ()).await;
    Ok(())
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
