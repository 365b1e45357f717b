//! The kinds of TEE. One word each, the same on the wire, in manifests, on the command line and in verdicts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of trusted execution environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// Intel Software Guard Extensions.
    Sgx,
    /// Intel Trust Domain Extensions.
    Tdx,
    /// AMD SEV-SNP.
    Snp,
    /// A confidential VM of Azure on SEV-SNP: the report covers the key of a virtual TPM.
    AzureSnp,
    /// A confidential VM of Azure on TDX: the quote covers the key of a virtual TPM.
    AzureTdx,
    /// A TPM 2.0.
    Tpm,
    /// AWS Nitro Enclaves.
    Nitro,
    /// Arm Confidential Compute Architecture.
    Cca,
    /// An NVIDIA GPU or switch in confidential mode.
    Nvidia,
}

impl Platform {
    /// All platforms, in the order in which we list them.
    pub const ALL: [Self; 9] = [
        Self::Sgx,
        Self::Tdx,
        Self::Snp,
        Self::AzureSnp,
        Self::AzureTdx,
        Self::Tpm,
        Self::Nitro,
        Self::Cca,
        Self::Nvidia,
    ];

    /// Those on which Bailey's own programs run, and which can be emulated.
    pub const KEEPS: [Self; 3] = [Self::Sgx, Self::Tdx, Self::Snp];

    /// The word for it, such as `sgx` or `azure-snp`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sgx => "sgx",
            Self::Tdx => "tdx",
            Self::Snp => "snp",
            Self::AzureSnp => "azure-snp",
            Self::AzureTdx => "azure-tdx",
            Self::Tpm => "tpm",
            Self::Nitro => "nitro",
            Self::Cca => "cca",
            Self::Nvidia => "nvidia",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown platform {0:?}: expected sgx, tdx, snp, azure-snp, azure-tdx, tpm, nitro, cca or nvidia")]
pub struct UnknownPlatform(pub String);

impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|platform| platform.as_str() == text)
            .ok_or_else(|| UnknownPlatform(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for platform in Platform::ALL {
            assert_eq!(platform.to_string().parse(), Ok(platform));
            assert_eq!(serde_json::to_string(&platform).unwrap(), format!("\"{platform}\""));
        }
        assert!("SGX".parse::<Platform>().is_err());
    }
}
