//! The client API over HTTPS. Paths and envelopes of version 2 are MarbleRun's, so that its clients work;
//! `/api/v3` is ours. Who calls is the leaf certificate of the connection.

mod instances;
mod log;
mod marbles;
mod plan;
mod policies;
mod reads;
mod recovery;
mod references;
mod rehearsal;
mod resources;
mod secrets;
mod sessions;
mod stores;
mod svid;
mod v1;
mod witness;
mod wrap;
mod writes;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, MatchedPath, State, rejection::BytesRejection},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, SemaphorePermit, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Coordinator, StartError,
    certificate::Tls,
    decision::{Decision, Kind, RefusedWith},
    envelope::{failure, success},
    https,
    telemetry::Traced,
};
use crate::core::{Caller, Proof, Refusal, token::TokenFault};

/// A manifest of 1 MiB in base64, with room for the JSON around it.
const MAX_BODY: usize = 1536 * 1024;

type Shared = State<Arc<Coordinator>>;

fn router(coordinator: Arc<Coordinator>) -> Router {
    Router::new()
        .merge(v1::routes())
        .route("/api/v2/status", get(reads::status))
        .route("/api/v2/quote", get(reads::quote))
        .route("/api/v2/manifest", get(reads::manifest).post(writes::set_manifest))
        .route("/api/v2/update", get(reads::update_log).post(writes::update))
        .route("/api/v2/update-manifest", get(reads::pending).post(writes::acknowledge))
        .route("/api/v2/update-cancel", post(writes::cancel))
        .route("/api/v2/secrets", get(reads::secrets).post(writes::secrets))
        .route("/api/v2/recover", post(recovery::recover))
        .route("/api/v2/recover/public-key", get(recovery::public_key))
        .route("/api/v2/sign-quote", post(marbles::sign_quote))
        .route("/api/v2/monotonic-counter", post(marbles::raise_counter))
        .route("/api/v3/evidence", get(reads::evidence))
        .route("/api/v3/recovery/rehearsal", get(rehearsal::progress).post(rehearsal::upload))
        .route("/api/v3/recovery/rehearsal/public-key", get(rehearsal::public_key))
        .route("/api/v3/plan", post(plan::plan))
        .route("/api/v3/secrets", get(secrets::list))
        .route("/api/v3/secrets/rotate", post(secrets::rotate))
        .route("/api/v3/instances", get(instances::list))
        .route("/api/v3/evictions", get(instances::evicted).post(instances::evict))
        .route("/api/v3/crl", get(instances::revoked))
        .route("/api/v3/stores/check", post(stores::check))
        .route("/api/v3/log/checkpoint", get(log::checkpoint))
        .route("/api/v3/log/checkpoint/witnessed", get(log::witnessed))
        .route("/api/v3/log/cosignature", post(log::cosignature))
        .route("/api/v3/log/secrets", get(log::secrets))
        .route("/api/v3/log/tile/{*path}", get(log::tile))
        .route("/api/v3/head", get(witness::head).post(witness::witness))
        .route("/api/v3/broker/sessions", get(sessions::list))
        .route("/api/v3/broker/status", get(resources::status))
        .route("/api/v3/broker/resources", get(resources::list))
        .route(
            "/api/v3/broker/resources/{repository}/{kind}/{tag}",
            get(resources::get).put(resources::put).delete(resources::delete),
        )
        .route("/api/v3/broker/policies", get(policies::list))
        .route("/api/v3/broker/policies/check", post(policies::check))
        .route("/api/v3/broker/sessions/{session}", get(sessions::explain))
        .route("/api/v3/svid/x509", post(svid::x509))
        .route("/api/v3/svid/jwt", post(svid::jwt))
        .route("/api/v3/svid/bundle", get(svid::bundle))
        .route("/api/v3/broker/wrap", post(wrap::wrap))
        .route("/api/v3/references", get(references::list).post(references::add))
        .route("/api/v3/references/{id}", get(references::statement).delete(references::remove))
        .route("/livez", get(reads::live))
        .route("/readyz", get(reads::ready))
        .fallback(|| async {
            failure(StatusCode::NOT_FOUND, "NOT_FOUND", "there is nothing at this path", Value::Null)
        })
        .method_not_allowed_fallback(|| async {
            failure(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                "this path has other methods",
                Value::Null,
            )
        })
        .layer(axum::middleware::from_fn_with_state(coordinator.clone(), told))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(coordinator)
}

/// Counts answers by class, and tells of decisions; of the request there is no more than its route and who made it.
async fn told(
    State(coordinator): Shared,
    mut request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let method = method(request.method());
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut traced = Traced::start(coordinator.telemetry.as_ref(), "client request");
    let health = matches!(path.as_deref(), Some("/livez" | "/readyz"));
    let confirmed = if health { Ok(()) } else { coordinator.confirmed().await };
    let (caller, response) = match confirmed.and_then(|()| caller(&coordinator, &request)) {
        Ok(caller) => {
            request.extensions_mut().insert(caller.clone());
            let answer = next.run(request).await;
            // What was read may be old by now, if this replica stood still; what was written was written.
            let stale = if method == "GET" && !health { coordinator.serving().err() } else { None };
            (caller, stale.map_or(answer, IntoResponse::into_response))
        }
        Err(refusal) => (Caller::default(), refusal.into_response()),
    };
    let status = response.status().as_u16();
    coordinator.metrics.answered(status);
    traced.http(method, path.as_deref().unwrap_or("none"), status);
    let refused = response.extensions().get::<RefusedWith>();
    if let Some(path) = path.filter(|path| is_decision(method, path, refused.is_some())) {
        let route = format!("{method} {path}");
        let decision = Decision {
            route: Some(&route),
            codes: refused.map(|RefusedWith(code)| code.clone()).into_iter().collect(),
            ..Decision::granted(Kind::ClientRequest, coordinator.subject(&caller))
        };
        coordinator.decided(&decision, traced);
    }
    response
}

/// Who asks: by the connection's certificate, or by the request's token. A token that proves nothing is refused wherever
/// it is shown, also where none is needed.
fn caller(coordinator: &Coordinator, request: &axum::extract::Request) -> Result<Caller, Refusal> {
    let connected = request.extensions().get::<Caller>().cloned().unwrap_or_default();
    let mut fields = request.headers().get_all(header::AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Ok(connected) };
    if !matches!(connected.proof, Proof::Nothing) {
        return Err(Refusal::TwoProofs);
    }
    let malformed = Refusal::Token(TokenFault::Malformed);
    let Some((scheme, token)) = field.to_str().ok().and_then(|field| field.split_once(' ')) else {
        return Err(malformed);
    };
    if !scheme.eq_ignore_ascii_case("Bearer") || fields.next().is_some() {
        return Err(malformed);
    }
    Caller::by_token(&coordinator.snapshot()?.state, token, (coordinator.clock)())
}

/// Whatever is refused, and what is granted to some and not to others. Reads that are open to all are no decision, and
/// neither is health.
fn is_decision(method: &str, path: &str, refused: bool) -> bool {
    let health = matches!(path, "/livez" | "/readyz");
    let named = path.ends_with("/secrets") || path.ends_with("/instances") || path.contains("/broker/");
    let named = named || path.contains("/references");
    let open = method == "GET" && !named;
    !health && (refused || !open)
}

/// The method, if it is one that HTTP itself has; others would be the caller's words (OpenTelemetry's name for them).
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "_OTHER",
    }
}

pub(super) async fn serve(
    coordinator: Arc<Coordinator>,
    listener: TcpListener,
    tls: watch::Receiver<Tls>,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let caller = |leaf: Option<&CertificateDer<'_>>| {
        leaf.map_or_else(Caller::default, |certificate| Caller::by_certificate(certificate.to_vec()))
    };
    https::serve(router(coordinator), listener, tls, shutdown, caller).await;
    Ok(())
}

fn parse<T: for<'de> Deserialize<'de>>(body: Result<Bytes, BytesRejection>) -> Result<T, Box<Response>> {
    let body = body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let message = format!("the request is larger than {MAX_BODY} bytes");
            Box::new(failure(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", &message, Value::Null))
        } else {
            Box::new(malformed("the request's body could not be read"))
        }
    })?;
    // Not serde's own words: they quote the input, which may be a secret in the wrong place (S-44).
    serde_json::from_slice(&body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let fault = if error.is_data() { "not the object that is expected here" } else { "not JSON" };
        Box::new(malformed(&format!("the request's body is {fault} (line {line}, column {column})")))
    })
}

fn malformed(message: &str) -> Response {
    failure(StatusCode::BAD_REQUEST, "BODY_MALFORMED", message, Value::Null)
}

/// Asking the TEE and verifying quotes cost milliseconds of a core, for anyone who asks: so many at a time.
const MAX_COSTLY: usize = 32;

/// As [`blocking`], for what is costly; refused with 429 when too much of it is under way.
async fn costly<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    static PLACES: Semaphore = Semaphore::const_new(MAX_COSTLY);
    let _place = PLACES.try_acquire().map_err(|_| Refusal::Busy)?;
    blocking(work).await
}

/// How long people wait for their turn at what is done for few at once: holders of shares may well come together.
const PATIENCE: Duration = Duration::from_secs(15);

/// A place among the few; whoever waits too long for one is told to come back.
async fn turn(places: &Semaphore, patience: Duration) -> Result<SemaphorePermit<'_>, Refusal> {
    match timeout(patience, places.acquire()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(Refusal::Busy),
    }
}

fn base64(text: &str, field: &str) -> Result<Vec<u8>, Box<Response>> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(text).map_err(|_| Box::new(malformed(&format!("`{field}` is not base64"))))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Refusal::Internal("the request was cancelled".into())))
}

async fn answer(work: impl Future<Output = Result<Value, Refusal>>) -> Response {
    match work.await {
        Ok(data) => success(data),
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_together_takes_turns_and_a_crowd_is_told_to_come_back() {
        let places = Semaphore::new(1);
        let taken = turn(&places, PATIENCE).await.unwrap();
        let mut waiting = std::pin::pin!(turn(&places, PATIENCE));
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        assert!(matches!(turn(&places, Duration::ZERO).await, Err(Refusal::Busy)));
        drop(taken);
        assert!(waiting.await.is_ok());
    }
}
