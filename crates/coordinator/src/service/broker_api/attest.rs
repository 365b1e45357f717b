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
use evidence::conveyed::Conveyed;
use rcar::{Attestation, Challenge, Content, Invalid, Opened, Request, SESSION_COOKIE};
use serde_json::json;

use super::{
    Shared, answer, blocking, body, cookies, explain::Explanation, failure::Failure, serving, sessions::Claim,
};
use crate::{
    core::{
        State,
        broker::{
            admission::{NotAdmitted, Piece},
            attested::{Shown, attested},
            guest::{Guest, SessionId},
            session::{LIFETIME, SessionKeys, Ticket},
            token,
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
    let keys = SessionKeys::of(&state)?;
    let challenge = Challenge::new(&ticket.nonce).to_json();
    Ok((cookie(&ticket.to_cookie(&keys)?), Json(challenge)).into_response())
}

/// CoCo's cookie has no attributes. With these nothing but HTTPS sends it, only to the broker, and no script reads it.
fn cookie(value: &str) -> [(header::HeaderName, String); 1] {
    let cookie =
        format!("{SESSION_COOKIE}={value}; Path=/kbs; Max-Age={LIFETIME}; Secure; HttpOnly; SameSite=Strict");
    [(header::SET_COOKIE, cookie)]
}

pub(super) async fn attest(Extracted(coordinator): Shared, headers: HeaderMap, body: Body) -> Response {
    let own = coordinator.clone();
    // A task of its own: what was claimed and appraised is kept and told also when the guest no longer waits for it.
    let work = tokio::spawn(async move {
        let found = session(&own, &headers, body).await;
        answer(&own, found)
    });
    work.await.unwrap_or_else(|_| {
        Failure::from(crate::core::Refusal::Internal("a handshake was cancelled".into())).into_response()
    })
}

async fn session(
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
    let keys = SessionKeys::of(&state)?;
    let now = (coordinator.clock)();
    // Before the body is read: whoever has no ticket sends in vain.
    let ticket = Ticket::from_cookie(cookie_value, &keys, now)?;
    let read = body::read(body).await?;
    let _waiting = coordinator.broker.waiting.try_acquire().map_err(|_| Failure::busy())?;
    let opened = opened(&ticket).map_err(|invalid| Failure::malformed(&invalid))?;
    let attestation = Attestation::parse(&read.bytes, &opened);
    let attestation = attestation.map_err(|invalid| Failure::malformed(&invalid))?;
    drop(read);
    let session = ticket.session();
    match coordinator.claim(session, ticket.expires).await? {
        Claim::First => {}
        Claim::Used => return Err(Failure::nonce_used(session)),
        Claim::Full => return Err(Failure::busy()),
    }
    let turn = tokio::time::timeout(PATIENCE, coordinator.broker.working.acquire()).await;
    let _working = turn.map_err(|_| Failure::busy())?.map_err(|_| Failure::busy())?;
    let own = coordinator.clone();
    let made = blocking(move || {
        let guest = own.appraise_guest(&state, session, &attestation, now)?;
        let token = token::issue(&state, &guest, now)?;
        Ok((guest, token))
    });
    let (guest, token) = made.await?;
    coordinator.keep_session(&keys, &guest).await?;
    Ok((cookie(cookie_value), Json(json!({ "token": token }))).into_response())
}

fn opened(ticket: &Ticket) -> Result<Opened, Invalid> {
    Ok(Opened { version: ticket.version.parse()?, tee: ticket.tee.parse()?, nonce: ticket.nonce_text() })
}

impl Coordinator {
    /// Who the guest is; what was found is told to the operator, whatever it is.
    fn appraise_guest(
        &self,
        state: &State,
        session: SessionId,
        attestation: &Attestation,
        now: UnixTime,
    ) -> Result<Guest, Failure> {
        let traced = Traced::start(self.telemetry.as_ref(), "guest");
        let tee = attestation.pieces().first().map_or("none", |piece| piece.tee().as_str());
        let found = self.shown(attestation, now);
        let found = found.map_err(|invalid| {
            (Failure::malformed(&invalid), NotAdmitted::new("EVIDENCE_MALFORMED", chain(&invalid)))
        });
        let found = found.and_then(|shown| {
            let attested = attested(state, &self.verifier, session, attestation, &shown, now);
            attested.map_err(|why| (Failure::not_attested(session), why))
        });
        match found {
            Ok((guest, verdicts)) => {
                let decision = Decision::granted(Kind::Guest, Subject::Unknown);
                let verdict = verdicts.first().map(|(_, verdict)| verdict);
                self.decided(&Decision { verdict, ..decision }, traced);
                let packages = guest.packages().iter().map(ToString::to_string).collect();
                let mut explanation = Explanation::new(session, now, tee, verdicts);
                explanation.packages = packages;
                self.broker.explanations.add(explanation);
                Ok(guest)
            }
            Err((failure, NotAdmitted { codes, reason, verdicts })) => {
                let decision = Decision::granted(Kind::Guest, Subject::Unknown);
                let verdict = verdicts.first().map(|(_, verdict)| verdict);
                // The host reads it: of what cannot be read nothing is repeated.
                let told = match &failure {
                    failure if failure.is_the_guests() => format!("session {session}"),
                    _ => format!("session {session}: {reason}"),
                };
                let told = Some(told);
                let decision = Decision { verdict, codes: codes.clone(), reason: told, ..decision };
                self.decided(&decision, traced);
                let mut explanation = Explanation::new(session, now, tee, verdicts);
                (explanation.codes, explanation.reason) = (codes, Some(reason));
                self.broker.explanations.add(explanation);
                Err(failure)
            }
        }
    }

    /// The Evidence that a guest sent, with the Endorsements that came with it and those that are here.
    pub(in crate::service) fn shown(
        &self,
        attestation: &Attestation,
        now: UnixTime,
    ) -> Result<Shown, Invalid> {
        let (mut pieces, mut samples) = (Vec::new(), Vec::new());
        for piece in attestation.pieces() {
            match piece.read()? {
                Content::Sample(sample) => samples.push((sample, piece.digest().clone())),
                Content::Evidence(conveyed) => {
                    let Conveyed { evidence, stapled, .. } = *conveyed;
                    for (_, evidence) in evidence {
                        let endorsements =
                            self.collateral.fit_with(&evidence, &stapled, self.tee.as_ref(), now);
                        let digest = piece.digest().clone();
                        pieces.push(Piece { tee: piece.tee(), evidence, endorsements, digest });
                    }
                }
            }
        }
        // A stand-in beside Evidence would pass for a device that was appraised.
        match (samples.is_empty(), pieces.is_empty()) {
            (false, true) => Ok(Shown::Samples(samples)),
            (true, false) => Ok(Shown::Evidence { primary: pieces.remove(0), devices: pieces }),
            _ => Err(Invalid::Member { member: "tee-evidence", expected: "Evidence, or samples alone" }),
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
