//! Heads that somebody kept, held against the history of this database.
//!
//! `GET /v1/log/{sequence}/{hash}` gives anyone `{"Held": "contained"}`; or `"contradicted"`: another record is in its
//! place, or none; or `"forgotten"`: it is older than the last checkpoint, and the host has lost the file that would tell.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use sealed_log::Held;
use serde_json::json;
use tokio::sync::Semaphore;
use volume::Head;

use crate::{refusal::refusal, restore::History};

/// So many at a time read files of the host; others wait.
const AT_A_TIME: usize = 2;

/// The route.
pub fn routes(history: Arc<History>) -> Router {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    Router::new().route("/v1/log/{sequence}/{hash}", get(held)).with_state((history, places))
}

async fn held(
    State((history, places)): State<(Arc<History>, Arc<Semaphore>)>,
    Path((sequence, hash)): Path<(String, String)>,
) -> Response {
    let mut head = Head { sequence: sequence.parse().unwrap_or_default(), hash: [0; 32] };
    if head.sequence == 0 || hex::decode_to_slice(hash, &mut head.hash).is_err() {
        let message = "a head is the number of a record and 64 hex digits";
        return refusal(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", message);
    }
    let Ok(_place) = places.acquire().await else {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "the database ends");
    };
    let word = match history.holds(head).await {
        Held::Contained => "contained",
        Held::Contradicted => "contradicted",
        Held::Forgotten => "forgotten",
    };
    Json(json!({ "Held": word })).into_response()
}
