//! Unwrapping for guests, by keys that never leave: released as a resource is, each time anew, and answered encrypted to
//! the key that the guest's Evidence covers.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State as Extracted,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use image_keys::Packet;
use manifest::{ResourcePath, SecretName, Use};
use zeroize::Zeroizing;

use super::{Shared, answer, blocking, body, failure::Failure, resource::Unreleased, serving};
use crate::{
    core::{
        Refusal, State, Stored,
        broker::{
            guest::Guest,
            release::{NotReleased, Releasable, release},
            unwrap::{held, unwrap, unwrap_by},
        },
    },
    service::{
        Coordinator,
        decision::{Decision, Kind, Subject},
        telemetry::Traced,
    },
};

pub(super) async fn packet(Extracted(coordinator): Shared, headers: HeaderMap, body: Body) -> Response {
    let found = unwrapped(&coordinator, &headers, body).await;
    answer(&coordinator, found)
}

async fn unwrapped(
    coordinator: &Arc<Coordinator>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let state = serving(coordinator).await?;
    let guest = Arc::new(coordinator.guest(&state, headers).await?);
    if state.mesh().is_none_or(|mesh| mesh.epoch() != guest.epoch()) {
        return Err(Failure::session_over());
    }
    // Who is nobody sends us no body.
    let packet = Packet::parse(&body::read(body).await?.bytes).map_err(|error| Failure::packet(&error))?;
    let traced = Traced::start(coordinator.telemetry.as_ref(), "unwrap");
    let decision = Decision::granted(Kind::Release, Subject::Unknown);
    match coordinator.unwrap(&state, &guest, packet).await {
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

enum Found {
    Refused(NotReleased),
    Here(Zeroizing<Vec<u8>>),
    /// In a store outside.
    Stored(SecretName, Releasable),
}

impl Coordinator {
    async fn unwrap(
        self: &Arc<Self>,
        state: &Arc<State>,
        guest: &Arc<Guest>,
        packet: Packet,
    ) -> Result<Response, Unreleased> {
        let now = (self.clock)();
        let path: ResourcePath = packet.key.path().parse().map_err(|_| Failure::path())?;
        let packet = Arc::new(packet);
        let (asked, by, wrapped) = (state.clone(), guest.clone(), packet.clone());
        let found = blocking(move || {
            let mesh = asked.mesh().ok_or_else(Failure::not_configured)?;
            Ok(match release(&asked, &by, &path, Use::Unwrap, now) {
                Err(why) => Found::Refused(why),
                Ok(releasable) => match releasable.stored() {
                    Some(name) => Found::Stored(name.clone(), releasable),
                    None => Found::Here(unwrap(mesh, releasable, &wrapped, &Stored::new(mesh), now)?),
                },
            })
        });
        let options = match found.await? {
            Found::Refused(why) => return Err(self.unreleased(guest, &why)),
            Found::Here(options) => options,
            Found::Stored(name, releasable) => {
                self.unwrap_stored(state, name, releasable, packet).await.map_err(Failure::from)?
            }
        };
        let guest = guest.clone();
        let answer = blocking(move || {
            let jwe = guest.encrypt(&options).map_err(|_| Failure::jwe())?;
            Ok(Json(jwe.to_json()).into_response())
        });
        Ok(answer.await?)
    }

    async fn unwrap_stored(
        self: &Arc<Self>,
        state: &Arc<State>,
        name: SecretName,
        releasable: Releasable,
        packet: Arc<Packet>,
    ) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
        let Some((at, key)) = held(mesh, &name) else {
            let stored = self.fetch(state, vec![name]).await?;
            return unwrap(mesh, releasable, &packet, &stored, (self.clock)());
        };
        let not_opened = Refusal::ImageKey(image_keys::KekError::NotOpened);
        let data_key = packet.data_key().ok_or(not_opened)?;
        unwrap_by(&self.decrypt_by(mesh, &name, &at.store, &key, data_key).await?, &packet)
    }
}
