//! What Evidence claims beside its measurements, typed, as far as it was verified: in verdicts, in EAR tokens,
//! and before Rego policies.

use serde::Serialize;

use crate::amd::SnpClaims;
use crate::azure::AzureClaims;
use crate::boot::BootClaims;
use crate::cca::CcaClaims;
use crate::intel::{SgxClaims, TdxClaims};
use crate::nitro::NitroClaims;
use crate::nvidia::NvidiaClaims;
use crate::tpm::TpmClaims;

/// Claims by platform; those of the Evidence's own platform are there when it is genuine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// The boot, where the Evidence came with an event log: what the registers prove of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootClaims>,
    /// SGX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sgx: Option<SgxClaims>,
    /// TDX.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tdx: Option<TdxClaims>,
    /// SEV-SNP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snp: Option<SnpClaims>,
    /// Azure confidential VMs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<AzureClaims>,
    /// TPMs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmClaims>,
    /// Nitro Enclaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nitro: Option<NitroClaims>,
    /// Arm CCA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cca: Option<CcaClaims>,
    /// NVIDIA devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvidia: Option<NvidiaClaims>,
}
