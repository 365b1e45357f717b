//! RTMR1 and RTMR2 of a trust domain whose kernel the hypervisor starts directly (QEMU's `-kernel`), with OVMF and a
//! Linux kernel that measures its own inputs (since 6.9). RTMR0 holds the size of memory and tables of the
//! hypervisor's making, and RTMR3 is left to what runs: neither is known from artefacts.

use crate::pe::Program;
use crate::{Bank, Malformed, Register, boot};

/// Where OVMF tells the kernel, in its command line, that there is an initial RAM disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitrdHint {
    /// `initrd=initrd` before it: edk2 since May 2025 (its pull request 11115).
    Before,
    /// `initrd=initrd` behind it: edk2 before that.
    After,
}

impl InitrdHint {
    /// The command line that the kernel gets.
    pub fn command_line(self, given: &str) -> String {
        match self {
            Self::Before => format!("initrd=initrd {given}"),
            Self::After => format!("{given} initrd=initrd"),
        }
    }
}

/// RTMR1: the kernel as OVMF loads it, and the way from firmware to kernel. The hypervisor must hand the kernel over as
/// it is. QEMU used to change its header, depending on the guest's memory, and has stopped (td-shim, issue 756); with one
/// that does, no value can be computed from the file alone.
///
/// # Errors
/// [`Malformed`] when the kernel is no EFI program.
pub fn rtmr1(kernel: &[u8]) -> Result<Register, Malformed> {
    Ok(rtmr1_of(&Program::parse(kernel)?.authenticode(Bank::Sha384)?))
}

/// RTMR1 by the Authenticode digest of the kernel as it was loaded, such as an event log or a publisher tells.
pub fn rtmr1_of(kernel: &[u8]) -> Register {
    let mut register = Register::new(Bank::Sha384);
    register.extend(kernel);
    register.measure(boot::CALLING);
    register.measure(&boot::SEPARATOR);
    boot::EXIT.into_iter().for_each(|text| register.measure(text));
    register
}

/// RTMR2: what the kernel was given, the whole command line first.
pub fn rtmr2(command_line: &str, initrd: &[u8]) -> Register {
    let digest = |bytes: &[u8]| Bank::Sha384.digest(&[bytes]);
    rtmr2_of(&digest(&boot::load_options(command_line)), &digest(initrd))
}

/// RTMR2 by the digests of both, such as an event log or a publisher tells.
pub fn rtmr2_of(load_options: &[u8], initrd: &[u8]) -> Register {
    let mut register = Register::new(Bank::Sha384);
    register.extend(load_options);
    register.extend(initrd);
    register
}
