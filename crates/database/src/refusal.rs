//! How the HTTPS API says no: `{"Code": "…", "Message": "…"}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

/// A refusal.
pub(crate) fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "Code": code, "Message": message }))).into_response()
}

/// For a caller whose certificate no party's anchor verifies.
pub(crate) fn nobody() -> Response {
    let message = "a client certificate is required that a party of this database issued";
    refusal(StatusCode::UNAUTHORIZED, "NOT_A_PARTY", message)
}
