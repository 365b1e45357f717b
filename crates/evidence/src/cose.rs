//! COSE_Sign1 (RFC 9052, §4.2): what was signed is kept as the exact bytes that were received.

use crate::Malformed;
use crate::cbor::{Cursor, Key, Left};

const SIGN1_TAG: u64 = 18;
/// Header parameters (RFC 9052, §3.1).
const ALGORITHM: i64 = 1;
const CRITICAL: i64 = 2;

/// The algorithms that we know: ECDSA with the curve of the digest's size (RFC 9053, §2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA with SHA-256; here always on P-256.
    Es256,
    /// ECDSA with SHA-384; here always on P-384.
    Es384,
    /// ECDSA with SHA-512; here always on P-521.
    Es512,
}

impl Algorithm {
    /// How long a signature is: r and s, big-endian.
    const fn signature_length(self) -> usize {
        match self {
            Self::Es256 => 64,
            Self::Es384 => 96,
            Self::Es512 => 132,
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        })
    }
}

/// A signed message, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign1 {
    algorithm: Algorithm,
    protected: Vec<u8>,
    protected_offset: usize,
    payload: Vec<u8>,
    payload_offset: usize,
    signature: Vec<u8>,
}

impl Sign1 {
    /// Reads a message, tagged or not, that fills `bytes`, which lie at `base` of the whole input.
    pub(crate) fn parse(format: &'static str, bytes: &[u8], base: usize) -> Result<Self, Malformed> {
        let mut cursor = Cursor::at(format, bytes, base);
        cursor.has_tag(SIGN1_TAG);
        let start = cursor.offset();
        match cursor.array("COSE_Sign1")? {
            Left::Items(4) => {}
            _ => return Err(cursor.value("COSE_Sign1", start, "an array of 4 items", "another array")),
        }
        let protected = cursor.bytes("protected header")?;
        let protected_offset = cursor.offset() - protected.len();
        let algorithm = algorithm(Cursor::at(format, protected, protected_offset))?;
        let mut unprotected = cursor.map("unprotected header")?;
        while cursor.more(&mut unprotected) {
            let start = cursor.offset();
            // What is not signed may not say how to read the signature.
            if let Key::Integer(ALGORITHM | CRITICAL) = cursor.key("unprotected header")? {
                let expected = "algorithm and critical parameters in the protected header";
                return Err(cursor.value(
                    "unprotected header",
                    start,
                    expected,
                    "them in the unprotected one",
                ));
            }
            cursor.skip("unprotected header")?;
        }
        let payload = cursor.bytes("payload")?;
        let payload_offset = cursor.offset() - payload.len();
        let signature = cursor.bytes_of("signature", 0..=usize::MAX, &[algorithm.signature_length()])?;
        cursor.finish("COSE_Sign1")?;
        Ok(Self {
            algorithm,
            protected: protected.to_vec(),
            protected_offset,
            payload: payload.to_vec(),
            payload_offset,
            signature: signature.to_vec(),
        })
    }

    /// The algorithm that the protected header names.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The signature: r and s, big-endian.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// A cursor over the protected header.
    pub(crate) fn protected(&self, format: &'static str) -> Cursor<'_> {
        Cursor::at(format, &self.protected, self.protected_offset)
    }

    /// A cursor over the payload.
    pub(crate) fn payload(&self, format: &'static str) -> Cursor<'_> {
        Cursor::at(format, &self.payload, self.payload_offset)
    }

    /// The bytes that the signature is over: `Sig_structure` (RFC 9052, §4.4), with no external data.
    pub fn signed(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.protected.len() + self.payload.len() + 32);
        bytes.extend_from_slice(b"\x84\x6aSignature1");
        push_bytes(&mut bytes, &self.protected);
        push_bytes(&mut bytes, &[]);
        push_bytes(&mut bytes, &self.payload);
        bytes
    }
}

fn algorithm(mut header: Cursor<'_>) -> Result<Algorithm, Malformed> {
    const FIELD: &str = "protected header";
    let start = header.offset();
    let mut left = header.map(FIELD)?;
    let mut algorithm = None;
    while header.more(&mut left) {
        let offset = header.offset();
        match header.key(FIELD)? {
            Key::Integer(ALGORITHM) if algorithm.is_none() => {
                algorithm = Some(match header.integer("algorithm")? {
                    -7 => Algorithm::Es256,
                    -35 => Algorithm::Es384,
                    -36 => Algorithm::Es512,
                    other => {
                        let expected = "ES256 (-7), ES384 (-35) or ES512 (-36)";
                        return Err(header.value("algorithm", offset, expected, other.to_string()));
                    }
                });
            }
            Key::Integer(ALGORITHM) => return Err(header.value(FIELD, offset, "one algorithm", "two")),
            Key::Integer(CRITICAL) => {
                return Err(header.value(FIELD, offset, "no critical parameters", "some"));
            }
            _ => header.skip(FIELD)?,
        }
    }
    let missing = header.value(FIELD, start, "an algorithm", "none");
    header.finish(FIELD)?;
    algorithm.ok_or(missing)
}

/// A byte string in its shortest encoding, as `Sig_structure` demands.
fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        short @ 0..24 => out.push(0x40 | short as u8),
        byte @ 24..0x100 => out.extend([0x58, byte as u8]),
        word @ 0x100..0x1_0000 => {
            out.push(0x59);
            out.extend((word as u16).to_be_bytes());
        }
        long => {
            out.push(0x5a);
            out.extend((long as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}
