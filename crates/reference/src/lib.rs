//! Reference values, computed offline from the artefacts that are launched: nobody needs to boot a machine to learn
//! what it will report.
//!
//! What it is: pure functions from bytes to digests. [`snp`] gives the launch digest of a SEV-SNP guest, [`tdx`] MRTD
//! and RTMRs of a trust domain, [`uki`] and [`boot`] the PCRs of a machine that boots a unified kernel image, [`sgx`] the
//! identity that an enclave's author signed. What it is not: an appraisal. A value computed here says what the
//! artefacts measure to, not that they are good.
//!
//! It is checked against published vectors, never only against itself: see `tests/`.

mod bank;
pub mod boot;
mod malformed;
mod ovmf;
pub mod pe;
pub mod sgx;
pub mod snp;
pub mod tdx;
pub mod uki;

pub use bank::{Bank, Register};
pub use malformed::Malformed;
