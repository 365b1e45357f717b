//! SEV-SNP by `/dev/sev-guest` (Linux, `Documentation/virt/coco/sev-guest.rst`; AMD 56860, SEV Secure Nested Paging
//! Firmware ABI, `MSG_REPORT_REQ` and `MSG_KEY_REQ`).

use evidence::{
    AmdCollateral, CertificateDer, CrlDer, Endorsements, conveyed::certificate_table, snp::REPORT_LENGTH,
};
use zeroize::Zeroizing;

use super::{
    ioctl::{SNP_KEY_REQUEST, SNP_KEY_RESPONSE, SNP_REPORT_REQUEST, SNP_REPORT_RESPONSE},
    kernel::{Exit, Kernel},
};
use crate::AttesterError;

pub(super) const DEVICE: &str = "/dev/sev-guest";
/// Buffers of certificates are whole pages; the host's table has three or four certificates.
const PAGE: usize = 4096;
const MOST: usize = 64 * PAGE;
/// `SNP_GUEST_VMM_ERR_INVALID_LEN`, in the upper half of `exitinfo2`: the certificates need more room.
const TOO_SHORT: u64 = 1 << 32;
/// Of a response: STATUS, then for reports REPORT_SIZE, then reserved up to here.
const HEADER: usize = 32;
/// What the key depends on: guest policy (bit 0) and measurement (bit 3), and by its root the chip. Not the version of
/// the firmware, so that an update does not lose what was sealed; HOST_DATA cannot be named, and is mixed in by us.
const FIELDS: u64 = 1 | 1 << 3;

/// A report over 64 bytes, and the host's table of certificates.
pub(super) fn report(
    kernel: &dyn Kernel,
    report_data: &[u8; 64],
) -> Result<(Vec<u8>, Vec<u8>), AttesterError> {
    let mut request = [0; SNP_REPORT_REQUEST];
    request[..64].copy_from_slice(report_data);
    let mut certificates = vec![0; 4 * PAGE];
    loop {
        let mut response = [0; SNP_REPORT_RESPONSE];
        let exit = kernel.snp_report(DEVICE, &request, &mut response, &mut certificates);
        let exit =
            exit.map_err(|source| AttesterError::System { attempt: "opening /dev/sev-guest", source })?;
        let more = exit.needed > certificates.len() && exit.needed <= MOST && exit.needed % PAGE == 0;
        if exit.result.is_err() && exit.info == TOO_SHORT && more {
            certificates = vec![0; exit.needed];
            continue;
        }
        succeeded(exit)?;
        let size = number(&response, 4)?;
        if number(&response, 0)? != 0 || usize::try_from(size) != Ok(REPORT_LENGTH) {
            return Err(AttesterError::UnexpectedResponse);
        }
        let report = response.get(HEADER..HEADER + REPORT_LENGTH).ok_or(AttesterError::UnexpectedResponse)?;
        return Ok((report.to_vec(), certificates));
    }
}

/// 32 secret bytes that the same chip derives for the same code under the same policy.
pub(super) fn derived_key(kernel: &dyn Kernel) -> Result<Zeroizing<Vec<u8>>, AttesterError> {
    // ROOT_KEY_SELECT 0: the VCEK. VMPL, GUEST_SVN and TCB_VERSION are 0, as FIELDS does not name them.
    let mut request = [0; SNP_KEY_REQUEST];
    request[8..16].copy_from_slice(&FIELDS.to_le_bytes());
    let mut response = Zeroizing::new([0; SNP_KEY_RESPONSE]);
    let exit = kernel.snp_key(DEVICE, &request, &mut response);
    let exit = exit.map_err(|source| AttesterError::System { attempt: "opening /dev/sev-guest", source })?;
    succeeded(exit)?;
    if number(response.as_slice(), 0)? != 0 {
        return Err(AttesterError::UnexpectedResponse);
    }
    let key = response.get(HEADER..).ok_or(AttesterError::UnexpectedResponse)?;
    if key.iter().all(|byte| *byte == 0) {
        return Err(AttesterError::UnexpectedResponse);
    }
    Ok(Zeroizing::new(key.to_vec()))
}

fn succeeded(exit: Exit) -> Result<(), AttesterError> {
    match exit.result {
        Ok(()) if exit.info == 0 => Ok(()),
        Ok(()) => Err(AttesterError::Firmware { code: exit.info }),
        Err(source) if exit.info == 0 => {
            Err(AttesterError::System { attempt: "asking /dev/sev-guest", source })
        }
        Err(_) => Err(AttesterError::Firmware { code: exit.info }),
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, AttesterError> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(AttesterError::UnexpectedResponse)?;
    Ok(u32::from_le_bytes(*bytes))
}

/// GUIDs of the table (GHCB specification, §4.1.8.1), as they lie in memory.
const VCEK: [u8; 16] = *b"\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd";
const VLEK: [u8; 16] = *b"\xa8\x07\x4b\xc2\xa2\x5a\x48\x3e\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1";
const CRL: [u8; 16] = *b"\x92\xf8\x1b\xc3\x58\x11\x4d\x3d\x97\xff\xd1\x9f\x88\xdc\x67\xea";
const ENTRY: usize = 24;

/// What of the host's table Endorsements can hold; nothing, where there is no certificate of the signing key. Whether it
/// is the right one is for the appraisal.
pub(super) fn endorsements(table: &[u8]) -> Endorsements {
    let mut amd = (None, Vec::new(), None);
    let Some(contents) = certificate_table(table) else { return Endorsements::default() };
    // Entries of no length are left out there, and here.
    let named = table.chunks_exact(ENTRY).take_while(|entry| entry.iter().any(|byte| *byte != 0));
    let named = named.filter(|entry| entry.get(20..24) != Some(&[0; 4]));
    for (entry, der) in named.zip(contents) {
        match entry.first_chunk::<16>() {
            Some(&VCEK | &VLEK) => amd.0 = amd.0.or(Some(CertificateDer(der))),
            Some(&CRL) => amd.2 = Some(CrlDer(der)),
            _ => amd.1.push(CertificateDer(der)),
        }
    }
    let (vek, issuer_chain, crl) = amd;
    Endorsements { amd: vek.map(|vek| AmdCollateral { vek, issuer_chain, crl }), ..Endorsements::default() }
}
