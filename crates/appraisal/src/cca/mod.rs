//! Arm CCA: realm token ← realm attestation key ← platform token ← key that the policy enrols.

mod policy;

use evidence::cca;
use serde::Serialize;

use crate::findings::{Context, Findings};
pub use policy::CcaPolicy;

/// What such Evidence claims, as far as it was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CcaClaims {}

pub(crate) fn appraise(evidence: &cca::Token, context: &Context<'_>) -> Findings {
    let _ = context;
    match *evidence {}
}
