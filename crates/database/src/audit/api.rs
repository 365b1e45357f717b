//! The audit log over HTTPS.
//!
//! - `GET /v1/audit/head` gives any party a [`SignedHead`], to be kept and held against later exports.
//! - `GET /v1/audit?from=1` gives the parties that the manifest names `{"Head": …, "Lines": [{"Sequence": 1, "At": …,
//!   "Event": "…", "Hash": "…"}, …]}`, up to 10 000 entries; that they did is an entry too.

use std::sync::Arc;

use attested_tls::clock::Clock;
use axum::{
    Extension, Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use database_receipt::Digest;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::{Audit, AuditError, Event, Head, Refused, SignedHead, Who, export};
use crate::{
    Rules,
    authority::Current,
    engine::{Engine, SUPERUSER},
    identity::Caller,
    refusal::{nobody, refusal},
};

/// What exports need.
#[derive(Clone)]
pub struct Exports {
    /// Where the entries are.
    pub engine: Arc<Engine>,
    /// Who reads them.
    pub rules: watch::Receiver<Arc<Rules>>,
    /// Where exports are recorded.
    pub audit: Audit,
    /// The key that signs heads.
    pub key: Current,
    /// The time.
    pub clock: Clock,
}

/// The routes. Whoever serves them sets `Extension<Option<Caller>>`.
pub fn routes(exports: Exports) -> Router {
    Router::new().route("/v1/audit", get(read)).route("/v1/audit/head", get(head)).with_state(exports)
}

async fn head(State(exports): State<Exports>, Extension(caller): Extension<Option<Caller>>) -> Response {
    if caller.is_none() {
        return nobody();
    }
    match exports.read(u64::MAX).await.and_then(|(_, head)| exports.signed(head)) {
        Ok(head) => Json(head).into_response(),
        Err(error) => unavailable(&error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default = "first")]
    from: u64,
}

fn first() -> u64 {
    1
}

async fn read(
    State(exports): State<Exports>,
    Extension(caller): Extension<Option<Caller>>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let Some(caller) = caller else { return nobody() };
    let Ok(Query(Asked { from })) = query else {
        return refusal(StatusCode::BAD_REQUEST, "MALFORMED_REQUEST", "`from` is the number of an entry");
    };
    if !exports.rules.borrow().manifest.audit.readers.contains(caller.party()) {
        let denied = Event::Denied {
            caller: Who::of(&caller),
            what: Refused::Request { path: "GET /v1/audit".into() },
            code: "NOT_AN_AUDIT_READER".into(),
            reason: "the manifest does not name the party among those who read the audit log".into(),
        };
        if let Err(error) = exports.audit.record(denied).await {
            return unavailable(&error);
        }
        let message = "the manifest does not let this party read the audit log";
        return refusal(StatusCode::FORBIDDEN, "NOT_AN_AUDIT_READER", message);
    }
    match exports.export(&caller, from).await {
        Ok(answer) => answer,
        Err(error) => unavailable(&error),
    }
}

impl Exports {
    async fn read(&self, from: u64) -> Result<(Vec<super::Line>, Head), AuditError> {
        let client = self.engine.session(SUPERUSER).await?;
        export::read(&client, from).await
    }

    /// Recorded before it leaves.
    async fn export(&self, caller: &Caller, from: u64) -> Result<Response, AuditError> {
        let (lines, head) = self.read(from).await?;
        let event = Event::Exported { caller: Who::of(caller), from, entries: lines.len() as u64 };
        self.audit.record(event).await.map_err(|_| AuditError::Ended)?;
        Ok(Json(json!({ "Head": self.signed(head)?, "Lines": lines })).into_response())
    }

    fn signed(&self, head: Head) -> Result<SignedHead, AuditError> {
        let time = (self.clock)().0.unsigned_abs();
        let certified = self.key.certified();
        let signature = certified.sign(&head.to_be_signed(time)).map_err(|_| AuditError::Unsigned)?;
        Ok(SignedHead {
            sequence: head.sequence,
            hash: Digest(head.hash),
            time,
            signature: STANDARD.encode(signature),
            certificates: certified.chain().iter().map(|it| STANDARD.encode(it)).collect(),
        })
    }
}

fn unavailable(error: &AuditError) -> Response {
    refusal(StatusCode::SERVICE_UNAVAILABLE, error.code(), &error.to_string())
}
