//! Secrets by version: what there is, and new values on demand.

use std::collections::BTreeSet;

use axum::{
    Extension,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Shared, answer, blocking, parse,
    reads::{downloaded, names},
};
use crate::{
    core::{self, Caller, Refusal},
    service::Decided,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateBody {
    names: BTreeSet<String>,
}

/// Without names: all that the caller may know of, without values. With names: values as in version 2 of the API, each
/// with its version.
pub(super) async fn list(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let names = names(query);
    if names.is_empty() {
        let lines = blocking(move || {
            let state = coordinator.snapshot()?.state;
            Ok(json!({ "secrets": core::secret_lines(&state, &caller, (coordinator.clock)())? }))
        });
        return answer(lines).await;
    }
    answer(async {
        let mut values = serde_json::Map::new();
        for (name, secret) in downloaded(&coordinator, caller, names).await? {
            let version = secret.version();
            let mut value =
                serde_json::to_value(secret).map_err(|error| Refusal::Internal(error.to_string()))?;
            value["Version"] = if version == 0 { Value::Null } else { json!(version) };
            values.insert(name, value);
        }
        Ok(json!({ "secrets": values }))
    })
    .await
}

pub(super) async fn rotate(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let RotateBody { names } = match parse(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    answer(blocking(move || {
        let now = (coordinator.clock)();
        let rotation = core::prepare_rotation(&coordinator.snapshot()?.state, &caller, &names, now)?;
        let versions = coordinator.commit(|state| {
            let (event, versions) = rotation.admit(state, &caller, now)?;
            Ok(Decided::one(event, versions))
        })?;
        Ok(json!({ "versions": versions }))
    }))
    .await
}
