//! New values of secrets: those that a user wants, and those that became too old. A rotation needs no epoch: whoever
//! runs keeps what it has, and gets the new value, with the one before as `.Previous`, when it is activated next.

use std::collections::{BTreeMap, BTreeSet};

use appraisal::UnixTime;
use manifest::{Action, Secret, SecretSource};

use super::{Caller, Event, Mesh, Refusal, SecretValue, State, event, secrets};
use crate::authority::Authority;

/// New values, made on one state and for it: an RSA key takes a second, in which nobody waits.
pub struct Rotation {
    names: BTreeSet<String>,
    made: Made,
}

/// New values of some secrets, each to be the version that it was made as, or nothing.
pub(super) struct Made {
    epoch: u64,
    values: BTreeMap<String, (u64, SecretValue)>,
}

impl Made {
    /// Makes values with this epoch's CA.
    pub(super) fn new<'s>(
        mesh: &Mesh,
        wanted: impl Iterator<Item = &'s Secret>,
        now: UnixTime,
    ) -> Result<Self, Refusal> {
        let issuer: &Authority = mesh.intermediate();
        let mut values = BTreeMap::new();
        for secret in wanted {
            let name = secret.name.to_string();
            if let Some(value) = secrets::fresh(secret, issuer, now)? {
                values.insert(name.clone(), (mesh.secrets().next(&name), value));
            }
        }
        Ok(Self { epoch: mesh.epoch(), values })
    }

    /// The values of these secrets, if they still follow the ones that they were made to follow. Otherwise a rotation
    /// that came between would be the one before the last at once, and its value lost.
    pub(super) fn take(
        &self,
        mesh: &Mesh,
        names: impl Iterator<Item = String>,
    ) -> Result<BTreeMap<String, SecretValue>, Refusal> {
        let mut taken = BTreeMap::new();
        for name in names {
            let made = self
                .values
                .get(&name)
                .filter(|(version, _)| self.epoch == mesh.epoch() && *version == mesh.secrets().next(&name));
            let Some((_, value)) = made else {
                return Err(Refusal::Overtaken { what: format!("secret {name:?}") });
            };
            taken.insert(name, value.clone());
        }
        Ok(taken)
    }
}

/// Makes new values of shared secrets, for a user whom the manifest grants `RotateSecret` for every one.
pub fn prepare_rotation(
    state: &State,
    caller: &Caller,
    names: &BTreeSet<String>,
    now: UnixTime,
) -> Result<Rotation, Refusal> {
    let wanted = wanted(state.running()?, caller, names)?;
    Ok(Rotation { names: names.clone(), made: Made::new(state.running()?, wanted.into_iter(), now)? })
}

fn wanted<'m>(mesh: &'m Mesh, caller: &Caller, names: &BTreeSet<String>) -> Result<Vec<&'m Secret>, Refusal> {
    let user = secrets::user(mesh, caller)?;
    if names.is_empty() {
        return Err(Refusal::NoSecrets);
    }
    let mut wanted = Vec::new();
    for name in names {
        let secret = secrets::granted(mesh, user, Action::RotateSecret, name)?;
        if secret.source != SecretSource::Shared {
            return Err(Refusal::SecretShape {
                name: name.clone(),
                reason: "the coordinator has no shared value of it that it could make anew".into(),
            });
        }
        wanted.push(secret);
    }
    Ok(wanted)
}

impl Rotation {
    /// The event and the versions that there are then, if on the newest state the user may still have it.
    pub fn admit(
        &self,
        state: &State,
        caller: &Caller,
        now: UnixTime,
    ) -> Result<(Event, BTreeMap<String, u64>), Refusal> {
        let mesh = state.running()?;
        wanted(mesh, caller, &self.names)?;
        let generated = self.made.take(mesh, self.names.iter().cloned())?;
        let versions = self.names.iter().map(|name| (name.clone(), mesh.secrets().next(name))).collect();
        let user = secrets::user(mesh, caller)?.name.to_string();
        Ok((Event::SecretsRotated { user, generated, at: event::seconds(now) }, versions))
    }
}

/// The event for uploaded values that are delivered no more: they are wiped.
pub fn expire(state: &State, now: UnixTime) -> Option<Event> {
    let mesh = state.mesh()?;
    let mut versions = BTreeMap::new();
    for (name, kept) in mesh.secrets().iter() {
        let Some(secret) = mesh.manifest().secrets().get(name.as_str()) else { continue };
        let of_value = [Some(&kept.current), kept.before.as_ref()].into_iter().flatten();
        let ended: Vec<_> = of_value
            .filter(|version| {
                version.value.is_some() && secrets::end(secret, version).is_some_and(|end| end <= now.0)
            })
            .map(|version| version.number)
            .collect();
        if !ended.is_empty() {
            versions.insert(name.clone(), ended);
        }
    }
    (!versions.is_empty()).then(|| Event::SecretsExpired { versions, at: event::seconds(now) })
}
