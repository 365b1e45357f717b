//! What a peer of the mesh API says that it is. The words of its measured code, which its Evidence covers; nothing else
//! decides what it is taken for.

use appraisal::binding::Role;
use attested_tls::claims::{Claims, DatabaseMarbleClaims, KeepClaims, MalformedClaims};

/// The claims of a Marble.
pub enum Claimed {
    /// Of a Keep.
    Keep(KeepClaims),
    /// Of a database.
    Database(DatabaseMarbleClaims),
}

impl Claimed {
    /// Reads claims strictly. None are both.
    ///
    /// # Errors
    /// With what a Keep's lack, where they are nobody's.
    pub fn read(bytes: &[u8]) -> Result<Self, MalformedClaims> {
        match DatabaseMarbleClaims::from_bytes(bytes) {
            Ok(claims) => Ok(Self::Database(claims)),
            Err(_) => KeepClaims::from_bytes(bytes).map(Self::Keep),
        }
    }

    /// The Marble that it is to be.
    pub fn marble(&self) -> &str {
        match self {
            Self::Keep(claims) => &claims.marble,
            Self::Database(claims) => &claims.marble,
        }
    }

    /// As what it must attest.
    pub fn role(&self) -> Role {
        match self {
            Self::Keep(_) => Role::Keep,
            Self::Database(_) => Role::Database,
        }
    }
}
