//! SIGSTRUCT: what the author of an SGX enclave signs, and the processor holds the enclave against before it runs
//! (Intel SDM, volume 3D, §38.13). Build tools put it beside the enclave; Gramine's is the `.sig` file.
//!
//! The code's identity is read from it, and not measured from the enclave's pages: how those lie in memory is the
//! build tool's own matter. A signature that verifies says that the author meant this identity.

use crate::{Bank, Malformed};

const ARTEFACT: &str = "SIGSTRUCT";
const LENGTH: usize = 1808;
/// Both constants, and between them what is not one.
const HEADER: [u8; 16] = [6, 0, 0, 0, 0xe1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0];
const HEADER2: [u8; 16] = [1, 1, 0, 0, 0x60, 0, 0, 0, 0x60, 0, 0, 0, 1, 0, 0, 0];
/// ATTRIBUTES: this enclave may be debugged, so nothing in it is a secret.
const DEBUG: u8 = 2;
/// Bytes that must be zero: start and length.
const RESERVED: [(usize, usize); 4] = [(44, 84), (910, 2), (992, 16), (1028, 12)];

/// A parsed SIGSTRUCT, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sigstruct {
    bytes: Box<[u8; LENGTH]>,
}

impl Sigstruct {
    /// Reads one that fills `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] when a constant, a reserved field or the length is not as the processor demands it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let wrong = |field, expected| Malformed::field(ARTEFACT, field, expected);
        let bytes: &[u8; LENGTH] = bytes.try_into().map_err(|_| wrong("length", "1808 bytes"))?;
        if bytes[..16] != HEADER || bytes[24..40] != HEADER2 {
            return Err(wrong("header", "the constants of a SIGSTRUCT"));
        }
        if bytes[512..516] != [3, 0, 0, 0] {
            return Err(wrong("EXPONENT", "3"));
        }
        if bytes[511] & 0x80 == 0 {
            return Err(wrong("MODULUS", "3072 bits"));
        }
        for (start, length) in RESERVED {
            if bytes[start..start + length].iter().any(|&byte| byte != 0) {
                return Err(wrong("reserved", "zero bytes"));
            }
        }
        Ok(Self { bytes: Box::new(*bytes) })
    }

    /// MRENCLAVE of the enclave.
    pub fn mrenclave(&self) -> [u8; 32] {
        self.array(960)
    }

    /// MRSIGNER: SHA-256 of the author's modulus, as it lies here.
    pub fn mrsigner(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(&Bank::Sha256.digest(&[&self.bytes[128..512]]));
        digest
    }

    /// ISVPRODID: which of the author's products this is.
    pub fn product(&self) -> u16 {
        u16::from_le_bytes(self.array(1024))
    }

    /// ISVSVN: its security version.
    pub fn security_version(&self) -> u16 {
        u16::from_le_bytes(self.array(1026))
    }

    /// Whether it can be launched for debugging: the author demands that bit, or does not say.
    pub fn may_be_debugged(&self) -> bool {
        let (attributes, mask) = (self.bytes[928], self.bytes[944]);
        attributes & DEBUG != 0 || mask & DEBUG == 0
    }

    /// What is signed: RSASSA-PKCS1-v1_5 with SHA-256.
    pub fn signed(&self) -> Vec<u8> {
        [&self.bytes[..128], &self.bytes[900..1028]].concat()
    }

    /// The signature, big-endian.
    pub fn signature(&self) -> Vec<u8> {
        self.bytes[516..900].iter().rev().copied().collect()
    }

    /// The author's key: DER `RSAPublicKey` (RFC 8017, §A.1.1).
    pub fn key(&self) -> Vec<u8> {
        // A sequence of 394 bytes; an integer of 385, whose first byte keeps it positive; the integer 3.
        let mut der = vec![0x30, 0x82, 0x01, 0x88, 0x02, 0x82, 0x01, 0x81, 0x00];
        der.extend(self.bytes[128..512].iter().rev());
        der.extend([0x02, 0x01, 0x03]);
        der
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        array
    }
}
