//! SNP attestation reports, version 3 (SEV Secure Nested Paging Firmware ABI, 56860, table 23).

use super::amd::Amd;
use super::error::Result;
use super::issue::Request;
use super::tcb::AmdTcb;

const LENGTH: usize = 1184;
/// The VCEK signs everything before the signature.
const SIGNED: usize = 0x2a0;
/// One integer of the signature: 72 bytes, little-endian, of which P-384 uses 48.
const SIGNATURE_PART: usize = 72;

/// SMT allowed (bit 16) and the bit that must be one (bit 17); no debugging, no migration agent.
const POLICY: u64 = 0x30000;
const POLICY_DEBUG: u64 = 1 << 19;
/// SMT on (bit 0), ECC memory (bit 2), no memory aliases found at boot (bit 5, against BadRAM).
const PLATFORM_INFO: u64 = 0b10_0101;
/// Genoa B1: family 19h, model 11h, stepping 1.
const CPUID: [u8; 3] = [0x19, 0x11, 0x01];
/// Firmware 1.55 build 54.
const FIRMWARE: [u8; 3] = [54, 55, 1];

/// A signed report of a guest at VMPL 0.
pub(super) fn report(amd: &Amd, tcb: AmdTcb, request: &Request<'_>, report_id: &[u8; 32]) -> Result<Vec<u8>> {
    let policy = if request.debug() { POLICY | POLICY_DEBUG } else { POLICY };
    let mut body = Body([0; LENGTH]);
    body.put(0x000, &3u32.to_le_bytes());
    body.put(0x008, &policy.to_le_bytes());
    body.put(0x034, &1u32.to_le_bytes()); // ECDSA P-384 with SHA-384
    body.put(0x038, &tcb.to_bytes()); // CURRENT_TCB
    body.put(0x040, &PLATFORM_INFO.to_le_bytes());
    body.put(0x050, request.report_data);
    body.put(0x090, request.measurement);
    body.put(0x0c0, request.launch_configuration); // HOST_DATA
    body.put(0x140, report_id);
    body.put(0x160, &[0xff; 32]); // REPORT_ID_MA: no migration agent
    body.put(0x180, &tcb.to_bytes()); // REPORTED_TCB
    body.put(0x188, &CPUID);
    body.put(0x1a0, &amd.chip_id);
    body.put(0x1e0, &tcb.to_bytes()); // COMMITTED_TCB
    body.put(0x1e8, &FIRMWARE); // CURRENT
    body.put(0x1ec, &FIRMWARE); // COMMITTED
    body.put(0x1f0, &tcb.to_bytes()); // LAUNCH_TCB
    let signature: [u8; 96] = amd.vcek.sign_fixed(&body.0[..SIGNED])?;
    for (part, big_endian) in signature.chunks(48).enumerate() {
        let little_endian: Vec<u8> = big_endian.iter().rev().copied().collect();
        body.put(SIGNED + part * SIGNATURE_PART, &little_endian);
    }
    Ok(body.0.to_vec())
}

struct Body([u8; LENGTH]);

impl Body {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}
