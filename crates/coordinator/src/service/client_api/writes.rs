//! What users change: the manifest and secrets.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Extension,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, answer, base64, blocking, parse};
use crate::{
    core::{self, Caller, NewSecret, Progress, recovery::Shares},
    service::Decided,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestBody {
    manifest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateBody {
    manifest: String,
    /// Ours: packages whose security version may fall.
    #[serde(default)]
    downgrades: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretsBody {
    secrets: BTreeMap<String, NewSecret>,
}

pub(super) async fn set_manifest(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let bytes = match manifest_of(body) {
        Ok(bytes) => bytes,
        Err(response) => return *response,
    };
    answer(blocking(move || {
        let now = (coordinator.clock)();
        let owner = coordinator.configuration.owner;
        let shares = coordinator.commit_making(|state, keys| {
            let (event, shares) = core::set_manifest(state, &owner, &caller, &bytes, now, keys)?;
            let (shares, encrypted) = split(shares);
            Ok(Decided { events: vec![event], shares, answer: encrypted })
        })?;
        tracing::info!(code = "MANIFEST_SET", epoch = coordinator.claims().epoch, "a manifest is in force");
        Ok(json!({ "RecoverySecrets": shares }))
    }))
    .await
}

fn manifest_of(body: Result<Bytes, BytesRejection>) -> Result<Vec<u8>, Box<Response>> {
    parse(body).and_then(|body: ManifestBody| base64(&body.manifest, "manifest"))
}

/// What is kept, and what is answered.
fn split(shares: Option<Shares>) -> (Option<core::recovery::Descriptor>, Value) {
    match shares {
        None => (None, Value::Null),
        Some(Shares { encrypted, descriptor }) => {
            let encrypted: BTreeMap<_, _> =
                encrypted.into_iter().map(|(name, share)| (name, BASE64.encode(share))).collect();
            (Some(descriptor), json!(encrypted))
        }
    }
}

pub(super) async fn update(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let parsed =
        parse(body).and_then(|body: UpdateBody| Ok((base64(&body.manifest, "manifest")?, body.downgrades)));
    let (bytes, downgrades) = match parsed {
        Ok(parsed) => parsed,
        Err(response) => return *response,
    };
    answer(blocking(move || {
        let now = (coordinator.clock)();
        coordinator.commit_making(|state, keys| {
            Ok(decided(core::update(state, &caller, &bytes, &downgrades, now, keys)?))
        })
    }))
    .await
}

pub(super) async fn acknowledge(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let bytes = match manifest_of(body) {
        Ok(bytes) => bytes,
        Err(response) => return *response,
    };
    answer(blocking(move || {
        let now = (coordinator.clock)();
        coordinator
            .commit_making(|state, keys| Ok(decided(core::acknowledge(state, &caller, &bytes, now, keys)?)))
    }))
    .await
}

fn decided((events, progress): (Vec<core::Event>, Progress)) -> Decided<Value> {
    let message = match progress.missing {
        0 => "Update successful".to_owned(),
        1 => "1 user still needs to acknowledge the update".to_owned(),
        missing => format!("{missing} users still need to acknowledge the update"),
    };
    let (shares, encrypted) = split(progress.shares);
    let mut answer = json!({
        "message": message,
        "missingAcknowledgments": progress.missing,
        "missingUsers": progress.missing_users,
    });
    if !encrypted.is_null() {
        answer["recoverySecrets"] = encrypted;
    }
    Decided { events, shares, answer }
}

pub(super) async fn cancel(State(coordinator): Shared, Extension(caller): Extension<Caller>) -> Response {
    answer(blocking(move || {
        let now = (coordinator.clock)();
        coordinator.commit(|state| Ok(Decided::one(core::cancel(state, &caller, now)?, ())))?;
        Ok(json!({ "message": "Update cancelled" }))
    }))
    .await
}

pub(super) async fn secrets(
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
        coordinator.commit(|state| {
            Ok(Decided::one(core::write_secrets(state, &caller, body.secrets.clone(), now)?, ()))
        })?;
        Ok(Value::Null)
    }))
    .await
}
