//! Changes over HTTPS. Who calls is known from the connection's certificate.
//!
//! | method, path | body | answer |
//! |---|---|---|
//! | `GET /v1/manifest` | | [`InForce`], also for whoever has no certificate |
//! | `POST /v1/proposals` | [`Proposal`] | [`Status`] |
//! | `GET /v1/proposals` | | a list of [`Status`], the newest first |
//! | `GET /v1/proposals/{digest}` | | [`Status`] |
//! | `POST /v1/proposals/{digest}/approve`, `…/reject` | | [`Status`] |
//!
//! A refusal is `{"Code": "…", "Message": "…"}`.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, Path, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;

use super::{ChangeError, Changes, Decision, Digest, InForce, Proposal, Status};
use crate::{identity::Caller, restore::PastError};

/// A manifest and a migration, in JSON.
const LONGEST: usize = 4 << 20;

/// The routes of changes. The layer above them puts the caller there, as `Extension<Option<Caller>>`.
pub fn routes(changes: Arc<Changes>) -> Router {
    Router::new()
        .route("/v1/manifest", get(manifest))
        .route("/v1/proposals", get(list).post(propose))
        .route("/v1/proposals/{digest}", get(one))
        .route("/v1/proposals/{digest}/approve", post(approve))
        .route("/v1/proposals/{digest}/reject", post(reject))
        .layer(DefaultBodyLimit::max(LONGEST))
        .with_state(changes)
}

type Who = Extension<Option<Caller>>;
type Shared = State<Arc<Changes>>;

async fn manifest(State(changes): Shared) -> Result<Json<InForce>, Refusal> {
    Ok(Json(changes.in_force().await?))
}

async fn propose(
    State(changes): Shared,
    Extension(caller): Who,
    body: Result<Json<Proposal>, JsonRejection>,
) -> Result<Json<Status>, Refusal> {
    let caller = caller.ok_or(Refusal::Nobody)?;
    let Json(proposal) = body.map_err(|rejection| Refusal::Body(rejection.body_text()))?;
    Ok(Json(whole(async move { changes.propose(&caller, &proposal).await }).await?))
}

async fn list(State(changes): Shared, Extension(caller): Who) -> Result<Json<Vec<Status>>, Refusal> {
    let caller = caller.ok_or(Refusal::Nobody)?;
    Ok(Json(changes.list(&caller).await?))
}

async fn one(
    State(changes): Shared,
    Extension(caller): Who,
    Path(digest): Path<String>,
) -> Result<Json<Status>, Refusal> {
    let caller = caller.ok_or(Refusal::Nobody)?;
    Ok(Json(changes.status(&caller, &read(&digest)?).await?))
}

async fn approve(state: Shared, caller: Who, digest: Path<String>) -> Result<Json<Status>, Refusal> {
    decide(state, caller, digest, Decision::Approve).await
}

async fn reject(state: Shared, caller: Who, digest: Path<String>) -> Result<Json<Status>, Refusal> {
    decide(state, caller, digest, Decision::Reject).await
}

async fn decide(
    State(changes): Shared,
    Extension(caller): Who,
    Path(digest): Path<String>,
    decision: Decision,
) -> Result<Json<Status>, Refusal> {
    let caller = caller.ok_or(Refusal::Nobody)?;
    let digest = read(&digest)?;
    Ok(Json(whole(async move { changes.decide(&caller, &digest, decision).await }).await?))
}

/// A client that leaves does not end what was begun: rows may be on their way.
async fn whole(
    work: impl Future<Output = Result<Status, ChangeError>> + Send + 'static,
) -> Result<Status, ChangeError> {
    tokio::spawn(work).await.map_err(|_| PastError::Panicked)?
}

fn read(digest: &str) -> Result<Digest, Refusal> {
    digest.parse().map_err(|_| Refusal::Body("a proposal is named by 64 hexadecimal digits".to_owned()))
}

/// Why a request is not done.
enum Refusal {
    /// Nobody in particular asks.
    Nobody,
    /// The request is malformed.
    Body(String),
    /// The change is not made.
    Change(ChangeError),
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        Self::Change(error)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Problem {
    code: &'static str,
    message: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::Nobody => {
                let message = "show a certificate of a party of the manifest";
                (StatusCode::UNAUTHORIZED, "NOT_A_PARTY", message.to_owned())
            }
            Self::Body(message) => (StatusCode::BAD_REQUEST, "MALFORMED", message),
            Self::Change(error) => (status(&error), error.code(), error.to_string()),
        };
        (status, Json(Problem { code, message })).into_response()
    }
}

fn status(error: &ChangeError) -> StatusCode {
    match error {
        ChangeError::NotAnApprover(_) => StatusCode::FORBIDDEN,
        ChangeError::Unknown(_) => StatusCode::NOT_FOUND,
        ChangeError::Over { .. } | ChangeError::Base { .. } | ChangeError::Exists(_) => StatusCode::CONFLICT,
        ChangeError::Past(PastError::NoRoom { .. }) => StatusCode::INSUFFICIENT_STORAGE,
        ChangeError::TooMany => StatusCode::TOO_MANY_REQUESTS,
        ChangeError::Manifest(_)
        | ChangeError::Migration(_)
        | ChangeError::Erase(_)
        | ChangeError::Obstacle(_)
        | ChangeError::Restoration(_)
        | ChangeError::Columns(_)
        | ChangeError::Erased { .. }
        | ChangeError::Reference { .. }
        | ChangeError::Past(PastError::OutOfReach { .. } | PastError::Point(_))
        | ChangeError::Schema { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        _ if error.code() == "STATEMENT_REFUSED" => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
