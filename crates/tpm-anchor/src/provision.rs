//! What whoever runs a TPM does with it before a machine starts on it: which registers it has, and an attestation key.

use crate::{
    Address, TpmError, Transport,
    session::{exchange, refused},
    wire::{NO_SESSIONS, Reader, Response, SESSIONS, command, sized},
};

const CREATE_PRIMARY: u32 = 0x131;
const EVICT_CONTROL: u32 = 0x120;
const PCR_ALLOCATE: u32 = 0x12B;
const SHUTDOWN: u32 = 0x145;
const FLUSH_CONTEXT: u32 = 0x165;
const ENDORSEMENT: u32 = 0x4000_000B;
const OWNER: u32 = 0x4000_0001;
const PLATFORM: u32 = 0x4000_000C;
const PASSWORD: u32 = 0x4000_0009;
/// TPM_ALG_SHA1, SHA256, SHA384, SHA512.
const BANKS: [u16; 4] = [0x0004, 0x000B, 0x000C, 0x000D];
const SHA256: u16 = 0x000B;

/// TPMT_PUBLIC of a restricted signing key, ECDSA with SHA-256 on P-256, that cannot leave its TPM: fixedTPM, fixedParent,
/// sensitiveDataOrigin, userWithAuth, noDA, restricted, sign (Part 2, §8.3, §12.2.4).
const TEMPLATE: [u8; 24] = [
    0x00, 0x23, 0x00, 0x0B, 0x00, 0x05, 0x04, 0x72, 0x00, 0x00, // kind, digest, attributes, no policy
    0x00, 0x10, 0x00, 0x18, 0x00, 0x0B, 0x00, 0x03, 0x00,
    0x10, // no cipher, ECDSA, SHA-256, P-256, no KDF
    0x00, 0x00, 0x00, 0x00, // no point yet
];

/// Makes a TPM ready, one that is new and that nobody else uses: registers in the SHA-256 bank alone from its next start
/// on (each bank costs firmware another hash over all that it boots), and an attestation key at `handle`. The TPM is
/// then to be switched off. Gives the key's point on P-256: X and Y, 32 bytes each.
///
/// # Errors
/// [`TpmError`]: no TPM, or one that is not new.
pub fn provision(address: &Address, handle: u32) -> Result<[u8; 64], TpmError> {
    let text = address.to_string();
    let mut transport =
        address.connect().map_err(|source| TpmError::Transport { address: text.clone(), source })?;
    let mut tpm = Fresh { transport: transport.as_mut(), address: &text };
    let (key, point) = tpm.attestation_key()?;
    tpm.run("TPM2_EvictControl", EVICT_CONTROL, OWNER, &[&key.to_be_bytes()], &[&handle.to_be_bytes()])?;
    tpm.plain("TPM2_FlushContext", FLUSH_CONTEXT, &key.to_be_bytes())?;
    let selections = BANKS.map(|bank| {
        let registers = if bank == SHA256 { [0xFF; 3] } else { [0; 3] };
        [&bank.to_be_bytes()[..], &[3], &registers].concat()
    });
    let count = u32::try_from(BANKS.len()).unwrap_or(0).to_be_bytes();
    tpm.run("TPM2_PCR_Allocate", PCR_ALLOCATE, PLATFORM, &[], &[&count, &selections.concat()])?;
    tpm.plain("TPM2_Shutdown", SHUTDOWN, &[0, 0])?;
    Ok(point)
}

struct Fresh<'a> {
    transport: &'a mut dyn Transport,
    address: &'a str,
}

impl Fresh<'_> {
    fn attestation_key(&mut self) -> Result<(u32, [u8; 64]), TpmError> {
        // No authorisation value, no data, no creation PCRs.
        let parameters = [sized(&[0; 4]), sized(&TEMPLATE), sized(&[]), vec![0; 4]].concat();
        let answer = self.answer(CREATE_PRIMARY, ENDORSEMENT, &[], &[&parameters])?;
        let response = Response::parse(&answer, true)?;
        refused("TPM2_CreatePrimary", &response)?;
        let handle = response.handle.ok_or(TpmError::Malformed("it has no key"))?;
        let mut parameters = Reader::new(response.parameters);
        let mut public = Reader::new(parameters.sized()?);
        if public.take(20)? != &TEMPLATE[..20] {
            return Err(TpmError::Malformed("its key is of another kind"));
        }
        let mut point = [0; 64];
        for half in point.chunks_exact_mut(32) {
            let coordinate = public.sized()?;
            if coordinate.len() != half.len() {
                return Err(TpmError::Malformed("its key is no point on P-256"));
            }
            half.copy_from_slice(coordinate);
        }
        public.end()?;
        Ok((handle, point))
    }

    /// A command that the hierarchy `of` authorises, whose authorisation value is empty.
    fn run(
        &mut self,
        name: &'static str,
        code: u32,
        of: u32,
        handles: &[&[u8]],
        parameters: &[&[u8]],
    ) -> Result<(), TpmError> {
        let answer = self.answer(code, of, handles, parameters)?;
        refused(name, &Response::parse(&answer, false)?)
    }

    fn answer(
        &mut self,
        code: u32,
        of: u32,
        handles: &[&[u8]],
        parameters: &[&[u8]],
    ) -> Result<Vec<u8>, TpmError> {
        let password = [&PASSWORD.to_be_bytes()[..], &[0; 5]].concat();
        let parts =
            [&of.to_be_bytes()[..], &handles.concat(), &9_u32.to_be_bytes(), &password, &parameters.concat()];
        exchange(self.transport, self.address, &command(SESSIONS, code, &parts))
    }

    fn plain(&mut self, name: &'static str, code: u32, rest: &[u8]) -> Result<(), TpmError> {
        let answer = exchange(self.transport, self.address, &command(NO_SESSIONS, code, &[rest]))?;
        refused(name, &Response::parse(&answer, false)?)
    }
}
