//! The chain: an index of type `EXTEND` in a TPM that is known by its endorsement key.

use std::fmt;

use zeroize::Zeroizing;

use crate::{
    Address, TpmError, Transport,
    crypto::{self, Point, sha256},
    session::{Command, Entity, Session, exchange, flush, refused},
    wire::{NO_SESSIONS, Reader, Response, SESSIONS, command, sized},
};

const CREATE_PRIMARY: u32 = 0x131;
const DEFINE_SPACE: u32 = 0x12A;
const UNDEFINE_SPACE: u32 = 0x122;
const NV_EXTEND: u32 = 0x136;
const NV_READ: u32 = 0x14E;
const GET_CAPABILITY: u32 = 0x17A;
const OWNER: u32 = 0x4000_0001;
const ENDORSEMENT: u32 = 0x4000_000B;
const PASSWORD: u32 = 0x4000_0009;
const SHA256_ALGORITHM: u16 = 0x000B;
/// Handles that the TCG leaves to the owner (Registry of Reserved TPM 2.0 Handles and Localities, §2.2.2).
const FIRST_INDEX: u32 = 0x0180_0000;
const INDICES: u32 = 0x0040_0000;
const NV_DEFINED: u32 = 0x14C;
const SIZE: u16 = 32;

/// `AUTHWRITE`, type `EXTEND`, `AUTHREAD`, `NO_DA` (Part 2, §13.4). Neither owner nor platform can write or read. Wrong
/// guesses lock nobody out: the authorisation value is random and 32 bytes long.
const ATTRIBUTES: u32 = 0x0204_0044;
/// Set with the first step.
const WRITTEN: u32 = 0x2000_0000;

/// Template L-2 of the TCG's EK Credential Profile: ECC P-256, restricted, for decryption.
const EK_TEMPLATE: [u8; 122] = {
    let mut out = [0; 122];
    let head: [u8; 10] = [0x00, 0x23, 0x00, 0x0B, 0x00, 0x03, 0x00, 0xB2, 0x00, 0x20];
    let policy: [u8; 32] = [
        0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24, 0xFD,
        0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA,
    ];
    // AES, 128 bits, CFB; no scheme; P-256; no KDF; x and y of 32 bytes.
    let kind: [u8; 14] = [0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x10, 0x00, 0x03, 0x00, 0x10, 0x00, 0x20];
    let mut at = 0;
    while at < 10 {
        out[at] = head[at];
        at += 1;
    }
    while at < 42 {
        out[at] = policy[at - 10];
        at += 1;
    }
    while at < 56 {
        out[at] = kind[at - 42];
        at += 1;
    }
    out[89] = 0x20;
    out
};

/// SHA-256 of the SubjectPublicKeyInfo (DER) of a TPM's endorsement key, the one of template L-2: by it a TPM is known,
/// and its vendor's certificate names the same key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest(pub [u8; 32]);

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a chain is, and what opens it.
#[derive(Clone)]
pub struct Index {
    /// The TPM.
    pub key: KeyDigest,
    /// The index.
    pub handle: u32,
    /// Known to nobody else. Does not end in zero.
    pub auth: Zeroizing<[u8; 32]>,
}

/// A TPM that is reached.
pub struct Tpm {
    transport: Box<dyn Transport>,
    address: String,
    key: KeyDigest,
    session: Session,
}

/// The chain in a TPM, open.
pub struct Opened {
    tpm: Tpm,
    index: Index,
    written: bool,
}

impl Tpm {
    /// Goes to the TPM at `address`, whichever it is.
    pub fn connect(address: &Address) -> Result<Self, TpmError> {
        let text = address.to_string();
        let transport =
            address.connect().map_err(|source| TpmError::Transport { address: text.clone(), source })?;
        Self::over(transport, text)
    }

    /// Begins a session over `transport`; `address` is for messages.
    pub fn over(mut transport: Box<dyn Transport>, address: String) -> Result<Self, TpmError> {
        if transport.cleans_up() {
            sweep(transport.as_mut(), &address)?;
        }
        let (handle, point) = endorsement_key(transport.as_mut(), &address)?;
        let session = Session::start(transport.as_mut(), &address, handle, &point);
        flush(transport.as_mut(), &address, handle);
        Ok(Self { transport, address, key: KeyDigest(point.digest()), session: session? })
    }

    /// By what it is known.
    pub fn key(&self) -> KeyDigest {
        self.key
    }

    /// Makes an index of its own, with an authorisation value of its own; takes the first step, by `first`.
    pub fn define(mut self, first: &[u8; 32]) -> Result<Opened, TpmError> {
        for _ in 0..8 {
            let [a, b, c, d, ..] = crypto::random()?;
            let handle = FIRST_INDEX + u32::from_be_bytes([a, b, c, d]) % INDICES;
            let mut auth = Zeroizing::new(crypto::random()?);
            // A TPM drops zeros at the end of an authorisation value.
            auth[31] |= 1;
            let index = Index { key: self.key, handle, auth };
            match self.define_at(&index) {
                Err(TpmError::Refused { code: NV_DEFINED, .. }) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    let mut opened = Opened { tpm: self, index, written: false };
                    opened.extend(first)?;
                    return Ok(opened);
                }
            }
        }
        Err(TpmError::Refused { command: "TPM2_NV_DefineSpace", code: NV_DEFINED })
    }

    fn define_at(&mut self, index: &Index) -> Result<(), TpmError> {
        let name = OWNER.to_be_bytes();
        let command = Command {
            name: "TPM2_NV_DefineSpace",
            code: DEFINE_SPACE,
            handles: &[OWNER],
            names: &[&name],
            authorised: &Entity { auth: &[] },
            secret: Some(index.auth.as_slice()),
            parameters: &sized(&public(index.handle, ATTRIBUTES)),
        };
        self.execute(&command).map(drop)
    }

    /// The chain that `index` names; it must be in this TPM.
    pub fn open(self, index: Index) -> Result<Opened, TpmError> {
        if self.key != index.key {
            return Err(TpmError::OtherTpm { expected: index.key.to_string(), seen: self.key.to_string() });
        }
        Ok(Opened { tpm: self, index, written: true })
    }

    fn execute(&mut self, command: &Command<'_>) -> Result<Vec<u8>, TpmError> {
        self.session.execute(self.transport.as_mut(), &self.address, command)
    }

    /// A session that broke (a TPM that was reset, an answer that was lost) is replaced; the TPM must be the same.
    fn renew(&mut self) -> Result<(), TpmError> {
        flush(self.transport.as_mut(), &self.address, self.session.handle());
        let (handle, point) = endorsement_key(self.transport.as_mut(), &self.address)?;
        let seen = KeyDigest(point.digest());
        let session = if seen == self.key {
            Session::start(self.transport.as_mut(), &self.address, handle, &point)
        } else {
            Err(TpmError::OtherTpm { expected: self.key.to_string(), seen: seen.to_string() })
        };
        flush(self.transport.as_mut(), &self.address, handle);
        self.session = session?;
        Ok(())
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        flush(self.transport.as_mut(), &self.address, self.session.handle());
    }
}

impl Opened {
    /// Where it is, and what opens it.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Its value, authentic. Asked once more in a new session where the old one broke.
    pub fn read(&mut self) -> Result<[u8; 32], TpmError> {
        self.read_once().or_else(|_| {
            self.tpm.renew()?;
            self.read_once()
        })
    }

    fn read_once(&mut self) -> Result<[u8; 32], TpmError> {
        let parameters = [SIZE.to_be_bytes(), [0; 2]].concat();
        let answer = self.execute("TPM2_NV_Read", NV_READ, &parameters)?;
        let mut reader = Reader::new(&answer);
        let value =
            reader.sized()?.try_into().map_err(|_| TpmError::Malformed("the index has another size"))?;
        reader.end()?;
        Ok(value)
    }

    /// Takes one step: SHA-256(value ‖ `head`). After an error it may have been taken or not: read.
    pub fn extend(&mut self, head: &[u8; 32]) -> Result<(), TpmError> {
        self.execute("TPM2_NV_Extend", NV_EXTEND, &sized(head))?;
        self.written = true;
        Ok(())
    }

    /// Removes the index from the TPM. Its value is lost for good: nothing can be made that has it.
    pub fn remove(mut self) -> Result<(), TpmError> {
        let (owner, name) = (OWNER.to_be_bytes(), self.name());
        let command = Command {
            name: "TPM2_NV_UndefineSpace",
            code: UNDEFINE_SPACE,
            handles: &[OWNER, self.index.handle],
            names: &[&owner, &name],
            authorised: &Entity { auth: &[] },
            secret: None,
            parameters: &[],
        };
        self.tpm.execute(&command).map(drop)
    }

    fn execute(&mut self, name: &'static str, code: u32, parameters: &[u8]) -> Result<Vec<u8>, TpmError> {
        let entity = self.name();
        let command = Command {
            name,
            code,
            handles: &[self.index.handle, self.index.handle],
            names: &[&entity, &entity],
            authorised: &Entity { auth: self.index.auth.as_slice() },
            secret: None,
            parameters,
        };
        self.tpm.session.execute(self.tpm.transport.as_mut(), &self.tpm.address, &command)
    }

    /// The Name covers the index's attributes: an index of the same handle with others is refused by the HMAC.
    fn name(&self) -> Vec<u8> {
        let attributes = if self.written { ATTRIBUTES | WRITTEN } else { ATTRIBUTES };
        let digest = sha256(&[&public(self.index.handle, attributes)]);
        [&SHA256_ALGORITHM.to_be_bytes()[..], &digest].concat()
    }
}

/// `TPMS_NV_PUBLIC`.
fn public(handle: u32, attributes: u32) -> Vec<u8> {
    [
        &handle.to_be_bytes()[..],
        &SHA256_ALGORITHM.to_be_bytes(),
        &attributes.to_be_bytes(),
        &[0; 2],
        &SIZE.to_be_bytes(),
    ]
    .concat()
}

/// The endorsement key: made anew from the TPM's seed, so always the same. That the point is the TPM's is shown by the
/// session that is agreed with it.
fn endorsement_key(transport: &mut dyn Transport, address: &str) -> Result<(u32, Point), TpmError> {
    let empty_password = [&PASSWORD.to_be_bytes()[..], &[0; 5]].concat();
    let bytes = command(
        SESSIONS,
        CREATE_PRIMARY,
        &[
            &ENDORSEMENT.to_be_bytes(),
            &9_u32.to_be_bytes(),
            &empty_password,
            &sized(&[0; 4]),
            &sized(&EK_TEMPLATE),
            &sized(&[]),
            &[0; 4],
        ],
    );
    let answer = exchange(transport, address, &bytes)?;
    let response = Response::parse(&answer, true)?;
    refused("TPM2_CreatePrimary", &response)?;
    let handle = response.handle.ok_or(TpmError::Malformed("it has no key"))?;
    let mut parameters = Reader::new(response.parameters);
    let mut public = Reader::new(parameters.sized()?);
    // All but the point is the template's.
    if public.take(54)? != &EK_TEMPLATE[..54] {
        return Err(TpmError::Malformed("its key is of another kind"));
    }
    let coordinate = |reader: &mut Reader<'_>| -> Result<[u8; 32], TpmError> {
        reader.sized()?.try_into().map_err(|_| TpmError::Malformed("its key is no point on P-256"))
    };
    let point = Point { x: coordinate(&mut public)?, y: coordinate(&mut public)? };
    public.end()?;
    Ok((handle, point))
}

/// Removes keys and sessions that a killed process left in an emulator.
fn sweep(transport: &mut dyn Transport, address: &str) -> Result<(), TpmError> {
    for first in [0x0200_0000_u32, 0x8000_0000] {
        let parameters = [1_u32.to_be_bytes(), first.to_be_bytes(), 64_u32.to_be_bytes()].concat();
        let answer = exchange(transport, address, &command(NO_SESSIONS, GET_CAPABILITY, &[&parameters]))?;
        let response = Response::parse(&answer, false)?;
        refused("TPM2_GetCapability", &response)?;
        let mut reader = Reader::new(response.parameters);
        let (_more, _kind, count) = (reader.u8()?, reader.u32()?, reader.u32()?);
        for _ in 0..count.min(64) {
            flush(transport, address, reader.u32()?);
        }
    }
    Ok(())
}
