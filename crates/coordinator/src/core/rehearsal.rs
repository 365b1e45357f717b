//! The drill: holders of recovery keys prove, while the coordinator runs, that their shares would bring the state
//! back. It ends with a line in the update log and changes nothing else.

use appraisal::UnixTime;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::{
    Event, Refusal, State, event,
    recovery::{Descriptor, Progress},
};

/// How long a rehearsal lasts, in seconds.
const LASTS: i64 = 3600;

/// Shares that came in so far; in memory alone.
pub struct Rehearsal {
    descriptor: Descriptor,
    progress: Progress,
    until: i64,
}

/// Where a rehearsal stands.
pub struct Standing {
    /// Whose shares are known to be right.
    pub given: Vec<String>,
    /// How many are missing; at 0 it is to be concluded.
    pub remaining: usize,
    /// Everyone who has a share.
    pub holders: Vec<String>,
    /// How many it takes.
    pub threshold: usize,
    /// When it is over, in seconds.
    pub until: i64,
}

impl Rehearsal {
    /// A new one, given who could recover what lies on the disk.
    ///
    /// # Errors
    /// Where nobody could, or where they are not the holders that the manifest in force names: the host can change
    /// what lies beside the log.
    pub fn begin(state: &State, descriptor: Option<Descriptor>, now: UnixTime) -> Result<Self, Refusal> {
        let mesh = state.running()?;
        mesh.recovery_secret().ok_or(Refusal::NoRecoveryKeys)?;
        let descriptor = descriptor.ok_or(Refusal::NoRecoveryKeys)?;
        if !descriptor.is_of(mesh.manifest()) {
            return Err(Refusal::RecoveryFailed(
                "the holders beside it are not those of its manifest".into(),
            ));
        }
        let progress = Progress::new(descriptor.clone());
        Ok(Self { descriptor, progress, until: event::seconds(now).saturating_add(LASTS) })
    }

    /// Whether its hour is not over, and the shares are the same as when it began.
    pub fn goes_on(&self, descriptor: Option<&Descriptor>, now: UnixTime) -> bool {
        now.0 < self.until && descriptor == Some(&self.descriptor)
    }

    /// Takes a share with its holder's signature, as a recovery does.
    pub fn upload(&mut self, share: Zeroizing<Vec<u8>>, signature: &[u8]) -> Result<(), Refusal> {
        self.progress.upload(share, signature)
    }

    /// The secret, once enough shares are there.
    pub fn secret(&self) -> Option<Zeroizing<[u8; 32]>> {
        self.progress.secret()
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        Standing {
            given: self.progress.holders(),
            remaining: self.progress.remaining(),
            holders: self.descriptor.holders.keys().cloned().collect(),
            threshold: self.descriptor.threshold,
            until: self.until,
        }
    }
}

/// The holders' shares gave `secret`.
pub fn rehearsed(
    state: &State,
    secret: &[u8; 32],
    holders: Vec<String>,
    now: UnixTime,
) -> Result<Event, Refusal> {
    let known = state.running()?.recovery_secret().ok_or(Refusal::NoRecoveryKeys)?;
    verify_slices_are_equal(known.as_slice(), secret)
        .map_err(|_| Refusal::RecoveryFailed("they give another secret than that of the state".into()))?;
    Ok(Event::RecoveryRehearsed { holders, at: event::seconds(now) })
}
