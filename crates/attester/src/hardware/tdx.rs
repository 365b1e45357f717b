//! TDX by `/dev/tdx_guest` (Linux, `Documentation/virt/coco/tdx-guest.rst`): the TD report, which the TDX module makes in
//! the machine itself. A quote is made of one by the host's quoting enclave, so what this program believes of itself
//! comes from the report (Intel TDX Module ABI specification, tables "REPORTMACSTRUCT" and "TDINFO_STRUCT").

use super::kernel::Kernel;
use crate::AttesterError;

pub(super) const DEVICE: &str = "/dev/tdx_guest";
/// REPORTTYPE.TYPE of TDX.
const TYPE: u8 = 0x81;
const REPORT_DATA: usize = 128;
/// TDINFO begins at 512; ATTRIBUTES, XFAM and MRTD come before.
const MRCONFIGID: usize = 512 + 8 + 8 + 48;

/// MRCONFIGID.
pub(super) fn configuration(kernel: &dyn Kernel) -> Result<Vec<u8>, AttesterError> {
    if !kernel.exists(DEVICE) {
        return Err(AttesterError::Unmeasured { missing: DEVICE });
    }
    let report_data = [0x42; 64];
    let report = kernel
        .tdx_report(DEVICE, &report_data)
        .map_err(|source| AttesterError::System { attempt: "asking /dev/tdx_guest", source })?;
    let field = |at: usize, length: usize| report.get(at..at + length);
    if report.first() != Some(&TYPE) || field(REPORT_DATA, 64) != Some(&report_data) {
        return Err(AttesterError::UnexpectedResponse);
    }
    field(MRCONFIGID, 48).map(<[u8]>::to_vec).ok_or(AttesterError::UnexpectedResponse)
}
