//! `bailey image measure`: what a guest's image measures to, computed from its files.

use std::path::PathBuf;

use anyhow::Context;
use appraisal::{ReferenceFile, ReferenceValue};
use clap::Args;
use evidence::{LaunchConfiguration, Measurement, Platform};
use reference::{
    snp::{self, Hypervisor, ProcessorModel},
    tdx::{self, direct_boot::InitrdHint},
};
use sha2::{Digest, Sha256, Sha384};

use super::guest::{Artefacts, digest, read};
use crate::{
    commands::print_json,
    failure::{Input, Outcome},
};

/// Reference values for machines with a TPM; with their firmware, for SEV-SNP and TDX (not yet run on hardware).
#[derive(Args)]
pub struct Measure {
    /// The folder of the image
    image: PathBuf,
    /// The launch configuration that the guest must have been given
    #[arg(long, value_name = "FILE")]
    configuration: Option<PathBuf>,
    /// Firmware for SEV-SNP that checks what QEMU starts (OvmfPkg/AmdSev)
    #[arg(long, value_name = "FILE")]
    snp_firmware: Option<PathBuf>,
    /// How many virtual processors there are (SEV-SNP)
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    processors: u32,
    /// Firmware for TDX
    #[arg(long, value_name = "FILE")]
    tdx_firmware: Option<PathBuf>,
    /// What people call the guest
    #[arg(long, default_value = "keep in a virtual machine")]
    label: String,
    /// A file that --reference and manifests take
    #[arg(long)]
    json: bool,
}

impl Measure {
    pub(super) fn run(self) -> Outcome {
        let artefacts = Artefacts::open(&self.image)?;
        let configuration = self.configuration.as_deref().map(read).transpose()?;
        let mut values = vec![self.tpm(&artefacts, configuration.as_deref())?];
        if let Some(path) = &self.snp_firmware {
            values.push(self.snp(&artefacts, &read(path)?, configuration.as_deref())?);
        }
        if let Some(path) = &self.tdx_firmware {
            values.push(self.tdx(&artefacts, &read(path)?, configuration.as_deref())?);
        }
        if self.json {
            return print_json(&ReferenceFile { reference_values: values });
        }
        crate::say!("image        sha256 {}", digest(&artefacts.disk));
        for value in values {
            for (name, text) in value
                .measurement
                .iter()
                .map(|own| ("measurement", own.to_string()))
                .chain(value.registers.iter().map(|(name, text)| (name.as_str(), text.clone())))
            {
                crate::say!("{:<4} {name:<13} {text}", value.platform);
            }
        }
        Ok(())
    }

    fn tpm(&self, artefacts: &Artefacts, configuration: Option<&[u8]>) -> Outcome<ReferenceValue> {
        let registers = artefacts
            .image
            .registers(&artefacts.unified, configuration)
            .malformed("the image cannot be measured")?;
        Ok(ReferenceValue {
            label: self.label.clone(),
            platform: Platform::Tpm,
            measurement: None,
            launch_configuration: None,
            registers,
            minimum: Default::default(),
        })
    }

    fn snp(
        &self,
        artefacts: &Artefacts,
        firmware: &[u8],
        configuration: Option<&[u8]>,
    ) -> Outcome<ReferenceValue> {
        let guest = snp::Guest {
            firmware,
            kernel: Some(artefacts.image.kernel()),
            processors: self.processors,
            model: ProcessorModel::named("EPYC-v4").context("no such processor")?,
            hypervisor: Hypervisor::Qemu,
            features: 1,
        };
        let digest = snp::launch_digest(&guest).malformed("no launch digest can be computed")?;
        let value = ReferenceValue::program(&self.label, Platform::Snp, Measurement::from(digest));
        launched_with(value, configuration.map(|bytes| Sha256::digest(bytes).to_vec()))
    }

    fn tdx(
        &self,
        artefacts: &Artefacts,
        firmware: &[u8],
        configuration: Option<&[u8]>,
    ) -> Outcome<ReferenceValue> {
        let mrtd = tdx::mrtd(firmware).malformed("no MRTD can be computed")?;
        let value = ReferenceValue {
            registers: artefacts.image.rtmrs(InitrdHint::Before).malformed("the image cannot be measured")?,
            ..ReferenceValue::program(&self.label, Platform::Tdx, Measurement::from(mrtd))
        };
        launched_with(value, configuration.map(|bytes| Sha384::digest(bytes).to_vec()))
    }
}

fn launched_with(value: ReferenceValue, digest: Option<Vec<u8>>) -> Outcome<ReferenceValue> {
    let Some(digest) = digest else { return Ok(value) };
    Ok(value.launched_with(LaunchConfiguration::new(&digest).malformed("no launch configuration")?))
}
