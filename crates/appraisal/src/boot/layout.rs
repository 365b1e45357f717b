//! Which register holds what: a TPM's by number, or those of a confidential VM (Intel TDX Virtual Firmware Design
//! Guide, §8.1 "Measurement Register Usage": MRTD for PCR 0, RTMR 0 for PCR 1 and 7, RTMR 1 for PCR 2 to 6, RTMR 2
//! for PCR 8 to 15, RTMR 3 for nothing).

/// Whose registers a log is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The PCRs of a TPM.
    Tpm,
    /// The measurement registers of a confidential VM: 0 is MRTD, 1 to 4 are RTMR 0 to 3.
    ConfidentialVm,
}

const PCRS: [&str; 24] = [
    "pcr0", "pcr1", "pcr2", "pcr3", "pcr4", "pcr5", "pcr6", "pcr7", "pcr8", "pcr9", "pcr10", "pcr11",
    "pcr12", "pcr13", "pcr14", "pcr15", "pcr16", "pcr17", "pcr18", "pcr19", "pcr20", "pcr21", "pcr22",
    "pcr23",
];
const MEASUREMENT_REGISTERS: [&str; 5] = ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"];

impl Layout {
    /// The name that verdicts and reference values have for a register; None when there is no such register.
    pub fn name(self, register: u32) -> Option<&'static str> {
        let names: &[&'static str] = match self {
            Self::Tpm => &PCRS,
            Self::ConfidentialVm => &MEASUREMENT_REGISTERS,
        };
        names.get(usize::try_from(register).ok()?).copied()
    }

    /// Whether a register of this name is one of the other layout's alone.
    pub(super) fn is_of_another(self, name: &str) -> bool {
        match self {
            Self::Tpm => MEASUREMENT_REGISTERS.contains(&name),
            Self::ConfidentialVm => PCRS.contains(&name),
        }
    }

    /// Whether a register holds what `pcr` holds in a TPM.
    pub(super) fn holds(self, register: u32, pcr: u32) -> bool {
        register
            == match (self, pcr) {
                (Self::Tpm, _) => pcr,
                (Self::ConfidentialVm, 0) => 0,
                (Self::ConfidentialVm, 1 | 7) => 1,
                (Self::ConfidentialVm, 2..=6) => 2,
                (Self::ConfidentialVm, _) => 3,
            }
    }

    /// Whether firmware measures into the register before the operating system runs, so that a log without events for
    /// it tells that it holds zeros. The other registers are the operating system's to extend.
    pub(super) fn is_firmwares(self, register: u32) -> bool {
        match self {
            Self::Tpm => register <= 7,
            Self::ConfidentialVm => (1..=3).contains(&register),
        }
    }

    /// Whether events can be replayed to the register: MRTD is measured while the VM is built.
    pub(super) fn is_extended(self, register: u32) -> bool {
        match self {
            Self::Tpm => true,
            Self::ConfidentialVm => register != 0,
        }
    }
}
