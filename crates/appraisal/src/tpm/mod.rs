//! TPM 2.0: quote ← attestation key ← endorsement hierarchy, or a key that the policy enrols; PCRs ← event log.

mod policy;

use evidence::{TpmCollateral, tpm};
use serde::Serialize;

use crate::findings::{Context, Findings};
pub use policy::TpmPolicy;

/// What such Evidence claims, as far as it was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TpmClaims {}

pub(crate) fn appraise(
    evidence: &tpm::Attestation,
    collateral: Option<&TpmCollateral>,
    context: &Context<'_>,
) -> Findings {
    let _ = (collateral, context);
    match *evidence {}
}
