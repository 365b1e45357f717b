//! The identity of the quoting enclave, as Intel signs it (Intel PCS API v4, "Get QE Identity").

use std::borrow::Cow;

use evidence::sgx::EnclaveReport;
use serde::Deserialize;

use super::tcb_info::{SvnLevel, hexadecimal};
use crate::UnixTime;

/// Which enclave may make attestation keys.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct QeIdentity<'a> {
    /// `QE` for SGX, `TD_QE` for TDX.
    #[serde(borrow)]
    pub(crate) id: Cow<'a, str>,
    pub(crate) version: u32,
    pub(crate) issue_date: UnixTime,
    pub(crate) next_update: UnixTime,
    pub(crate) tcb_evaluation_data_number: u32,
    #[serde(with = "hexadecimal")]
    miscselect: [u8; 4],
    #[serde(with = "hexadecimal")]
    miscselect_mask: [u8; 4],
    #[serde(with = "hexadecimal")]
    attributes: [u8; 16],
    #[serde(with = "hexadecimal")]
    attributes_mask: [u8; 16],
    #[serde(with = "hexadecimal")]
    mrsigner: [u8; 32],
    isvprodid: u16,
    #[serde(borrow)]
    pub(crate) tcb_levels: Vec<SvnLevel<'a>>,
}

/// A field in which the quoting enclave differs from its identity.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) field: &'static str,
    pub(crate) expected: String,
    pub(crate) observed: String,
}

impl QeIdentity<'_> {
    /// The first field in which the enclave differs; security versions are compared apart.
    pub(crate) fn difference(&self, report: &EnclaveReport) -> Option<Difference> {
        let mut attributes = [0; 16];
        attributes[..8].copy_from_slice(&report.attributes.to_le_bytes());
        attributes[8..].copy_from_slice(&report.xfrm.to_le_bytes());
        // Intel writes MISCSELECT as a number, most significant byte first.
        let misc_select = report.misc_select.to_be_bytes();
        let differs = |field, expected: &[u8], observed: &[u8]| Difference {
            field,
            expected: hex::encode(expected),
            observed: hex::encode(observed),
        };
        if masked(misc_select, self.miscselect_mask) != self.miscselect {
            return Some(differs("MISCSELECT", &self.miscselect, &misc_select));
        }
        if masked(attributes, self.attributes_mask) != self.attributes {
            return Some(differs("ATTRIBUTES", &self.attributes, &attributes));
        }
        if report.mrsigner != self.mrsigner {
            return Some(differs("MRSIGNER", &self.mrsigner, &report.mrsigner));
        }
        (report.isv_prod_id != self.isvprodid).then(|| Difference {
            field: "ISVPRODID",
            expected: self.isvprodid.to_string(),
            observed: report.isv_prod_id.to_string(),
        })
    }
}

pub(crate) fn masked<const N: usize>(value: [u8; N], mask: [u8; N]) -> [u8; N] {
    let mut result = value;
    for (byte, mask) in result.iter_mut().zip(mask) {
        *byte &= mask;
    }
    result
}
