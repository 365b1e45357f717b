//! Calls over HTTPS.
//!
//! `GET /v1/algorithms` tells a party what it may call; `POST /v1/algorithms/{name}` calls:
//! `{"Arguments": {"from": "2026-01-01"}, "Receipt": true}` gives `{"Columns": [["n", "bigint"]], "Rows": [["12"]],
//! "Receipt": {…}}`, values in PostgreSQL's text form. A refusal is `{"Code": "…", "Message": "…"}`.

use std::collections::BTreeMap;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use database_manifest::{Algorithm, AlgorithmName};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Algorithms, Answer, Denied, Given, Wishes, arguments};
use crate::identity::Caller;

/// Bytes of a request.
const LONGEST: usize = 256 << 10;

/// The routes. Whoever serves them sets `Extension<Option<Caller>>`.
pub fn routes(algorithms: Algorithms) -> Router {
    Router::new()
        .route("/v1/algorithms", get(list))
        .route("/v1/algorithms/{name}", post(call))
        .layer(DefaultBodyLimit::max(LONGEST))
        .with_state(algorithms)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Request {
    #[serde(default)]
    arguments: BTreeMap<String, Value>,
    #[serde(default)]
    receipt: bool,
    #[serde(default)]
    fresh: bool,
}

async fn call(
    State(algorithms): State<Algorithms>,
    Extension(caller): Extension<Option<Caller>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let Some(caller) = caller else { return nobody() };
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", &error.to_string()),
    };
    let Some(arguments) = texts(request.arguments) else {
        let message = "arguments are texts, numbers, true or false";
        return refusal(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", message);
    };
    // What is no name names no algorithm.
    let Some(name) = AlgorithmName::new(&name) else { return nothing() };
    let wishes = Wishes { receipt: request.receipt, fresh: request.fresh };
    match algorithms.call_with(&caller, &name, Given::ByName(arguments), wishes).await {
        Ok(answer) => Json(written(&answer)).into_response(),
        Err(denied) => refused(&denied),
    }
}

/// Whether a request's body and its arguments, for this algorithm, would be taken: for fuzzing. What is taken has one
/// text.
pub fn takes(algorithm: &Algorithm, body: &[u8]) -> bool {
    let request: Option<Request> = serde_json::from_slice(body).ok();
    let Some(named) = request.and_then(|it| texts(it.arguments)) else { return false };
    let Ok(values) = arguments::check(&algorithm.arguments, Given::ByName(named)) else { return false };
    let again = arguments::check(&algorithm.arguments, Given::InOrder(values.clone()));
    assert_eq!(again.ok(), Some(values));
    true
}

fn texts(arguments: BTreeMap<String, Value>) -> Option<BTreeMap<String, String>> {
    let text = |value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    arguments.into_iter().map(|(name, value)| text(value).map(|text| (name, text))).collect()
}

fn written(answer: &Answer) -> Value {
    let table = answer.table();
    let mut written = json!({ "Columns": table.columns, "Rows": table.rows });
    if let Some(receipt) = &answer.receipt {
        written["Receipt"] = receipt.to_json();
    }
    written
}

async fn list(
    State(algorithms): State<Algorithms>,
    Extension(caller): Extension<Option<Caller>>,
) -> Response {
    let Some(caller) = caller else { return nobody() };
    let rules = algorithms.rules();
    let own = rules.manifest.algorithms.iter().filter(|(_, it)| it.callers.contains(caller.party()));
    let listed: serde_json::Map<_, _> = own
        .map(|(name, algorithm)| {
            let arguments = algorithm.arguments.iter().map(|it| json!([it.name, it.sql_type.sql()]));
            let columns = algorithm.output.columns.iter().map(|it| json!([it.name, it.sql_type.sql()]));
            let about = json!({
                "Arguments": arguments.collect::<Vec<_>>(),
                "Columns": columns.collect::<Vec<_>>(),
                "MinContributors": algorithm.output.min_contributors,
                "Epsilon": algorithm.output.privacy.map(|it| it.epsilon),
            });
            (name.to_string(), about)
        })
        .collect();
    Json(Value::Object(listed)).into_response()
}

fn nobody() -> Response {
    let message = "show a client certificate that a trust anchor of a party verifies";
    refusal(StatusCode::UNAUTHORIZED, "NOT_A_PARTY", message)
}

fn nothing() -> Response {
    let message = "there is no algorithm of this name that you may call";
    refusal(StatusCode::FORBIDDEN, "NOT_A_CALLER", message)
}

/// As callers see a denial: what depends on data has one code.
fn refused(denied: &Denied) -> Response {
    let status = match denied.public_code() {
        "ARGUMENT" | "ARGUMENT_COUNT" => StatusCode::BAD_REQUEST,
        "RATE" | "BUDGET_SPENT" => StatusCode::TOO_MANY_REQUESTS,
        "BUSY" | "RULES_CHANGED" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    };
    refusal(status, denied.public_code(), &denied.sentence())
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "Code": code, "Message": message }))).into_response()
}
