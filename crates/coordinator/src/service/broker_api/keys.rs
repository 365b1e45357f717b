//! Tokens that guests show, and what relying parties fetch to check tokens without the mesh's root: the public keys, and where they are (OpenID Connect
//! Discovery 1.0, §4). Nothing in it is secret, and nothing in it has to be believed: whoever has the root checks the
//! keys' certificates.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State as Extracted,
    http::{HeaderMap, HeaderName, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::{Shared, answer, blocking, failure::Failure, serving};
use crate::{
    core::{
        State,
        broker::{guest::Guest, token},
    },
    service::Coordinator,
};

/// The set of keys (RFC 7517).
const JWKS: &str = "/.well-known/jwks.json";
/// Where the keys are.
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// How long keys may be kept, seconds: no longer than the shortest token, so that a key that is gone is gone.
const KEPT: [(HeaderName, &str); 1] = [(header::CACHE_CONTROL, "public, max-age=60")];

pub(super) fn routes() -> Router<Arc<Coordinator>> {
    Router::new().route(JWKS, get(jwks)).route(DISCOVERY, get(discovery))
}

async fn jwks(Extracted(coordinator): Shared) -> Response {
    let found = keys(&coordinator).await.map(|keys| (KEPT, Json(keys)).into_response());
    answer(&coordinator, found)
}

async fn keys(coordinator: &Arc<Coordinator>) -> Result<Value, Failure> {
    let state = serving(coordinator).await?;
    let now = (coordinator.clock)();
    let published = state.mesh().map(|mesh| mesh.signers().published(now)).unwrap_or_default();
    Ok(attestation_result::coco::jwks(published))
}

async fn discovery(Extracted(coordinator): Shared, uri: Uri, headers: HeaderMap) -> Response {
    // HTTP/2 has the name in the request's line, HTTP/1 in a field.
    let field = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = uri.authority().map(|authority| authority.as_str()).or(field);
    let found = configuration(&coordinator, host).await;
    // It repeats the name by which it was asked, so nobody else is to get it.
    let private = [(header::CACHE_CONTROL, "no-store")];
    answer(&coordinator, found.map(|configuration| (private, Json(configuration)).into_response()))
}

async fn configuration(coordinator: &Arc<Coordinator>, host: Option<&str>) -> Result<Value, Failure> {
    let state = serving(coordinator).await?;
    let host = host.filter(|host| is_host(host)).ok_or_else(Failure::path)?;
    Ok(json!({
        "issuer": token::issuer(&state),
        "jwks_uri": format!("https://{host}{JWKS}"),
        "id_token_signing_alg_values_supported": ["ES256"],
        "response_types_supported": ["none"],
        "subject_types_supported": ["public"],
    }))
}

/// A name or address with a port, and nothing that would end it within a URL.
fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    (1..=262).contains(&text.len()) && text.bytes().all(plain)
}

impl Coordinator {
    /// Who shows a token. Why it is not believed, the operator is told and the guest is not.
    pub(super) async fn bearer(self: &Arc<Self>, state: &Arc<State>, text: String) -> Result<Guest, Failure> {
        let (state, now) = (state.clone(), (self.clock)());
        blocking(move || {
            token::bearer(&state, &text, now).map_err(|why| {
                tracing::warn!(code = why.code(), reason = %why, "a token was not believed");
                Failure::token()
            })
        })
        .await
    }
}
