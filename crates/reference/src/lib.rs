//! Reference values, computed offline from the artefacts that are launched: nobody needs to boot a machine to learn
//! what it will report.
//!
//! What it is: pure functions from bytes to digests. [`snp`] gives the launch digest of a SEV-SNP guest. What
//! it is not: an appraisal. A value computed here says what the artefacts measure to, not that they are good.
//!
//! It is checked against published vectors, never only against itself: see `tests/`.

mod malformed;
mod ovmf;
pub mod snp;

pub use malformed::Malformed;
