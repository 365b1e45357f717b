//! What must hold between the entries of a log, as far as entries can tell: a coordinator that is what its Evidence
//! says keeps these rules by itself; whoever replays the log sees that it did.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::entry::{Digest, Entry, Fact, Names};

/// What the entries so far come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// How many there were.
    pub size: u64,
    /// The log's name; empty before its founding.
    pub origin: String,
    /// Whose signature checkpoints have now.
    pub key: Option<Digest>,
    /// The root CA now.
    pub root: Option<Digest>,
    /// The manifest in force.
    pub manifest: Option<Digest>,
    /// The epoch; 0 before the first manifest.
    pub epoch: u64,
    updaters: Names,
    threshold: u64,
    pending: Option<Pending>,
    /// What a roll-back goes to: what was in force before the last update, while nothing else came between.
    before: Option<(Digest, Names, u64)>,
    /// Of this epoch.
    instances: BTreeSet<(String, Digest)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    manifest: Digest,
    agreed: BTreeSet<String>,
}

/// Where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("entry {index}: {rule}")]
pub struct Broken {
    /// Which entry.
    pub index: u64,
    /// Which rule.
    pub rule: Rule,
}

/// What an entry breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "fields that are what their name says")]
pub enum Rule {
    /// A log begins with the founding, and has one.
    #[error("a mesh is founded once, in its first entry")]
    Founding,
    /// The log's name follows from the first root.
    #[error("the log's name is {seen:?}, and {expected:?} follows from its root")]
    Origin { expected: String, seen: String },
    /// There is one first manifest, and nothing happens under none.
    #[error("there is one first manifest, and before it there is nothing to change")]
    Manifest,
    /// Epochs rise by one.
    #[error("epoch {seen} follows epoch {before}")]
    Epoch { before: u64, seen: u64 },
    /// Whatever happens in an epoch says so.
    #[error("it says epoch {seen}, and {current} is in force")]
    OtherEpoch { current: u64, seen: u64 },
    /// One proposal at a time.
    #[error("a manifest is proposed while another one is")]
    Pending,
    /// Agreement is to what was proposed.
    #[error("it is about manifest {seen}, and {} is proposed", pending.map_or("nothing".into(), |it| it.to_string()))]
    OtherUpdate { pending: Option<Digest>, seen: Digest },
    /// As many must agree as the manifest in force says.
    #[error("{agreed} users agreed to the update, and {threshold} are needed")]
    Agreement { agreed: u64, threshold: u64 },
    /// A roll-back needs nobody's agreement, so it goes to what was agreed to before, and to nothing else.
    #[error("manifest {seen} is rolled back to, which was not in force directly before")]
    WayBack { seen: Digest },
    /// Secrets go to who was activated in this epoch, and packages run there.
    #[error("an instance was given secrets or ran a package, and was not activated in this epoch")]
    NotActivated,
}

impl History {
    /// Takes the next entry.
    pub fn take(&mut self, entry: &Entry) -> Result<(), Broken> {
        let index = self.size;
        self.follow(&entry.fact).map_err(|rule| Broken { index, rule })?;
        self.size += 1;
        Ok(())
    }

    /// The name of the log of a mesh whose first root CA this is.
    pub fn origin_of(root: &Digest) -> String {
        format!("bailey-mesh/{root}")
    }

    fn follow(&mut self, fact: &Fact) -> Result<(), Rule> {
        if (self.size == 0) != matches!(fact, Fact::Founded { .. }) {
            return Err(Rule::Founding);
        }
        match fact {
            Fact::Founded { origin, root, key, emulated: _ } => {
                let expected = Self::origin_of(root);
                if *origin != expected {
                    return Err(Rule::Origin { expected, seen: origin.clone() });
                }
                (self.origin, self.root, self.key) = (expected, Some(*root), Some(*key));
                return Ok(());
            }
            Fact::ManifestSet { manifest, epoch, intermediate: _, updaters, threshold } => {
                if self.manifest.is_some() {
                    return Err(Rule::Manifest);
                }
                return self.in_force(*manifest, *epoch, updaters, *threshold);
            }
            // Coordinators may join each other before there is a manifest.
            Fact::ReplicaJoined { .. } => return Ok(()),
            _ if self.manifest.is_none() => return Err(Rule::Manifest),
            _ => {}
        }
        match fact {
            Fact::VersionsRaised { epoch, .. } => self.enter(*epoch)?,
            Fact::UpdateProposed { user, manifest, .. } => {
                if self.pending.is_some() {
                    return Err(Rule::Pending);
                }
                self.pending = Some(Pending { manifest: *manifest, agreed: [user.clone()].into() });
            }
            Fact::UpdateAcknowledged { user, manifest } => {
                self.proposed(manifest)?.agreed.insert(user.clone());
            }
            Fact::UpdateCancelled { user: _, manifest } => {
                self.proposed(manifest)?;
                self.pending = None;
            }
            Fact::ManifestUpdated { manifest, epoch, updaters, threshold, .. } => {
                let pending = self.proposed(manifest)?.clone();
                self.enough(&pending)?;
                self.pending = None;
                let before = self.manifest.map(|before| (before, self.updaters.clone(), self.threshold));
                self.in_force(*manifest, *epoch, updaters, *threshold)?;
                self.before = before;
            }
            Fact::Activated { marble, instance, epoch, .. } => {
                self.current(*epoch)?;
                self.instances.insert((marble.clone(), *instance));
            }
            Fact::SecretsReleased { marble, instance, epoch, .. }
            | Fact::PackageRun { marble, instance, epoch, .. } => {
                self.current(*epoch)?;
                if !self.instances.contains(&(marble.clone(), *instance)) {
                    return Err(Rule::NotActivated);
                }
            }
            Fact::Recovered { root, key, epoch, .. } => {
                self.enter(*epoch)?;
                (self.root, self.key) = (Some(*root), Some(*key));
            }
            Fact::RolledBack { manifest, epoch, .. } => match self.before.take() {
                Some((before, updaters, threshold)) if before == *manifest => {
                    self.pending = None;
                    self.in_force(before, *epoch, &updaters, threshold)?;
                }
                _ => return Err(Rule::WayBack { seen: *manifest }),
            },
            Fact::Evicted { instances, .. } => {
                self.instances.retain(|(_, instance)| !instances.contains(instance));
            }
            Fact::SecretsWritten { .. }
            | Fact::SecretsRead { .. }
            | Fact::RecoveryRehearsed { .. }
            | Fact::ReplicaJoined { .. }
            | Fact::SecretsRotated { .. }
            | Fact::SecretsExpired { .. }
            | Fact::SecretsExposed { .. }
            | Fact::AnchorReset { .. }
            | Fact::ResourcesWritten { .. }
            | Fact::ResourcesDeleted { .. }
            | Fact::ResourcesRead { .. }
            | Fact::ReferenceAdded { .. }
            | Fact::ReferenceRemoved { .. } => {}
            Fact::Founded { .. } | Fact::ManifestSet { .. } => return Err(Rule::Founding),
        }
        Ok(())
    }

    fn in_force(
        &mut self,
        manifest: Digest,
        epoch: u64,
        updaters: &Names,
        threshold: u64,
    ) -> Result<(), Rule> {
        self.enter(epoch)?;
        (self.manifest, self.updaters, self.threshold) = (Some(manifest), updaters.clone(), threshold);
        Ok(())
    }

    fn enter(&mut self, epoch: u64) -> Result<(), Rule> {
        if self.epoch.checked_add(1) != Some(epoch) {
            return Err(Rule::Epoch { before: self.epoch, seen: epoch });
        }
        self.epoch = epoch;
        self.before = None;
        self.instances.clear();
        Ok(())
    }

    fn current(&self, seen: u64) -> Result<(), Rule> {
        if seen == self.epoch { Ok(()) } else { Err(Rule::OtherEpoch { current: self.epoch, seen }) }
    }

    fn proposed(&mut self, seen: &Digest) -> Result<&mut Pending, Rule> {
        let pending = self.pending.as_ref().map(|pending| pending.manifest);
        match &mut self.pending {
            Some(proposed) if proposed.manifest == *seen => Ok(proposed),
            _ => Err(Rule::OtherUpdate { pending, seen: *seen }),
        }
    }

    /// Where an entry could not name all updaters, each who agreed may be one of the others.
    fn enough(&self, pending: &Pending) -> Result<(), Rule> {
        let counts = |user: &&String| self.updaters.more > 0 || self.updaters.names.contains(user);
        let agreed = pending.agreed.iter().filter(counts).count() as u64;
        if agreed < self.threshold {
            return Err(Rule::Agreement { agreed, threshold: self.threshold });
        }
        Ok(())
    }
}
