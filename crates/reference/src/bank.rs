//! Registers that are only ever extended: PCRs of a TPM, RTMRs of a trust domain.

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// A bank of PCRs: all are extended with digests by one algorithm. RTMRs are of SHA-384.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bank {
    /// SHA-1, for TPMs that have nothing better in use.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Bank {
    /// All banks, weakest first.
    pub const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The word for it in the names of registers, such as `sha256` in `pcr11.sha256`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// The digest of `parts`, one after the other.
    pub fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        fn all<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut hash = D::new();
            parts.iter().for_each(|part| hash.update(part));
            hash.finalize().to_vec()
        }
        match self {
            Self::Sha1 => all::<Sha1>(parts),
            Self::Sha256 => all::<Sha256>(parts),
            Self::Sha384 => all::<Sha384>(parts),
            Self::Sha512 => all::<Sha512>(parts),
        }
    }

    const fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A register of zeros at start, and what was extended into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    bank: Bank,
    value: Vec<u8>,
}

impl Register {
    /// A register that nothing was extended into.
    pub fn new(bank: Bank) -> Self {
        Self { bank, value: vec![0; bank.length()] }
    }

    /// Extends a digest.
    pub fn extend(&mut self, digest: &[u8]) {
        self.value = self.bank.digest(&[&self.value, digest]);
    }

    /// Extends the digest of bytes.
    pub fn measure(&mut self, bytes: &[u8]) {
        self.extend(&self.bank.digest(&[bytes]));
    }

    /// What it holds.
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}
