//! What the log's place is, and what others hold of it: ours, at `/api/v3/head`.

use attested_tls::anchor::AnchorClaim;
use axum::{
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::json;

use super::{Shared, answer, base64, blocking, malformed, parse};
use crate::core::anchor::{Held, Position};

/// The head, signed, and what would notice an older one.
pub(super) async fn head(State(coordinator): Shared) -> Response {
    answer(blocking(move || {
        let snapshot = coordinator.snapshot()?;
        let anchor = |anchor: AnchorClaim| json!({ "kind": anchor.kind, "key": anchor.key.map(|key| hex::encode(*key)) });
        Ok(json!({
            "length": snapshot.length,
            "head": hex::encode(snapshot.head),
            "signature": BASE64.encode(coordinator.signed_position(&snapshot)),
            "anchors": coordinator.anchors().into_iter().map(anchor).collect::<Vec<_>>(),
        }))
    }))
    .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HeldBody {
    length: u64,
    head: String,
    signature: String,
}

/// A head that somebody holds, with its signature. `continued` says whether this log continues it; `null`, that
/// it is too old to say.
pub(super) async fn witness(State(coordinator): Shared, body: Result<Bytes, BytesRejection>) -> Response {
    let held = parse(body).and_then(|body: HeldBody| {
        let mut head = [0; 32];
        hex::decode_to_slice(&body.head, &mut head)
            .map_err(|_| Box::new(malformed("`head` is not 64 hex digits")))?;
        Ok((Position { length: body.length, head }, base64(&body.signature, "signature")?))
    });
    let (held, signature) = match held {
        Ok(held) => held,
        Err(response) => return *response,
    };
    answer(blocking(move || {
        let continued = match coordinator.witness(&held, &signature)? {
            Held::Continued => Some(true),
            Held::TooOld => None,
        };
        Ok(json!({ "continued": continued }))
    }))
    .await
}
