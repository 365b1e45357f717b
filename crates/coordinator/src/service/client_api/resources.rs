//! Resources of the broker, for their operators: uploaded, downloaded, listed, deleted. Guests have a listener of their
//! own.

use axum::{
    Extension,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use manifest::{RepositoryName, ResourcePath};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Shared, answer, base64, blocking, parse};
use crate::{
    core::{self, Caller, Refusal, broker::check, resources},
    service::{Decided, envelope::failure},
};

type Segments = Result<Path<(String, String, String)>, PathRejection>;

/// The path, whose segments are decoded once and then names.
fn path(segments: Segments) -> Result<ResourcePath, Refusal> {
    let Path((repository, kind, tag)) = segments.map_err(|_| Refusal::ResourcePath)?;
    let (Ok(repository), Ok(kind), Ok(tag)) = (repository.parse(), kind.parse(), tag.parse()) else {
        return Err(Refusal::ResourcePath);
    };
    Ok(ResourcePath::new(repository, kind, tag))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upload {
    value: String,
    /// The version that it is to follow; 0 where there is to be none yet.
    follows: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listed {
    repository: Option<RepositoryName>,
}

fn bad_query() -> Response {
    failure(StatusCode::BAD_REQUEST, "QUERY_MALFORMED", "the query is not one of this path", Value::Null)
}

pub(super) async fn status(State(coordinator): Shared, Extension(caller): Extension<Caller>) -> Response {
    answer(blocking(move || {
        let mut status = check::status(&coordinator.snapshot()?.state, &caller)?;
        let (sessions, bytes) = coordinator.broker.held();
        status["sessions"] = json!({ "held": sessions, "bytes": bytes });
        Ok(status)
    }))
    .await
}

pub(super) async fn list(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    query: Result<Query<Listed>, QueryRejection>,
) -> Response {
    let Ok(Query(Listed { repository })) = query else { return bad_query() };
    answer(blocking(move || {
        let state = coordinator.snapshot()?.state;
        Ok(json!({ "resources": resources::list(&state, &caller, repository.as_ref())? }))
    }))
    .await
}

/// The value, once the transparency log says who got it.
pub(super) async fn get(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    segments: Segments,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let Ok(Query(Wanted { version })) = query else { return bad_query() };
    answer(async move {
        let path = path(segments)?;
        let state = coordinator.snapshot()?.state;
        let stored = resources::stored_for_operator(&state, &caller, &path)?;
        let stored = coordinator.fetch(&state, stored.into_iter().collect()).await?;
        blocking(move || {
            let now = (coordinator.clock)();
            let read = coordinator.commit(|state| {
                let (event, read) = resources::read(state, &caller, &path, version, &stored, now)?;
                Ok(Decided::one(event, read))
            })?;
            Ok(json!({
                "path": path,
                "uri": path.uri(),
                "version": read.version,
                "value": BASE64.encode(&*read.value),
            }))
        })
        .await
    })
    .await
}

pub(super) async fn put(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    segments: Segments,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let path = match path(segments) {
        Ok(path) => path,
        Err(refusal) => return refusal.into_response(),
    };
    let upload = parse(body).and_then(|body: Upload| Ok((base64(&body.value, "value")?, body.follows)));
    let (value, follows) = match upload {
        Ok((value, follows)) => (Zeroizing::new(value), follows),
        Err(response) => return *response,
    };
    answer(blocking(move || {
        let now = (coordinator.clock)();
        let version = coordinator.commit(|state| {
            let (event, version) = resources::put(state, &caller, &path, &value, follows, now)?;
            Ok(Decided::one(event, version))
        })?;
        Ok(json!({ "path": path, "uri": path.uri(), "version": version }))
    }))
    .await
}

pub(super) async fn delete(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    segments: Segments,
) -> Response {
    answer(blocking(move || {
        let path = path(segments)?;
        let now = (coordinator.clock)();
        coordinator.commit(|state: &core::State| {
            Ok(Decided::one(resources::delete(state, &caller, &path, now)?, ()))
        })?;
        Ok(json!({ "path": path }))
    }))
    .await
}
