//! Receives webhooks as GitHub and others send them: a body, and in `X-Hub-Signature-256` its HMAC-SHA256 under a secret that
//! both sides know. What is not signed with it is answered 401 and not looked at. Of what is, an answer says how it was
//! understood.
//!
//! The secret is a secret of the deployment and arrives in `HOOK_SECRET`: the host that runs this never sees it.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use wstd::http::{Body, Error, Method, Request, Response, StatusCode};

const HEADER: &str = "x-hub-signature-256";

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    if *request.method() != Method::POST {
        return Ok(answer(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "POST an event" })));
    }
    let Ok(secret) = std::env::var("HOOK_SECRET") else {
        return Ok(answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": "HOOK_SECRET is not set" })));
    };
    let signature = request.headers().get(HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = request.body_mut().contents().await?;
    let (status, text) = event(secret.as_bytes(), signature.as_deref(), body);
    Ok(answer(status, &text))
}

fn event(secret: &[u8], signature: Option<&str>, body: &[u8]) -> (StatusCode, Value) {
    if !signature.is_some_and(|signature| signed(secret, signature, body)) {
        return (StatusCode::UNAUTHORIZED, json!({ "error": "the signature is missing or wrong" }));
    }
    let Ok(event) = serde_json::from_slice::<Value>(body) else {
        return (StatusCode::BAD_REQUEST, json!({ "error": "the event is no JSON" }));
    };
    let commits = event["commits"].as_array().map_or(0, Vec::len);
    (StatusCode::OK, json!({ "branch": event["ref"], "commits": commits }))
}

/// Compared in constant time.
fn signed(secret: &[u8], signature: &str, body: &[u8]) -> bool {
    let Some(claimed) = signature.strip_prefix("sha256=").and_then(|text| hex::decode(text).ok()) else {
        return false;
    };
    Hmac::<Sha256>::new_from_slice(secret)
        .is_ok_and(|mac| mac.chain_update(body).verify_slice(&claimed).is_ok())
}

fn answer(status: StatusCode, text: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    let json = wstd::http::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}
