use serde::{Deserialize, Serialize};

use crate::Rule;

/// What a policy says of Nitro Enclaves alone. The default is strict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NitroPolicy {
    /// How old a document may be, in seconds from its timestamp to the time of the appraisal. Without it, a document
    /// is good as long as its certificate: three hours.
    pub max_age_seconds: Option<u64>,
    /// A CA of the chain names a revocation list, and no current one was given. AWS says that documents are to be
    /// validated without revocation lists (AWS Nitro Enclaves User Guide, "Verifying the root of trust"), whose CAs
    /// live days and whose leaves live hours, so by default this is a warning. `allow` is one, too: a verdict
    /// without revocation always says so. Revocation by any list is refused always.
    pub missing_crl: Rule,
    /// The document came in a certificate whose key it does not cover, so that it says nothing about who holds that
    /// key.
    pub unbound_certificate: Rule,
}

impl Default for NitroPolicy {
    fn default() -> Self {
        Self { max_age_seconds: None, missing_crl: Rule::Warn, unbound_certificate: Rule::Refuse }
    }
}

impl NitroPolicy {
    /// Authenticity and validity only: what is debatable is a warning.
    pub fn genuine() -> Self {
        Self { unbound_certificate: Rule::Warn, ..Self::default() }
    }
}
