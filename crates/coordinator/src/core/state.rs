//! What the coordinator knows, rebuilt from its log. Secrets in it are wiped when it goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use appraisal::UnixTime;
use manifest::{Manifest, ManifestDigest};
use zeroize::Zeroizing;

use super::{
    Event, IdentityKey, Refusal, SecretValue,
    event::{Epoch, SealedAuthority},
    history::Entry,
};
use crate::{
    authority::{Authority, MARBLE_LIFETIME},
    store::StoreError,
};

/// The whole state.
#[derive(Clone)]
pub struct State {
    identity: IdentityKey,
    root: Authority,
    root_secret: Zeroizing<[u8; 32]>,
    emulated: bool,
    mesh: Option<Mesh>,
}

/// A mesh under a manifest.
#[derive(Clone)]
pub struct Mesh {
    manifest: Arc<Manifest>,
    manifest_bytes: Arc<Vec<u8>>,
    epoch: u64,
    intermediate: Authority,
    marble_root: Vec<u8>,
    secrets: BTreeMap<String, SecretValue>,
    previous: BTreeMap<String, SecretValue>,
    previous_root_secret: Option<Zeroizing<[u8; 32]>>,
    recovery_secret: Option<Zeroizing<[u8; 32]>>,
    activations: BTreeMap<String, u64>,
    instances: BTreeMap<[u8; 32], Instance>,
    counters: BTreeMap<CounterName, u64>,
    pending: Option<Pending>,
    history: Vec<Arc<Entry>>,
}

/// Marble, instance, name.
type CounterName = (String, [u8; 32], String);

#[derive(Clone)]
struct Instance {
    marble: String,
    /// Until when a certificate of this instance may be valid, by the renewal that it is owed.
    until: i64,
}

/// A proposed manifest.
#[derive(Clone)]
pub struct Pending {
    /// Its exact bytes.
    pub bytes: Arc<Vec<u8>>,
    /// SHA-256 of them.
    pub digest: ManifestDigest,
    /// Who agreed, the proposer included.
    pub acknowledged: BTreeSet<String>,
    /// Packages whose security version may fall by it.
    pub downgrades: BTreeSet<String>,
    /// When it is off, in seconds.
    pub deadline: i64,
}

impl State {
    /// Replays a log. `None` for an empty one: the mesh has yet to be founded.
    pub fn replay(
        records: &[Zeroizing<Vec<u8>>],
        identity: &IdentityKey,
    ) -> Result<Option<Self>, StoreError> {
        let mut state: Option<Self> = None;
        for (index, record) in (0..).zip(records) {
            let event = Event::from_record(index, record)?;
            let stepped = match state {
                None => Self::begin(event, identity.clone()),
                Some(state) => state.step(event),
            };
            state = Some(stepped.map_err(|reason| StoreError::Version { index, reason })?);
        }
        Ok(state)
    }

    /// The state after the first event.
    pub fn begin(event: Event, identity: IdentityKey) -> Result<Self, String> {
        let Event::Founded { root, root_secret, emulated, at: _ } = event else {
            return Err("the log does not begin with the founding of a mesh".into());
        };
        let root = authority(root, &identity)?;
        Ok(Self {
            identity,
            root,
            root_secret: Zeroizing::new(root_secret.into_array()),
            emulated,
            mesh: None,
        })
    }

    /// The state after `event`. An error means that the log was not written by this code.
    pub fn step(mut self, event: Event) -> Result<Self, String> {
        self.apply(event)?;
        Ok(self)
    }

    fn apply(&mut self, event: Event) -> Result<(), String> {
        let entries = Entry::of(&event, self);
        match event {
            Event::Founded { .. } => return Err("the mesh is founded twice".into()),
            Event::ManifestSet { manifest, epoch, generated, recovery_secret, at: _ } => {
                if self.mesh.is_some() {
                    return Err("the first manifest is set twice".into());
                }
                let (number, intermediate, marble_root) = self.epoch(epoch)?;
                self.mesh = Some(Mesh {
                    manifest: Arc::new(Manifest::parse(&manifest).map_err(|faults| faults.to_string())?),
                    manifest_bytes: Arc::new(manifest.into_vec()),
                    epoch: number,
                    intermediate,
                    marble_root,
                    previous: generated.clone(),
                    secrets: generated,
                    previous_root_secret: None,
                    recovery_secret: recovery_secret.map(|secret| Zeroizing::new(secret.into_array())),
                    activations: BTreeMap::new(),
                    instances: BTreeMap::new(),
                    counters: BTreeMap::new(),
                    pending: None,
                    history: Vec::new(),
                });
            }
            Event::Recovered { root, epoch, generated, emulated, .. } => {
                self.root = authority(root, &self.identity)?;
                self.emulated = emulated;
                self.enter(epoch, None)?;
                self.mesh_mut()?.replace(generated, |_| true);
            }
            Event::VersionsRaised { versions, epoch, generated, .. } => {
                let mut known = BTreeMap::new();
                for (name, version) in versions {
                    known.insert(name.parse().map_err(|_| format!("{name:?} is no package"))?, version);
                }
                let raised = Arc::new(self.mesh_mut()?.manifest.with_security_versions(&known));
                self.enter(epoch, Some(raised))?;
                self.mesh_mut()?.replace(generated, |_| true);
            }
            Event::ManifestUpdated { epoch, generated, rotated, root_secret, recovery_secret, .. } => {
                let pending = self.mesh_mut()?.pending.take().ok_or("an update that was never proposed")?;
                let manifest =
                    Arc::new(Manifest::parse(&pending.bytes).map_err(|faults| faults.to_string())?);
                self.enter(epoch, Some(manifest.clone()))?;
                let old = root_secret.map(|secret| {
                    std::mem::replace(&mut self.root_secret, Zeroizing::new(secret.into_array()))
                });
                let mesh = self.mesh_mut()?;
                mesh.manifest_bytes = pending.bytes;
                mesh.replace(generated, |name| rotated.contains(name));
                let named = |name: &String| manifest.secrets().contains_key(name.as_str());
                mesh.secrets.retain(|name, _| named(name));
                mesh.previous.retain(|name, _| named(name));
                mesh.previous_root_secret = old.or_else(|| mesh.previous_root_secret.take());
                mesh.recovery_secret = match recovery_secret {
                    Some(secret) => Some(Zeroizing::new(secret.into_array())),
                    None if manifest.settings().recovery_keys.is_empty() => None,
                    None => mesh.recovery_secret.take(),
                };
            }
            event => self.mesh_mut()?.apply(event)?,
        }
        if let Some(mesh) = &mut self.mesh {
            mesh.history.extend(entries.into_iter().map(Arc::new));
        }
        Ok(())
    }

    fn epoch(&self, epoch: Epoch) -> Result<(u64, Authority, Vec<u8>), String> {
        let intermediate = authority(epoch.intermediate, &self.identity)?;
        Ok((epoch.number, intermediate, epoch.marble_root.into_vec()))
    }

    /// A new epoch, in which no instance is known yet.
    fn enter(&mut self, epoch: Epoch, manifest: Option<Arc<Manifest>>) -> Result<(), String> {
        let (number, intermediate, marble_root) = self.epoch(epoch)?;
        let mesh = self.mesh_mut()?;
        (mesh.epoch, mesh.intermediate, mesh.marble_root) = (number, intermediate, marble_root);
        mesh.instances.clear();
        if let Some(manifest) = manifest {
            mesh.manifest = manifest;
        }
        Ok(())
    }

    fn mesh_mut(&mut self) -> Result<&mut Mesh, String> {
        self.mesh.as_mut().ok_or_else(|| "something happened in a mesh that has no manifest".to_owned())
    }

    /// The root CA.
    pub fn root(&self) -> &Authority {
        &self.root
    }

    /// Whether the keys of the CAs are here. They are not after a recovery, until a new root is made.
    pub fn can_issue(&self) -> bool {
        self.root.key().is_ok() && self.mesh.as_ref().is_none_or(|mesh| mesh.intermediate.key().is_ok())
    }

    /// Seals CA keys.
    pub(super) fn identity(&self) -> &IdentityKey {
        &self.identity
    }

    /// From which secrets of single instances are derived.
    pub(super) fn root_secret(&self) -> &[u8; 32] {
        &self.root_secret
    }

    /// Whether the coordinator itself runs on an emulated platform.
    pub fn emulated(&self) -> bool {
        self.emulated
    }

    /// The mesh, once a manifest is set.
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref()
    }

    /// Names the mesh in SPIFFE IDs: the root's fingerprint, shortened to a host name's length.
    pub fn trust_domain(&self) -> String {
        hex::encode(&self.root.fingerprint()[..16])
    }

    pub(super) fn running(&self) -> Result<&Mesh, Refusal> {
        self.mesh.as_ref().ok_or(Refusal::NoManifest)
    }
}

impl Mesh {
    fn apply(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::SecretsWritten { secrets, .. } => self.replace(secrets, |_| true),
            Event::Activated { marble, instance, at } => {
                *self.activations.entry(marble.clone()).or_default() += 1;
                // An instance that let its certificate lapse must activate again, so it need not be kept.
                self.instances.retain(|_, instance| instance.until > at);
                let until = at.saturating_add(MARBLE_LIFETIME.whole_seconds());
                self.instances.insert(instance.into_array(), Instance { marble, until });
            }
            Event::Renewed { instance, at } => {
                if let Some(known) = self.instances.get_mut(&*instance) {
                    known.until = at.saturating_add(MARBLE_LIFETIME.whole_seconds());
                }
            }
            Event::UpdateProposed { user, manifest, downgrades, deadline, at: _ } => {
                self.pending = Some(Pending {
                    digest: ManifestDigest::of(&manifest),
                    bytes: Arc::new(manifest.into_vec()),
                    acknowledged: [user].into(),
                    downgrades,
                    deadline,
                });
            }
            Event::UpdateAcknowledged { user, at: _ } => {
                let pending = self.pending.as_mut().ok_or("an update that was never proposed")?;
                pending.acknowledged.insert(user);
            }
            Event::UpdateCancelled { .. } => self.pending = None,
            Event::CounterRaised { marble, instance, name, value } => {
                self.counters.insert((marble, instance.into_array(), name), value);
            }
            Event::RecoveryRehearsed { .. } => {}
            _ => return Err("an event that no mesh has".into()),
        }
        Ok(())
    }

    /// Takes new values; what was there becomes the previous value where `keeps_old` says so, and else the new
    /// value is also the previous one: who asks for it gets one that works.
    fn replace(&mut self, values: BTreeMap<String, SecretValue>, keeps_old: impl Fn(&str) -> bool) {
        for (name, value) in values {
            let old = self.secrets.insert(name.clone(), value.clone());
            let previous = old.filter(|_| keeps_old(&name)).unwrap_or(value);
            self.previous.insert(name, previous);
        }
    }

    /// The manifest in force, with the security versions that were raised since.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its exact bytes.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// SHA-256 of them.
    pub fn manifest_digest(&self) -> [u8; 32] {
        self.manifest.digest().0
    }

    /// The epoch in force.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The epoch's CA.
    pub fn intermediate(&self) -> &Authority {
        &self.intermediate
    }

    /// The epoch's CA as a root, DER.
    pub fn marble_root(&self) -> &[u8] {
        &self.marble_root
    }

    /// A secret that was generated or uploaded.
    pub(super) fn secret(&self, name: &str) -> Option<&SecretValue> {
        self.secrets.get(name)
    }

    /// Its value before the last rotation or update.
    pub(super) fn previous(&self, name: &str) -> Option<&SecretValue> {
        self.previous.get(name)
    }

    /// From which secrets of single instances were derived before the last rotation.
    pub(super) fn previous_root_secret(&self) -> Option<&[u8; 32]> {
        self.previous_root_secret.as_deref()
    }

    /// What the shares of the recovery keys give together.
    pub fn recovery_secret(&self) -> Option<&Zeroizing<[u8; 32]>> {
        self.recovery_secret.as_ref()
    }

    /// How often a Marble was activated.
    pub fn activations(&self, marble: &str) -> u64 {
        self.activations.get(marble).copied().unwrap_or(0)
    }

    /// How many instances of each Marble have a certificate that may still be valid.
    pub fn instances(&self, now: UnixTime) -> BTreeMap<&str, u64> {
        let mut count = BTreeMap::new();
        for instance in self.instances.values().filter(|instance| instance.until > now.0) {
            *count.entry(instance.marble.as_str()).or_default() += 1;
        }
        count
    }

    /// Whether `instance` was activated as `marble` and its certificate has not lapsed.
    pub(super) fn is_instance(&self, instance: &[u8; 32], marble: &str, now: UnixTime) -> bool {
        self.instances.get(instance).is_some_and(|known| known.marble == marble && known.until > now.0)
    }

    /// A counter's value; 0 until it is raised.
    pub(super) fn counter(&self, name: &CounterName) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// The proposed manifest, while its deadline has not passed.
    pub fn pending(&self, now: UnixTime) -> Option<&Pending> {
        self.pending.as_ref().filter(|pending| now.0 <= pending.deadline)
    }

    /// Whether a proposed manifest lies there past its deadline.
    pub(super) fn lapsed(&self, now: UnixTime) -> bool {
        self.pending.as_ref().is_some_and(|pending| now.0 > pending.deadline)
    }

    /// What happened to manifest and secrets, oldest first.
    pub fn history(&self) -> &[Arc<Entry>] {
        &self.history
    }
}

fn authority(sealed: SealedAuthority, identity: &IdentityKey) -> Result<Authority, String> {
    let key = identity.open(&sealed.key);
    Authority::from_parts(key, sealed.certificate.into_vec()).map_err(|error| error.to_string())
}
