//! Extending a register: what software adds to what firmware measured.

use crate::{
    Address, TpmError,
    session::{exchange, refused},
    wire::{Response, SESSIONS, command},
};

const PCR_EXTEND: u32 = 0x182;
const PASSWORD: u32 = 0x4000_0009;
const SHA256: u16 = 0x000B;

/// Extends `digest` into a register (0 to 23) of the SHA-256 bank: register = SHA-256(register ‖ digest).
///
/// # Errors
/// [`TpmError`]: no TPM, or a register that may not be extended from here.
pub fn extend(address: &Address, register: u8, digest: &[u8; 32]) -> Result<(), TpmError> {
    let text = address.to_string();
    let mut transport =
        address.connect().map_err(|source| TpmError::Transport { address: text.clone(), source })?;
    // An empty password: the handle, no nonce, no attributes, no value.
    let password = [&PASSWORD.to_be_bytes()[..], &[0; 5]].concat();
    let values = [&1_u32.to_be_bytes()[..], &SHA256.to_be_bytes(), digest].concat();
    let parts: [&[u8]; 4] = [&u32::from(register).to_be_bytes(), &9_u32.to_be_bytes(), &password, &values];
    let answer = exchange(transport.as_mut(), &text, &command(SESSIONS, PCR_EXTEND, &parts))?;
    refused("TPM2_PCR_Extend", &Response::parse(&answer, false)?)
}
