use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Rule;

/// What a policy says of TPMs, alone or under Azure. The default is strict. Whose TPMs are accepted is for
/// [`crate::Policy::trust_anchors`] to say; what must have been booted, for reference values and
/// [`crate::BootPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TpmPolicy {
    /// The registers that must be quoted, in a bank other than that of SHA-1: firmware's and boot loader's by default.
    pub registers: BTreeSet<u8>,
    /// The quotes are of the SHA-1 bank alone.
    pub sha1: Rule,
    /// A CA above the attestation key has no current revocation list. Revocation by an old list is refused always.
    pub crl: Rule,
    /// Firmware versions below are refused; vendors number them each in its own way.
    pub minimum_firmware: Option<u64>,
}

impl Default for TpmPolicy {
    fn default() -> Self {
        Self { registers: (0..=7).collect(), sha1: Rule::Refuse, crl: Rule::Refuse, minimum_firmware: None }
    }
}

impl TpmPolicy {
    /// Authenticity and validity only: what is debatable is a warning.
    pub fn genuine() -> Self {
        Self { registers: BTreeSet::new(), sha1: Rule::Warn, crl: Rule::Warn, minimum_firmware: None }
    }
}
