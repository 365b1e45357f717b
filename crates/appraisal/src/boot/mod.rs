//! Event logs against the registers that a TEE or a TPM signed, and what the events then tell of the boot.

mod policy;
mod replay;

pub use policy::BootPolicy;
pub use replay::{Unreplayable, replay};
