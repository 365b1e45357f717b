//! The drill at work: shares come in as in a recovery, and when there are enough it is tried whether they would open
//! what lies on the disk. Nothing of it is written but that it succeeded.

use std::sync::PoisonError;

use zeroize::Zeroizing;

use super::{Coordinator, Decided, recovery::Ephemeral};
use crate::{
    core::{self, Refusal, Standing, recovery::Descriptor},
    store::Store,
};

/// A rehearsal under way.
pub(super) struct Rehearsal {
    rehearsal: core::Rehearsal,
    ephemeral: Ephemeral,
}

impl Coordinator {
    /// Where the rehearsal stands that is under way; a new one begins where there is none.
    pub(super) fn rehearsal(&self) -> Result<Standing, Refusal> {
        self.rehearsing(|it| Ok(it.rehearsal.standing()))
    }

    /// The public part, DER, of a key that lives as long as the rehearsal.
    pub(super) fn rehearsal_key(&self) -> Result<Vec<u8>, Refusal> {
        self.rehearsing(|it| it.ephemeral.public_key())
    }

    /// Takes a share: as it is, or encrypted to [`Coordinator::rehearsal_key`]. With the last one, the event is durable
    /// when this returns.
    pub(super) fn rehearse(&self, share: &[u8], signature: &[u8]) -> Result<Standing, Refusal> {
        let ephemeral = self.rehearsing(|it| Ok(it.ephemeral.clone()))?;
        let share = ephemeral.share(share)?;
        let (standing, secret) = self.rehearsing(|it| {
            it.rehearsal.upload(share, signature)?;
            Ok((it.rehearsal.standing(), it.rehearsal.secret()))
        })?;
        if standing.remaining > 0 {
            return Ok(standing);
        }
        // Over, whichever way it ends: shares that were rehearsed are not kept.
        self.rehearsal.lock().unwrap_or_else(PoisonError::into_inner).take();
        let failed = || Refusal::RecoveryFailed("they do not fit together".into());
        self.conclude(&secret.ok_or_else(failed)?, standing.given.clone())?;
        Ok(standing)
    }

    fn conclude(&self, secret: &Zeroizing<[u8; 32]>, holders: Vec<String>) -> Result<(), Refusal> {
        if self.of_store(|store| store.opens_with(secret))? != Some(true) {
            return Err(Refusal::RecoveryFailed("what lies on the disk is sealed to another secret".into()));
        }
        let now = (self.clock)();
        self.commit(|state| Ok(Decided::one(core::rehearsed(state, secret, holders.clone(), now)?, ())))?;
        tracing::info!(code = "RECOVERY_REHEARSED", "holders of recovery keys proved that their shares work");
        Ok(())
    }

    /// The rehearsal under way: begun anew where there is none, where its hour is over, and where the shares changed.
    fn rehearsing<T>(&self, with: impl FnOnce(&mut Rehearsal) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let state = self.snapshot()?.state;
        let descriptor: Option<Descriptor> = self.of_store(Store::descriptor)?.flatten();
        let now = (self.clock)();
        let mut guard = self.rehearsal.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = guard.take().filter(|it| it.rehearsal.goes_on(descriptor.as_ref(), now));
        let under_way = match under_way {
            Some(under_way) => under_way,
            None => Rehearsal {
                rehearsal: core::Rehearsal::begin(&state, descriptor, now)?,
                ephemeral: Ephemeral::default(),
            },
        };
        with(guard.insert(under_way))
    }

    /// What lies on the disk; `None` while the state is locked.
    pub(super) fn of_store<T>(
        &self,
        ask: impl FnOnce(&Store) -> Result<T, crate::store::StoreError>,
    ) -> Result<Option<T>, Refusal> {
        let answer = self.committer.get().map(|committer| committer.ask(ask)).transpose();
        answer.map_err(|error| Refusal::RecoveryFailed(error.to_string()))
    }
}
