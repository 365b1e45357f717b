//! The calls of `/dev/sev-guest` (Linux, `include/uapi/linux/sev-guest.h`) and `/dev/tdx_guest`
//! (`include/uapi/linux/tdx-guest.h`): the one place where addresses are given to a driver.
//!
//! Invariants, which each `unsafe` below relies on: the structures are `repr(C)` and of the sizes that the headers give
//! them (asserted at compile time, and part of the call's number); each address in one is that of a buffer which is
//! borrowed until the call returns, and which is as long as the driver reads or writes, by its type or by the length
//! beside it; the driver keeps no address.

#![expect(unsafe_code, reason = "drivers are given addresses; see the invariants above")]

use std::{fs::File, io, mem::size_of};

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use super::kernel::Exit;

/// `struct snp_report_req`: report data, VMPL, reserved.
pub(super) const SNP_REPORT_REQUEST: usize = 96;
/// `struct snp_report_resp`.
pub(super) const SNP_REPORT_RESPONSE: usize = 4000;
/// `struct snp_derived_key_req`.
pub(super) const SNP_KEY_REQUEST: usize = 32;
/// `struct snp_derived_key_resp`.
pub(super) const SNP_KEY_RESPONSE: usize = 64;
/// TDREPORT_STRUCT (Intel TDX Module ABI).
pub(super) const TDX_REPORT: usize = 1024;

/// `struct snp_guest_request_ioctl`.
#[repr(C)]
struct GuestRequest {
    version: u8,
    request: u64,
    response: u64,
    exit: u64,
}

/// `struct snp_ext_report_req`.
#[repr(C)]
struct ExtendedReport {
    request: [u8; SNP_REPORT_REQUEST],
    certificates: u64,
    length: u32,
}

/// `struct tdx_report_req`.
#[repr(C)]
struct TdxReport {
    report_data: [u8; 64],
    report: [u8; TDX_REPORT],
}

const _: () = assert!(size_of::<GuestRequest>() == 32);
const _: () = assert!(size_of::<ExtendedReport>() == 112);
const _: () = assert!(size_of::<TdxReport>() == 1088);

const SNP_GET_DERIVED_KEY: Opcode = opcode::read_write::<GuestRequest>(b'S', 1);
const SNP_GET_EXT_REPORT: Opcode = opcode::read_write::<GuestRequest>(b'S', 2);
const TDX_CMD_GET_REPORT0: Opcode = opcode::read_write::<TdxReport>(b'T', 1);

pub(super) fn snp_report(
    device: &File,
    request: &[u8; SNP_REPORT_REQUEST],
    response: &mut [u8; SNP_REPORT_RESPONSE],
    certificates: &mut [u8],
) -> Exit {
    let length = u32::try_from(certificates.len()).unwrap_or(0);
    let mut extended = ExtendedReport {
        request: *request,
        certificates: if length == 0 { 0 } else { certificates.as_mut_ptr().expose_provenance() as u64 },
        length,
    };
    let mut guest = GuestRequest {
        version: 1,
        request: (&raw mut extended).expose_provenance() as u64,
        response: (&raw mut *response).expose_provenance() as u64,
        exit: 0,
    };
    // SAFETY: the module's invariants; the driver reads `extended`, writes its `length`, `response`, and at most
    // `length` bytes to `certificates`.
    let result = unsafe { ioctl(device, Updater::<SNP_GET_EXT_REPORT, _>::new(&mut guest)) };
    let needed = usize::try_from(extended.length).unwrap_or(usize::MAX);
    Exit { result: result.map_err(io::Error::from), info: guest.exit, needed }
}

pub(super) fn snp_key(
    device: &File,
    request: &[u8; SNP_KEY_REQUEST],
    response: &mut [u8; SNP_KEY_RESPONSE],
) -> Exit {
    let mut guest = GuestRequest {
        version: 1,
        request: (&raw const *request).expose_provenance() as u64,
        response: (&raw mut *response).expose_provenance() as u64,
        exit: 0,
    };
    // SAFETY: the module's invariants; the driver reads `request` and writes `response`.
    let result = unsafe { ioctl(device, Updater::<SNP_GET_DERIVED_KEY, _>::new(&mut guest)) };
    Exit { result: result.map_err(io::Error::from), info: guest.exit, needed: 0 }
}

pub(super) fn tdx_report(device: &File, report_data: &[u8; 64]) -> io::Result<[u8; TDX_REPORT]> {
    let mut exchange = TdxReport { report_data: *report_data, report: [0; TDX_REPORT] };
    // SAFETY: the module's invariants; the driver reads and writes `exchange` alone.
    unsafe { ioctl(device, Updater::<TDX_CMD_GET_REPORT0, _>::new(&mut exchange)) }?;
    Ok(exchange.report)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers as C has them: direction, size, letter, number.
    #[test]
    fn calls_have_the_numbers_of_the_headers() {
        assert_eq!(SNP_GET_DERIVED_KEY, 0xC020_5301);
        assert_eq!(SNP_GET_EXT_REPORT, 0xC020_5302);
        assert_eq!(TDX_CMD_GET_REPORT0, 0xC440_5401);
    }

    #[test]
    fn a_file_that_is_no_device_refuses() {
        let file = File::open("/dev/null").unwrap();
        let exit = snp_report(&file, &[0; SNP_REPORT_REQUEST], &mut [0; SNP_REPORT_RESPONSE], &mut [0; 4096]);
        assert_eq!((exit.result.unwrap_err().raw_os_error(), exit.info, exit.needed), (Some(25), 0, 4096));
        assert!(snp_key(&file, &[0; SNP_KEY_REQUEST], &mut [0; SNP_KEY_RESPONSE]).result.is_err());
        assert!(tdx_report(&file, &[0; 64]).is_err());
    }
}
