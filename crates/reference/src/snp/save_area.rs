//! The initial state of a virtual processor (VMSA; AMD 24593, table B-4) as hypervisors set it up.

use super::{BOOTSTRAP_EIP, Guest, PAGE};

/// Who launches: the initial states differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    /// QEMU with KVM.
    Qemu,
    /// AWS EC2.
    Ec2,
}

/// What virtual processors claim to be: family, model and stepping of CPUID, as QEMU's `-cpu` sets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessorModel {
    /// Family, extended one included.
    pub family: u8,
    /// Model, extended one included.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

impl ProcessorModel {
    /// The model of that name, such as `EPYC-v4` or `EPYC-Milan-v2`: a version changes features, not the signature.
    pub fn named(name: &str) -> Option<Self> {
        let base = match name.rsplit_once("-v") {
            Some((base, version))
                if !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                base
            }
            _ => name,
        };
        let (family, model, stepping) = match base {
            "EPYC" | "EPYC-IBPB" => (23, 1, 2),
            "EPYC-Rome" => (23, 49, 0),
            "EPYC-Milan" => (25, 1, 1),
            "EPYC-Genoa" => (25, 17, 0),
            "EPYC-Turin" => (26, 0, 0),
            _ => return None,
        };
        Some(Self { family, model, stepping })
    }

    /// CPUID function 1, EAX.
    fn signature(self) -> u64 {
        let (family, extended) = (self.family.min(15), self.family.saturating_sub(15));
        u64::from(extended) << 20
            | u64::from(self.model >> 4) << 16
            | u64::from(family) << 8
            | u64::from(self.model & 15) << 4
            | u64::from(self.stepping & 15)
    }
}

/// The page, for a processor that starts at `eip`.
pub(super) fn page(eip: u32, guest: &Guest<'_>) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    let (code, stack, task, rdx, mxcsr, fcw) = match guest.hypervisor {
        Hypervisor::Qemu => (0x9b, 0x93, 0x8b, guest.model.signature(), 0x1f80, 0x37f),
        Hypervisor::Ec2 if eip == BOOTSTRAP_EIP => (0x9a, 0x92, 0x83, 0, 0, 0),
        Hypervisor::Ec2 => (0x9b, 0x92, 0x83, 0, 0, 0),
    };
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    let mut segment = |at: usize, selector: u16, attributes: u16, base: u64| {
        put(at, &selector.to_le_bytes());
        put(at + 2, &attributes.to_le_bytes());
        put(at + 4, &0xffff_u32.to_le_bytes());
        put(at + 8, &base.to_le_bytes());
    };
    segment(0x00, 0, 0x93, 0);
    segment(0x10, 0xf000, code, u64::from(eip & 0xffff_0000));
    segment(0x20, 0, stack, 0);
    for at in [0x30, 0x40, 0x50] {
        segment(at, 0, 0x93, 0);
    }
    segment(0x60, 0, 0, 0);
    segment(0x70, 0, 0x82, 0);
    segment(0x80, 0, 0, 0);
    segment(0x90, 0, task, 0);
    let registers: [(usize, u64); 12] = [
        (0x0d0, 0x1000),                  // EFER: SVME
        (0x148, 0x40),                    // CR4: MCE
        (0x158, 0x10),                    // CR0: ET
        (0x160, 0x400),                   // DR7
        (0x168, 0xffff_0ff0),             // DR6
        (0x170, 0x2),                     // RFLAGS
        (0x178, u64::from(eip & 0xffff)), // RIP
        (0x268, 0x0007_0406_0007_0406),   // G_PAT
        (0x310, rdx),
        (0x3b0, guest.features),
        (0x3e8, 1), // XCR0
        (0x410, fcw),
    ];
    for (at, value) in registers {
        put(at, &value.to_le_bytes());
    }
    put(0x408, &u32::to_le_bytes(mxcsr));
    page
}
