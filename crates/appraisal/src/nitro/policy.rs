use serde::{Deserialize, Serialize};

use crate::Rule;

/// What a policy says of Nitro Enclaves alone. The default is strict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NitroPolicy {
    /// How old a document may be, in seconds; absent, as old as its certificate allows, which is three hours.
    pub max_age_seconds: Option<u64>,
    /// There is no revocation list of AWS's. AWS asks verifiers not to look for any, and lets the certificates of
    /// enclaves end after three hours instead, so the default allows it.
    pub missing_crl: Rule,
}

impl Default for NitroPolicy {
    fn default() -> Self {
        Self { max_age_seconds: None, missing_crl: Rule::Allow }
    }
}

impl NitroPolicy {
    /// Authenticity and validity only: what is debatable is a warning.
    pub fn genuine() -> Self {
        Self::default()
    }
}
