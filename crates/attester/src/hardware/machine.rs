//! A TEE of hardware as [`Tee`].

use std::sync::{Arc, Mutex, PoisonError};

use evidence::{Evidence, Platform, ReportData};

use super::{configuration, gramine, kernel::Kernel, seal, snp, tdx, tsm};
use crate::{AttesterError, RawEvidence, SealingKey, Tee};

/// Where Evidence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// TDX by configfs-tsm.
    Tdx,
    /// SGX by Gramine.
    Gramine,
    /// SNP by its device.
    SevGuest,
    /// SNP by configfs-tsm alone.
    Snp,
    /// CCA by configfs-tsm.
    Cca,
}

impl Source {
    const fn platform(self) -> Platform {
        match self {
            Self::Tdx => Platform::Tdx,
            Self::Gramine => Platform::Sgx,
            Self::SevGuest | Self::Snp => Platform::Snp,
            Self::Cca => Platform::Cca,
        }
    }
}

/// A TEE of this machine.
pub struct Machine {
    kernel: Arc<dyn Kernel>,
    source: Source,
    configuration: Vec<u8>,
    /// One asks at a time.
    asking: Mutex<()>,
}

impl Machine {
    pub(super) fn open(kernel: Arc<dyn Kernel>, source: Source) -> Result<Self, AttesterError> {
        if source == Source::Gramine {
            gramine::check(kernel.as_ref())?;
        }
        let mut machine = Self { kernel, source, configuration: Vec::new(), asking: Mutex::new(()) };
        machine.configuration = configuration::read(machine.kernel.as_ref(), || machine.measured())?;
        Ok(machine)
    }

    /// Evidence with the host's certificates, or nothing.
    fn ask(&self, report_data: &[u8; 64]) -> Result<(Vec<u8>, Vec<u8>), AttesterError> {
        let kernel = self.kernel.as_ref();
        let by = |provider| tsm::report(kernel, provider, report_data);
        match self.source {
            Source::Tdx => by(tsm::TDX).map(|report| (report.outblob, Vec::new())),
            Source::Cca => by(tsm::CCA).map(|report| (report.outblob, Vec::new())),
            Source::Snp => by(tsm::SNP).map(|report| (report.outblob, report.auxblob)),
            Source::SevGuest => snp::report(kernel, report_data),
            Source::Gramine => gramine::quote(kernel, report_data).map(|quote| (quote, Vec::new())),
        }
    }

    /// Evidence that is of this platform and over this report data, and not over somebody else's.
    fn fresh(&self, report_data: &[u8; 64]) -> Result<(Evidence, Vec<u8>, Vec<u8>), AttesterError> {
        let (bytes, table) = self.ask(report_data)?;
        let evidence = Evidence::parse(&bytes).map_err(AttesterError::Malformed)?;
        if evidence.platform() != self.platform() {
            return Err(AttesterError::UnexpectedResponse);
        }
        if evidence.covered().as_bytes() != report_data {
            return Err(AttesterError::Raced);
        }
        Ok((evidence, bytes, table))
    }

    /// The measured launch configuration, from what is made inside of this machine and not by its host.
    fn measured(&self) -> Result<Vec<u8>, AttesterError> {
        let kernel = self.kernel.as_ref();
        match self.source {
            Source::Tdx => tdx::configuration(kernel),
            Source::Gramine => gramine::configuration(kernel),
            // The firmware's, and the realm manager's, on ways that the host cannot touch.
            Source::SevGuest | Source::Snp | Source::Cca => {
                self.fresh(&[0x42; 64]).map(|(evidence, ..)| evidence.launch_configuration().to_vec())
            }
        }
    }
}

impl Tee for Machine {
    fn platform(&self) -> Platform {
        self.source.platform()
    }

    fn emulated(&self) -> bool {
        false
    }

    fn launch_configuration(&self) -> &[u8] {
        &self.configuration
    }

    fn evidence(&self, report_data: &ReportData) -> Result<RawEvidence, AttesterError> {
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, evidence, table) = self.fresh(&report_data.0)?;
        Ok(RawEvidence { evidence, endorsements: snp::endorsements(&table).to_bytes() })
    }

    fn sealing_key(&self, context: &str) -> Result<SealingKey, AttesterError> {
        seal::check(context)?;
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let kernel = self.kernel.as_ref();
        let root = match self.source {
            Source::SevGuest => snp::derived_key(kernel)?,
            Source::Gramine => gramine::sealing_key(kernel)?,
            Source::Snp => {
                return Err(AttesterError::NoSealingKey { reason: "without /dev/sev-guest there is none" });
            }
            Source::Tdx => return Err(AttesterError::NoSealingKey { reason: "TDX has none" }),
            Source::Cca => return Err(AttesterError::NoSealingKey { reason: "CCA has none" }),
        };
        seal::key(self.platform(), &root, &self.measured()?, context)
    }
}
