//! Release policies of the broker: which there are, and dry runs of them: one in force or one that is given, on a
//! session that is remembered, on Evidence as a guest sent it, or on a guest that is only said.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    response::Response,
};
use manifest::ResourcePath;
use rcar::{Attestation, Opened};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Shared, answer, costly, parse};
use crate::{
    core::{
        self, Caller, Refusal,
        broker::{
            attested::attested,
            check::{self, Said, Tried},
            guest::{Guest, SessionId},
            release::Subject,
            session::SessionKeys,
        },
    },
    service::Coordinator,
};

/// What is tried.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trial {
    resource: ResourcePath,
    policy: Tried,
    guest: Asking,
}

/// On whom.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Asking {
    /// A session that is remembered, by its name.
    Session(String),
    /// Evidence as a guest sent it.
    Recorded(Recorded),
    /// Nobody: a guest as it could be.
    Said(Box<Said>),
}

/// The body of an attestation, with what the request before it said. Its nonce is its own: nobody is attested by it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    version: String,
    tee: String,
    /// Where the body does not send it back.
    nonce: Option<String>,
    attestation: Box<RawValue>,
}

pub(super) async fn list(State(coordinator): Shared, Extension(caller): Extension<Caller>) -> Response {
    let listed = async {
        let policies = check::policies(&coordinator.snapshot()?.state, &caller)?;
        Ok(json!({ "policies": policies }))
    };
    answer(listed).await
}

pub(super) async fn check(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Trial { resource, policy, guest } = match parse(body) {
        Ok(trial) => trial,
        Err(response) => return *response,
    };
    answer(async move {
        let state = coordinator.snapshot()?.state;
        // Before anything is looked up or appraised for whoever may not see it.
        check::may_check(&state, &caller, &resource)?;
        let remembered = match &guest {
            Asking::Session(session) => Some(remembered(&coordinator, &state, session).await?),
            _ => None,
        };
        costly(move || {
            let guest = match &guest {
                Asking::Said(said) => {
                    return Ok(json!(check::check(&state, &caller, &policy, &said.subject(), &resource)?));
                }
                Asking::Recorded(recorded) => match appraised(&coordinator, &state, recorded)? {
                    Ok(guest) => Some(guest),
                    Err(why) => {
                        return Ok(json!({ "released": false, "resource": resource, "attested": why }));
                    }
                },
                Asking::Session(_) => remembered,
            };
            let guest = guest.ok_or(Refusal::UnknownSession)?;
            let found = check::check(&state, &caller, &policy, &Subject::from(&guest), &resource)?;
            let mut found = json!(found);
            found["guest"] = json!({
                "packages": guest.packages(),
                "platform": guest.platform(),
                "emulated": guest.emulated(),
                "initData": guest.init_data(),
                "claims": **guest.claims(),
            });
            Ok(found)
        })
        .await
    })
    .await
}

async fn remembered(
    coordinator: &Arc<Coordinator>,
    state: &Arc<core::State>,
    session: &str,
) -> Result<Guest, Refusal> {
    let session: SessionId = session.parse().map_err(|_| Refusal::UnknownSession)?;
    let keys = SessionKeys::of(state)?;
    coordinator.attested(&keys, session).await?.ok_or(Refusal::UnknownSession)
}

/// Who would have attested; or why nobody would.
fn appraised(
    coordinator: &Coordinator,
    state: &core::State,
    recorded: &Recorded,
) -> Result<Result<Guest, Value>, Refusal> {
    let malformed = |error: rcar::Invalid| Refusal::RecordMalformed { reason: error.to_string() };
    let body = recorded.attestation.get();
    let nonce = recorded.nonce.clone().or_else(|| own_nonce(body)).unwrap_or_default();
    let (version, tee) = (recorded.version.parse(), recorded.tee.parse());
    let opened = Opened { version: version.map_err(malformed)?, tee: tee.map_err(malformed)?, nonce };
    let attestation = Attestation::parse(body.as_bytes(), &opened).map_err(malformed)?;
    let now = (coordinator.clock)();
    let shown = coordinator.shown(&attestation, now).map_err(malformed)?;
    // No session of anybody's.
    let session = SessionId::of(&[0; 32]);
    let found = attested(state, &coordinator.verifier, session, &attestation, &shown, now);
    Ok(found.map(|(guest, _)| guest).map_err(|why| {
        let verdicts: Vec<_> = why
            .verdicts
            .iter()
            .map(|(piece, verdict)| json!({ "piece": piece, "verdict": verdict }))
            .collect();
        json!({ "codes": why.codes, "reason": why.reason, "verdicts": verdicts })
    }))
}

fn own_nonce(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    Some(body.get("runtime-data")?.get("nonce")?.as_str()?.to_owned())
}
