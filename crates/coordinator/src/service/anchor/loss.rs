//! The end of a state's being unfit: holders of recovery keys, as many as a recovery takes, say that they accept
//! that whatever came after these records is lost. The mesh goes on with a new root and a new epoch, so that nobody
//! who held a newer head takes it for the same by oversight, and with a new chain.

use std::sync::{Arc, PoisonError};

use super::{Tether, Unserved};
use crate::{
    core::{self, Event, Refusal, State, recovery::Progress},
    service::{Coordinator, Decided, Mode, Snapshot, recovery::Ephemeral},
    store::Store,
};

/// Shares that came in so far, to accept a loss.
pub(in crate::service) struct Accepting {
    progress: Progress,
    ephemeral: Ephemeral,
    /// Of which copy of the state.
    length: u64,
}

impl Coordinator {
    /// What is served to nobody now.
    pub(in crate::service) fn unserved(&self) -> Option<Arc<Unserved>> {
        match self.mode() {
            Mode::Unfit(unserved) => Some(unserved),
            Mode::Open(_) | Mode::Locked { .. } => None,
        }
    }

    /// How many holders have yet to accept the loss; `None` where nobody can.
    pub(in crate::service) fn missing_acceptances(&self, unserved: &Unserved) -> Option<usize> {
        self.accepting(unserved, |accepting| Ok(accepting.progress.remaining())).ok()
    }

    /// The public part, DER, of a key to which shares may be encrypted.
    pub(in crate::service) fn acceptance_key(&self, unserved: &Unserved) -> Result<Vec<u8>, Refusal> {
        self.accepting(unserved, |accepting| accepting.ephemeral.public_key())
    }

    /// Takes a share, signed, of a holder who accepts that nothing is left but the first `accepted` records. Gives the
    /// number that is missing; at 0 the state is served.
    pub(in crate::service) fn accept_loss(
        &self,
        unserved: &Unserved,
        (share, signature): (&[u8], &[u8]),
        accepted: Option<u64>,
    ) -> Result<usize, Refusal> {
        let length = unserved.snapshot.length;
        if accepted != Some(length) {
            return Err(Refusal::LossNotAccepted { length });
        }
        let (remaining, secret, holders) = self.accepting(unserved, |accepting| {
            let share = accepting.ephemeral.share(share)?;
            accepting.progress.upload(share, signature)?;
            let progress = &accepting.progress;
            Ok((progress.remaining(), progress.secret(), progress.holders()))
        })?;
        if remaining > 0 {
            return Ok(remaining);
        }
        self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let failed = || Refusal::RecoveryFailed("they do not fit together".into());
        let now = (self.clock)();
        // Whether it is the state's own secret.
        core::rehearsed(&unserved.snapshot.state, &*secret.ok_or_else(failed)?, holders.clone(), now)?;
        self.go_on(holders, length)?;
        Ok(0)
    }

    fn go_on(&self, holders: Vec<String>, length: u64) -> Result<(), Refusal> {
        let failed = |error: &dyn std::fmt::Display| Refusal::RecoveryFailed(error.to_string());
        let committer = self.committer.get().ok_or(Refusal::NotRecovering)?;
        committer.tie(None);
        let state = self.unserved().map(|unserved| unserved.snapshot.state.clone());
        if let Some(chain) = state.as_deref().and_then(State::chain) {
            Tether::retire(chain, self.tpm.as_ref()).map_err(|error| failed(&error))?;
        }
        let tether = self.configuration.tpm.as_ref().map(|tpm| Tether::found(tpm, self.tpm.as_ref()));
        committer.tie(tether.transpose().map_err(|error| failed(&error))?);
        let now = (self.clock)();
        let left = || self.unserved().map_or(length, |unserved| unserved.snapshot.length);
        let decide = |state: &State| {
            // Other replicas went on: what would be left is not what the holders accepted.
            if left() != length {
                return Err(Refusal::LossNotAccepted { length: left() });
            }
            let recovered = core::recovered(state, holders.clone(), self.tee.emulated(), now)?;
            let reset = Event::AnchorReset { holders: holders.clone(), length, at: now.0 };
            Ok(Decided { events: vec![recovered, reset], shares: None, answer: () })
        };
        committer.commit(decide, |snapshot| self.still_unfit(snapshot.clone()))?;
        let unserved = self.unserved().ok_or(Refusal::NotRecovering)?;
        self.begin_serving(unserved.snapshot.clone());
        tracing::warn!(code = "LOSS_ACCEPTED", records = length, "holders accepted the loss of newer state");
        Ok(())
    }

    /// The log went on, and is served to nobody yet.
    fn still_unfit(&self, snapshot: Snapshot) {
        let mut mode = self.mode.write().unwrap_or_else(PoisonError::into_inner);
        if let Mode::Unfit(unserved) = &mut *mode {
            *unserved = Arc::new(Unserved { snapshot, ..Unserved::clone(unserved) });
        }
    }

    fn accepting<T>(
        &self,
        unserved: &Unserved,
        with: impl FnOnce(&mut Accepting) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let length = unserved.snapshot.length;
        let mut guard = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        let known = guard.take().filter(|accepting| accepting.length == length);
        let accepting = match known {
            Some(known) => known,
            None => {
                let mesh = unserved.snapshot.state.mesh().ok_or(Refusal::Unrecoverable)?;
                let committer = self.committer.get().ok_or(Refusal::Unrecoverable)?;
                let descriptor = committer.ask(Store::descriptor);
                let descriptor = descriptor.map_err(|error| Refusal::RecoveryFailed(error.to_string()))?;
                let descriptor = descriptor.filter(|descriptor| descriptor.is_of(mesh.manifest()));
                let progress = Progress::new(descriptor.ok_or(Refusal::Unrecoverable)?);
                Accepting { progress, ephemeral: Ephemeral::default(), length }
            }
        };
        with(guard.insert(accepting))
    }
}
