//! The client API over HTTPS. Paths and envelopes of version 2 are MarbleRun's, so that its clients work;
//! `/api/v3` is ours. Who calls is the leaf certificate of the connection.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use appraisal::binding::Role;
use attested_tls::{claims::Claims, statement::Statement};
use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{
    Coordinator, StartError, certificate,
    envelope::{failure, success},
};
use crate::core::{self, Caller, NewSecret, Refusal};

/// A manifest of 1 MiB in base64, with room for the JSON around it.
const MAX_BODY: usize = 1536 * 1024;
const MAX_CONNECTIONS: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

type Shared = State<Arc<Coordinator>>;

fn router(coordinator: Arc<Coordinator>) -> Router {
    Router::new()
        .route("/api/v2/status", get(status))
        .route("/api/v2/manifest", get(manifest).post(set_manifest))
        .route("/api/v2/secrets", get(read_secrets).post(write_secrets))
        .route("/api/v3/evidence", get(evidence))
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
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(coordinator)
}

pub(super) async fn serve(
    coordinator: Arc<Coordinator>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let (sender, tls) = watch::channel(certificate::issue(&coordinator)?);
    let renewal = tokio::spawn(certificate::keep_fresh(coordinator.clone(), sender));
    let router = router(coordinator);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Some(stream) = super::usable(accepted).await else { continue };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (router, acceptor, shutdown) =
            (router.clone(), TlsAcceptor::from(tls.borrow().clone()), shutdown.clone());
        tokio::spawn(async move {
            let _place = place;
            connection(stream, acceptor, router, shutdown).await;
        });
    }
    renewal.abort();
    Ok(())
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: Router, shutdown: CancellationToken) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else {
        return;
    };
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let caller = Caller { certificate: leaf.map(|certificate| certificate.to_vec()) };
    let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(caller.clone());
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(router.call(request.map(Body::new)).await.into_response()) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20));
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
        tracing::debug!(error = %error, "a client API connection ended with an error");
    }
}

async fn status(State(coordinator): Shared) -> Response {
    // MarbleRun's codes: 2 accepts a manifest, 3 accepts Marbles.
    let (code, message) = match coordinator.snapshot().state.mesh() {
        None => (2, "Coordinator is ready to accept a manifest."),
        Some(_) => (3, "Coordinator is running correctly and ready to accept marbles."),
    };
    success(json!({ "code": code, "message": message }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EvidenceQuery {
    nonce: String,
}

/// Evidence over the key of this very connection's certificate and the caller's nonce (S-01, S-15).
async fn evidence(
    State(coordinator): Shared,
    query: Result<Query<EvidenceQuery>, QueryRejection>,
) -> Response {
    let mut nonce = [0; 32];
    let usable = query.is_ok_and(|Query(query)| hex::decode_to_slice(query.nonce, &mut nonce).is_ok());
    if !usable {
        let message = "`nonce` is needed: 32 fresh random bytes as 64 hex digits";
        return failure(StatusCode::BAD_REQUEST, "NONCE_MALFORMED", message, Value::Null);
    }
    let statement = blocking(move || {
        let claims = coordinator.claims().to_bytes();
        let key = coordinator.client_key.digest();
        Statement::issue(coordinator.tee.as_ref(), Role::Coordinator, key, &nonce, claims)
            .map_err(|error| Refusal::Internal(error.to_string()))
    })
    .await;
    match statement {
        Ok(statement) => ([(header::CONTENT_TYPE, "application/cbor")], statement.to_bytes()).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn manifest(State(coordinator): Shared) -> Response {
    let state = coordinator.snapshot().state;
    let Some(mesh) = state.mesh() else { return Refusal::NoManifest.into_response() };
    match state.root().sign(mesh.manifest_bytes()) {
        Ok(signature) => success(json!({
            "manifest": BASE64.encode(mesh.manifest_bytes()),
            "manifestFingerprint": hex::encode(mesh.manifest_digest()),
            "manifestSignatureRootECDSA": BASE64.encode(signature),
        })),
        Err(error) => Refusal::from(error).into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestBody {
    manifest: String,
}

async fn set_manifest(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body: ManifestBody = match parse(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let Ok(bytes) = BASE64.decode(body.manifest) else { return malformed("`manifest` is not base64") };
    answer(blocking(move || {
        let now = (coordinator.clock)();
        let owner = coordinator.configuration.owner;
        coordinator.commit(|state| Ok((core::set_manifest(state, &owner, &caller, bytes, now)?, ())))?;
        let claims = coordinator.claims();
        tracing::info!(code = "MANIFEST_SET", epoch = claims.epoch, "a manifest is in force");
        Ok(json!({ "RecoverySecrets": null }))
    }))
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretsBody {
    secrets: BTreeMap<String, NewSecret>,
}

async fn write_secrets(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body: SecretsBody = match parse(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    answer(blocking(move || {
        let now = (coordinator.clock)();
        coordinator.commit(|state| Ok((core::write_secrets(state, &caller, body.secrets, now)?, ())))?;
        Ok(Value::Null)
    }))
    .await
}

async fn read_secrets(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let names: Vec<_> = query.into_iter().filter(|(key, _)| key == "s").map(|(_, name)| name).collect();
    match core::read_secrets(&coordinator.snapshot().state, &caller, &names) {
        Ok(secrets) => success(json!({ "secrets": secrets })),
        Err(refusal) => refusal.into_response(),
    }
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
        Err(refusal) => {
            // The code alone: the host reads this log, and the sentence may name what the caller named (S-44).
            tracing::warn!(code = refusal.code(), "a client request was refused");
            refusal.into_response()
        }
    }
}
