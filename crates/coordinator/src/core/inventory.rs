//! What there is, for those who may know: secrets without their values, instances with what they were given.

use std::collections::{BTreeMap, BTreeSet};

use appraisal::UnixTime;
use manifest::{Action, InstanceAction, SecretSource};
use serde::Serialize;

use super::{Caller, Delivery, Mesh, Refusal, State, instances::Instance, secrets, versions::Standing};

/// A secret without its value.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretLine {
    name: String,
    /// MarbleRun's word for its type.
    kind: &'static str,
    /// Who has the same value.
    scope: &'static str,
    /// Counted from 1; null while it is not set, and where each instance has its own.
    version: Option<u64>,
    /// RFC 3339.
    made_at: Option<String>,
    /// RFC 3339; null where it does not expire.
    expires: Option<String>,
    /// `set`, `unset`, `expired`, `must-be-replaced`, `withheld`; `derived`, or `stored` outside.
    state: &'static str,
}

/// The secrets that this user may read, write or rotate.
pub fn secrets(state: &State, caller: &Caller, now: UnixTime) -> Result<Vec<SecretLine>, Refusal> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    let mine = |secret: &&manifest::Secret| {
        let actions = [Action::ReadSecret, Action::WriteSecret, Action::RotateSecret];
        actions.into_iter().any(|action| user.may(action, &secret.name))
    };
    Ok(mesh.manifest().secrets().values().filter(mine).map(|secret| line(mesh, secret, now)).collect())
}

fn line(mesh: &Mesh, secret: &manifest::Secret, now: UnixTime) -> SecretLine {
    let kept = mesh.kept(secret.name.as_str()).filter(|_| !matches!(secret.source, SecretSource::Stored(_)));
    let time = |at: i64| UnixTime(at).to_string();
    let expires = kept.and_then(|kept| secrets::end(secret, &kept.current));
    let state = match (kept, &secret.source) {
        (_, SecretSource::Stored(_)) => "stored",
        (_, SecretSource::PerInstance | SecretSource::PerPlatform) => "derived",
        (None, _) => "unset",
        (Some(_), _) if expires.is_some_and(|end| end <= now.0) => "expired",
        (Some(kept), _) => match kept.standing {
            Standing::Good => "set",
            Standing::Exposed { withheld: true } => "withheld",
            Standing::Exposed { withheld: false } => "must-be-replaced",
        },
    };
    SecretLine {
        name: secret.name.to_string(),
        kind: secret.kind.as_str(),
        scope: match secret.source {
            SecretSource::Shared => "shared",
            SecretSource::UserDefined => "user-defined",
            SecretSource::PerInstance => "instance",
            SecretSource::PerPlatform => "platform",
            SecretSource::Stored(_) => "stored",
        },
        version: kept.map(|kept| kept.current.number),
        made_at: kept.map(|kept| time(kept.current.made_at)),
        expires: expires.map(time),
        state,
    }
}

/// How many seconds each uploaded secret that expires is still delivered, by name; 0 where it is not any more.
pub(super) fn seconds_left(mesh: &Mesh, now: UnixTime) -> BTreeMap<&str, u64> {
    let left = |(name, kept): (&String, &super::versions::Kept)| {
        let (name, secret) = mesh.manifest().secrets().get_key_value(name.as_str())?;
        let end = secrets::end(secret, &kept.current)?;
        Some((name.as_str(), u64::try_from(end.saturating_sub(now.0)).unwrap_or(0)))
    };
    mesh.secrets().iter().filter_map(left).collect()
}

/// An instance that has a certificate.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceLine {
    /// The digest of its key; of a native program, of its UUID and where it runs.
    pub instance: String,
    /// Which Marble it is.
    pub marble: String,
    platform: evidence::Platform,
    /// As `bailey evict --platform` takes it; null where the Evidence names none.
    pub machine: Option<String>,
    emulated: bool,
    native: bool,
    /// RFC 3339.
    since: String,
    /// When its certificate ends.
    until: String,
    epoch: u64,
    /// What it was given: which versions, or `own`, or `stored` outside.
    secrets: BTreeMap<String, Given>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Given {
    Versions(BTreeSet<u64>),
    Word(&'static str),
}

/// Instances of the Marbles whose instances this user may read or evict.
pub fn instances(state: &State, caller: &Caller, now: UnixTime) -> Result<Vec<InstanceLine>, Refusal> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    let may = |marble: &str| {
        let actions = [InstanceAction::ReadInstances, InstanceAction::EvictInstance];
        actions.into_iter().any(|action| user.may_on(action, marble))
    };
    if !mesh.manifest().marbles().keys().any(|marble| may(marble.as_str())) {
        return Err(Refusal::NotAllowed { user: user.name.to_string(), action: "ReadInstances" });
    }
    let running = mesh.known_instances().iter().filter(|(_, known)| known.until > now.0);
    let mut lines: Vec<_> =
        running.filter(|(_, known)| may(&known.marble)).map(|(key, known)| instance(key, known)).collect();
    lines.sort_by(|one, other| (&one.marble, &one.instance).cmp(&(&other.marble, &other.instance)));
    Ok(lines)
}

pub(super) fn instance(key: &[u8; 32], known: &Instance) -> InstanceLine {
    InstanceLine {
        instance: hex::encode(key),
        marble: known.marble.to_string(),
        platform: known.seat.platform,
        machine: known.seat.machine.clone(),
        emulated: known.seat.emulated,
        native: known.seat.native,
        since: UnixTime(known.since).to_string(),
        until: UnixTime(known.until).to_string(),
        epoch: known.epoch,
        secrets: known.delivered.iter().map(given).collect(),
    }
}

fn given((name, delivery): (&String, &Delivery)) -> (String, Given) {
    let given = match delivery {
        Delivery::Versions(versions) => Given::Versions(versions.clone()),
        Delivery::Own => Given::Word("own"),
        Delivery::Stored => Given::Word("stored"),
    };
    (name.clone(), given)
}
