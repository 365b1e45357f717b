//! A mesh under a manifest: what happens in it, and what is asked of it.

use std::{collections::BTreeMap, sync::Arc};

use appraisal::UnixTime;
use attested_tls::marble::Rollout;
use manifest::{Manifest, ManifestDigest};
use zeroize::Zeroizing;

use super::{CounterName, Mesh, Pending};
use crate::{
    authority::Authority,
    core::{
        Event, SecretValue,
        broker::policies::Policies,
        history::Entry,
        instances::{Activated, Instances},
        references::References,
        resources::{ResourceVersion, Resources},
        revocation::{Readers, Revocations},
        rollback::Undo,
        signers::Signers,
        versions::{Kept, Secrets},
        volumes::{Head, Volumes},
        workloads::Releases,
    },
};

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

impl Mesh {
    pub(super) fn apply(&mut self, event: Event) -> Result<(), String> {
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
    pub(super) fn replace(
        &mut self,
        values: BTreeMap<String, SecretValue>,
        at: i64,
        keeps_old: impl Fn(&str) -> bool,
    ) {
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
    pub(in crate::core) fn shared_manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Its exact bytes, to be kept.
    pub(in crate::core) fn shared_manifest_bytes(&self) -> &Arc<Vec<u8>> {
        &self.manifest_bytes
    }

    /// Values, the values before them, and what single instances' values were derived from before.
    pub(in crate::core) fn all_secrets(&self) -> (&Secrets, Option<&Zeroizing<[u8; 32]>>) {
        (&self.secrets, self.previous_root_secret.as_ref())
    }

    /// The way back from the last update, while it may be taken.
    pub(in crate::core) fn undo(&self) -> Option<&Undo> {
        self.undo.as_deref()
    }

    /// The epoch before, while its Marbles may speak with those of this one.
    pub(in crate::core) fn rollout(&self, now: UnixTime) -> Option<&Rollout> {
        self.rollout.as_ref().filter(|rollout| now.0 <= rollout.until)
    }

    /// The window in which Marbles of this epoch may speak with those of the next one, which begins at `at` under `next`.
    pub(super) fn rollout_to(&self, next: &Manifest, at: i64) -> Option<Rollout> {
        let window = next.settings().rollout_window?;
        let until = at.saturating_add(i64::try_from(window.as_secs()).unwrap_or(i64::MAX));
        Some(Rollout { epoch: self.epoch, manifest: self.manifest_digest(), until })
    }

    /// The window from another epoch than the one directly before to this one, which begins at `at`.
    pub(super) fn rollout_from(&self, epoch: u64, manifest: [u8; 32], at: i64) -> Option<Rollout> {
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
    pub(in crate::core) fn svids(&self) -> &Authority {
        &self.svids
    }

    /// A secret that was generated or uploaded, and is not wiped.
    pub(in crate::core) fn secret(&self, name: &str) -> Option<&SecretValue> {
        self.kept(name)?.current.value.as_ref()
    }

    /// All that is kept of a secret.
    pub(in crate::core) fn kept(&self, name: &str) -> Option<&Kept> {
        self.secrets.get(name)
    }

    /// All secrets of which anything is kept.
    pub(in crate::core) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// What users uploaded for guests.
    pub(in crate::core) fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Release policies in Rego.
    pub(in crate::core) fn policies(&self) -> &Policies {
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
    pub(in crate::core) fn releases(&self) -> &Releases {
        &self.releases
    }

    /// Statements about reference values.
    pub fn references(&self) -> &References {
        &self.references
    }

    /// What was delivered to machines.
    pub(in crate::core) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// The instances of this epoch.
    pub(in crate::core) fn known_instances(&self) -> &Instances {
        &self.instances
    }

    /// From which secrets of single instances were derived before the last rotation.
    pub(in crate::core) fn previous_root_secret(&self) -> Option<&[u8; 32]> {
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
    pub(in crate::core) fn running_instances(
        &self,
        now: UnixTime,
    ) -> impl Iterator<Item = (&str, &[u8; 32])> {
        self.instances
            .iter()
            .filter(move |(_, instance)| instance.until > now.0)
            .map(|(key, instance)| (&*instance.marble, key))
    }

    /// Whether `instance` was activated as `marble` and its certificate has not lapsed.
    pub(in crate::core) fn is_instance(&self, instance: &[u8; 32], marble: &str, now: UnixTime) -> bool {
        self.instances.is(instance, marble, now.0)
    }

    /// Keys and heads of volumes.
    pub(in crate::core) fn volumes(&self) -> &Volumes {
        &self.volumes
    }

    /// A counter's value; 0 until it is raised.
    pub(in crate::core) fn counter(&self, name: &CounterName) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// The proposed manifest, while its deadline has not passed.
    pub fn pending(&self, now: UnixTime) -> Option<&Pending> {
        self.pending.as_deref().filter(|pending| now.0 <= pending.deadline)
    }

    /// The proposed manifest, whatever the time.
    pub(in crate::core) fn proposed(&self) -> Option<&Pending> {
        self.pending.as_deref()
    }

    /// Whether a proposed manifest lies there past its deadline.
    pub(in crate::core) fn lapsed(&self, now: UnixTime) -> bool {
        self.pending.as_ref().is_some_and(|pending| now.0 > pending.deadline)
    }

    /// What happened to manifest and secrets, oldest first.
    pub fn history(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.history.iter().map(AsRef::as_ref)
    }
}
