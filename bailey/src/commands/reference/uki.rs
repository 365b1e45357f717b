//! `bailey reference uki`: the PCRs of a machine that boots a unified kernel image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use appraisal::ReferenceValue;
use clap::{Args, ValueEnum};
use evidence::Platform;
use reference::pe::Program;
use reference::uki::{self, PHASES};
use reference::{Bank, boot};

use super::{artefact, label, print};
use crate::failure::{Failure, Input, Outcome};

/// The PCRs of a machine that boots a unified kernel image: PCR 11 always, others as asked.
#[derive(Args)]
pub struct Uki {
    /// The image
    image: PathBuf,
    /// The last phase that the system has passed when it is attested
    #[arg(long, value_enum, default_value_t = Phase::Ready)]
    phase: Phase,
    /// The banks of PCRs
    #[arg(long, value_enum, default_values_t = [Algorithm::Sha256])]
    bank: Vec<Algorithm>,
    /// Give PCR 4, too: whether the stub has firmware load the kernel inside the image (systemd before 258), or starts
    /// it by itself
    #[arg(long, value_enum)]
    pcr4: Option<Kernel>,
    /// A program that boots before the image, such as shim or a boot loader; in their order
    #[arg(long, value_name = "FILE", requires = "pcr4")]
    boot_loader: Vec<PathBuf>,
    /// Give PCR 12, too, when this command line comes from outside of the image and nothing else does
    #[arg(long, value_name = "TEXT")]
    command_line: Option<String>,
    /// Whose PCRs: tpm, azure-snp or azure-tdx
    #[arg(long, default_value_t = Platform::Tpm)]
    platform: Platform,
    /// What people call the image; without one, its file name
    #[arg(long)]
    label: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// None: what the stub measures
    Stub,
    EnterInitrd,
    LeaveInitrd,
    Sysinit,
    Ready,
}

#[derive(Clone, Copy, ValueEnum)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kernel {
    /// Firmware loads it, and measures it
    Loaded,
    /// The stub starts it
    Started,
}

impl Uki {
    pub fn run(self) -> Outcome {
        if !matches!(self.platform, Platform::Tpm | Platform::AzureSnp | Platform::AzureTdx) {
            return Err(Failure::malformed(format!("{} has no PCRs that firmware extends", self.platform))
                .hint("--platform tpm, azure-snp or azure-tdx"));
        }
        let bytes = artefact(&self.image)?;
        let image =
            uki::Uki::parse(&bytes).malformed(format!("{} cannot be measured", self.image.display()))?;
        let loaders: Vec<_> = self.boot_loader.iter().map(|path| artefact(path)).collect::<Outcome<_>>()?;
        let phases = &PHASES[..self.phase as usize];
        let mut registers = BTreeMap::new();
        for bank in self.bank.iter().copied().map(Bank::from) {
            let mut put = |number: u8, value: reference::Register| {
                registers.insert(format!("pcr{number}.{}", bank.as_str()), hex::encode(value.value()));
            };
            put(11, image.pcr11(bank, phases));
            if let Some(kernel) = self.pcr4 {
                let loaded = loaded(&image, &loaders, kernel, bank)
                    .malformed("PCR 4 cannot be computed from what is loaded")?;
                put(4, boot::pcr4(bank, &loaded));
            }
            if let Some(command_line) = &self.command_line {
                put(12, boot::pcr12(bank, command_line));
            }
        }
        print(ReferenceValue {
            label: label(self.label, &self.image),
            platform: self.platform,
            measurement: None,
            launch_configuration: None,
            registers,
            minimum: BTreeMap::new(),
        })
    }
}

/// The digests of everything that firmware loads.
fn loaded(
    image: &uki::Uki<'_>,
    loaders: &[Vec<u8>],
    kernel: Kernel,
    bank: Bank,
) -> Result<Vec<Vec<u8>>, reference::Malformed> {
    let mut digests = loaders
        .iter()
        .map(|loader| Program::parse(loader)?.authenticode(bank))
        .collect::<Result<Vec<_>, _>>()?;
    digests.push(image.authenticode(bank)?);
    if kernel == Kernel::Loaded {
        digests.push(image.kernel_authenticode(bank)?);
    }
    Ok(digests)
}

impl From<Algorithm> for Bank {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha1 => Self::Sha1,
            Algorithm::Sha256 => Self::Sha256,
            Algorithm::Sha384 => Self::Sha384,
            Algorithm::Sha512 => Self::Sha512,
        }
    }
}
