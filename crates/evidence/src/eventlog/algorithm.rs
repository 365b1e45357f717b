//! Digest algorithms by their identifiers (TCG Algorithm Registry, table 3).

use std::fmt;

use serde::{Serialize, Serializer};

/// A digest algorithm of an event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgorithm {
    /// SHA-1: 20 bytes.
    Sha1,
    /// SHA-256: 32 bytes.
    Sha256,
    /// SHA-384: 48 bytes.
    Sha384,
    /// SHA-512: 64 bytes.
    Sha512,
    /// SM3: 32 bytes.
    Sm3,
    /// Another, by its identifier: the log itself tells the size.
    Other(u16),
}

impl HashAlgorithm {
    /// The algorithm with an identifier of the TCG's registry.
    pub const fn from_id(id: u16) -> Self {
        match id {
            0x0004 => Self::Sha1,
            0x000b => Self::Sha256,
            0x000c => Self::Sha384,
            0x000d => Self::Sha512,
            0x0012 => Self::Sm3,
            other => Self::Other(other),
        }
    }

    /// The identifier in the TCG's registry.
    pub const fn id(self) -> u16 {
        match self {
            Self::Sha1 => 0x0004,
            Self::Sha256 => 0x000b,
            Self::Sha384 => 0x000c,
            Self::Sha512 => 0x000d,
            Self::Sm3 => 0x0012,
            Self::Other(id) => id,
        }
    }

    /// The length of a digest in bytes; None for an algorithm that is not known here.
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::Sha1 => Some(20),
            Self::Sha256 | Self::Sm3 => Some(32),
            Self::Sha384 => Some(48),
            Self::Sha512 => Some(64),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha1 => f.pad("sha1"),
            Self::Sha256 => f.pad("sha256"),
            Self::Sha384 => f.pad("sha384"),
            Self::Sha512 => f.pad("sha512"),
            Self::Sm3 => f.pad("sm3"),
            Self::Other(id) => write!(f, "{id:#06x}"),
        }
    }
}

impl Serialize for HashAlgorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
