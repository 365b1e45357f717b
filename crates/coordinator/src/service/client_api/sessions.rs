//! Sessions of the broker, for whoever is to find out why a guest got nothing: `ExplainSessions` on some repository. Of
//! refused releases there are those of repositories that it is granted on.

use axum::{
    Extension,
    extract::{Path, State},
    response::Response,
};
use serde_json::json;

use super::{Shared, answer};
use crate::core::{Caller, Refusal, broker};

pub(super) async fn list(State(coordinator): Shared, Extension(caller): Extension<Caller>) -> Response {
    answer(async {
        broker::explained(&coordinator.snapshot()?.state, &caller)?;
        Ok(json!({ "sessions": coordinator.broker.explanations.lines() }))
    })
    .await
}

pub(super) async fn explain(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    Path(session): Path<String>,
) -> Response {
    answer(async {
        let seen = broker::explained(&coordinator.snapshot()?.state, &caller)?;
        let session = session.parse().map_err(|_| Refusal::UnknownSession)?;
        let known = coordinator.broker.explanations.of(session).ok_or(Refusal::UnknownSession)?;
        Ok(known.tree(|repository| seen.contains(repository)))
    })
    .await
}
