//! A session with a TPM: each command and each answer carries an HMAC under a key that the two agreed on.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use crate::{
    TpmError, Transport,
    crypto::{self, Point, agree, encrypt, kdfa, sha256},
    wire::{NO_SESSIONS, Reader, Response, SESSIONS, command, sized},
};

const START_AUTH_SESSION: u32 = 0x176;
const FLUSH_CONTEXT: u32 = 0x165;
const NULL: u32 = 0x4000_0007;
const CONTINUE: u8 = 0x01;
const DECRYPT: u8 = 0x20;
/// The answers "not now": the command has not begun (Part 2, §6.6.3: `YIELDED`, `TESTING`, `NV_RATE`, `RETRY`).
const AGAIN: [u32; 4] = [0x908, 0x90A, 0x920, 0x922];
const TRIES: usize = 20;

/// An authorised entity, by its authorisation value.
pub(crate) struct Entity<'a> {
    pub(crate) auth: &'a [u8],
}

/// One command over a session.
pub(crate) struct Command<'a> {
    pub(crate) name: &'static str,
    pub(crate) code: u32,
    pub(crate) handles: &'a [u32],
    /// The Names of all handles, the authorised one first.
    pub(crate) names: &'a [&'a [u8]],
    pub(crate) authorised: &'a Entity<'a>,
    /// The first parameter, a sized buffer, is a secret.
    pub(crate) secret: Option<&'a [u8]>,
    pub(crate) parameters: &'a [u8],
}

pub(crate) struct Session {
    handle: u32,
    key: Zeroizing<[u8; 32]>,
    nonce_tpm: Vec<u8>,
}

/// Sends a command; a TPM that is busy is asked again.
pub(crate) fn exchange(
    transport: &mut dyn Transport,
    address: &str,
    bytes: &[u8],
) -> Result<Vec<u8>, TpmError> {
    for attempt in 1.. {
        let answer = transport
            .exchange(bytes)
            .map_err(|source| TpmError::Transport { address: address.to_owned(), source })?;
        let busy = Response::parse(&answer, false).is_ok_and(|response| AGAIN.contains(&response.code));
        if !busy || attempt == TRIES {
            return Ok(answer);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Err(TpmError::Malformed("it is busy"))
}

pub(crate) fn refused(command: &'static str, response: &Response<'_>) -> Result<(), TpmError> {
    match response.code {
        0 => Ok(()),
        code => Err(TpmError::Refused { command, code }),
    }
}

pub(crate) fn flush(transport: &mut dyn Transport, address: &str, handle: u32) {
    // What stays costs the TPM room, and nobody security.
    let _ = exchange(transport, address, &command(NO_SESSIONS, FLUSH_CONTEXT, &[&handle.to_be_bytes()]));
}

impl Session {
    /// Agrees on a secret with the TPM's key `key`, which lies at `handle` and has this public point.
    pub(crate) fn start(
        transport: &mut dyn Transport,
        address: &str,
        handle: u32,
        key: &Point,
    ) -> Result<Self, TpmError> {
        let (salt, own) = agree(key)?;
        let nonce = crypto::random()?;
        let secret = sized(&[sized(&own.x), sized(&own.y)].concat());
        /// HMAC session; AES, 128 bits, CFB; SHA-256.
        const KIND: [u8; 9] = [0x00, 0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x0B];
        let bytes = command(
            NO_SESSIONS,
            START_AUTH_SESSION,
            &[&handle.to_be_bytes(), &NULL.to_be_bytes(), &sized(&nonce), &secret, &KIND],
        );
        let answer = exchange(transport, address, &bytes)?;
        let response = Response::parse(&answer, true)?;
        refused("TPM2_StartAuthSession", &response)?;
        let handle = response.handle.ok_or(TpmError::Malformed("it has no session"))?;
        let mut reader = Reader::new(response.parameters);
        let nonce_tpm = reader.sized()?.to_vec();
        reader.end()?;
        let key = kdfa(&salt[..], "ATH", &nonce_tpm, &nonce);
        Ok(Self { handle, key, nonce_tpm })
    }

    /// Does `command`; gives its parameters if the TPM that knows this session's key answered it.
    pub(crate) fn execute(
        &mut self,
        transport: &mut dyn Transport,
        address: &str,
        command: &Command<'_>,
    ) -> Result<Vec<u8>, TpmError> {
        let nonce = crypto::random()?;
        let key = Zeroizing::new([self.key.as_slice(), command.authorised.auth].concat());
        let mut attributes = CONTINUE;
        let mut parameters = Vec::new();
        if let Some(secret) = command.secret {
            attributes |= DECRYPT;
            parameters.extend(sized(&encrypt(&key, &nonce, &self.nonce_tpm, secret)?));
        }
        parameters.extend(command.parameters);
        let code = command.code.to_be_bytes();
        let names = command.names.concat();
        let cp_hash = sha256(&[&code, &names, &parameters]);
        let hmac = crypto::hmac(&key, &[&cp_hash, &nonce, &self.nonce_tpm, &[attributes]]);
        let handles: Vec<u8> = command.handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
        let authorisation =
            [&self.handle.to_be_bytes()[..], &sized(&nonce), &[attributes], &sized(&hmac)].concat();
        let size = u32::try_from(authorisation.len()).unwrap_or(u32::MAX).to_be_bytes();
        let bytes =
            crate::wire::command(SESSIONS, command.code, &[&handles, &size, &authorisation, &parameters]);
        let answer = exchange(transport, address, &bytes)?;
        let response = Response::parse(&answer, false)?;
        refused(command.name, &response)?;
        // Success without a session is a word of the host's.
        let session = response.session.ok_or(TpmError::Inauthentic)?;
        let rp_hash = sha256(&[&[0; 4], &code, response.parameters]);
        let expected = crypto::hmac(&key, &[&rp_hash, session.nonce, &nonce, &[session.attributes]]);
        verify_slices_are_equal(&expected, session.hmac).map_err(|_| TpmError::Inauthentic)?;
        self.nonce_tpm = session.nonce.to_vec();
        Ok(response.parameters.to_vec())
    }

    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }
}
