//! The update log: what happened to manifest and secrets, in the words that MarbleRun's readers know.

use std::borrow::Cow;

use appraisal::UnixTime;
use manifest::ManifestDigest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Event, State};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// RFC 3339.
    time: String,
    /// What happened.
    update: Cow<'static, str>,
    #[serde(flatten)]
    details: Map<String, Value>,
}

impl Entry {
    /// The lines for an event, given the state before it; none for what is no change of manifest or secrets.
    pub(super) fn of(event: &Event, before: &State) -> Vec<Self> {
        if let (Event::SecretsWritten { user, secrets, at, until: _ }, Some(mesh)) = (event, before.mesh()) {
            let line = |name: &String| {
                let kind = mesh.manifest().secrets().get(name.as_str()).map(|secret| secret.kind.as_str());
                Self::new(*at, "Secret set", json!({ "user": user, "secret": name, "type": kind }))
            };
            return secrets.keys().map(line).collect();
        }
        Self::single(event, before).into_iter().collect()
    }

    fn new(at: i64, update: &'static str, details: Value) -> Self {
        let details = if let Value::Object(details) = details { details } else { Map::new() };
        Self { time: UnixTime(at).to_string(), update: update.into(), details }
    }

    fn single(event: &Event, before: &State) -> Option<Self> {
        let missing = |by: &str, at: i64| {
            let mesh = before.mesh()?;
            let mut users = mesh.pending(UnixTime(at))?.missing_users(mesh.manifest());
            users.retain(|user| user != by);
            Some(users)
        };
        let (at, update, details) = match event {
            Event::ManifestSet { manifest, at, .. } => {
                (at, "Initial manifest set", json!({ "manifestFingerprint": digest(manifest) }))
            }
            Event::VersionsRaised { user, versions, at, .. } => {
                (at, "SecurityVersion increased", json!({ "user": user, "versions": versions }))
            }
            Event::UpdateProposed { user, manifest, deadline, at, .. } => (
                at,
                "Complete Manifest update initiated by user",
                json!({
                    "user": user, "manifestFingerprint": digest(manifest), "deadline": UnixTime(*deadline).to_string(),
                }),
            ),
            Event::UpdateAcknowledged { user, at } => (
                at,
                "Complete Manifest update acknowledged by user",
                json!({ "user": user, "missingUsers": missing(user, *at) }),
            ),
            Event::UpdateCancelled { user: Some(user), at } => {
                (at, "Complete Manifest update cancelled by user", json!({ "user": user }))
            }
            Event::UpdateCancelled { user: None, at } => {
                (at, "Complete Manifest update cancelled: its deadline passed", json!({}))
            }
            Event::ManifestUpdated { user, epoch, root_secret, at, .. } => (
                at,
                "Complete Manifest updated",
                json!({ "user": user, "epoch": epoch.number, "rootSecretRotated": root_secret.is_some() }),
            ),
            Event::Recovered { holders, epoch, at, .. } => {
                (at, "State recovered", json!({ "holders": holders, "epoch": epoch.number }))
            }
            Event::RolledBack { missing, epoch, at, .. } => (
                at,
                "Complete Manifest rolled back: Marbles that ran before did not run again in time",
                json!({ "missingMarbles": missing, "epoch": epoch.number }),
            ),
            Event::RecoveryRehearsed { holders, at } => {
                (at, "Recovery rehearsed", json!({ "holders": holders }))
            }
            Event::ReplicaJoined { platform, machine, at, .. } => {
                (at, "Coordinator replica joined", json!({ "platform": platform, "machine": machine }))
            }
            Event::SecretsRotated { user, generated, at } => (
                at,
                "Secrets rotated",
                json!({ "user": user, "secrets": generated.keys().collect::<Vec<_>>() }),
            ),
            Event::SecretsExpired { versions, at } => {
                (at, "Secrets expired", json!({ "secrets": versions.keys().collect::<Vec<_>>() }))
            }
            Event::Evicted { user, machine, instances, generated, exposed, withheld, at, .. } => {
                let instances: Vec<_> =
                    instances.iter().map(|evicted| hex::encode(*evicted.instance)).collect();
                let details = json!({
                    "user": user, "machine": machine, "instances": instances,
                    "rotated": generated.keys().collect::<Vec<_>>(),
                    "toReplace": exposed.keys().collect::<Vec<_>>(), "withheld": withheld,
                });
                (at, "Instances evicted", details)
            }
            Event::AnchorReset { holders, length, at } => {
                (at, "State anchored anew", json!({ "holders": holders, "records": length }))
            }
            // Names of resources are in no manifest, and this log is for everyone.
            Event::ResourceStored { user, path, version, at, value: _ } => (
                at,
                "Resource stored",
                json!({ "user": user, "repository": path.repository(), "version": version }),
            ),
            Event::ResourceDeleted { user, path, at } => {
                (at, "Resource deleted", json!({ "user": user, "repository": path.repository() }))
            }
            Event::ReferenceAdded { user, statement, signers, series, at } => {
                let id = hex::encode(transparency::Digest::of(statement).0);
                let details = json!({ "user": user, "statement": id, "signers": signers, "series": series });
                (at, "Reference statement added", details)
            }
            Event::ReferenceRemoved { user, id, at } => {
                (at, "Reference statement removed", json!({ "user": user, "statement": hex::encode(**id) }))
            }
            Event::Founded { .. }
            | Event::ResourceRead { .. }
            | Event::Anchored { .. }
            | Event::SecretsWritten { .. }
            | Event::Activated { .. }
            | Event::Renewed { .. }
            | Event::CounterRaised { .. }
            | Event::VolumeOpened { .. }
            | Event::VolumeAdvanced { .. }
            | Event::SecretsRead { .. } => return None,
        };
        Some(Self::new(*at, update, details))
    }
}

fn digest(manifest: &[u8]) -> String {
    ManifestDigest::of(manifest).to_string()
}
