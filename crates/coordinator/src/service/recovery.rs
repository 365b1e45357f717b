//! Recovery at work: shares come in, and when there are enough the state is opened, checked against its own
//! manifest, sealed to this TEE, and given a new root.

use std::sync::PoisonError;

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};
use zeroize::Zeroizing;

use super::{
    Coordinator, Snapshot,
    anchor::Tether,
    commit::{Committer, SNAPSHOT_EVERY},
};
use crate::{
    core::{self, Event, Refusal, State, anchor::Unfit, recovery::Progress},
    store::{self, Keys, Opened, Opening, Shares, Store, StoreError, Unlocked},
};

/// A state that waits for shares.
pub(super) struct Locked {
    store: store::Locked,
    progress: Option<Progress>,
    ephemeral: Ephemeral,
    /// Which loss each of those who gave a share accepts.
    accepted: Vec<Option<u64>>,
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
        Self { store, progress, ephemeral: Ephemeral::default(), accepted: Vec::new() }
    }

    /// How many shares are missing; `None` where nobody has any.
    pub(super) fn remaining(&self) -> Option<usize> {
        self.progress.as_ref().map(Progress::remaining)
    }
}

/// What a share came to.
pub(super) struct Taken {
    /// How many are missing now.
    pub(super) remaining: usize,
    /// It itself, where other replicas wait for it as well.
    pub(super) share: Option<Zeroizing<Vec<u8>>>,
}

/// What adopting a state came to.
enum Adopted {
    Ours,
    /// Another replica recovered it first.
    Overtaken,
}

/// No share is longer: a secret, or a point of Shamir's polynomial.
const LONGEST_SHARE: usize = 33;

impl Coordinator {
    /// The public part, DER, of a key that lives until the state is open.
    pub(super) fn recovery_key(&self) -> Result<Vec<u8>, Refusal> {
        if let Some(unserved) = self.unserved() {
            return self.acceptance_key(&unserved);
        }
        let mut locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        locked.as_mut().ok_or(Refusal::NotRecovering)?.ephemeral.public_key()
    }

    /// Takes a share: as it is, or encrypted to [`Coordinator::recovery_key`]; when none is missing any more, the state
    /// is open. Where an anchor says that this is an
    /// older state, each holder must accept the loss of what came after so many records.
    pub(super) fn recover(
        &self,
        share: &[u8],
        signature: &[u8],
        accepted: Option<u64>,
    ) -> Result<Taken, Refusal> {
        if let Some(unserved) = self.unserved() {
            // What is unfit is this coordinator's state: it was shown so, and no other one was.
            return self
                .accept_loss(&unserved, (share, signature), accepted)
                .map(|remaining| Taken { remaining, share: None });
        }
        let mut guard = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = guard.as_mut().ok_or(Refusal::NotRecovering)?;
        let share = locked.ephemeral.share(share)?;
        let progress = locked.progress.as_mut().ok_or(Refusal::Unrecoverable)?;
        progress.upload(share.clone(), signature)?;
        locked.accepted.push(accepted);
        let remaining = progress.remaining();
        let Some(secret) = progress.secret() else { return Ok(Taken { remaining, share: Some(share) }) };
        let holders = progress.holders();
        let unlocked = unlock(&locked.store, &secret)
            .and_then(|(unlocked, state)| Ok((unlocked, self.tether_of(&state, &locked.accepted)?)));
        match unlocked {
            Ok((unlocked, tether)) => {
                let Some(locked) = guard.take() else { return Err(Refusal::NotRecovering) };
                let adopted = self.adopt(locked.store, unlocked, tether, holders);
                // Another replica may come first with these same shares; it gives this one the keys. And where etcd
                // failed, the shares can come again.
                if self.replicas.is_some() && !matches!(adopted, Ok(Adopted::Ours)) {
                    *guard = self.locked_again().ok();
                }
                adopted.map(|_| Taken { remaining: 0, share: None })
            }
            Err(refusal) => {
                // The shares were right and the state is not theirs: whoever changed the file must not block it.
                locked.progress = locked.store.descriptor().cloned().map(Progress::new);
                locked.accepted.clear();
                Err(refusal)
            }
        }
    }

    /// Opens the state with keys that another replica gave.
    pub(super) fn open_with(&self, keys: &Keys) -> Result<(), Refusal> {
        let failed = |error: StoreError| Refusal::RecoveryFailed(error.to_string());
        let mut guard = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = guard.as_mut().ok_or(Refusal::NotRecovering)?;
        let identity = core::IdentityKey::new(keys.identity.clone());
        let unlocked = locked.store.admit(keys, self.tee.as_ref()).map_err(failed)?;
        let state = unlocked.state(&identity).map_err(failed)?.ok_or(Refusal::NotRecovering)?;
        state.root().key()?;
        let Some(locked) = guard.take() else { return Err(Refusal::NotRecovering) };
        let opened = locked.store.admitted(unlocked, keys).map_err(failed)?;
        self.enter(opened.store, state, None)
    }

    /// The chain for a state that is being recovered: its own, where this is its TPM and it is the newest; else a new
    /// one, where one is required. On another machine no TPM can say whether it is the newest; on its own one the
    /// holders must accept that it is not.
    fn tether_of(&self, opened: &Found, accepted: &[Option<u64>]) -> Result<Option<Tether>, Refusal> {
        let failed = |error: &dyn std::fmt::Display| Refusal::RecoveryFailed(error.to_string());
        let Some(required) = &self.configuration.tpm else { return Ok(None) };
        if let Some(chain) = opened.state.chain() {
            let position = (opened.length, &opened.head);
            let own = Tether::resume(chain, position, self.tpm.as_ref()).map_err(|error| failed(&error))?;
            match own {
                Ok(tether) => return Ok(Some(tether)),
                Err(Unfit::Superseded { length }) if accepted.iter().any(|it| *it != Some(length)) => {
                    return Err(Refusal::LossNotAccepted { length });
                }
                Err(_) => Tether::retire(chain, self.tpm.as_ref()).map_err(|error| failed(&error))?,
            }
        }
        Tether::found(required, self.tpm.as_ref()).map(Some).map_err(|error| failed(&error))
    }

    fn adopt(
        &self,
        store: store::Locked,
        unlocked: Unlocked,
        mut tether: Option<Tether>,
        holders: Vec<String>,
    ) -> Result<Adopted, Refusal> {
        let failed = |error: &dyn std::fmt::Display| Refusal::RecoveryFailed(error.to_string());
        let opened = store.adopt(unlocked, self.tee.as_ref()).map_err(|error| failed(&error))?;
        let Opened { mut store, snapshot, records, identity } = opened;
        let length = store.length();
        let first = length - store.since_snapshot();
        let snapshot = snapshot.as_deref().map(Vec::as_slice);
        let state = State::resume(snapshot, first, &records, &identity).map_err(|error| failed(&error))?;
        let state = state.ok_or_else(|| failed(&"the log is empty"))?;
        let now = (self.clock)();
        let mut events = vec![core::recovered(&state, holders.clone(), self.tee.emulated(), now)?];
        // Its chain stayed behind.
        if state.chain().is_some() && tether.as_ref().is_none_or(Tether::is_new) {
            events.push(Event::AnchorReset { holders, length, at: now.0 });
        }
        events.extend(tether.as_ref().map(Tether::announcement));
        let (mut state, mut records, mut entries) = (state, Vec::new(), Vec::new());
        for event in events {
            records.push(event.to_record());
            let (next, entry) = state.step_logged(event).map_err(Refusal::Internal)?;
            state = next;
            entries.push(entry);
        }
        match store.append_with(&records, &entries, Shares::Keep) {
            Err(StoreError::Conflict) => return Ok(Adopted::Overtaken),
            appended => appended.map_err(|error| failed(&error))?,
        }
        if store.is_shared() {
            store.keep_keys(&identity, self.tee.as_ref()).map_err(|error| failed(&error))?;
        }
        if let Some(tether) = &mut tether {
            tether.advance(&store.head()).map_err(|fault| failed(&fault))?;
        }
        self.enter(store, state, tether)?;
        tracing::warn!(code = "RECOVERED", "the state was recovered: it has a new root and a new epoch");
        Ok(Adopted::Ours)
    }

    fn enter(&self, store: Store, state: State, tether: Option<Tether>) -> Result<(), Refusal> {
        let snapshot = Snapshot { state: state.into(), head: store.head(), length: store.length() };
        let committer = Committer::new(store, snapshot.clone(), SNAPSHOT_EVERY);
        committer.tie(tether);
        self.committer.set(committer).map_err(|_| Refusal::NotRecovering)?;
        self.begin_serving(snapshot);
        Ok(())
    }

    /// After a recovery that came second to another replica's: that one has the keys now.
    fn locked_again(&self) -> Result<Locked, Refusal> {
        let replicas = self.replicas.as_ref().ok_or(Refusal::NoReplicas)?;
        let opening = replicas.open(self.tee.as_ref());
        match opening.map_err(|error| Refusal::RecoveryFailed(error.to_string()))? {
            Opening::Locked(locked) => Ok(Locked::new(locked)),
            Opening::Open(_) => Err(Refusal::NotRecovering),
        }
    }
}

/// What the shares opened, and where it ends.
struct Found {
    state: State,
    length: u64,
    head: store::Head,
}

/// Opens the log and asks its own manifest whether these are its holders: what lies beside the log is the host's.
fn unlock(store: &store::Locked, secret: &[u8; 32]) -> Result<(Unlocked, Found), Refusal> {
    let failed = |error: &dyn std::fmt::Display| Refusal::RecoveryFailed(error.to_string());
    let unlocked = store.read(secret).map_err(|error| failed(&error))?;
    let nobody = core::IdentityKey::generate()?;
    let state = unlocked.state(&nobody).map_err(|error| failed(&error))?;
    let mesh = state.as_ref().and_then(State::mesh).ok_or_else(|| failed(&"it has no manifest"))?;
    let descriptor = store.descriptor().ok_or(Refusal::Unrecoverable)?;
    if !descriptor.is_of(mesh.manifest()) || mesh.recovery_secret().is_none_or(|known| **known != *secret) {
        return Err(failed(&"the holders beside it are not those of its manifest"));
    }
    let (length, head) = unlocked.position();
    let state = state.ok_or_else(|| failed(&"it has no manifest"))?;
    Ok((unlocked, Found { state, length, head }))
}
