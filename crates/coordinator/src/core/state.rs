//! What the coordinator knows, rebuilt from its log. Secrets in it are wiped when it goes. Whatever grows is in
//! persistent maps: a copy of a state costs the same whatever the mesh has seen, and each commit makes one.

mod snapshot;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use appraisal::UnixTime;
use attested_tls::marble::Rollout;
use manifest::{Manifest, ManifestDigest};
use rpds::{RedBlackTreeMapSync, VectorSync};
use zeroize::Zeroizing;

use super::{
    Event, IdentityKey, Refusal, SecretValue,
    anchor::Chain,
    broker::policies::Policies,
    event::{Epoch, SealedAuthority},
    history::Entry,
    instances::{Activated, Instances},
    references::References,
    resources::{ResourceVersion, Resources},
    revocation::{Readers, Revocations},
    rollback::Undo,
    signers::{Signer, Signers},
    transparency::{self, Log},
    versions::{Kept, Secrets},
    volumes::{Head, Volumes},
    workloads::Releases,
};
use crate::{
    authority::Authority,
    store::{News, StoreError},
};

/// The whole state.
#[derive(Clone)]
pub struct State {
    identity: IdentityKey,
    root: Arc<Authority>,
    root_secret: Zeroizing<[u8; 32]>,
    emulated: bool,
    mesh: Option<Mesh>,
    log: Log,
    /// The chain in a TPM.
    chain: Option<Chain>,
}

/// A mesh under a manifest.
#[derive(Clone)]
pub struct Mesh {
    manifest: Arc<Manifest>,
    manifest_bytes: Arc<Vec<u8>>,
    epoch: u64,
    intermediate: Arc<Authority>,
    marble_root: Arc<Vec<u8>>,
    svids: Arc<Authority>,
    secrets: Secrets,
    previous_root_secret: Option<Zeroizing<[u8; 32]>>,
    recovery_secret: Option<Zeroizing<[u8; 32]>>,
    activations: RedBlackTreeMapSync<Arc<str>, u64>,
    instances: Instances,
    counters: RedBlackTreeMapSync<CounterName, u64>,
    pending: Option<Arc<Pending>>,
    history: VectorSync<Arc<Entry>>,
    /// The epoch before, and until when its Marbles may speak with those of this one.
    rollout: Option<Rollout>,
    /// The way back from the last update, while it may be taken.
    undo: Option<Arc<Undo>>,
    revocations: Revocations,
    readers: Readers,
    /// What users uploaded for guests.
    resources: Resources,
    /// Those in Rego of the manifest in force.
    policies: Policies,
    /// What signs attestation tokens, and what signed those that may still be good.
    signers: Signers,
    references: References,
    releases: Releases,
    volumes: Volumes,
}

/// Marble, instance, name.
type CounterName = (String, [u8; 32], String);

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

/// What an epoch brings.
struct EpochParts {
    number: u64,
    intermediate: Arc<Authority>,
    /// The CA as a root.
    marble_root: Arc<Vec<u8>>,
    /// What signs tokens.
    signer: Option<Signer>,
    /// The CA of SVIDs.
    svids: Arc<Authority>,
}

impl Pending {
    /// Users whose acknowledgement would count and was not given.
    pub fn missing_users(&self, manifest: &Manifest) -> Vec<String> {
        let users = manifest.updaters().map(|user| user.name.to_string());
        users.filter(|user| !self.acknowledged.contains(user)).collect()
    }

    /// How many acknowledgements are missing.
    pub fn missing(&self, manifest: &Manifest) -> usize {
        let given = manifest.updaters().count() - self.missing_users(manifest).len();
        manifest.update_threshold().saturating_sub(given)
    }
}

impl State {
    /// Replays a log. `None` for an empty one: the mesh has yet to be founded.
    pub fn replay(
        records: &[Zeroizing<Vec<u8>>],
        identity: &IdentityKey,
    ) -> Result<Option<Self>, StoreError> {
        Self::resume(None, 0, records, identity)
    }

    /// Goes on from a snapshot with the records that follow it, of which `first` is the first one's index; without a
    /// snapshot, from the beginning of the log.
    pub fn resume(
        snapshot: Option<&[u8]>,
        first: u64,
        records: &[Zeroizing<Vec<u8>>],
        identity: &IdentityKey,
    ) -> Result<Option<Self>, StoreError> {
        let unreadable = |reason| StoreError::Snapshot { length: first, reason };
        let snapshot = snapshot.map(|snapshot| Self::from_snapshot(snapshot, identity.clone()));
        let mut state = snapshot.transpose().map_err(unreadable)?;
        for (index, record) in (first..).zip(records) {
            let event = Event::from_record(index, record)?;
            let stepped = match state {
                None => Self::begin(event, identity.clone()),
                Some(state) => state.step(event),
            };
            state = Some(stepped.map_err(|reason| StoreError::Version { index, reason })?);
        }
        Ok(state)
    }

    /// The state after what other replicas appended.
    pub fn followed_by(self, news: News) -> Result<Self, StoreError> {
        let News { snapshot, records, first } = news;
        let mut state = match snapshot {
            None => self,
            Some(snapshot) => {
                let unreadable = |reason| StoreError::Snapshot { length: first, reason };
                Self::from_snapshot(&snapshot, self.identity).map_err(unreadable)?
            }
        };
        for (index, record) in (first..).zip(&records) {
            let event = Event::from_record(index, record)?;
            state = state.step(event).map_err(|reason| StoreError::Version { index, reason })?;
        }
        Ok(state)
    }

    /// The state after the first event.
    pub fn begin(event: Event, identity: IdentityKey) -> Result<Self, String> {
        Self::begin_logged(event, identity).map(|(state, _)| state)
    }

    /// The same, and what the transparency log grew by, to be stored with the record.
    pub fn begin_logged(event: Event, identity: IdentityKey) -> Result<(Self, Vec<u8>), String> {
        let entries = transparency::entries(&event, None);
        let Event::Founded { root, root_secret, emulated, at: _, log_salt, log_key } = event else {
            return Err("the log does not begin with the founding of a mesh".into());
        };
        let mut log = Log::begin(&root.certificate, log_salt, &log_key, &identity)?;
        let growth = log.append(&entries)?;
        let root = Arc::new(authority(root, &identity)?);
        let state = Self {
            identity,
            root,
            root_secret: Zeroizing::new(root_secret.into_array()),
            emulated,
            mesh: None,
            chain: None,
            log,
        };
        Ok((state, growth))
    }

    /// The state after `event`. An error means that the log was not written by this code.
    pub fn step(self, event: Event) -> Result<Self, String> {
        self.step_logged(event).map(|(state, _)| state)
    }

    /// The same, and what the transparency log grew by, to be stored with the record; nothing, where it did not grow.
    pub fn step_logged(mut self, event: Event) -> Result<(Self, Vec<u8>), String> {
        let entries = transparency::entries(&event, Some(&self));
        self.apply(event)?;
        let growth = self.log.append(&entries)?;
        Ok((self, growth))
    }

    fn apply(&mut self, event: Event) -> Result<(), String> {
        let entries = Entry::of(&event, self);
        match event {
            Event::Founded { .. } => return Err("the mesh is founded twice".into()),
            Event::ManifestSet { manifest, epoch, generated, recovery_secret, at } => {
                if self.mesh.is_some() {
                    return Err("the first manifest is set twice".into());
                }
                let EpochParts { number, intermediate, marble_root, signer, svids } = self.epoch(epoch)?;
                let mut mesh = Mesh {
                    manifest: Arc::new(Manifest::parse(&manifest).map_err(|faults| faults.to_string())?),
                    manifest_bytes: Arc::new(manifest.into_vec()),
                    epoch: number,
                    intermediate,
                    marble_root,
                    svids,
                    secrets: Secrets::default(),
                    previous_root_secret: None,
                    recovery_secret: recovery_secret.map(|secret| Zeroizing::new(secret.into_array())),
                    activations: RedBlackTreeMapSync::default(),
                    instances: Instances::default(),
                    counters: RedBlackTreeMapSync::default(),
                    pending: None,
                    history: VectorSync::default(),
                    rollout: None,
                    undo: None,
                    revocations: Revocations::default(),
                    readers: Readers::default(),
                    resources: Resources::default(),
                    policies: Policies::default(),
                    signers: Signers::new(signer),
                    references: References::default(),
                    releases: Releases::default(),
                    volumes: Volumes::default(),
                };
                mesh.replace(generated, at, |_| true);
                self.mesh = Some(mesh);
            }
            Event::Recovered { root, epoch, generated, emulated, at, log_key, .. } => {
                self.log.with_key(&log_key, &self.identity)?;
                self.root = Arc::new(authority(root, &self.identity)?);
                self.emulated = emulated;
                self.enter(epoch, None, at)?;
                let mesh = self.mesh_mut()?;
                // The root is another: no certificate of before is below it.
                mesh.rollout = None;
                mesh.signers.forget();
                mesh.replace(generated, at, |_| true);
            }
            Event::VersionsRaised { versions, epoch, generated, at, .. } => {
                let mut known = BTreeMap::new();
                for (name, version) in versions {
                    known.insert(name.parse().map_err(|_| format!("{name:?} is no package"))?, version);
                }
                let raised = Arc::new(self.mesh_mut()?.manifest.with_security_versions(&known));
                let rollout = self.mesh_mut()?.rollout_to(&raised, at);
                self.enter(epoch, Some(raised), at)?;
                let mesh = self.mesh_mut()?;
                mesh.rollout = rollout;
                mesh.replace(generated, at, |_| true);
            }
            Event::ManifestUpdated {
                epoch, generated, rotated, root_secret, recovery_secret, at, ..
            } => {
                let pending = self.mesh_mut()?.pending.take().ok_or("an update that was never proposed")?;
                let manifest =
                    Arc::new(Manifest::parse(&pending.bytes).map_err(|faults| faults.to_string())?);
                let before = self.mesh.as_ref();
                let undo = before.and_then(|mesh| Undo::before(mesh, &self.root_secret, &manifest, at));
                let rollout = before.and_then(|mesh| mesh.rollout_to(&manifest, at));
                let before = self.mesh_mut()?.manifest.clone();
                self.enter(epoch, Some(manifest.clone()), at)?;
                let old = root_secret.map(|secret| {
                    std::mem::replace(&mut self.root_secret, Zeroizing::new(secret.into_array()))
                });
                let mesh = self.mesh_mut()?;
                (mesh.rollout, mesh.undo) = (rollout, undo);
                if old.is_some() {
                    mesh.revocations.root_rotated();
                }
                mesh.manifest_bytes = pending.bytes.clone();
                mesh.replace(generated, at, |name| rotated.contains(name));
                mesh.secrets.retain(|name| manifest.secrets().contains_key(name));
                let place = |path: &_| manifest.broker().and_then(|it| it.upload_policy(path)).is_some();
                let displaced = mesh.resources.take_displaced(place);
                mesh.undo = mesh.undo.take().map(|undo| undo.keeping(displaced));
                // Whoever the manifest before named too came back then, and may have been evicted since.
                let reinstated = &manifest.settings().reinstated;
                mesh.revocations.reinstate(reinstated.difference(&before.settings().reinstated));
                mesh.previous_root_secret = old.or_else(|| mesh.previous_root_secret.take());
                mesh.recovery_secret = match recovery_secret {
                    Some(secret) => Some(Zeroizing::new(secret.into_array())),
                    None if manifest.settings().recovery_keys.is_empty() => None,
                    None => mesh.recovery_secret.take(),
                };
            }
            Event::RolledBack { epoch, generated, at, .. } => {
                let undo = self.mesh_mut()?.undo.take().ok_or("a roll-back from nothing")?;
                self.enter(epoch, Some(undo.manifest.clone()), at)?;
                self.root_secret = undo.root_secret.clone();
                let mesh = self.mesh_mut()?;
                mesh.manifest_bytes = undo.manifest_bytes.clone();
                mesh.secrets = undo.restored(&mesh.secrets);
                mesh.previous_root_secret = undo.previous_root_secret.clone();
                // Those who never left what is in force again are who works.
                mesh.rollout = mesh.rollout_from(undo.epoch, undo.manifest.digest().0, at);
                mesh.pending = None;
                mesh.resources.restore(&undo.displaced);
                mesh.replace(generated, at, |_| true);
            }
            Event::ReplicaJoined { .. } => {}
            Event::Anchored { pin, before } => {
                let known = self.chain.take().map(|chain| chain.pin);
                let pin = pin.or(known).ok_or("a step of a chain that was never begun")?;
                self.chain = Some(Chain { pin, before });
            }
            Event::AnchorReset { .. } => self.chain = None,
            event => self.mesh_mut()?.apply(event)?,
        }
        if let Some(mesh) = &mut self.mesh {
            entries.into_iter().for_each(|entry| mesh.history.push_back_mut(Arc::new(entry)));
        }
        Ok(())
    }

    fn epoch(&self, epoch: Epoch) -> Result<EpochParts, String> {
        let intermediate = authority(epoch.intermediate, &self.identity)?;
        let of: (u64, &[u8]) = (epoch.number, intermediate.certificate());
        let signer = epoch.signer.map(|sealed| Signer::open(sealed, of, &self.identity)).transpose()?;
        Ok(EpochParts {
            number: epoch.number,
            intermediate: Arc::new(intermediate),
            marble_root: Arc::new(epoch.marble_root.into_vec()),
            signer,
            svids: Arc::new(authority(epoch.svids, &self.identity)?),
        })
    }

    /// A new epoch, in which no instance is known yet.
    fn enter(&mut self, epoch: Epoch, manifest: Option<Arc<Manifest>>, at: i64) -> Result<(), String> {
        let EpochParts { number, intermediate, marble_root, signer, svids } = self.epoch(epoch)?;
        let mesh = self.mesh_mut()?;
        let lifetime = mesh.manifest.broker().map(|broker| broker.tokens.lifetime);
        mesh.signers.enter(signer, at, lifetime.unwrap_or_default());
        (mesh.epoch, mesh.intermediate, mesh.marble_root) = (number, intermediate, marble_root);
        mesh.svids = svids;
        mesh.instances = Instances::default();
        mesh.undo = None;
        if let Some(manifest) = manifest {
            mesh.references.forget_verified();
            (mesh.manifest, mesh.policies) = (manifest, Policies::default());
        }
        Ok(())
    }

    fn mesh_mut(&mut self) -> Result<&mut Mesh, String> {
        self.mesh.as_mut().ok_or_else(|| "something happened in a mesh that has no manifest".to_owned())
    }

    /// The root CA.
    pub fn root(&self) -> &Arc<Authority> {
        &self.root
    }

    /// Whether the keys of the CAs are here. They are not after a recovery, until a new root is made.
    pub fn can_issue(&self) -> bool {
        self.root.key().is_ok() && self.mesh.as_ref().is_none_or(|mesh| mesh.intermediate.key().is_ok())
    }

    /// The transparency log, as far as it is decided.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Seals CA keys.
    pub(crate) fn identity(&self) -> &IdentityKey {
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

    /// The chain in a TPM that the log is tied to.
    pub fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    /// The mesh, once a manifest is set.
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref()
    }

    /// Names the mesh in SPIFFE IDs: the root's fingerprint, shortened to a host name's length.
    pub fn trust_domain(&self) -> String {
        hex::encode(&self.root.fingerprint()[..16])
    }

    /// How much there is that grows: instances, secrets, counters, lines of the update log.
    pub fn size(&self) -> usize {
        let of = |mesh: &Mesh| {
            let grown = [
                mesh.secrets.len(),
                mesh.revocations.len(),
                mesh.readers.len(),
                mesh.resources.len(),
                mesh.references.len(),
                mesh.volumes.len(),
            ];
            mesh.instances.len() + mesh.counters.size() + mesh.history.len() + grown.iter().sum::<usize>()
        };
        self.mesh.as_ref().map_or(0, of)
    }

    /// Whether, so many records after the last one, it is time for a snapshot: after `at_least`, and after a quarter
    /// of the parts that it will have, so that it costs each record the same, however large the state.
    pub fn snapshot_due(&self, since: u64, at_least: u64) -> bool {
        since >= at_least.max(u64::try_from(self.size() / 4).unwrap_or(u64::MAX))
    }

    pub(super) fn running(&self) -> Result<&Mesh, Refusal> {
        self.mesh.as_ref().ok_or(Refusal::NoManifest)
    }
}

impl Mesh {
    fn apply(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::SecretsWritten { secrets, until, at, user: _ } => {
                for (name, value) in secrets {
                    let until = until.get(&name).copied();
                    self.secrets.put(name, value, (at, until), true);
                }
            }
            Event::Activated {
                marble,
                instance,
                epoch,
                seat,
                delivered,
                certificates,
                release,
                package: _,
                at,
            } => {
                let known = self.activations.get_key_value(marble.as_str());
                let (marble, before) =
                    known.map_or_else(|| (marble.into(), 0), |(marble, count)| (marble.clone(), *count));
                self.activations.insert_mut(Arc::clone(&marble), before + 1);
                self.undo = self.undo.take().and_then(|undo| Undo::without(undo, &marble));
                if let Some(release) = release {
                    self.releases.ran(&marble, release);
                }
                if let Some(machine) = &seat.machine {
                    let secrets = &self.secrets;
                    let in_use = |name: &str, version| {
                        secrets.get(name).is_some_and(|kept| kept.previous().number <= version)
                    };
                    self.readers.add((machine, &marble), &delivered, in_use);
                }
                let instance = instance.into_array();
                self.instances.activated(Activated {
                    marble,
                    instance,
                    epoch,
                    seat,
                    delivered,
                    certificates,
                    at,
                });
            }
            Event::Renewed { instance, certificate, at: _ } => {
                self.instances.renewed(instance.into_array(), certificate);
            }
            Event::UpdateProposed { user, manifest, downgrades, deadline, at: _ } => {
                self.pending = Some(Arc::new(Pending {
                    digest: ManifestDigest::of(&manifest),
                    bytes: Arc::new(manifest.into_vec()),
                    acknowledged: [user].into(),
                    downgrades,
                    deadline,
                }));
            }
            Event::UpdateAcknowledged { user, at: _ } => {
                let pending = self.pending.as_mut().ok_or("an update that was never proposed")?;
                Arc::make_mut(pending).acknowledged.insert(user);
            }
            Event::UpdateCancelled { .. } => self.pending = None,
            Event::CounterRaised { marble, instance, name, value } => {
                self.counters.insert_mut((marble, instance.into_array(), name), value);
            }
            Event::VolumeOpened { marble, volume, instance, key, at: _ } => {
                self.volumes.opened((marble, volume), instance.into_array(), key.into_array());
            }
            Event::VolumeAdvanced { marble, volume, sequence, hash, at: _ } => {
                self.volumes.advanced(&(marble, volume), Head { sequence, hash: hash.into_array() })?;
            }
            Event::RecoveryRehearsed { .. } | Event::SecretsRead { .. } => {}
            Event::SecretsRotated { generated, at, user: _ } => {
                // No roll-back brings back what was rotated.
                self.undo = None;
                self.replace(generated, at, |_| true);
            }
            Event::SecretsExpired { versions, at: _ } => {
                versions.iter().for_each(|(name, versions)| self.secrets.wipe(name, versions));
            }
            Event::Evicted {
                user,
                machine,
                instances,
                certificates,
                generated,
                turned,
                exposed,
                withheld,
                at,
            } => {
                self.undo = None;
                if let Some(machine) = &machine {
                    self.readers.forget(machine);
                }
                instances.iter().for_each(|evicted| self.instances.remove(&evicted.instance));
                let by = (user.as_str(), at, self.epoch);
                self.revocations.evict(by, machine, &instances, &certificates, &turned);
                self.replace(generated, at, |_| true);
                for (name, version) in exposed {
                    self.secrets.expose(&name, version, withheld);
                }
            }
            Event::ResourceStored { user, path, version, value, at } => {
                self.resources.put(path, ResourceVersion { number: version, at, user, value });
            }
            Event::ResourceDeleted { path, user: _, at: _ } => self.resources.remove(&path),
            Event::ResourceRead { .. } => {}
            Event::ReferenceAdded { user, statement, signers, series, at } => {
                self.references.added(statement.into_vec(), (user, at), &signers, series);
            }
            Event::ReferenceRemoved { user: _, id, at } => self.references.removed(&id, at),
            _ => return Err("an event that no mesh has".into()),
        }
        Ok(())
    }

    /// Takes new values; what was there becomes the previous value where `keeps_old` says so, and else the new
    /// value is also the previous one: who asks for it gets one that works.
    fn replace(&mut self, values: BTreeMap<String, SecretValue>, at: i64, keeps_old: impl Fn(&str) -> bool) {
        for (name, value) in values {
            let keeps_old = keeps_old(&name);
            self.secrets.put(name, value, (at, None), keeps_old);
        }
    }

    /// The manifest in force, with the security versions that were raised since.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The same, to be kept.
    pub(super) fn shared_manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Its exact bytes, to be kept.
    pub(super) fn shared_manifest_bytes(&self) -> &Arc<Vec<u8>> {
        &self.manifest_bytes
    }

    /// Values, the values before them, and what single instances' values were derived from before.
    pub(super) fn all_secrets(&self) -> (&Secrets, Option<&Zeroizing<[u8; 32]>>) {
        (&self.secrets, self.previous_root_secret.as_ref())
    }

    /// The way back from the last update, while it may be taken.
    pub(super) fn undo(&self) -> Option<&Undo> {
        self.undo.as_deref()
    }

    /// The epoch before, while its Marbles may speak with those of this one.
    pub(super) fn rollout(&self, now: UnixTime) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| now.0 <= rollout.until)
    }

    /// The window in which Marbles of this epoch may speak with those of the next one, which begins at `at` under `next`.
    fn rollout_to(&self, next: &Manifest, at: i64) -> Option<Rollout> {
        let window = next.settings().rollout_window?;
        let until = at.saturating_add(i64::try_from(window.as_secs()).unwrap_or(i64::MAX));
        Some(Rollout { epoch: self.epoch, manifest: self.manifest_digest(), until })
    }

    /// The window from another epoch than the one directly before to this one, which begins at `at`.
    fn rollout_from(&self, epoch: u64, manifest: [u8; 32], at: i64) -> Option<Rollout> {
        self.rollout_to(&self.manifest, at).map(|rollout| Rollout { epoch, manifest, ..rollout })
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

    /// The epoch's CA of SVIDs.
    pub(super) fn svids(&self) -> &Authority {
        &self.svids
    }

    /// A secret that was generated or uploaded, and is not wiped.
    pub(super) fn secret(&self, name: &str) -> Option<&SecretValue> {
        self.kept(name)?.current.value.as_ref()
    }

    /// All that is kept of a secret.
    pub(super) fn kept(&self, name: &str) -> Option<&Kept> {
        self.secrets.get(name)
    }

    /// All secrets of which anything is kept.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// What users uploaded for guests.
    pub(super) fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Release policies in Rego.
    pub(super) fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Who was sent away.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// What signs attestation tokens.
    pub fn signers(&self) -> &Signers {
        &self.signers
    }

    /// The newest versions of signed packages that ran.
    pub(super) fn releases(&self) -> &Releases {
        &self.releases
    }

    /// Statements about reference values.
    pub fn references(&self) -> &References {
        &self.references
    }

    /// What was delivered to machines.
    pub(super) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// The instances of this epoch.
    pub(super) fn known_instances(&self) -> &Instances {
        &self.instances
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
        self.instances.count(now.0)
    }

    /// Marble and key of each instance that has a certificate that may still be valid.
    pub(super) fn running_instances(&self, now: UnixTime) -> impl Iterator<Item = (&str, &[u8; 32])> {
        self.instances
            .iter()
            .filter(move |(_, instance)| instance.until > now.0)
            .map(|(key, instance)| (&*instance.marble, key))
    }

    /// Whether `instance` was activated as `marble` and its certificate has not lapsed.
    pub(super) fn is_instance(&self, instance: &[u8; 32], marble: &str, now: UnixTime) -> bool {
        self.instances.is(instance, marble, now.0)
    }

    /// Keys and heads of volumes.
    pub(super) fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// A counter's value; 0 until it is raised.
    pub(super) fn counter(&self, name: &CounterName) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// The proposed manifest, while its deadline has not passed.
    pub fn pending(&self, now: UnixTime) -> Option<&Pending> {
        self.pending.as_deref().filter(|pending| now.0 <= pending.deadline)
    }

    /// The proposed manifest, whatever the time.
    pub(super) fn proposed(&self) -> Option<&Pending> {
        self.pending.as_deref()
    }

    /// Whether a proposed manifest lies there past its deadline.
    pub(super) fn lapsed(&self, now: UnixTime) -> bool {
        self.pending.as_ref().is_some_and(|pending| now.0 > pending.deadline)
    }

    /// What happened to manifest and secrets, oldest first.
    pub fn history(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.history.iter().map(AsRef::as_ref)
    }
}

fn authority(sealed: SealedAuthority, identity: &IdentityKey) -> Result<Authority, String> {
    let key = identity.open(&sealed.key);
    Authority::from_parts(key, sealed.certificate.into_vec()).map_err(|error| error.to_string())
}
