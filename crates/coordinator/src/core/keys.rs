//! Keys and values that a decision needs, made before it: RSA keys take seconds, and nobody waits for them but who
//! asked. A decision says what it needs; that is made while others go on deciding; then it is decided again, on what
//! is the newest state by then, and takes what was made only if it is still what it needs.
//!
//! ```text
//!  decide ──Needs(need)──▶ need.make() ──▶ decide ──▶ events
//!     ▲                                       │
//!     └────────── the state moved on ─────────┘
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use appraisal::UnixTime;
use manifest::{Manifest, SecretName};
use serde_bytes::ByteArray;
use zeroize::Zeroizing;

use super::{IdentityKey, Mesh, Refusal, SecretValue, State, epoch, event::Epoch, recovery, secrets};
use crate::authority::Authority;

/// What a decision needs and does not make.
#[derive(Clone)]
pub struct Need {
    root: Arc<Authority>,
    identity: IdentityKey,
    emulated: bool,
    /// The number of the epoch that begins.
    epoch: u64,
    manifest: Arc<Manifest>,
    secrets: BTreeSet<SecretName>,
    root_secret: bool,
    recovery_secret: bool,
}

/// What was made for a [`Need`], its only origin.
pub struct NewKeys {
    need: Need,
    pub(super) epoch: Epoch,
    pub(super) generated: BTreeMap<String, SecretValue>,
    pub(super) root_secret: Option<Zeroizing<[u8; 32]>>,
    pub(super) recovery: Option<(Zeroizing<[u8; 32]>, recovery::Shares)>,
}

/// Why nothing was decided.
pub enum Undecided {
    /// It is refused.
    Refused(Refusal),
    /// Keys are needed first.
    Needs(Box<Need>),
}

impl From<Refusal> for Undecided {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<manifest::Faults> for Undecided {
    fn from(faults: manifest::Faults) -> Self {
        Self::Refused(faults.into())
    }
}

impl Need {
    /// A new epoch after that of `state`, under `manifest`, with new values of `secrets`.
    pub(super) fn epoch(state: &State, manifest: Arc<Manifest>, secrets: BTreeSet<SecretName>) -> Self {
        Self {
            root: state.root().clone(),
            identity: state.identity().clone(),
            emulated: state.emulated(),
            epoch: state.mesh().map_or(0, Mesh::epoch) + 1,
            manifest,
            secrets,
            root_secret: false,
            recovery_secret: false,
        }
    }

    /// And a new root secret, and a new recovery secret with its shares, where the manifest has holders.
    pub(super) fn and(self, root_secret: bool, recovery_secret: bool) -> Self {
        Self { root_secret, recovery_secret, ..self }
    }

    /// Makes it. Takes as long as RSA keys take; holds nothing.
    pub fn make(self, now: UnixTime) -> Result<NewKeys, Refusal> {
        let (epoch, intermediate) =
            epoch::below(&self.root, &self.identity, (self.epoch, &self.manifest), self.emulated, now)?;
        let generated =
            secrets::generate(&self.manifest, &intermediate, now, |it| self.secrets.contains(&it.name))?;
        let root_secret = self.root_secret.then(secrets::random32).transpose()?.map(Zeroizing::new);
        let recovery = if self.recovery_secret { recovery::secret(&self.manifest)? } else { None };
        let recovery = match recovery {
            Some(secret) => {
                let shares = recovery::shares(&self.manifest, &secret)?;
                Some((secret, shares))
            }
            None => None,
        };
        Ok(NewKeys { need: self, epoch, generated, root_secret, recovery })
    }

    /// What was made for this very need, or that it must be.
    pub(super) fn met_by(self, keys: Option<&NewKeys>) -> Result<&NewKeys, Undecided> {
        match keys {
            Some(keys) if keys.need.is(&self) => Ok(keys),
            _ => Err(Undecided::Needs(Box::new(self))),
        }
    }

    fn is(&self, other: &Self) -> bool {
        // The manifest's digest says how each secret is defined.
        self.root.fingerprint() == other.root.fingerprint()
            && self.epoch == other.epoch
            && self.emulated == other.emulated
            && self.manifest.digest() == other.manifest.digest()
            && self.secrets == other.secrets
            && (self.root_secret, self.recovery_secret) == (other.root_secret, other.recovery_secret)
    }
}

impl NewKeys {
    /// The root secret as an event has it.
    pub(super) fn root_secret(&self) -> Option<ByteArray<32>> {
        self.root_secret.as_ref().map(|secret| ByteArray::new(**secret))
    }

    /// The recovery secret as an event has it.
    pub(super) fn recovery_secret(&self) -> Option<ByteArray<32>> {
        self.recovery.as_ref().map(|(secret, _)| ByteArray::new(**secret))
    }

    /// The shares to hand out.
    pub(super) fn shares(&self) -> Option<recovery::Shares> {
        self.recovery.as_ref().map(|(_, shares)| shares.clone())
    }
}
