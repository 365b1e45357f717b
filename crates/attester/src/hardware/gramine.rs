//! SGX under Gramine, by the files that its LibOS shows in `/dev/attestation` (Gramine's documentation, "Attestation and
//! Secret Provisioning"). What is written is of the whole process, so one asks at a time.

use evidence::MAX_EVIDENCE;
use zeroize::Zeroizing;

use super::kernel::Kernel;
use crate::AttesterError;

pub(super) const TYPE: &str = "/dev/attestation/attestation_type";
const REPORT_DATA: &str = "/dev/attestation/user_report_data";
const QUOTE: &str = "/dev/attestation/quote";
const OWN_TARGET: &str = "/dev/attestation/my_target_info";
const TARGET: &str = "/dev/attestation/target_info";
const REPORT: &str = "/dev/attestation/report";
/// EGETKEY's sealing key for this MRENCLAVE, 128 bits.
const KEY: &str = "/dev/attestation/keys/_sgx_mrenclave";
/// `sgx_target_info_t` and `sgx_report_t` (Intel SDM, volume 3D, §37.15 and §37.16).
const TARGET_LENGTH: usize = 512;
const REPORT_LENGTH: usize = 432;
/// CONFIGID and REPORTDATA in the report's body.
const CONFIGID: usize = 192;
const DATA: usize = 320;

/// Refuses an enclave whose manifest says that it does not attest.
pub(super) fn check(kernel: &dyn Kernel) -> Result<(), AttesterError> {
    let kind = read(kernel, TYPE, 32)?;
    match kind.trim_ascii() {
        b"dcap" => Ok(()),
        other => {
            let seen = String::from_utf8_lossy(other).into_owned();
            Err(AttesterError::OtherProvider { expected: "dcap", seen })
        }
    }
}

pub(super) fn quote(kernel: &dyn Kernel, report_data: &[u8; 64]) -> Result<Vec<u8>, AttesterError> {
    write(kernel, REPORT_DATA, report_data)?;
    read(kernel, QUOTE, MAX_EVIDENCE)
}

/// CONFIGID, by EREPORT: a quote comes from the host.
pub(super) fn configuration(kernel: &dyn Kernel) -> Result<Vec<u8>, AttesterError> {
    let target = read(kernel, OWN_TARGET, TARGET_LENGTH)?;
    let report_data = [0x42; 64];
    write(kernel, TARGET, &target)?;
    write(kernel, REPORT_DATA, &report_data)?;
    let report = read(kernel, REPORT, REPORT_LENGTH)?;
    if report.len() != REPORT_LENGTH || report.get(DATA..DATA + 64) != Some(&report_data) {
        return Err(AttesterError::UnexpectedResponse);
    }
    report.get(CONFIGID..CONFIGID + 64).map(<[u8]>::to_vec).ok_or(AttesterError::UnexpectedResponse)
}

pub(super) fn sealing_key(kernel: &dyn Kernel) -> Result<Zeroizing<Vec<u8>>, AttesterError> {
    let key = Zeroizing::new(read(kernel, KEY, 16)?);
    if key.len() == 16 && key.iter().any(|byte| *byte != 0) {
        Ok(key)
    } else {
        Err(AttesterError::UnexpectedResponse)
    }
}

fn read(kernel: &dyn Kernel, path: &str, limit: usize) -> Result<Vec<u8>, AttesterError> {
    let attempt = "reading from /dev/attestation";
    kernel.read(path, limit).map_err(|source| AttesterError::System { attempt, source })
}

fn write(kernel: &dyn Kernel, path: &str, bytes: &[u8]) -> Result<(), AttesterError> {
    let attempt = "writing to /dev/attestation";
    kernel.write(path, bytes).map_err(|source| AttesterError::System { attempt, source })
}
