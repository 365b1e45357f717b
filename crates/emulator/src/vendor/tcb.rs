//! What firmware the emulated machine claims to run, and how its platform is set up at creation. The numbers
//! are those of real machines (Emerald Rapids and Genoa, 2025), so that policies written for real fleets work.

use serde::{Deserialize, Serialize};

/// How a platform is made; fixed at its creation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformOptions {
    /// Firmware of the emulated machine.
    pub tcb: TcbSetting,
    /// What the vendors' CRLs revoke.
    pub revoked: Vec<Revoked>,
}

/// Whether the emulated machine's firmware is the newest its vendor knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TcbSetting {
    /// The highest TCB level: UpToDate.
    #[default]
    Current,
    /// The level below: OutOfDate at Intel, lower numbers at AMD (which has no such status).
    Outdated,
}

/// A certificate that the CRLs of an emulated platform revoke, for tests of S-20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Revoked {
    /// The PCK certificate, by the PCK Platform CA.
    Pck,
    /// The PCK Platform CA, by the SGX root.
    PckCa,
    /// The TCB signing certificate, by the SGX root.
    TcbSigning,
    /// The ASK, by the ARK. VCEKs are not in AMD's CRLs: all have the serial number zero.
    Ask,
}

/// The security versions that the platform's Evidence and certificates show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcb {
    /// Intel: the CPUSVN's 16 components, PCESVN, and a TD's TEE_TCB_SVN.
    pub intel: IntelTcb,
    /// AMD: the four security patch levels.
    pub amd: AmdTcb,
}

/// SGX and TDX security versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntelTcb {
    /// SGX TCB components, which are also the CPUSVN.
    pub sgx_components: [u8; 16],
    /// Security version of the provisioning certification enclave.
    pub pce_svn: u16,
    /// TEE_TCB_SVN: TDX module's minor and major version, then the other components.
    pub tdx_components: [u8; 16],
}

/// SNP security patch levels of a Genoa.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmdTcb {
    /// Secure processor boot loader.
    pub bootloader: u8,
    /// Secure processor operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl AmdTcb {
    /// TCB_VERSION before Turin (SEV-SNP ABI, 56860, §2.2): boot loader and TEE in bytes 0 and 1, SNP and
    /// microcode in bytes 6 and 7, the rest zero.
    pub(super) fn to_bytes(self) -> [u8; 8] {
        [self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode]
    }
}

/// The newest level that the emulated vendors know.
pub(super) const CURRENT: Tcb = Tcb {
    intel: IntelTcb {
        sgx_components: [4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
        pce_svn: 11,
        tdx_components: [11, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    },
    amd: AmdTcb { bootloader: 10, tee: 0, snp: 27, microcode: 84 },
};

/// One level below in every part.
pub(super) const OUTDATED: Tcb = Tcb {
    intel: IntelTcb {
        sgx_components: [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
        pce_svn: 11,
        tdx_components: [6, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    },
    amd: AmdTcb { bootloader: 9, tee: 0, snp: 22, microcode: 72 },
};

impl TcbSetting {
    pub(super) fn tcb(self) -> Tcb {
        match self {
            Self::Current => CURRENT,
            Self::Outdated => OUTDATED,
        }
    }
}
