//! Evidence of a TPM: a quote of all registers of the SHA-256 bank, by an attestation key that somebody has put there. A
//! machine with a TPM is not confidential by it, so this is no [`crate::Tee`]: it is for who asks for it by name, as
//! the Evidence of a device.

use evidence::{
    Endorsements,
    eventlog::HashAlgorithm,
    tpm::{Parts, QuoteParts},
};
pub use tpm_anchor::Address;

use super::{Paths, kernel::Kernel};
use crate::{AttesterError, RawEvidence};

/// Where CoCo's guests have their attestation key.
pub const KEY: u32 = 0x8101_0002;
/// The firmware's event log (Linux, `Documentation/ABI/testing/evm` and `tpm`).
const LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
const LONGEST_LOG: usize = 512 * 1024;

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
    let event_log = paths.read(LOG, LONGEST_LOG).ok().filter(|log| !log.is_empty());
    let parts = Parts { public: quoted.public, quotes: vec![quote], event_log, certificates: Vec::new() };
    Ok(RawEvidence { evidence: parts.to_bytes(), endorsements: Endorsements::default().to_bytes() })
}
