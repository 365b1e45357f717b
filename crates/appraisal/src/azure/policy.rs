use std::collections::BTreeSet;

use evidence::Measurement;
use serde::{Deserialize, Serialize};

use crate::Rule;

/// The digest of the key by which Microsoft signs the ID blocks of its paravisor on SEV-SNP: the same in all recorded
/// reports of Azure's, Milan and Genoa, 2022 to 2026.
const MICROSOFT_ID_KEY: [u8; 48] = [
    0x94, 0x2f, 0xd9, 0x3e, 0xbd, 0xe6, 0xea, 0x7a, 0x96, 0xef, 0xad, 0xea, 0xfc, 0x60, 0xf1, 0xc6, 0xb3,
    0xd1, 0x0e, 0x70, 0x3b, 0x1d, 0xaf, 0xd7, 0x55, 0x5b, 0x92, 0xf7, 0xf3, 0xd3, 0x2d, 0x0e, 0x00, 0x67,
    0x67, 0x64, 0x8c, 0xba, 0x5b, 0x10, 0x2a, 0xf3, 0xd6, 0x57, 0x56, 0xaf, 0x41, 0x77,
];

/// What a policy says of Azure alone; the TEE and the virtual TPM have their own rules. The default is strict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AzurePolicy {
    /// The paravisors whose word on the virtual TPM counts: MEASUREMENT or ID_KEY_DIGEST on SNP, MRTD on TDX. By
    /// default those that Microsoft's key signed on SNP, and none on TDX, where nothing signs them. Whoever starts
    /// another paravisor can make a virtual TPM with any registers.
    pub paravisors: BTreeSet<Measurement>,
    /// The paravisor is none of those.
    pub unknown_paravisor: Rule,
}

impl Default for AzurePolicy {
    fn default() -> Self {
        Self {
            paravisors: BTreeSet::from([Measurement::from(MICROSOFT_ID_KEY)]),
            unknown_paravisor: Rule::Refuse,
        }
    }
}

impl AzurePolicy {
    /// Authenticity and validity only: what is debatable is a warning.
    pub fn genuine() -> Self {
        Self { unknown_paravisor: Rule::Warn, ..Self::default() }
    }
}
