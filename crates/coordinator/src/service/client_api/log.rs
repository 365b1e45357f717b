//! The transparency log, as C2SP tlog-tiles has it: a checkpoint, tiles of hashes, bundles of entries. All of it is for
//! everyone; what the log calls secrets is told to users who may read or write them.

use axum::{
    Extension,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use transparency::Resource;

use super::{Shared, answer, blocking, reads};
use crate::{
    core::{self, Caller},
    service::{
        envelope::{failure, success},
        witness::CosignatureRefused,
    },
};

/// Tiles never change; a checkpoint does with everything that happens.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// The head, signed.
pub(super) async fn checkpoint(State(coordinator): Shared) -> Response {
    match blocking(move || coordinator.checkpoint()).await {
        Ok(note) => text(note),
        Err(refusal) => refusal.into_response(),
    }
}

/// The newest head that a quorum of witnesses has cosigned.
pub(super) async fn witnessed(State(coordinator): Shared) -> Response {
    match blocking(move || coordinator.witnessed()).await {
        Ok(Some(note)) => text(note),
        Ok(None) => {
            let message = "no quorum of the manifest's witnesses has cosigned a checkpoint since the coordinator started";
            failure(StatusCode::NOT_FOUND, "LOG_NOT_WITNESSED", message, Value::Null)
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn text(note: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    (headers, note).into_response()
}

/// Takes witnesses' cosignatures, below the checkpoint that they are of.
pub(super) async fn cosignature(State(coordinator): Shared, body: Result<Bytes, BytesRejection>) -> Response {
    let Ok(body) = body else {
        return failure(
            StatusCode::BAD_REQUEST,
            "COSIGNATURE_MALFORMED",
            "no body could be read",
            Value::Null,
        );
    };
    match blocking(move || Ok(coordinator.cosign(&body))).await {
        Ok(Ok((count, quorum))) => success(json!({ "cosignatures": count, "quorum": quorum })),
        Ok(Err(CosignatureRefused::Refused(refusal))) | Err(refusal) => refusal.into_response(),
        Ok(Err(refused)) => {
            let (status, code) = refused.status();
            failure(status, code, &refused.to_string(), Value::Null)
        }
    }
}

/// What the path below `tile/` names, where the log has grown to it.
pub(super) async fn tile(State(coordinator): Shared, Path(path): Path<String>) -> Response {
    let Ok(resource) = Resource::parse(&path) else { return absent() };
    match blocking(move || coordinator.tile(&resource)).await {
        Ok(Some(bytes)) => {
            let headers =
                [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, FOREVER)];
            (headers, bytes).into_response()
        }
        Ok(None) => absent(),
        Err(refusal) => refusal.into_response(),
    }
}

fn absent() -> Response {
    let message = "the log has no such tile: paths are those of C2SP tlog-tiles, up to the checkpoint's size";
    failure(StatusCode::NOT_FOUND, "LOG_TILE_UNKNOWN", message, Value::Null)
}

/// What the log calls secrets that the caller may read or write, and what shows that it does.
pub(super) async fn secrets(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let names = reads::names(query);
    answer(blocking(move || {
        let state = coordinator.snapshot()?.state;
        let opened = core::openings(&state, &caller, &names)?.into_iter().map(|(name, opened)| {
            let (commitment, opening) = opened;
            (name, json!({ "commitment": commitment, "opening": opening }))
        });
        Ok(json!({ "secrets": opened.collect::<Map<_, _>>() }))
    }))
    .await
}
