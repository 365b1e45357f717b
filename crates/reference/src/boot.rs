//! What firmware and kernel extend while they boot, beside what a stub does (TCG PC Client Platform Firmware Profile,
//! §3.3.4; UEFI's measurements as edk2 makes them; Linux, `drivers/firmware/efi/libstub`).

use crate::{Bank, Register};

/// Firmware extends this before it starts the first boot option.
pub const CALLING: &[u8] = b"Calling EFI Application from Boot Option";
/// What separates firmware from what it starts.
pub const SEPARATOR: [u8; 4] = [0; 4];
/// Firmware extends these when the kernel takes over.
pub const EXIT: [&[u8]; 2] = [b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success"];

/// PCR 4 after these programs were loaded, by their Authenticode digests: boot loaders first, then the kernel.
pub fn pcr4(bank: Bank, loaded: &[Vec<u8>]) -> Register {
    let mut register = Register::new(bank);
    register.measure(CALLING);
    register.measure(&SEPARATOR);
    loaded.iter().for_each(|digest| register.extend(digest));
    register
}

/// PCR 12 after a stub was given a command line from outside of its image, and nothing else from there.
pub fn pcr12(bank: Bank, command_line: &str) -> Register {
    let mut register = Register::new(bank);
    register.measure(&load_options(command_line));
    register
}

/// A command line as EFI programs get it: UTF-16, little-endian, with a NUL.
pub fn load_options(command_line: &str) -> Vec<u8> {
    command_line.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}
