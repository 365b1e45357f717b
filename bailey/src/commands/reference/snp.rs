//! `bailey reference snp`: the launch digest of a SEV-SNP guest.

use std::path::PathBuf;

use anyhow::Context;
use appraisal::ReferenceValue;
use clap::{Args, ValueEnum};
use evidence::{Measurement, Platform};
use reference::snp::{self, Guest, Kernel, ProcessorModel};

use super::{artefact, label, print};
use crate::failure::{Failure, Input, Outcome};

/// The launch digest of a SEV-SNP guest.
#[derive(Args)]
pub struct Snp {
    /// The firmware (OVMF), whole
    #[arg(long, value_name = "FILE")]
    firmware: PathBuf,
    /// A kernel that the hypervisor starts directly
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Its initial RAM disk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Its command line
    #[arg(long, value_name = "TEXT", requires = "kernel", default_value = "")]
    command_line: String,
    /// How many virtual processors there are
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    processors: u32,
    /// What they claim to be: QEMU's EPYC, EPYC-Rome, EPYC-Milan, EPYC-Genoa or EPYC-Turin, with or without a version
    #[arg(long, value_name = "MODEL", default_value = "EPYC-v4")]
    model: String,
    /// Who launches
    #[arg(long, value_enum, default_value_t = Hypervisor::Qemu)]
    hypervisor: Hypervisor,
    /// SEV_FEATURES of the processors' initial state, hexadecimal
    #[arg(long, value_name = "HEX", default_value = "1")]
    features: String,
    /// What people call the guest; without one, the firmware's file name
    #[arg(long)]
    label: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Hypervisor {
    Qemu,
    Ec2,
}

impl Snp {
    pub fn run(self) -> Outcome {
        let firmware = artefact(&self.firmware)?;
        let kernel = self.kernel.as_deref().map(artefact).transpose()?;
        let initrd = self.initrd.as_deref().map(artefact).transpose()?.unwrap_or_default();
        let digits = self.features.trim_start_matches("0x");
        let features = u64::from_str_radix(digits, 16)
            .context("a hexadecimal number is expected")
            .malformed("--features")?;
        let model = ProcessorModel::named(&self.model).ok_or_else(|| {
            Failure::malformed(format!("{:?} is no processor model that this version knows", self.model))
        })?;
        let guest = Guest {
            firmware: &firmware,
            kernel: kernel.as_deref().map(|kernel| Kernel {
                kernel,
                initrd: &initrd,
                command_line: &self.command_line,
            }),
            processors: self.processors,
            model,
            hypervisor: match self.hypervisor {
                Hypervisor::Qemu => snp::Hypervisor::Qemu,
                Hypervisor::Ec2 => snp::Hypervisor::Ec2,
            },
            features,
        };
        let digest = snp::launch_digest(&guest).malformed("no launch digest can be computed")?;
        let label = label(self.label, &self.firmware);
        print(ReferenceValue::program(label, Platform::Snp, Measurement::from(digest)))
    }
}
