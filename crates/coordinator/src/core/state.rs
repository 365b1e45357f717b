//! What the coordinator knows, rebuilt from its log. Secrets in it are wiped when it goes. Whatever grows is in
//! persistent maps: a copy of a state costs the same whatever the mesh has seen, and each commit makes one.

mod mesh;
mod snapshot;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use attested_tls::marble::Rollout;
use manifest::{Manifest, ManifestDigest};
use rpds::{RedBlackTreeMapSync, VectorSync};
use zeroize::Zeroizing;

use super::{
    Event, IdentityKey, Refusal,
    anchor::Chain,
    broker::policies::Policies,
    event::{Epoch, SealedAuthority},
    history::Entry,
    instances::Instances,
    references::References,
    resources::Resources,
    revocation::{Readers, Revocations},
    rollback::Undo,
    signers::{Signer, Signers},
    transparency::{self, Log},
    versions::Secrets,
    volumes::Volumes,
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

fn authority(sealed: SealedAuthority, identity: &IdentityKey) -> Result<Authority, String> {
    let key = identity.open(&sealed.key);
    Authority::from_parts(key, sealed.certificate.into_vec()).map_err(|error| error.to_string())
}
