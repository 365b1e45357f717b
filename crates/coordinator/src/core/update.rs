//! Changes of the manifest: security versions that one user raises, and whole manifests that several users agree
//! on.
//!
//! ```text
//!   propose ──▶ pending ──acknowledge──▶ … ──the last one needed──▶ in force, next epoch
//!                  └────cancel, or deadline────▶ off
//! ```

use std::collections::BTreeSet;

use appraisal::UnixTime;
use manifest::{Manifest, PackageUpdate, SecretSource, User};
use serde_bytes::{ByteArray, ByteBuf};

use super::{Caller, Event, Mesh, Refusal, State, epoch, event, recovery, secrets, state::Pending};

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
    bytes: Vec<u8>,
    downgrades: BTreeSet<String>,
    now: UnixTime,
) -> Result<(Vec<Event>, Progress), Refusal> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    let mut events = lapsed(mesh, now);
    if mesh.pending(now).is_some() {
        return Err(Refusal::UpdatePending);
    }
    if PackageUpdate::is_one(&bytes) {
        let event = raise(state, mesh, user, &bytes, now)?;
        events.push(event);
        return Ok((events, Progress { missing_users: Vec::new(), missing: 0, shares: None }));
    }
    may_update(user)?;
    let manifest = Manifest::parse(&bytes)?;
    versions_do_not_fall(mesh, &manifest, &downgrades)?;
    if manifest.settings().seal_mode != mesh.manifest().settings().seal_mode {
        return Err(Refusal::SealModeFixed);
    }
    let pending = Pending {
        digest: manifest.digest(),
        bytes: std::sync::Arc::new(bytes.clone()),
        acknowledged: [user.name.to_string()].into(),
        downgrades: downgrades.clone(),
        deadline: now.0.saturating_add(seconds(mesh.manifest().settings().update_deadline)),
    };
    events.push(Event::UpdateProposed {
        user: user.name.to_string(),
        manifest: ByteBuf::from(bytes),
        downgrades,
        deadline: pending.deadline,
        at: event::seconds(now),
    });
    let (applied, progress) = progress(state, mesh, &pending, user, now)?;
    events.extend(applied);
    Ok((events, progress))
}

/// Another user's agreement to the very manifest that is proposed.
pub fn acknowledge(
    state: &State,
    caller: &Caller,
    bytes: &[u8],
    now: UnixTime,
) -> Result<(Vec<Event>, Progress), Refusal> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    may_update(user)?;
    let mut pending = mesh.pending(now).ok_or(Refusal::NoUpdate)?.clone();
    let seen = manifest::ManifestDigest::of(bytes);
    if seen != pending.digest {
        return Err(Refusal::OtherUpdate { pending: pending.digest, seen });
    }
    let mut events = Vec::new();
    if pending.acknowledged.insert(user.name.to_string()) {
        events.push(Event::UpdateAcknowledged { user: user.name.to_string(), at: event::seconds(now) });
    }
    let (applied, progress) = progress(state, mesh, &pending, user, now)?;
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

fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// S-45: what was once required stays required, unless whoever proposes says so, for all to see.
fn versions_do_not_fall(mesh: &Mesh, new: &Manifest, downgrades: &BTreeSet<String>) -> Result<(), Refusal> {
    for (name, package) in mesh.manifest().packages() {
        let Some(old) = package.security_version() else { continue };
        let Some(new) = new.packages().get(name).and_then(|package| package.security_version()) else {
            continue;
        };
        if new < old && !downgrades.contains(name.as_str()) {
            return Err(Refusal::Downgrade { package: name.to_string(), in_force: old, proposed: new });
        }
    }
    Ok(())
}

fn raise(state: &State, mesh: &Mesh, user: &User, bytes: &[u8], now: UnixTime) -> Result<Event, Refusal> {
    let update = PackageUpdate::parse(bytes, mesh.manifest())?;
    if let Some(package) = update.0.keys().find(|package| !user.may_raise(package.as_str())) {
        return Err(Refusal::NotGranted {
            user: user.name.to_string(),
            action: "UpdateSecurityVersion",
            resource: format!("package {package:?}"),
        });
    }
    let (epoch, intermediate) = epoch::next(state, now)?;
    let certificate = |secret: &manifest::Secret| matches!(secret.kind, manifest::SecretKind::Certificate(_));
    Ok(Event::VersionsRaised {
        user: user.name.to_string(),
        versions: update.0.into_iter().map(|(name, version)| (name.to_string(), version)).collect(),
        generated: secrets::generate(mesh.manifest(), &intermediate, now, certificate)?,
        epoch,
        at: event::seconds(now),
    })
}

/// Applies the update when nobody is missing any more.
fn progress(
    state: &State,
    mesh: &Mesh,
    pending: &Pending,
    user: &User,
    now: UnixTime,
) -> Result<(Option<Event>, Progress), Refusal> {
    let missing = pending.missing(mesh.manifest());
    if missing > 0 {
        let missing_users = pending.missing_users(mesh.manifest());
        return Ok((None, Progress { missing_users, missing, shares: None }));
    }
    let (event, shares) = apply(state, mesh, pending, user, now)?;
    Ok((Some(event), Progress { missing_users: Vec::new(), missing: 0, shares }))
}

fn apply(
    state: &State,
    mesh: &Mesh,
    pending: &Pending,
    user: &User,
    now: UnixTime,
) -> Result<(Event, Option<recovery::Shares>), Refusal> {
    let (old, new) = (mesh.manifest(), Manifest::parse(&pending.bytes)?);
    // Once more, on the state that it is applied to: versions may have been raised meanwhile.
    versions_do_not_fall(mesh, &new, &pending.downgrades)?;
    let (epoch, intermediate) = epoch::next(state, now)?;
    let rotate = new.settings().rotate_root_secret;
    let unchanged = |secret: &manifest::Secret| old.secrets().get(&secret.name) == Some(secret);
    let mut rotated = BTreeSet::new();
    let generated = secrets::generate(&new, &intermediate, now, |secret| {
        let certificate = matches!(secret.kind, manifest::SecretKind::Certificate(_));
        !unchanged(secret) || certificate || rotate || mesh.secret(secret.name.as_str()).is_none()
    })?;
    for name in generated.keys() {
        if new.secrets().get(name.as_str()).is_some_and(unchanged) {
            rotated.insert(name.clone());
        }
    }
    changed_uploads(mesh, &new)?;
    let keys_changed = new.settings().recovery_keys != old.settings().recovery_keys
        || recovery::threshold(&new) != recovery::threshold(old);
    let recovery_secret = if keys_changed { recovery::secret(&new)? } else { None };
    let shares = recovery_secret.as_ref().map(|secret| recovery::shares(&new, secret)).transpose()?;
    let event = Event::ManifestUpdated {
        user: user.name.to_string(),
        epoch,
        generated,
        rotated,
        root_secret: if rotate { Some(ByteArray::new(secrets::random32()?)) } else { None },
        recovery_secret: recovery_secret.map(|secret| ByteArray::new(*secret)),
        at: event::seconds(now),
    };
    Ok((event, shares))
}

/// An uploaded value stays under a definition that it does not fit, unless the update is refused: it cannot be made
/// anew, and its user may be asleep.
fn changed_uploads(mesh: &Mesh, new: &Manifest) -> Result<(), Refusal> {
    for secret in new.secrets().values().filter(|secret| secret.source == SecretSource::UserDefined) {
        let name = secret.name.as_str();
        let before = mesh.manifest().secrets().get(name);
        if mesh.secret(name).is_some() && before.is_some_and(|before| before.kind != secret.kind) {
            return Err(Refusal::SecretShape {
                name: name.to_owned(),
                reason:
                    "its uploaded value does not fit the new definition: give the new secret another name"
                        .into(),
            });
        }
    }
    Ok(())
}
