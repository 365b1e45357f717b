//! What a policy says of SEV-SNP alone.

use std::collections::BTreeSet;

use evidence::Measurement;
use evidence::snp::AbiVersion;
use serde::{Deserialize, Serialize};

use super::Mask;

/// What a policy says of this platform alone. The default is strict where strictness refuses no good machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnpPolicy {
    /// The privilege levels whose reports are accepted. By default those of guests, 0 to 3, and not those that
    /// the host asked for itself (0xffffffff), which cover nothing of the guest's.
    pub vmpl: BTreeSet<u32>,
    /// The lowest version of the report's format: 3 tells the processor, 5 tells mitigations.
    pub minimum_report_version: Option<u32>,
    /// The lowest ABI version that the guest's own policy may allow its firmware.
    pub minimum_abi: Option<AbiVersion>,
    /// The lowest version of the firmware, both running and committed.
    pub minimum_firmware: Option<FirmwareVersion>,
    /// Mitigation bits that must have been set at launch, and be set now. Reports below version 5 tell none.
    pub required_mitigations: Mask,
    /// Whether the guest must have been launched with an ID block.
    pub id_block: IdBlock,
    /// SHA-384 of the keys that may have signed it; any when empty. Reference values can name the one of their code,
    /// as `id_key_digest`.
    pub id_keys: BTreeSet<Measurement>,
    /// SHA-384 of the keys that may have certified those; any when empty.
    pub author_keys: BTreeSet<Measurement>,
}

impl Default for SnpPolicy {
    fn default() -> Self {
        Self {
            vmpl: (0..=3).collect(),
            minimum_report_version: None,
            minimum_abi: None,
            minimum_firmware: None,
            required_mitigations: Mask(0),
            id_block: IdBlock::Optional,
            id_keys: BTreeSet::new(),
            author_keys: BTreeSet::new(),
        }
    }
}

/// A version of the SNP firmware; text form `1.55.21`, or `1.55` for build 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FirmwareVersion {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

impl FirmwareVersion {
    /// From the report's order: build, minor, major.
    pub(crate) fn from_report([build, minor, major]: [u8; 3]) -> Self {
        Self { major, minor, build }
    }
}

impl std::fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

impl From<FirmwareVersion> for String {
    fn from(version: FirmwareVersion) -> Self {
        version.to_string()
    }
}

/// Text that is no version of firmware.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a firmware version such as \"1.55.21\", seen {0:?}")]
pub struct InvalidFirmwareVersion(pub String);

impl TryFrom<String> for FirmwareVersion {
    type Error = InvalidFirmwareVersion;

    fn try_from(text: String) -> Result<Self, InvalidFirmwareVersion> {
        let parts: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
        match parts.as_deref() {
            Some([major, minor]) => Ok(Self { major: *major, minor: *minor, build: 0 }),
            Some([major, minor, build]) => Ok(Self { major: *major, minor: *minor, build: *build }),
            _ => Err(InvalidFirmwareVersion(text)),
        }
    }
}

/// Whether a guest needs an ID block, the signed statement of what it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdBlock {
    /// With or without.
    #[default]
    Optional,
    /// Signed by some key.
    Signed,
    /// Signed by a key that an author key certified.
    Authored,
}
