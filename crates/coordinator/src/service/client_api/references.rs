//! Statements about reference values: which there are, and bringing and removing them.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use reference_statements::StatementId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, answer, base64, blocking, costly, parse};
use crate::{
    core::{Caller, Refusal, references},
    service::{Coordinator, Decided},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    /// The statement's bytes, base64.
    statement: String,
}

pub(super) async fn list(State(coordinator): Shared, Extension(caller): Extension<Caller>) -> Response {
    answer(blocking(move || {
        let state = coordinator.snapshot()?.state;
        Ok(json!({ "references": references::lines(&state, &caller, (coordinator.clock)())? }))
    }))
    .await
}

/// One of them with its exact bytes, so that anyone can verify it again.
pub(super) async fn statement(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    answer(blocking(move || {
        let state = coordinator.snapshot()?.state;
        let lines = references::lines(&state, &caller, (coordinator.clock)())?;
        let id = named(&id)?;
        let unknown = || Refusal::UnknownReference { id: id.to_string() };
        let line = lines.into_iter().find(|line| line.id == id.to_string()).ok_or_else(unknown)?;
        let kept = state.mesh().and_then(|mesh| mesh.references().get(&id)).ok_or_else(unknown)?;
        Ok(json!({ "reference": line, "statement": STANDARD.encode(kept.bytes()) }))
    }))
    .await
}

pub(super) async fn add(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body: AddBody = match parse(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let bytes = match base64(&body.statement, "statement") {
        Ok(bytes) => bytes,
        Err(response) => return *response,
    };
    answer(costly(move || add_now(&coordinator, &caller, &bytes))).await
}

/// Signatures are verified before the decision, and again where another manifest came into force between.
fn add_now(coordinator: &Arc<Coordinator>, caller: &Caller, bytes: &[u8]) -> Result<Value, Refusal> {
    let now = (coordinator.clock)();
    Coordinator::unless_overtaken(|| {
        let state = coordinator.snapshot()?.state;
        let prepared = references::prepare(&state, caller, bytes.to_vec(), now)?;
        coordinator.commit(|state| Ok(Decided::one(references::add(state, caller, &prepared, now)?, ())))?;
        let verified = prepared.verified();
        Ok(json!({ "id": verified.id().to_string(), "signers": verified.signers() }))
    })
}

pub(super) async fn remove(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    answer(blocking(move || {
        let (now, id) = ((coordinator.clock)(), named(&id)?);
        coordinator.commit(|state| Ok(Decided::one(references::remove(state, &caller, &id, now)?, ())))?;
        Ok(json!({ "id": id.to_string() }))
    }))
    .await
}

fn named(text: &str) -> Result<StatementId, Refusal> {
    let unknown = |_| Refusal::UnknownReference { id: text.chars().take(64).collect() };
    text.parse().map_err(unknown)
}
