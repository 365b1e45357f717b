//! What can be asked: state, Evidence, manifest, update log, secrets.

use std::{collections::BTreeMap, sync::Arc};

use appraisal::binding::Role;
use attested_tls::{claims::Claims, key::sha256, statement::Statement};
use axum::{
    Extension,
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE},
};
use evidence::{CertificateDer, Platform, ReportData};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, answer, blocking, costly};
use crate::{
    core::{self, Caller, Readable, Refusal},
    service::{
        Coordinator, Decided,
        envelope::{failure, success},
    },
};

pub(super) async fn status(State(coordinator): Shared) -> Response {
    let (code, message) = coordinator.status();
    let mut status = json!({ "code": code, "message": message });
    if code == 1 {
        // Ours: null where nobody can recover the state.
        status["missingRecoverySecrets"] = json!(coordinator.missing_shares());
    }
    if let Some(unserved) = coordinator.unserved() {
        let (code, length) = (unserved.why.code(), unserved.snapshot.length);
        status["unfit"] = json!({ "code": code, "records": length });
    }
    success(status)
}

/// The process answers.
pub(super) async fn live() -> Response {
    success(json!({ "live": true }))
}

/// Marbles can be activated; otherwise 503, with the state that says what is missing.
pub(super) async fn ready(State(coordinator): Shared) -> Response {
    if let Err(refusal) = coordinator.serving() {
        return refusal.into_response();
    }
    let (code, message) = coordinator.status();
    if code == 3 {
        return success(json!({ "state": code }));
    }
    failure(StatusCode::SERVICE_UNAVAILABLE, "NOT_READY", &message, json!({ "state": code }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EvidenceQuery {
    nonce: Option<String>,
}

/// Evidence over the key of this very connection's certificate and the caller's nonce (S-01, S-15); without a nonce
/// what is made once for all.
pub(super) async fn evidence(
    State(coordinator): Shared,
    query: Result<Query<EvidenceQuery>, QueryRejection>,
) -> Response {
    let mut nonce = [0; 32];
    let usable = match query {
        Ok(Query(EvidenceQuery { nonce: None })) => return standing(coordinator).await,
        Ok(Query(EvidenceQuery { nonce: Some(digits) })) => hex::decode_to_slice(digits, &mut nonce).is_ok(),
        Err(_) => false,
    };
    if !usable {
        let message = "`nonce` must be 32 fresh random bytes as 64 hex digits";
        return failure(StatusCode::BAD_REQUEST, "NONCE_MALFORMED", message, Value::Null);
    }
    let statement = costly(move || {
        let claims = coordinator.claims().to_bytes();
        let key = coordinator.client_key.digest();
        Statement::issue(coordinator.tee.as_ref(), Role::Coordinator, key, &nonce, claims)
            .map_err(|error| Refusal::Internal(error.to_string()))
    })
    .await;
    cbor(statement.map(|statement| statement.to_bytes().into()))
}

async fn standing(coordinator: Arc<Coordinator>) -> Response {
    if let Some(statement) = coordinator.standing.current(&coordinator) {
        return cbor(Ok(statement));
    }
    cbor(blocking(move || coordinator.standing.renewed(&coordinator)).await)
}

fn cbor(answer: Result<Bytes, Refusal>) -> Response {
    match answer {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/cbor")], bytes).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

#[derive(Deserialize)]
pub(super) struct QuoteQuery {
    nonce: Option<String>,
}

/// MarbleRun's quote: over the root certificate alone, and the nonce if there is one. It covers neither manifest nor
/// epoch; `/api/v3/evidence` does.
pub(super) async fn quote(
    State(coordinator): Shared,
    query: Result<Query<QuoteQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else { return bad_nonce() };
    let nonce = match query.nonce.map(|nonce| URL_SAFE.decode(nonce)).transpose() {
        Ok(nonce) => nonce.unwrap_or_default(),
        Err(_) => return bad_nonce(),
    };
    answer(costly(move || {
        let (chain, quote) = issue(&coordinator, &nonce)?;
        Ok(json!({ "cert": chain, "quote": quote }))
    }))
    .await
}

fn bad_nonce() -> Response {
    failure(StatusCode::BAD_REQUEST, "NONCE_MALFORMED", "`nonce` is not base64url with padding", Value::Null)
}

/// PEM of intermediate and root, and the quote in base64.
pub(super) fn issue(coordinator: &Coordinator, nonce: &[u8]) -> Result<(String, String), Refusal> {
    let claims = coordinator.claims();
    let mut report_data = [0; 64];
    report_data[..32].copy_from_slice(&sha256(&[claims.root.as_slice(), nonce].concat()));
    let evidence = coordinator
        .tee
        .evidence(&ReportData(report_data))
        .map_err(|error| Refusal::Internal(error.to_string()))?
        .evidence;
    let quote = if coordinator.tee.platform() == Platform::Sgx { with_header(&evidence) } else { evidence };
    let certificates = claims.intermediate.into_iter().chain([claims.root]);
    let chain = certificates.map(|der| evidence::pem::encode(&CertificateDer(der.into_vec()))).collect();
    Ok((chain, BASE64.encode(quote)))
}

/// Open Enclave's header, which MarbleRun's clients expect: version 1, type 2 (SGX), length.
fn with_header(quote: &[u8]) -> Vec<u8> {
    [&1_u32.to_le_bytes()[..], &2_u32.to_le_bytes(), &(quote.len() as u64).to_le_bytes(), quote].concat()
}

pub(super) async fn manifest(State(coordinator): Shared) -> Response {
    answer(blocking(move || {
        let state = coordinator.snapshot()?.state;
        let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
        let signature = state.root().sign(mesh.manifest_bytes())?;
        let raised: BTreeMap<_, _> = mesh
            .manifest()
            .packages()
            .iter()
            .filter_map(|(name, package)| Some((name.to_string(), package.security_version()?)))
            .collect();
        Ok(json!({
            "manifest": BASE64.encode(mesh.manifest_bytes()),
            "manifestFingerprint": hex::encode(mesh.manifest_digest()),
            "manifestSignatureRootECDSA": BASE64.encode(signature),
            "securityVersions": raised,
        }))
    }))
    .await
}

pub(super) async fn update_log(State(coordinator): Shared) -> Response {
    answer(blocking(move || Ok(json!({ "updateLog": lines(&coordinator)? })))).await
}

/// The update log, a line of JSON each.
pub(super) fn lines(coordinator: &Coordinator) -> Result<Vec<String>, Refusal> {
    let state = coordinator.snapshot()?.state;
    let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
    let line = |entry: &core::Entry| {
        serde_json::to_string(entry).map_err(|error| Refusal::Internal(error.to_string()))
    };
    mesh.history().map(line).collect()
}

pub(super) async fn pending(State(coordinator): Shared) -> Response {
    answer(blocking(move || {
        let state = coordinator.snapshot()?.state;
        let mesh = state.mesh().ok_or(Refusal::NoUpdate)?;
        let pending = mesh.pending((coordinator.clock)()).ok_or(Refusal::NoUpdate)?;
        let missing = pending.missing_users(mesh.manifest());
        let count = pending.missing(mesh.manifest());
        Ok(json!({
            "manifest": BASE64.encode(pending.bytes.as_slice()),
            "manifestFingerprint": pending.digest,
            "message": format!("{count} more acknowledgements are needed"),
            "missingUsers": missing,
            "missingAcknowledgments": count,
            "downgrades": pending.downgrades,
            "deadline": appraisal::UnixTime(pending.deadline).to_string(),
        }))
    }))
    .await
}

pub(super) async fn secrets(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let names = names(query);
    answer(async { Ok(json!({ "secrets": download(&coordinator, caller, names).await? })) }).await
}

/// Values of secrets, once the transparency log says who got them. Stores are asked for what the user may read, and for
/// nothing else.
pub(super) async fn download(
    coordinator: &Arc<Coordinator>,
    caller: Caller,
    names: Vec<String>,
) -> Result<Value, Refusal> {
    Ok(json!(downloaded(coordinator, caller, names).await?))
}

pub(super) async fn downloaded(
    coordinator: &Arc<Coordinator>,
    caller: Caller,
    names: Vec<String>,
) -> Result<BTreeMap<String, Readable>, Refusal> {
    let state = coordinator.snapshot()?.state;
    let stored = core::stored_for_reader(&state, &caller, &names)?;
    let stored = coordinator.fetch(&state, stored).await?;
    let coordinator = coordinator.clone();
    blocking(move || {
        let now = (coordinator.clock)();
        coordinator.commit(|state| {
            let (event, values) = core::download_secrets(state, &caller, &names, &stored, now)?;
            Ok(Decided::one(event, values))
        })
    })
    .await
}

/// The secrets that a request names.
pub(super) fn names(query: Result<Query<Vec<(String, String)>>, QueryRejection>) -> Vec<String> {
    let Ok(Query(query)) = query else { return Vec::new() };
    query.into_iter().filter(|(key, name)| key == "s" && !name.is_empty()).map(|(_, name)| name).collect()
}
