//! The drill: holders of recovery keys prove, while the coordinator runs, that their shares would bring the state
//! back. It ends with a line in the update log and changes nothing else.

use appraisal::UnixTime;
use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::{Event, Refusal, State, event, recovery::Descriptor};

/// Whether a rehearsal makes sense on this state, given who could recover what lies on the disk.
///
/// # Errors
/// Where nobody could, or where they are not the holders that the manifest in force names: the host can change what
/// lies beside the log.
pub fn rehearsable(state: &State, descriptor: Option<&Descriptor>) -> Result<(), Refusal> {
    let mesh = state.running()?;
    mesh.recovery_secret().ok_or(Refusal::NoRecoveryKeys)?;
    let descriptor = descriptor.ok_or(Refusal::NoRecoveryKeys)?;
    if descriptor.is_of(mesh.manifest()) {
        return Ok(());
    }
    Err(Refusal::RecoveryFailed("the holders beside it are not those of its manifest".into()))
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
