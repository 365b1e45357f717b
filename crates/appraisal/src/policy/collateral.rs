//! How current the vendor's signed statements must be.

use serde::{Deserialize, Serialize};

/// What a policy says of the age of TCB info, QE identity and revocation lists. The default is strict: nothing
/// past its next update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CollateralPolicy {
    /// So many days after its end, collateral is accepted still, with a warning. What it revokes stays revoked.
    pub grace_days: u32,
    /// From so many days before its end on, a warning says that it ends.
    pub warn_days: u32,
    /// Collateral issued longer ago than so many days is refused, whatever its end.
    pub max_age_days: Option<u32>,
}

impl Default for CollateralPolicy {
    fn default() -> Self {
        Self { grace_days: 0, warn_days: 7, max_age_days: None }
    }
}
