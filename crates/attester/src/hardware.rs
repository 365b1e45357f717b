//! TEEs of hardware, seen from inside, each as its vendor or the kernel documents it. **Not yet run on hardware**: tested
//! against a kernel that is played, with Evidence that was recorded on real machines.
//!
//! | platform | found by | Evidence | sealing key | launch configuration |
//! |---|---|---|---|---|
//! | TDX | configfs-tsm's provider `tdx_guest` | quote, configfs-tsm | none | MRCONFIGID, by `/dev/tdx_guest` |
//! | SGX, under Gramine | `/dev/attestation` | quote | `_sgx_mrenclave` | CONFIGID, by a local report |
//! | SNP | configfs-tsm's provider `sev_guest`, or `/dev/sev-guest` | report, with the host's certificates | derived key | HOST_DATA |
//! | CCA | configfs-tsm's provider `arm_cca_guest` | token | none | the realm's personalisation value |
//!
//! Nothing is made up where there is no TEE. A machine with a TPM alone is no TEE either: [`tpm`] is asked for by name, or
//! found where `bailey-init` was the first process.
//! Azure's confidential VMs, whose reports come from a TPM, are not found here.
//!
//! A launch configuration is bytes whose digest was measured: SHA-512 (CONFIGID, personalisation value), SHA-384
//! (MRCONFIGID) or SHA-256 (HOST_DATA). The bytes are taken from [`CONFIGURATION`], and refused if they are others.

mod configuration;
#[cfg(test)]
mod fake;
mod gramine;
mod ioctl;
mod kernel;
mod machine;
mod seal;
mod snp;
mod tdx;
pub mod tpm;
mod tsm;

use std::sync::Arc;

pub use configuration::CONFIGURATION;
pub use kernel::Paths;
pub use machine::Machine;

use kernel::Kernel;
use machine::Source;

use crate::{AttesterError, Tee};

/// Finds the TEE of this machine, in the order of CoCo's attestation agent: TDX, SGX, SNP, CCA; last a guest's TPM.
///
/// # Errors
/// [`AttesterError::NotInTee`] when there is none; another one when there is one that cannot be used as it is.
pub fn detect(paths: &Paths) -> Result<Box<dyn Tee>, AttesterError> {
    let kernel: Arc<dyn Kernel> = Arc::new(paths.clone());
    match found(kernel) {
        Err(AttesterError::NotInTee { reason }) => match tpm::Guest::found(paths)? {
            Some(guest) => Ok(Box::new(guest)),
            None => Err(AttesterError::NotInTee { reason }),
        },
        found => found.map(|machine| Box::new(machine) as Box<dyn Tee>),
    }
}

fn found(kernel: Arc<dyn Kernel>) -> Result<Machine, AttesterError> {
    let provider = tsm::provider(kernel.as_ref())?;
    let source = match provider.as_deref() {
        Some(tsm::TDX) => Source::Tdx,
        _ if kernel.exists(tdx::DEVICE) => return Err(AttesterError::NoQuotes),
        _ if kernel.exists(gramine::TYPE) => Source::Gramine,
        // Both come from one driver; the device gives a sealing key too.
        _ if kernel.exists(snp::DEVICE) => Source::SevGuest,
        Some(tsm::SNP) => Source::Snp,
        Some(tsm::CCA) => Source::Cca,
        Some(other) => return Err(AttesterError::UnknownProvider { provider: other.to_owned() }),
        None => return Err(AttesterError::NotInTee { reason: NOTHING }),
    };
    Machine::open(kernel, source)
}

const NOTHING: &str = "neither configfs-tsm, /dev/attestation nor /dev/sev-guest is there";
