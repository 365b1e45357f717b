//! Evidence of a TPM: a quote of all registers of the SHA-256 bank, by an attestation key that somebody has put there. A
//! machine with a TPM is not confidential by it, so it is for who asks for it by name, as the Evidence of a device
//! ([`evidence()`]), or for programs that `bailey-init` started in a guest that has nothing better ([`Guest`]).

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use evidence::{
    Endorsements, Evidence, Platform, ReportData,
    eventlog::HashAlgorithm,
    tpm::{Parts, QuoteParts},
};
use sha2::{Digest, Sha256};
pub use tpm_anchor::Address;

use super::{CONFIGURATION, Paths, kernel::Kernel};
use crate::{AttesterError, RawEvidence, SealingKey, Tee};

/// Where CoCo's guests have their attestation key.
pub const KEY: u32 = 0x8101_0002;
/// The firmware's event log (Linux, `Documentation/ABI/testing/evm` and `tpm`).
const LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
const LONGEST_LOG: usize = 512 * 1024;
/// The same log with the events of `bailey-init` behind it, where that was the first process.
const GUEST_LOG: &str = "/run/bailey/event-log";
/// What `bailey-init` writes where the guest has a TPM and no TEE: the path of the TPM.
pub(super) const MARK: &str = "/run/bailey/tpm";
const LONGEST_MARK: usize = 256;
/// Certificates of the attestation key, as Endorsements, where the host supplies them. Whoever verifies judges them.
const ENDORSEMENTS: &str = "/run/bailey/endorsements";
const LONGEST_ENDORSEMENTS: usize = 64 * 1024;
/// As in `attested_tls::launch`.
const LONGEST_CONFIGURATION: usize = 256 * 1024;
/// The register that `bailey-init` measures the launch configuration into.
const CONFIGURATION_REGISTER: u8 = 12;
/// What of report data a quote covers: TPMs take nonces as long as their longest digest, of which 32 bytes are common to
/// all.
const NONCE: usize = 32;

/// A quote over `nonce` by the key at `handle`, in our container for such Evidence, with the firmware's event log where
/// the kernel shows one.
///
/// # Errors
/// [`AttesterError::Tpm`]: no TPM, no such key, or a nonce that is longer than it takes (commonly 48 bytes).
pub fn evidence(
    paths: &Paths,
    address: &Address,
    handle: u32,
    nonce: &[u8],
) -> Result<RawEvidence, AttesterError> {
    let quoted = tpm_anchor::quote(address, handle, nonce).map_err(AttesterError::Tpm)?;
    let values = (0..)
        .zip(quoted.registers)
        .map(|(register, value)| (HashAlgorithm::Sha256, register, value.to_vec()));
    let quote = QuoteParts { message: quoted.message, signature: quoted.signature, values: values.collect() };
    let log = paths.read(GUEST_LOG, LONGEST_LOG).or_else(|_| paths.read(LOG, LONGEST_LOG));
    let event_log = log.ok().filter(|log| !log.is_empty());
    let parts = Parts { public: quoted.public, quotes: vec![quote], event_log, certificates: Vec::new() };
    Ok(RawEvidence { evidence: parts.to_bytes(), endorsements: Endorsements::default().to_bytes() })
}

/// A guest of `bailey-init` whose only witness is a TPM. Its memory is its host's to read and change: what it attests is
/// what was booted, to those who trust whoever runs the TPM.
pub struct Guest {
    paths: Paths,
    address: Address,
    configuration: Vec<u8>,
    endorsements: Vec<u8>,
    /// One asks at a time.
    asking: Mutex<()>,
}

impl Guest {
    /// This guest, with the TPM that `bailey-init` found; None where it did not.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn found(paths: &Paths) -> Result<Option<Self>, AttesterError> {
        let Ok(mark) = paths.read(MARK, LONGEST_MARK) else { return Ok(None) };
        let path = String::from_utf8_lossy(&mark).into_owned();
        Self::open(paths.clone(), Address::Device(path.into())).map(Some)
    }

    /// This guest, with the TPM at `address`.
    ///
    /// # Errors
    /// [`AttesterError::Tpm`] without TPM or attestation key; [`AttesterError::OtherConfiguration`] when the launch
    /// configuration that is here is another one than was measured.
    pub fn open(paths: Paths, address: Address) -> Result<Self, AttesterError> {
        let optional = |path, longest, attempt| match paths.read(path, longest) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(AttesterError::System { attempt, source }),
        };
        let configuration =
            optional(CONFIGURATION, LONGEST_CONFIGURATION, "reading the launch configuration")?;
        let endorsements = optional(ENDORSEMENTS, LONGEST_ENDORSEMENTS, "reading the TPM's endorsements")?;
        let endorsements = match endorsements.is_empty() {
            true => Endorsements::default().to_bytes(),
            false => endorsements,
        };
        let guest = Self { paths, address, configuration, endorsements, asking: Mutex::new(()) };
        let quoted = guest.ask(&[0; NONCE])?;
        if !guest.configuration.is_empty() {
            check(&guest.configuration, &quoted)?;
        }
        Ok(guest)
    }

    fn ask(&self, nonce: &[u8; NONCE]) -> Result<RawEvidence, AttesterError> {
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        evidence(&self.paths, &self.address, KEY, nonce)
    }
}

/// The register of the launch configuration must hold this one, and nothing else.
fn check(configuration: &[u8], quoted: &RawEvidence) -> Result<(), AttesterError> {
    let register = (HashAlgorithm::Sha256, CONFIGURATION_REGISTER);
    let measured = match Evidence::parse(&quoted.evidence).map_err(AttesterError::Malformed)? {
        Evidence::Tpm(quoted) => {
            quoted.quotes().iter().find_map(|quote| quote.values.get(&register).cloned())
        }
        _ => None,
    };
    let measured = measured.ok_or(AttesterError::UnexpectedResponse)?;
    let seen = Sha256::digest([&[0; 32][..], &Sha256::digest(configuration)].concat()).to_vec();
    if seen == measured { Ok(()) } else { Err(AttesterError::OtherConfiguration { measured, seen }) }
}

impl Tee for Guest {
    fn platform(&self) -> Platform {
        Platform::Tpm
    }

    fn emulated(&self) -> bool {
        false
    }

    fn launch_configuration(&self) -> &[u8] {
        &self.configuration
    }

    fn evidence(&self, report_data: &ReportData) -> Result<RawEvidence, AttesterError> {
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&report_data.0[..NONCE]);
        let RawEvidence { evidence, .. } = self.ask(&nonce)?;
        Ok(RawEvidence { evidence, endorsements: self.endorsements.clone() })
    }

    fn sealing_key(&self, _: &str) -> Result<SealingKey, AttesterError> {
        Err(AttesterError::NoSealingKey {
            reason: "a guest with a TPM alone has none that its host could not have",
        })
    }
}
