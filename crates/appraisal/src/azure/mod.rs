//! Confidential VMs of Azure: TPM quote ← key of the virtual TPM ← SNP report or TD quote ← its vendor.

mod policy;

use evidence::{Endorsements, azure};
use serde::Serialize;

use crate::findings::{Context, Findings};
pub use policy::AzurePolicy;

/// What such Evidence claims, as far as it was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AzureClaims {}

pub(crate) fn appraise(
    evidence: &azure::Attestation,
    endorsements: &Endorsements,
    context: &Context<'_>,
) -> Findings {
    let _ = (endorsements, context);
    match *evidence {}
}
