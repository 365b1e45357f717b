//! Changes of the manifest: security versions that one user raises, and whole manifests that several users agree
//! on.
//!
//! ```text
//!   propose ──▶ pending ──acknowledge──▶ … ──the last one needed──▶ in force, next epoch
//!                  └────cancel, or deadline────▶ off
//! ```

use std::{collections::BTreeSet, sync::Arc};

use appraisal::UnixTime;
use manifest::{Choices, Fall, Manifest, PackageUpdate, SecretKind, SecretName, User};
use serde_bytes::ByteBuf;

use super::{
    Caller, Event, Mesh, Refusal, State,
    broker::policies,
    event,
    keys::{Need, NewKeys, Undecided},
    recovery, references, secrets,
    state::Pending,
};

/// Where an update stands after a request.
pub struct Progress {
    /// Users whose acknowledgement would count, and who have not given it.
    pub missing_users: Vec<String>,
    /// How many acknowledgements are missing.
    pub missing: usize,
    /// Shares to hand out, where the recovery keys changed.
    pub shares: Option<recovery::Shares>,
}

/// An update of packages or of the whole manifest, by what it contains.
pub fn update(
    state: &State,
    caller: &Caller,
    bytes: &[u8],
    downgrades: &BTreeSet<String>,
    now: UnixTime,
    keys: Option<&NewKeys>,
) -> Result<(Vec<Event>, Progress), Undecided> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    let mut events = lapsed(mesh, now);
    if mesh.pending(now).is_some() {
        return Err(Refusal::UpdatePending.into());
    }
    if PackageUpdate::is_one(bytes) {
        let event = raise(state, mesh, user, bytes, now, keys)?;
        events.push(event);
        return Ok((events, Progress { missing_users: Vec::new(), missing: 0, shares: None }));
    }
    may_update(user)?;
    let manifest = policies::parse(bytes)?;
    let choices = choices(mesh, &manifest);
    versions_do_not_fall(&choices, downgrades)?;
    if choices.seal_mode {
        return Err(Refusal::SealModeFixed.into());
    }
    if choices.no_way_back {
        return Err(Refusal::NoWayBack.into());
    }
    if !choices.trust_roots.is_empty() {
        let signers = choices.trust_roots.iter().map(ToString::to_string).collect();
        return Err(Refusal::TrustRootRolledBack { signers }.into());
    }
    references::signers(&manifest)?;
    references::workload_signers(&manifest)?;
    let pending = Pending {
        digest: manifest.digest(),
        bytes: Arc::new(bytes.to_vec()),
        acknowledged: [user.name.to_string()].into(),
        downgrades: downgrades.clone(),
        deadline: now.0.saturating_add(seconds(mesh.manifest().settings().update_deadline)),
    };
    events.push(Event::UpdateProposed {
        user: user.name.to_string(),
        manifest: ByteBuf::from(bytes),
        downgrades: downgrades.clone(),
        deadline: pending.deadline,
        at: event::seconds(now),
    });
    let (applied, progress) = progress(state, mesh, &pending, user, now, keys)?;
    events.extend(applied);
    Ok((events, progress))
}

/// Another user's agreement to the very manifest that is proposed.
pub fn acknowledge(
    state: &State,
    caller: &Caller,
    bytes: &[u8],
    now: UnixTime,
    keys: Option<&NewKeys>,
) -> Result<(Vec<Event>, Progress), Undecided> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    may_update(user)?;
    let mut pending = mesh.pending(now).ok_or(Refusal::NoUpdate)?.clone();
    let seen = manifest::ManifestDigest::of(bytes);
    if seen != pending.digest {
        return Err(Refusal::OtherUpdate { pending: pending.digest, seen }.into());
    }
    let mut events = Vec::new();
    if pending.acknowledged.insert(user.name.to_string()) {
        events.push(Event::UpdateAcknowledged { user: user.name.to_string(), at: event::seconds(now) });
    }
    let (applied, progress) = progress(state, mesh, &pending, user, now, keys)?;
    events.extend(applied);
    Ok((events, progress))
}

/// A user who may update takes the proposal away.
pub fn cancel(state: &State, caller: &Caller, now: UnixTime) -> Result<Event, Refusal> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    may_update(user)?;
    mesh.pending(now).ok_or(Refusal::NoUpdate)?;
    Ok(Event::UpdateCancelled { user: Some(user.name.to_string()), at: event::seconds(now) })
}

/// The event for a proposal whose deadline has passed.
pub fn lapse(state: &State, now: UnixTime) -> Option<Event> {
    state.mesh().and_then(|mesh| lapsed(mesh, now).pop())
}

fn lapsed(mesh: &Mesh, now: UnixTime) -> Vec<Event> {
    if mesh.lapsed(now) {
        vec![Event::UpdateCancelled { user: None, at: event::seconds(now) }]
    } else {
        Vec::new()
    }
}

fn may_update(user: &User) -> Result<(), Refusal> {
    if user.may_update() {
        return Ok(());
    }
    Err(Refusal::NotAllowed { user: user.name.to_string(), action: "UpdateManifest" })
}

pub(super) fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// What the update makes anew, and what stands in its way.
pub(super) fn choices(mesh: &Mesh, new: &Manifest) -> Choices {
    Choices::between(mesh.manifest(), new, |name| mesh.secret(name.as_str()).is_some())
}

/// S-45: what was once required stays required, unless whoever proposes says so, for all to see.
fn versions_do_not_fall(choices: &Choices, downgrades: &BTreeSet<String>) -> Result<(), Refusal> {
    match choices.falls.iter().find(|fall| !downgrades.contains(fall.package.as_str())) {
        None => Ok(()),
        Some(Fall { package, in_force, proposed, .. }) => {
            Err(Refusal::Downgrade { package: package.to_string(), in_force: *in_force, proposed: *proposed })
        }
    }
}

fn raise(
    state: &State,
    mesh: &Mesh,
    user: &User,
    bytes: &[u8],
    now: UnixTime,
    keys: Option<&NewKeys>,
) -> Result<Event, Undecided> {
    let update = PackageUpdate::parse(bytes, mesh.manifest())?;
    if let Some(package) = update.0.keys().find(|package| !user.may_raise(package.as_str())) {
        let refusal = Refusal::NotGranted {
            user: user.name.to_string(),
            action: "UpdateSecurityVersion",
            resource: format!("package {package:?}"),
        };
        return Err(refusal.into());
    }
    let manifest = mesh.shared_manifest();
    let keys = Need::epoch(state, manifest.clone(), certificates(manifest)).met_by(keys)?;
    Ok(Event::VersionsRaised {
        user: user.name.to_string(),
        versions: update.0.into_iter().map(|(name, version)| (name.to_string(), version)).collect(),
        generated: keys.generated.clone(),
        epoch: keys.epoch.clone(),
        at: event::seconds(now),
    })
}

/// The secrets that are certificates: each epoch's CA issues them anew.
pub(super) fn certificates(manifest: &Manifest) -> BTreeSet<SecretName> {
    let certificates =
        manifest.secrets().values().filter(|secret| matches!(secret.kind, SecretKind::Certificate(_)));
    certificates.map(|secret| secret.name.clone()).collect()
}

/// Applies the update when nobody is missing any more.
fn progress(
    state: &State,
    mesh: &Mesh,
    pending: &Pending,
    user: &User,
    now: UnixTime,
    keys: Option<&NewKeys>,
) -> Result<(Option<Event>, Progress), Undecided> {
    let missing = pending.missing(mesh.manifest());
    if missing > 0 {
        let missing_users = pending.missing_users(mesh.manifest());
        return Ok((None, Progress { missing_users, missing, shares: None }));
    }
    let (event, shares) = apply(state, mesh, pending, user, now, keys)?;
    Ok((Some(event), Progress { missing_users: Vec::new(), missing: 0, shares }))
}

fn apply(
    state: &State,
    mesh: &Mesh,
    pending: &Pending,
    user: &User,
    now: UnixTime,
    keys: Option<&NewKeys>,
) -> Result<(Event, Option<recovery::Shares>), Undecided> {
    let new = Manifest::parse(&pending.bytes)?;
    // Once more, on the state that it is applied to: versions may have been raised meanwhile.
    let choices = choices(mesh, &new);
    versions_do_not_fall(&choices, &pending.downgrades)?;
    if let Some(name) = choices.unfit.first() {
        // It cannot be made anew, and its user may be asleep.
        let reason = "its uploaded value does not fit the new definition: give the new secret another name";
        return Err(Refusal::SecretShape { name: name.to_string(), reason: reason.into() }.into());
    }
    if choices.no_way_back {
        return Err(Refusal::NoWayBack.into());
    }
    let need = Need::epoch(state, Arc::new(new), choices.generated);
    let keys = need.and(choices.root_secret, choices.recovery_keys).met_by(keys)?;
    let event = Event::ManifestUpdated {
        user: user.name.to_string(),
        epoch: keys.epoch.clone(),
        generated: keys.generated.clone(),
        rotated: choices.rotated.iter().map(ToString::to_string).collect(),
        root_secret: keys.root_secret(),
        recovery_secret: keys.recovery_secret(),
        at: event::seconds(now),
    };
    Ok((event, keys.shares()))
}
