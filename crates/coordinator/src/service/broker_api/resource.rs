//! Resources: asked for with a session or a token, released anew each time, and encrypted to the key that the guest's
//! Evidence covers.

use std::sync::Arc;

use axum::{
    Json,
    extract::State as Extracted,
    http::{HeaderMap, Uri, header},
    response::{IntoResponse, Response},
};
use manifest::{ResourcePath, SecretName, Use};

use super::{Shared, answer, blocking, cookies, explain::RefusedRelease, failure::Failure, serving};
use crate::{
    core::{
        State, Stored,
        broker::{
            guest::Guest,
            release::{NotReleased, Releasable, release},
            session::{SessionKeys, Ticket},
        },
    },
    service::{
        Coordinator,
        decision::{Decision, Kind, Subject},
        telemetry::Traced,
    },
};

const PREFIX: &str = "/kbs/v0/resource/";

pub(super) async fn read(Extracted(coordinator): Shared, uri: Uri, headers: HeaderMap) -> Response {
    let found = released(&coordinator, &uri, &headers).await;
    answer(&coordinator, found)
}

async fn released(
    coordinator: &Arc<Coordinator>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    // As it was sent: what is written in percents is another way to write a name, and no name.
    let path = uri.path().strip_prefix(PREFIX).and_then(|path| path.parse::<ResourcePath>().ok());
    let path = path.ok_or_else(Failure::path)?;
    let state = serving(coordinator).await?;
    let guest = Arc::new(coordinator.guest(&state, headers).await?);
    if state.mesh().is_none_or(|mesh| mesh.epoch() != guest.epoch()) {
        return Err(Failure::session_over());
    }
    let traced = Traced::start(coordinator.telemetry.as_ref(), "release");
    let found = coordinator.release(&state, &guest, path).await;
    let decision = Decision::granted(Kind::Release, Subject::Unknown);
    match found {
        Ok(jwe) => {
            // What was read may be old by now, if this replica stood still.
            coordinator.serving()?;
            coordinator.decided(&decision, traced);
            Ok(jwe)
        }
        Err(Unreleased { failure, codes }) => {
            let reason = Some(format!("session {}", guest.session()));
            coordinator.decided(&Decision { codes, reason, ..decision }, traced);
            Err(failure)
        }
    }
}

/// Why a guest was not given a resource: for itself, and for the operator.
pub(super) struct Unreleased {
    pub(super) failure: Failure,
    pub(super) codes: Vec<String>,
}

impl From<Failure> for Unreleased {
    fn from(failure: Failure) -> Self {
        Self { codes: vec![failure.code().to_owned()], failure }
    }
}

impl Coordinator {
    /// Who asks: by one session or one token, and not by both.
    pub(super) async fn guest(
        self: &Arc<Self>,
        state: &Arc<State>,
        headers: &HeaderMap,
    ) -> Result<Guest, Failure> {
        let shown = cookies(headers);
        let mut fields = headers.get_all(header::AUTHORIZATION).iter();
        let (token, more) = (fields.next(), fields.next());
        let cookie = match (shown.as_slice(), token, more) {
            ([], None, _) => return Err(Failure::no_session()),
            ([cookie], None, _) => *cookie,
            ([], Some(token), None) => {
                let token = token.to_str().ok().and_then(|field| field.split_once(' '));
                let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"));
                let token = token.map(|(_, token)| token.to_owned()).ok_or_else(Failure::token)?;
                return self.bearer(state, token).await;
            }
            _ => return Err(Failure::two_proofs()),
        };
        let keys = SessionKeys::of(state)?;
        let ticket = Ticket::from_cookie(cookie, &keys, (self.clock)())?;
        self.attested(&keys, ticket.session()).await?.ok_or_else(Failure::session_over)
    }

    async fn release(
        self: &Arc<Self>,
        state: &Arc<State>,
        guest: &Arc<Guest>,
        path: ResourcePath,
    ) -> Result<Response, Unreleased> {
        let now = (self.clock)();
        let (asked, by) = (state.clone(), guest.clone());
        let found = blocking(move || {
            Ok(match release(&asked, &by, &path, Use::Read, now) {
                Err(why) => Found::Refused(why),
                Ok(releasable) => match releasable.stored() {
                    Some(name) => Found::Stored(name.clone(), releasable),
                    None => Found::Here(encrypted(&asked, &by, releasable, &Stored::default())?),
                },
            })
        });
        match found.await? {
            Found::Refused(why) => Err(self.unreleased(guest, &why)),
            Found::Here(answer) => Ok(answer),
            Found::Stored(name, releasable) => {
                let stored = self.fetch(state, vec![name]).await.map_err(Failure::from)?;
                let (state, guest) = (state.clone(), guest.clone());
                Ok(blocking(move || encrypted(&state, &guest, releasable, &stored)).await?)
            }
        }
    }

    /// Keeps the reason tree for operators.
    pub(super) fn unreleased(&self, guest: &Guest, why: &NotReleased) -> Unreleased {
        let resource = &why.0.resource;
        let refusal = RefusedRelease {
            at: (self.clock)(),
            repository: resource.repository().to_string(),
            resource: resource.to_string(),
            because: why.tree(),
        };
        self.broker.explanations.refused(guest.session(), guest.tee().as_str(), refusal);
        let codes = why.codes().into_iter().map(str::to_owned).collect();
        Unreleased { failure: Failure::denied(guest.session()), codes }
    }
}

enum Found {
    Refused(NotReleased),
    Here(Response),
    /// In a store outside.
    Stored(SecretName, Releasable),
}

fn encrypted(
    state: &State,
    guest: &Guest,
    releasable: Releasable,
    stored: &Stored,
) -> Result<Response, Failure> {
    let mesh = state.mesh().ok_or_else(Failure::not_configured)?;
    let value = releasable.value(mesh, stored)?;
    let jwe = guest.encrypt(&value).map_err(|_| Failure::jwe())?;
    Ok(Json(jwe.to_json()).into_response())
}
