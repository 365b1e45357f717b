use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::NvidiaArchitecture;
use crate::Rule;

/// What a policy says of NVIDIA's devices alone. The default is strict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NvidiaPolicy {
    /// There is no reference integrity manifest for a driver or VBIOS: the measurements are compared with nothing.
    pub missing_rim: Rule,
    /// A certificate of a manifest has expired: NVIDIA's signers last two years, the drivers longer.
    pub expired_rim: Rule,
    /// Neither a revocation list nor an OCSP response tells whether the certificates of device or manifest hold.
    /// Revocation, where it is told, is refused always.
    pub missing_revocation: Rule,
    /// A device is there twice, so there are fewer than there seem to be.
    pub duplicate_device: Rule,
    /// The links between GPUs are not encrypted (protected PCIe): the switches must be trusted as well.
    pub unprotected_links: Rule,
    /// Nothing in a report binds the device to a machine. A warning, for it is always so; [`Rule::Refuse`] forbids
    /// devices whose evidence stands alone.
    pub not_colocated: Rule,
    /// The architectures that are accepted; all, when absent.
    pub architectures: Option<BTreeSet<NvidiaArchitecture>>,
    /// The oldest driver, such as `570.124.06`. Switches have none.
    pub minimum_driver: Option<String>,
    /// The oldest VBIOS by chip, such as `GH100` to `96.00.A5.00.01`.
    pub minimum_vbios: BTreeMap<String, String>,
}

impl Default for NvidiaPolicy {
    fn default() -> Self {
        Self {
            missing_rim: Rule::Refuse,
            expired_rim: Rule::Refuse,
            missing_revocation: Rule::Refuse,
            duplicate_device: Rule::Refuse,
            unprotected_links: Rule::Refuse,
            not_colocated: Rule::Warn,
            architectures: None,
            minimum_driver: None,
            minimum_vbios: BTreeMap::new(),
        }
    }
}

impl NvidiaPolicy {
    /// Authenticity and validity only: what is debatable is a warning.
    pub fn genuine() -> Self {
        Self {
            missing_rim: Rule::Warn,
            expired_rim: Rule::Warn,
            missing_revocation: Rule::Warn,
            duplicate_device: Rule::Warn,
            unprotected_links: Rule::Warn,
            ..Self::default()
        }
    }
}
