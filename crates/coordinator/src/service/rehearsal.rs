//! The drill at work: shares come in as in a recovery, and when there are enough it is tried whether they would open
//! what lies on the disk. What came in is in memory alone, for an hour at most.

use std::sync::PoisonError;

use appraisal::UnixTime;
use zeroize::Zeroizing;

use super::{Coordinator, Decided, recovery::Ephemeral};
use crate::core::{
    self, Refusal, State,
    recovery::{Descriptor, Progress},
};

/// In seconds.
const LASTS: i64 = 3600;

/// Shares that came in so far.
pub(super) struct Rehearsal {
    descriptor: Descriptor,
    progress: Progress,
    ephemeral: Ephemeral,
    /// When it is over, in seconds.
    until: i64,
}

/// Where a rehearsal stands.
pub(super) struct Standing {
    /// Whose shares are known to be right.
    pub(super) given: Vec<String>,
    /// How many are missing; at 0 the rehearsal succeeded.
    pub(super) remaining: usize,
    /// Everyone who has a share.
    pub(super) holders: Vec<String>,
    /// How many it takes.
    pub(super) threshold: usize,
    /// When it is over, in seconds.
    pub(super) until: i64,
}

impl Rehearsal {
    fn new(descriptor: Descriptor, now: UnixTime) -> Self {
        Self {
            progress: Progress::new(descriptor.clone()),
            descriptor,
            ephemeral: Ephemeral::default(),
            until: now.0.saturating_add(LASTS),
        }
    }

    fn standing(&self) -> Standing {
        Standing {
            given: self.progress.holders(),
            remaining: self.progress.remaining(),
            holders: self.descriptor.holders.keys().cloned().collect(),
            threshold: self.descriptor.threshold,
            until: self.until,
        }
    }
}

impl Coordinator {
    /// Where the rehearsal stands that is under way; a new one begins where there is none.
    pub(super) fn rehearsal(&self) -> Result<Standing, Refusal> {
        self.rehearsing(|rehearsal| Ok(rehearsal.standing()))
    }

    /// The public part, DER, of a key that lives as long as the rehearsal.
    pub(super) fn rehearsal_key(&self) -> Result<Vec<u8>, Refusal> {
        self.rehearsing(|rehearsal| rehearsal.ephemeral.public_key())
    }

    /// Takes a share: as it is, or encrypted to [`Coordinator::rehearsal_key`].
    pub(super) fn rehearse(&self, share: &[u8], signature: &[u8]) -> Result<Standing, Refusal> {
        let ephemeral = self.rehearsing(|rehearsal| Ok(rehearsal.ephemeral.clone()))?;
        let share = ephemeral.share(share)?;
        let (standing, secret) = self.rehearsing(|rehearsal| {
            rehearsal.progress.upload(share, signature)?;
            Ok((rehearsal.standing(), rehearsal.progress.secret()))
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
        let store = self.store.lock().map_err(|_| Refusal::Internal("an earlier commit failed".into()))?;
        let opens = store.as_ref().map(|store| store.opens_with(secret)).transpose();
        drop(store);
        if !opens.map_err(|error| Refusal::RecoveryFailed(error.to_string()))?.unwrap_or(false) {
            return Err(Refusal::RecoveryFailed("what lies on the disk is sealed to another secret".into()));
        }
        let now = (self.clock)();
        self.commit(|state: &State| Ok(Decided::one(core::rehearsed(state, secret, holders, now)?, ())))?;
        tracing::info!(code = "RECOVERY_REHEARSED", "holders of recovery keys proved that their shares work");
        Ok(())
    }

    /// The rehearsal under way: begun anew where there is none, where its hour is over, and where the holders changed.
    fn rehearsing<T>(&self, with: impl FnOnce(&mut Rehearsal) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let state = self.snapshot()?.state;
        let store = self.store.lock().map_err(|_| Refusal::Internal("an earlier commit failed".into()))?;
        let descriptor = store.as_ref().map(|store| store.descriptor()).transpose();
        drop(store);
        let descriptor = descriptor.map_err(|error| Refusal::RecoveryFailed(error.to_string()))?.flatten();
        core::rehearsable(&state, descriptor.as_ref())?;
        let descriptor = descriptor.ok_or(Refusal::NoRecoveryKeys)?;
        let now = (self.clock)();
        let mut rehearsal = self.rehearsal.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = |rehearsal: &Rehearsal| now.0 < rehearsal.until && rehearsal.descriptor == descriptor;
        if !rehearsal.as_ref().is_some_and(goes_on) {
            *rehearsal = Some(Rehearsal::new(descriptor, now));
        }
        match rehearsal.as_mut() {
            Some(rehearsal) => with(rehearsal),
            None => Err(Refusal::Internal("a rehearsal could not begin".into())),
        }
    }
}
