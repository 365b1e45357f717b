//! The first process of a guest that holds one Keep. It mounts, loads the kernel's modules, measures the launch
//! configuration, brings the network up, starts the Keep, and switches the machine off when the Keep ends. There is no
//! shell, no console to log in at, and no second program.
//!
//! What the host supplies comes in by [`host`] and nowhere else; `docs/vm-guest.md` lists it.

pub mod event_log;
pub mod host;
mod modules;
mod mounts;
mod network;
mod start;
mod system;

pub use start::run;
pub use system::power_off;

/// Why the machine is switched off before its Keep ran.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// The kernel refused.
    #[error("{attempt}: {source}")]
    System {
        /// What was attempted.
        attempt: String,
        /// Its error.
        source: std::io::Error,
    },
    /// The processor has no random numbers, and nobody else's count (S-22).
    #[error(
        "the processor has neither RDRAND nor RDSEED: start the machine with a processor that has (-cpu max)"
    )]
    NoEntropy,
    /// What the host supplies is malformed.
    #[error("{what}: {reason}")]
    Host {
        /// Which of it.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The TPM did not take the measurement.
    #[error("the launch configuration could not be measured: {0}")]
    Unmeasured(#[source] tpm_anchor::TpmError),
}

impl InitError {
    pub(crate) fn system(attempt: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let attempt = attempt.into();
        move |source| Self::System { attempt, source }
    }
}
