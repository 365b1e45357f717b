//! MarbleRun's API before version 2: its reads, for clients that were never updated.

use axum::{
    Extension, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use std::sync::Arc;

use super::{Shared, answer, blocking, costly, reads};
use crate::{
    core::{Caller, Refusal},
    service::{Coordinator, envelope::failure, envelope::success},
};

pub(super) fn routes() -> Router<Arc<Coordinator>> {
    Router::new()
        .route("/status", get(status))
        .route("/quote", get(quote))
        .route("/manifest", get(manifest))
        .route("/update", get(update_log))
        .route("/secrets", get(secrets))
        .route("/update-manifest", get(pending))
        .route("/recover", post(gone))
}

async fn status(State(coordinator): Shared) -> Response {
    let (code, message) = coordinator.status();
    success(json!({ "StatusCode": code, "StatusMessage": message }))
}

async fn quote(State(coordinator): Shared) -> Response {
    answer(costly(move || {
        let (chain, quote) = reads::issue(&coordinator, &[])?;
        Ok(json!({ "Cert": chain, "Quote": quote }))
    }))
    .await
}

/// Empty fields while there is no manifest, as in MarbleRun.
async fn manifest(State(coordinator): Shared) -> Response {
    answer(blocking(move || {
        let state = coordinator.snapshot()?.state;
        let (bytes, digest, signature) = match state.mesh() {
            None => (Vec::new(), String::new(), Vec::new()),
            Some(mesh) => {
                let bytes = mesh.manifest_bytes().to_vec();
                (bytes.clone(), hex::encode(mesh.manifest_digest()), state.root().sign(&bytes)?)
            }
        };
        Ok(json!({
            "ManifestSignatureRootECDSA": BASE64.encode(signature),
            "ManifestSignature": digest,
            "Manifest": BASE64.encode(bytes),
        }))
    }))
    .await
}

async fn update_log(State(coordinator): Shared) -> Response {
    answer(blocking(move || {
        let lines = reads::lines(&coordinator)?;
        Ok(Value::String(lines.iter().map(|line| format!("{line}\n")).collect()))
    }))
    .await
}

async fn secrets(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let names = reads::names(query);
    answer(reads::download(&coordinator, caller, names)).await
}

async fn pending(State(coordinator): Shared) -> Response {
    answer(blocking(move || {
        let state = coordinator.snapshot()?.state;
        let mesh = state.mesh().ok_or(Refusal::NoUpdate)?;
        let pending = mesh.pending((coordinator.clock)()).ok_or(Refusal::NoUpdate)?;
        Ok(Value::String(String::from_utf8_lossy(&pending.bytes).into_owned()))
    }))
    .await
}

async fn gone() -> Response {
    let message = "use POST /api/v2/recover: it takes the recovery secret with its holder's signature";
    failure(StatusCode::GONE, "GONE", message, Value::Null)
}
