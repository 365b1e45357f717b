//! SVIDs for guests that attested. Who asks is known as for a resource, and the answer is encrypted as one: an
//! X.509-SVID for a key of somebody who stole a session, or a JWT-SVID, is of no use to who cannot read it.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State as Extracted,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Serialize, de::DeserializeOwned};
use spiffe_workload::wire::{JwtRequest, X509Request};

use super::{Shared, answer, blocking, body, failure::Failure, serving};
use crate::{
    core::{
        Refusal, State,
        broker::guest::Guest,
        svid::{self, Holder},
    },
    service::{
        Coordinator,
        decision::{Decision, Kind, Subject},
        telemetry::Traced,
    },
};
use appraisal::UnixTime;

/// A request or some audiences: far below what Evidence needs.
const LONGEST: usize = 16 * 1024;

pub(super) async fn x509(Extracted(coordinator): Shared, headers: HeaderMap, body: Body) -> Response {
    let issue = |state: &State, holder: &Holder, request: X509Request, now| {
        let csr = BASE64.decode(request.csr).map_err(|_| None)?;
        svid::x509(state, holder, &csr, now).map_err(Some)
    };
    let found = issued(&coordinator, &headers, body, issue).await;
    answer(&coordinator, found)
}

pub(super) async fn jwt(Extracted(coordinator): Shared, headers: HeaderMap, body: Body) -> Response {
    let issue = |state: &State, holder: &Holder, request: JwtRequest, now| {
        svid::jwt(state, holder, &request.audiences, now).map_err(Some)
    };
    let found = issued(&coordinator, &headers, body, issue).await;
    answer(&coordinator, found)
}

pub(super) async fn bundle(Extracted(coordinator): Shared) -> Response {
    let found = async {
        let state = serving(&coordinator).await?;
        let bundle = blocking(move || Ok(svid::bundle(&state)?)).await?;
        coordinator.serving()?;
        Ok(Json(bundle).into_response())
    };
    answer(&coordinator, found.await)
}

/// Issues to who attested; `None` of an error is a body that is malformed.
async fn issued<R: DeserializeOwned + Send + 'static, A: Serialize>(
    coordinator: &Arc<Coordinator>,
    headers: &HeaderMap,
    body: Body,
    issue: impl FnOnce(&State, &Holder, R, UnixTime) -> Result<A, Option<Refusal>> + Send + 'static,
) -> Result<Response, Failure> {
    let state = serving(coordinator).await?;
    let guest = coordinator.guest(&state, headers).await?;
    // Who is nobody sends us no body.
    let body = body::read(body).await?;
    if body.bytes.len() > LONGEST {
        return Err(Failure::object());
    }
    let request: R = serde_json::from_slice(&body.bytes).map_err(|_| Failure::object())?;
    let traced = Traced::start(coordinator.telemetry.as_ref(), "svid");
    let decision = Decision::granted(Kind::Release, Subject::Unknown);
    let (now, session) = ((coordinator.clock)(), guest.session());
    let made = blocking(move || {
        let failed = |refusal| failure(refusal, &guest);
        let holder = Holder::guest(&state, &guest, now).map_err(|refusal| failed(Some(refusal)))?;
        let answer = issue(&state, &holder, request, now).map_err(failed)?;
        let answer = serde_json::to_vec(&answer).map_err(|_| Failure::object())?;
        let jwe = guest.key().encrypt(&answer).map_err(|_| Failure::jwe())?;
        Ok(Json(jwe.to_json()).into_response())
    });
    match made.await {
        Ok(response) => {
            // What was read may be old by now, if this replica stood still.
            coordinator.serving()?;
            coordinator.decided(&decision, traced);
            Ok(response)
        }
        Err(failure) => {
            let (codes, reason) = (vec![failure.code().to_owned()], Some(format!("session {session}")));
            coordinator.decided(&Decision { codes, reason, ..decision }, traced);
            Err(failure)
        }
    }
}

fn failure(refusal: Option<Refusal>, guest: &Guest) -> Failure {
    match refusal {
        None => Failure::object(),
        Some(Refusal::Svid(fault)) => Failure::svid(fault, guest.session()),
        Some(refusal) => refusal.into(),
    }
}
