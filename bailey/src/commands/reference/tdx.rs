//! `bailey reference tdx`: the measurements of an Intel trust domain.

use std::collections::BTreeMap;
use std::path::PathBuf;

use appraisal::ReferenceValue;
use clap::{Args, ValueEnum};
use evidence::{Measurement, Platform};
use reference::tdx::{self, direct_boot};

use super::{artefact, label, print};
use crate::failure::{Input, Outcome};

/// The measurements of an Intel trust domain: MRTD of its firmware, and RTMR1 and RTMR2 of a kernel that the
/// hypervisor starts directly.
#[derive(Args)]
pub struct Tdx {
    /// The firmware (OVMF, TDVF), whole
    #[arg(long, value_name = "FILE")]
    firmware: PathBuf,
    /// A kernel that the hypervisor starts directly and hands over as it is, which older QEMU does not
    #[arg(long, value_name = "FILE", requires = "initrd")]
    kernel: Option<PathBuf>,
    /// Its initial RAM disk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Its command line, as the hypervisor is given it
    #[arg(long, value_name = "TEXT", requires = "kernel", default_value = "")]
    command_line: String,
    /// Where the firmware puts `initrd=initrd` into the command line
    #[arg(long, value_enum, requires = "kernel", default_value_t = InitrdHint::Before)]
    initrd_hint: InitrdHint,
    /// What people call the guest; without one, the firmware's file name
    #[arg(long)]
    label: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum InitrdHint {
    /// At its start: edk2 since May 2025
    Before,
    /// At its end: edk2 before that
    After,
}

impl Tdx {
    pub fn run(self) -> Outcome {
        let mrtd = tdx::mrtd(&artefact(&self.firmware)?).malformed("no MRTD can be computed")?;
        let mut registers = BTreeMap::new();
        if let (Some(kernel), Some(initrd)) = (&self.kernel, &self.initrd) {
            let rtmr1 = direct_boot::rtmr1(&artefact(kernel)?)
                .malformed(format!("{} cannot be measured", kernel.display()))?;
            let hint = match self.initrd_hint {
                InitrdHint::Before => direct_boot::InitrdHint::Before,
                InitrdHint::After => direct_boot::InitrdHint::After,
            };
            let rtmr2 = direct_boot::rtmr2(&hint.command_line(&self.command_line), &artefact(initrd)?);
            registers.insert("rtmr1".to_owned(), hex::encode(rtmr1.value()));
            registers.insert("rtmr2".to_owned(), hex::encode(rtmr2.value()));
        }
        let label = label(self.label, &self.firmware);
        print(ReferenceValue {
            registers,
            ..ReferenceValue::program(label, Platform::Tdx, Measurement::from(mrtd))
        })
    }
}
