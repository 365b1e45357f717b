//! Running instances, evictions, and the list of certificates that count no more.

use appraisal::UnixTime;
use axum::{
    Extension,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use time::Duration;

use super::{Shared, answer, blocking, costly, malformed, parse};
use crate::{
    core::{self, Caller, Refusal, Target},
    service::{Coordinator, Decided},
};

/// How long a list of revoked certificates may be used.
const LIST_LIFETIME: Duration = Duration::hours(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EvictBody {
    /// 64 hex digits.
    instance: Option<String>,
    /// As instances are listed with it.
    machine: Option<String>,
    /// Whether uploaded secrets that could have been read are delivered no more until they are replaced.
    #[serde(default)]
    withhold: bool,
    /// Whether to say only what would be done.
    #[serde(default, rename = "dryRun")]
    dry_run: bool,
}

pub(super) async fn list(State(coordinator): Shared, Extension(caller): Extension<Caller>) -> Response {
    answer(blocking(move || {
        let state = coordinator.snapshot()?.state;
        Ok(json!({ "instances": core::instances(&state, &caller, (coordinator.clock)())? }))
    }))
    .await
}

/// Who was sent away: open to all, as the update log is.
pub(super) async fn evicted(State(coordinator): Shared) -> Response {
    answer(blocking(move || {
        let state = coordinator.snapshot()?.state;
        let gone = state.mesh().ok_or(Refusal::NoManifest)?.revocations();
        let line = |revocation: &core::Revocation| {
            let at = UnixTime(revocation.at).to_string();
            json!({ "user": revocation.user, "marble": revocation.marble, "at": at })
        };
        let instances: serde_json::Map<_, _> =
            gone.instances().map(|(key, revocation)| (hex::encode(key), line(revocation))).collect();
        let machines: serde_json::Map<_, _> =
            gone.machines().map(|(name, revocation)| (name.to_owned(), line(revocation))).collect();
        Ok(json!({ "instances": instances, "machines": machines }))
    }))
    .await
}

pub(super) async fn evict(
    State(coordinator): Shared,
    Extension(caller): Extension<Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body: EvictBody = match parse(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let target = match target(&body) {
        Some(target) => target,
        None => return malformed("name either `instance`, 64 hex digits, or `machine`"),
    };
    answer(blocking(move || {
        let now = (coordinator.clock)();
        if body.dry_run {
            let found = core::exposed(&coordinator.snapshot()?.state, &caller, &target, now)?;
            return Ok(json!({ "evicted": false, "found": found }));
        }
        let found = evict_now(&coordinator, &caller, &target, body.withhold, now)?;
        tracing::warn!(
            code = "EVICTED",
            instances = found.instances.len(),
            machine = found.machine,
            "instances were evicted"
        );
        Ok(json!({ "evicted": true, "found": found }))
    }))
    .await
}

fn target(body: &EvictBody) -> Option<Target> {
    match (&body.instance, &body.machine) {
        (Some(instance), None) => {
            let mut key = [0; 32];
            hex::decode_to_slice(instance, &mut key).ok()?;
            Some(Target::Instance(key))
        }
        (None, Some(machine)) => Some(Target::Machine(machine.clone())),
        _ => None,
    }
}

/// New values are made before the decision, which is made again where something came between: more instances may have
/// read more.
fn evict_now(
    coordinator: &Coordinator,
    caller: &Caller,
    target: &Target,
    withhold: bool,
    now: UnixTime,
) -> Result<core::Found, Refusal> {
    Coordinator::unless_overtaken(|| {
        let state = coordinator.snapshot()?.state;
        let eviction = core::prepare_eviction(&state, caller, target, withhold, now)?;
        coordinator.commit(|state| {
            let (event, found) = eviction.admit(state, caller, now)?;
            Ok(Decided::one(event, found))
        })
    })
}

/// Certificates of this epoch's CA that count no more (RFC 5280), DER: for clients and native Marbles.
pub(super) async fn revoked(State(coordinator): Shared) -> Response {
    let list = costly(move || {
        let state = coordinator.snapshot()?.state;
        let mesh = state.mesh().ok_or(Refusal::NoManifest)?;
        let now = (coordinator.clock)();
        let of_epoch = |(serial, _, epoch): (&[u8; 16], i64, u64)| (epoch == mesh.epoch()).then_some(*serial);
        let revoked = mesh.revocations().certificates(now.0).filter_map(of_epoch);
        Ok(mesh.intermediate().revoke(revoked, LIST_LIFETIME, now)?)
    })
    .await;
    match list {
        Ok(list) => ([(header::CONTENT_TYPE, "application/pkix-crl")], list).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}
