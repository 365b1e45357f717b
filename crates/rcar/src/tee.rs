//! The kinds of TEE by their names in this protocol.

use std::fmt;
use std::str::FromStr;

use evidence::Platform;

use crate::Invalid;

/// A kind of TEE or device, as clients name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tee {
    /// A confidential VM of Azure on SEV-SNP.
    AzSnpVtpm,
    /// A confidential VM of Azure on TDX.
    AzTdxVtpm,
    /// Arm CCA.
    Cca,
    /// Hygon CSV, which nothing here appraises.
    Csv,
    /// A Hygon DCU, which nothing here appraises.
    HygonDcu,
    /// GPUs and switches of NVIDIA.
    Nvidia,
    /// A BlueField DPU of NVIDIA, which nothing here appraises.
    NvidiaDpu,
    /// CoCo's stand-in for a TEE: nothing but the report data, unsigned.
    Sample,
    /// CoCo's stand-in for a device.
    SampleDevice,
    /// IBM Secure Execution, which nothing here appraises.
    Se,
    /// Intel SGX.
    Sgx,
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
    /// A TPM 2.0.
    Tpm,
}

impl Tee {
    /// All, by name.
    pub const ALL: [Self; 14] = [
        Self::AzSnpVtpm,
        Self::AzTdxVtpm,
        Self::Cca,
        Self::Csv,
        Self::HygonDcu,
        Self::Nvidia,
        Self::NvidiaDpu,
        Self::Sample,
        Self::SampleDevice,
        Self::Se,
        Self::Sgx,
        Self::Snp,
        Self::Tdx,
        Self::Tpm,
    ];

    /// As it is on the wire today.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AzSnpVtpm => "az-snp-vtpm",
            Self::AzTdxVtpm => "az-tdx-vtpm",
            Self::Cca => "cca",
            Self::Csv => "csv",
            Self::HygonDcu => "hygondcu",
            Self::Nvidia => "nvidia",
            Self::NvidiaDpu => "nvidia-dpu",
            Self::Sample => "sample",
            Self::SampleDevice => "sampledevice",
            Self::Se => "se",
            Self::Sgx => "sgx",
            Self::Snp => "snp",
            Self::Tdx => "tdx",
            Self::Tpm => "tpm",
        }
    }

    /// The platform whose Evidence it sends. None for the samples, and for those that nothing here appraises.
    pub const fn platform(self) -> Option<Platform> {
        match self {
            Self::AzSnpVtpm => Some(Platform::AzureSnp),
            Self::AzTdxVtpm => Some(Platform::AzureTdx),
            Self::Cca => Some(Platform::Cca),
            Self::Nvidia => Some(Platform::Nvidia),
            Self::Sgx => Some(Platform::Sgx),
            Self::Snp => Some(Platform::Snp),
            Self::Tdx => Some(Platform::Tdx),
            Self::Tpm => Some(Platform::Tpm),
            Self::Csv | Self::HygonDcu | Self::NvidiaDpu | Self::Sample | Self::SampleDevice | Self::Se => {
                None
            }
        }
    }

    /// The name that a guest on this platform gives itself. None for AWS Nitro, which the protocol does not know.
    pub const fn of(platform: Platform) -> Option<Self> {
        match platform {
            Platform::Sgx => Some(Self::Sgx),
            Platform::Tdx => Some(Self::Tdx),
            Platform::Snp => Some(Self::Snp),
            Platform::AzureSnp => Some(Self::AzSnpVtpm),
            Platform::AzureTdx => Some(Self::AzTdxVtpm),
            Platform::Tpm => Some(Self::Tpm),
            Platform::Cca => Some(Self::Cca),
            Platform::Nvidia => Some(Self::Nvidia),
            Platform::Nitro => None,
        }
    }

    /// Whether it is one of CoCo's stand-ins, whose Evidence proves nothing.
    pub const fn is_sample(self) -> bool {
        matches!(self, Self::Sample | Self::SampleDevice)
    }
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Tee {
    type Err = Invalid;

    /// Also takes the names of older clients.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let alias = match text {
            "azsnpvtpm" => Some(Self::AzSnpVtpm),
            "aztdxvtpm" => Some(Self::AzTdxVtpm),
            "nvidiadpu" => Some(Self::NvidiaDpu),
            _ => None,
        };
        alias
            .or_else(|| Self::ALL.into_iter().find(|tee| tee.as_str() == text))
            .ok_or_else(|| Invalid::Tee { seen: text.chars().take(32).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_written_and_platforms_find_their_tee() {
        for tee in Tee::ALL {
            assert_eq!(tee.as_str().parse(), Ok(tee));
            if let Some(platform) = tee.platform() {
                assert_eq!(Tee::of(platform), Some(tee));
                assert!(!tee.is_sample());
            }
        }
        assert_eq!("aztdxvtpm".parse(), Ok(Tee::AzTdxVtpm));
        assert!("SNP".parse::<Tee>().is_err());
        assert!("sev".parse::<Tee>().is_err());
    }
}
