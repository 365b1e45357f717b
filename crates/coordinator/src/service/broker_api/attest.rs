//! The handshake: a request is answered with a nonce and a ticket, and Evidence over that nonce with a session and a
//! token.

use std::{sync::Arc, time::Duration};

use appraisal::UnixTime;
use axum::{
    Json,
    body::Body,
    extract::State as Extracted,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use rcar::{Attestation, Challenge, Request, SESSION_COOKIE, Tee};
use serde_json::json;

use super::{Shared, answer, body, blocking, cookies, explain::Explanation, failure::Failure, serving, sessions::Claim};
use crate::{
    core::{
        State,
        broker::{
            admission::{self, NotAdmitted, Piece},
            guest::{Guest, Particulars, SessionId},
            session::{LIFETIME, Ticket},
        },
    },
    service::{
        Coordinator,
        decision::{Decision, Kind, Subject},
        telemetry::Traced,
    },
};

/// How long a handshake waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn auth(Extracted(coordinator): Shared, body: Body) -> Response {
    let found = challenge(&coordinator, body).await;
    answer(&coordinator, found)
}

async fn challenge(coordinator: &Arc<Coordinator>, body: Body) -> Result<Response, Failure> {
    let read = body::read(body).await?;
    let request = Request::parse(&read.bytes).map_err(|invalid| Failure::malformed(&invalid))?;
    let state = serving(coordinator).await?;
    let now = (coordinator.clock)();
    let ticket = Ticket::issue(request.tee.to_string(), request.version.to_string(), now)?;
    let keys = coordinator.session_keys(&state)?;
    let challenge = Challenge::new(&ticket.nonce).to_json();
    Ok((cookie(&ticket.to_cookie(&keys)?), Json(challenge)).into_response())
}

/// CoCo's cookie has no attributes. With these nothing but HTTPS sends it, only to the broker, and no script reads it.
fn cookie(value: &str) -> [(header::HeaderName, String); 1] {
    let cookie = format!(
        "{SESSION_COOKIE}={value}; Path=/kbs; Max-Age={LIFETIME}; Secure; HttpOnly; SameSite=Strict"
    );
    [(header::SET_COOKIE, cookie)]
}

pub(super) async fn attest(Extracted(coordinator): Shared, headers: HeaderMap, body: Body) -> Response {
    let own = coordinator.clone();
    // A task of its own: what was claimed and appraised is kept and told also when the guest no longer waits for it.
    let work = tokio::spawn(async move {
        let found = attested(&own, &headers, body).await;
        answer(&own, found)
    });
    work.await.unwrap_or_else(|_| {
        Failure::from(crate::core::Refusal::Internal("a handshake was cancelled".into())).into_response()
    })
}

async fn attested(
    coordinator: &Arc<Coordinator>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let shown = cookies(headers);
    let cookie_value = match shown.as_slice() {
        [] => return Err(Failure::no_session()),
        [one] => *one,
        _ => return Err(Failure::two_proofs()),
    };
    let state = serving(coordinator).await?;
    let keys = coordinator.session_keys(&state)?;
    let now = (coordinator.clock)();
    // Before the body is read: whoever has no ticket sends in vain.
    let ticket = Ticket::from_cookie(cookie_value, &keys, now)?;
    let read = body::read(body).await?;
    let _waiting = coordinator.broker.waiting.try_acquire().map_err(|_| Failure::busy())?;
    let tee: Tee = ticket.tee.parse().map_err(|invalid| Failure::malformed(&invalid))?;
    let version = ticket.version.parse().map_err(|invalid| Failure::malformed(&invalid))?;
    let attestation = Attestation::parse(version, tee, &read.bytes);
    let attestation = attestation.map_err(|invalid| Failure::malformed(&invalid))?;
    drop(read);
    if attestation.nonce() != ticket.nonce_text() {
        return Err(Failure::nonce());
    }
    let session = ticket.session();
    match coordinator.claim(session, ticket.expires).await? {
        Claim::First => {}
        Claim::Used => return Err(Failure::nonce_used(session)),
        Claim::Full => return Err(Failure::busy()),
    }
    let turn = tokio::time::timeout(PATIENCE, coordinator.broker.working.acquire()).await;
    let _working = turn.map_err(|_| Failure::busy())?.map_err(|_| Failure::busy())?;
    let own = coordinator.clone();
    let guest = blocking(move || own.appraise_guest(&state, session, tee, &attestation, now)).await?;
    coordinator.keep_session(&keys, &guest.0).await?;
    Ok((cookie(cookie_value), Json(json!({ "token": guest.1 }))).into_response())
}
