//! A quote of a TPM's registers by an attestation key that is in it, and what is needed to read the quote. It has no
//! session: a quote is signed by the TPM itself, so whoever verifies it needs no word of the way here.

use crate::{
    Address, TpmError, Transport,
    session::{exchange, refused},
    wire::{NO_SESSIONS, Reader, Response, SESSIONS, command, sized},
};

const READ_PUBLIC: u32 = 0x173;
const PCR_READ: u32 = 0x17E;
const QUOTE: u32 = 0x158;
const PASSWORD: u32 = 0x4000_0009;
const SHA256: u16 = 0x000B;
/// No scheme beside that of the key.
const NO_SCHEME: u16 = 0x0010;
/// Registers 0 to 23, the ones of a PC.
const ALL: [u8; 3] = [0xFF; 3];
/// A register that is extended between reading and quoting makes it worth another try.
const TRIES: usize = 5;

/// What a TPM gives of itself, in its own encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    /// TPMT_PUBLIC of the attestation key.
    pub public: Vec<u8>,
    /// TPMS_ATTEST.
    pub message: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// The registers 0 to 23 of the SHA-256 bank.
    pub registers: Vec<[u8; 32]>,
}

/// A quote of all registers of the SHA-256 bank over `nonce`, by the key at `handle`, which has no authorisation value.
///
/// # Errors
/// [`TpmError`]: no TPM, no such key, or a nonce that is longer than this TPM takes.
pub fn quote(address: &Address, handle: u32, nonce: &[u8]) -> Result<Quoted, TpmError> {
    let text = address.to_string();
    let mut transport =
        address.connect().map_err(|source| TpmError::Transport { address: text.clone(), source })?;
    let transport = transport.as_mut();
    let public = public(transport, &text, handle)?;
    for _ in 0..TRIES {
        let before = registers(transport, &text)?;
        let (message, signature) = signed(transport, &text, handle, nonce)?;
        if registers(transport, &text)? == before {
            return Ok(Quoted { public, message, signature, registers: before });
        }
    }
    Err(TpmError::Malformed("its registers change all the time"))
}

fn public(transport: &mut dyn Transport, address: &str, handle: u32) -> Result<Vec<u8>, TpmError> {
    let answer = exchange(transport, address, &command(NO_SESSIONS, READ_PUBLIC, &[&handle.to_be_bytes()]))?;
    let response = Response::parse(&answer, false)?;
    refused("TPM2_ReadPublic", &response)?;
    Reader::new(response.parameters).sized().map(<[u8]>::to_vec)
}

/// One selection, of the SHA-256 bank.
fn selection(registers: [u8; 3]) -> Vec<u8> {
    [&1_u32.to_be_bytes()[..], &SHA256.to_be_bytes(), &[3], &registers].concat()
}

fn registers(transport: &mut dyn Transport, address: &str) -> Result<Vec<[u8; 32]>, TpmError> {
    let mut values = Vec::new();
    // A TPM gives eight at a time (Part 3, §22.4: as many as fit into TPML_DIGEST).
    for byte in 0..3 {
        let mut wanted = [0; 3];
        wanted[byte] = 0xFF;
        let answer = exchange(transport, address, &command(NO_SESSIONS, PCR_READ, &[&selection(wanted)]))?;
        let response = Response::parse(&answer, false)?;
        refused("TPM2_PCR_Read", &response)?;
        let mut reader = Reader::new(response.parameters);
        reader.u32()?;
        if reader.take(10)? != selection(wanted) || reader.u32()? != 8 {
            return Err(TpmError::Malformed("it has other registers than were asked for"));
        }
        for _ in 0..8 {
            let value = reader.sized()?.try_into();
            values.push(value.map_err(|_| TpmError::Malformed("a register is not of 32 bytes"))?);
        }
        reader.end()?;
    }
    Ok(values)
}

fn signed(
    transport: &mut dyn Transport,
    address: &str,
    handle: u32,
    nonce: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
    // An empty password: the handle, no nonce, no attributes, no value.
    let password = [&PASSWORD.to_be_bytes()[..], &[0; 5]].concat();
    let bytes = command(
        SESSIONS,
        QUOTE,
        &[
            &handle.to_be_bytes(),
            &9_u32.to_be_bytes(),
            &password,
            &sized(nonce),
            &NO_SCHEME.to_be_bytes(),
            &selection(ALL),
        ],
    );
    let answer = exchange(transport, address, &bytes)?;
    let response = Response::parse(&answer, false)?;
    refused("TPM2_Quote", &response)?;
    let mut reader = Reader::new(response.parameters);
    let message = reader.sized()?.to_vec();
    Ok((message, reader.rest().to_vec()))
}
