//! Recovery at work: shares come in, and when there are enough the state is opened, checked against its own
//! manifest, sealed to this TEE, and given a new root.

use std::sync::PoisonError;

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};
use zeroize::Zeroizing;

use super::{
    Coordinator, Mode, Snapshot,
    commit::{Committer, SNAPSHOT_EVERY},
};
use crate::{
    core::{self, Refusal, State, recovery::Progress},
    store::{self, Opened, Shares, Unlocked},
};

/// A state that waits for shares.
pub(super) struct Locked {
    store: store::Locked,
    progress: Option<Progress>,
    ephemeral: Ephemeral,
}

/// To which holders may encrypt their shares for this coordinator alone; made when it is asked for.
#[derive(Clone, Default)]
pub(super) struct Ephemeral(Option<PrivateDecryptingKey>);

impl Ephemeral {
    /// DER.
    pub(super) fn public_key(&mut self) -> Result<Vec<u8>, Refusal> {
        let failed = || Refusal::Internal("a key could not be made".into());
        if self.0.is_none() {
            self.0 = Some(PrivateDecryptingKey::generate(KeySize::Rsa4096).map_err(|_| failed())?);
        }
        let key = self.0.as_ref().ok_or_else(failed)?;
        Ok(key.public_key().as_der().map_err(|_| failed())?.as_ref().to_vec())
    }

    /// A share as it was uploaded: as it is, or encrypted to this key.
    pub(super) fn share(&self, uploaded: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        if uploaded.len() <= LONGEST_SHARE {
            return Ok(Zeroizing::new(uploaded.to_vec()));
        }
        self.decrypt(uploaded).ok_or(Refusal::ShareUnknown)
    }

    fn decrypt(&self, bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let key = OaepPrivateDecryptingKey::new(self.0.clone()?).ok()?;
        let mut out = Zeroizing::new(vec![0; key.min_output_size()]);
        let length = key.decrypt(&OAEP_SHA256_MGF1SHA256, bytes, &mut out, None).ok()?.len();
        out.truncate(length);
        Some(out)
    }
}

impl Locked {
    pub(super) fn new(store: store::Locked) -> Self {
        let progress = store.descriptor().cloned().map(Progress::new);
        Self { store, progress, ephemeral: Ephemeral::default() }
    }

    /// How many shares are missing; `None` where nobody has any.
    pub(super) fn remaining(&self) -> Option<usize> {
        self.progress.as_ref().map(Progress::remaining)
    }
}

/// No share is longer: a secret, or a point of Shamir's polynomial.
const LONGEST_SHARE: usize = 33;

impl Coordinator {
    /// The public part, DER, of a key that lives until the state is open.
    pub(super) fn recovery_key(&self) -> Result<Vec<u8>, Refusal> {
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        locked.as_mut().ok_or(Refusal::NotRecovering)?.ephemeral.public_key()
    }

    /// Takes a share: as it is, or encrypted to [`Coordinator::recovery_key`]. Gives the number that is missing; at 0
    /// the state is open.
    pub(super) fn recover(&self, share: &[u8], signature: &[u8]) -> Result<usize, Refusal> {
        let mut guard = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = guard.as_mut().ok_or(Refusal::NotRecovering)?;
        let share = locked.ephemeral.share(share)?;
        let progress = locked.progress.as_mut().ok_or(Refusal::Unrecoverable)?;
        progress.upload(share, signature)?;
        let remaining = progress.remaining();
        let Some(secret) = progress.secret() else { return Ok(remaining) };
        let holders = progress.holders();
        match unlock(&locked.store, &secret) {
            Ok(unlocked) => {
                let Some(locked) = guard.take() else { return Err(Refusal::NotRecovering) };
                self.adopt(locked.store, unlocked, holders)?;
                Ok(0)
            }
            Err(refusal) => {
                // The shares were right and the state is not theirs: whoever changed the file must not block it.
                locked.progress = locked.store.descriptor().cloned().map(Progress::new);
                Err(refusal)
            }
        }
    }

    fn adopt(&self, store: store::Locked, unlocked: Unlocked, holders: Vec<String>) -> Result<(), Refusal> {
        let failed = |error: &dyn std::fmt::Display| Refusal::RecoveryFailed(error.to_string());
        let opened = store.adopt(unlocked, self.tee.as_ref()).map_err(|error| failed(&error))?;
        let Opened { mut store, snapshot, records, identity } = opened;
        let first = store.length() - store.since_snapshot();
        let snapshot = snapshot.as_deref().map(Vec::as_slice);
        let state = State::resume(snapshot, first, &records, &identity).map_err(|error| failed(&error))?;
        let state = state.ok_or_else(|| failed(&"the log is empty"))?;
        let event = core::recovered(&state, holders, self.tee.emulated(), (self.clock)())?;
        let record = event.to_record();
        let (state, entry) = state.step_logged(event).map_err(Refusal::Internal)?;
        store.append_with(&[record], &[entry], Shares::Keep).map_err(|error| failed(&error))?;
        let snapshot = Snapshot { state: state.into(), head: store.head(), length: store.length() };
        let committer = Committer::new(store, snapshot.clone(), SNAPSHOT_EVERY);
        self.committer.set(committer).map_err(|_| Refusal::NotRecovering)?;
        *self.mode.write().unwrap_or_else(PoisonError::into_inner) = Mode::Open(snapshot);
        self.root_changed.notify_one();
        tracing::warn!(code = "RECOVERED", "the state was recovered: it has a new root and a new epoch");
        Ok(())
    }
}

/// Opens the log and asks its own manifest whether these are its holders: what lies beside the log is the host's.
fn unlock(store: &store::Locked, secret: &[u8; 32]) -> Result<Unlocked, Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::RecoveryFailed(error.to_string());
    let unlocked = store.read(secret).map_err(|error| failed(&error))?;
    let nobody = core::IdentityKey::generate()?;
    let state = unlocked.state(&nobody).map_err(|error| failed(&error))?;
    let mesh = state.as_ref().and_then(State::mesh).ok_or_else(|| failed(&"it has no manifest"))?;
    let descriptor = store.descriptor().ok_or(Refusal::Unrecoverable)?;
    if !descriptor.is_of(mesh.manifest()) || mesh.recovery_secret().is_none_or(|known| **known != *secret) {
        return Err(failed(&"the holders beside it are not those of its manifest"));
    }
    Ok(unlocked)
}
