//! AWS Nitro Enclaves: document ← leaf ← AWS Nitro Enclaves root G1.

mod policy;

use evidence::{AwsCollateral, nitro};
use serde::Serialize;

use crate::findings::{Context, Findings};
pub use policy::NitroPolicy;

/// What such Evidence claims, as far as it was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NitroClaims {}

pub(crate) fn appraise(
    evidence: &nitro::Document,
    collateral: Option<&AwsCollateral>,
    context: &Context<'_>,
) -> Findings {
    let _ = (collateral, context);
    match *evidence {}
}
