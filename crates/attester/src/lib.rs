//! Asks the TEE that this process runs in for Evidence and sealing keys.
//!
//! This is the Attester of RFC 9334, and only that: it obtains Evidence and never judges any. It does
//! not know what a verdict, a policy or a certificate is, and it never talks to a network.
//!
//! ```no_run
//! # fn main() -> Result<(), attester::AttesterError> {
//! // First thing in `main`: before any other code can have opened the descriptor of the platform.
//! let tee = attester::detect()?;
//! let evidence = tee.evidence(&evidence::ReportData([0; 64]))?;
//! let key = tee.sealing_key("bailey/state/1")?;
//! # let _ = (evidence, key); Ok(()) }
//! ```
//!
//! There are the emulated platform ([`emulated`]) and real ones ([`hardware`]); [`detect`] picks the one that is there.

pub mod emulated;
pub mod hardware;
mod tee;

pub use tee::{AttesterError, RawEvidence, SealingKey, Tee};

/// Finds the TEE that this process runs in: the emulated platform, where its channel was inherited, and else one of
/// hardware.
///
/// Call it once, first thing in `main`: the emulated platform is reached over an inherited file
/// descriptor, which this function takes. From then on the process ends when the platform is switched
/// off (exit code [`emulated::EXIT_PLATFORM_GONE`]).
///
/// # Errors
/// [`AttesterError::NotInTee`] when there is no TEE, [`AttesterError::AlreadyTaken`] on a second call.
pub fn detect() -> Result<Box<dyn Tee>, AttesterError> {
    match emulated::Emulated::take() {
        Ok(tee) => Ok(Box::new(tee)),
        // Where there is nothing at all, what was missing of the first is the more useful word.
        Err(AttesterError::NotInTee { reason }) => match hardware::detect(&hardware::Paths::system()) {
            Err(AttesterError::NotInTee { .. }) => Err(AttesterError::NotInTee { reason }),
            found => found,
        },
        Err(error) => Err(error),
    }
}
