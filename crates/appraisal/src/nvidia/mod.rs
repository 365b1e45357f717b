//! NVIDIA devices: SPDM report ← device certificate ← NVIDIA root; measurements ← reference integrity manifests.

mod policy;

use evidence::{NvidiaCollateral, nvidia};
use serde::Serialize;

use crate::findings::{Context, Findings};
pub use policy::NvidiaPolicy;

/// What such Evidence claims, as far as it was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NvidiaClaims {}

pub(crate) fn appraise(
    evidence: &nvidia::Attestation,
    collateral: Option<&NvidiaCollateral>,
    context: &Context<'_>,
) -> Findings {
    let _ = (collateral, context);
    match *evidence {}
}
