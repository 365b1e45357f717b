//! What a proposed manifest would change and whom it would refuse. Changes nothing.

use axum::{
    Extension,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::Response,
};
use serde::Deserialize;
use serde_json::json;

use super::{Shared, answer, base64, costly, parse};
use crate::core::{self, Caller, Refusal};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanBody {
    manifest: String,
}

pub(super) async fn plan(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let bytes = match parse(body).and_then(|body: PlanBody| base64(&body.manifest, "manifest")) {
        Ok(bytes) => bytes,
        Err(response) => return *response,
    };
    answer(costly(move || {
        let now = (coordinator.clock)();
        let state = coordinator.snapshot()?.state;
        let proposed = core::plan(&state, &caller, &coordinator.configuration.owner, &bytes)?;
        let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
        let recorded = |instance: &[u8; 32]| coordinator.recorded.of(instance);
        let fleet = proposed.fleet(mesh, recorded, &coordinator.verifier, now);
        Ok(json!({ "epoch": mesh.epoch(), "plan": proposed.plan, "fleet": fleet }))
    }))
    .await
}
