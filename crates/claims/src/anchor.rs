//! What lies outside a coordinator's host and notices an old or forked copy of its state: the kinds that a coordinator
//! names in its Evidence, and the head that a client holds.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::CoordinatorClaims;

/// A length of the state log and the head at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// How many records.
    pub length: u64,
    /// The hash of the newest, chained over all before it.
    pub head: [u8; 32],
}

const LABEL: &[u8; 24] = b"bailey/log-position/1\0\0\0";

impl Position {
    /// Where a coordinator's log is, by its Evidence.
    pub fn of(claims: &CoordinatorClaims) -> Self {
        Self { length: claims.log_length, head: claims.log_head.into_array() }
    }

    /// What the transparency log's key signs (Ed25519): label, length in 8 bytes big-endian, head.
    pub fn to_be_signed(&self) -> [u8; 64] {
        let mut out = [0; 64];
        out[..24].copy_from_slice(LABEL);
        out[24..32].copy_from_slice(&self.length.to_be_bytes());
        out[32..].copy_from_slice(&self.head);
        out
    }
}

/// What a verifier's memory makes of a coordinator's word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Regressed {
    /// The log was longer.
    #[error(
        "the coordinator shows an older state: {} records now, and it had {} before",
        seen.length, held.length
    )]
    RolledBack {
        /// What was held.
        held: Position,
        /// What is shown now.
        seen: Position,
    },
    /// The log was another.
    #[error(
        "the coordinator shows another state of the same length ({} records): expected head {}, seen {}",
        seen.length, Hex(&held.head), Hex(&seen.head)
    )]
    Forked {
        /// What was held.
        held: Position,
        /// What is shown now.
        seen: Position,
    },
}

impl Regressed {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RolledBack { .. } => "STATE_ROLLED_BACK",
            Self::Forked { .. } => "STATE_FORKED",
        }
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Compares what a verifier holds with what it sees now. That a longer log continues the one that is held, only the
/// coordinator can say: hand it what is held.
///
/// # Errors
/// An older or another log.
pub fn compare(held: &Position, seen: &Position) -> Result<(), Regressed> {
    if seen.length < held.length {
        return Err(Regressed::RolledBack { held: held.clone(), seen: seen.clone() });
    }
    if seen.length == held.length && seen.head != held.head {
        return Err(Regressed::Forked { held: held.clone(), seen: seen.clone() });
    }
    Ok(())
}

/// An anchor in force, in a coordinator's claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorClaim {
    /// What it is.
    pub kind: AnchorKind,
    /// By what it is known: for a TPM, SHA-256 of the SubjectPublicKeyInfo of its endorsement key.
    pub key: Option<ByteArray<32>>,
}

/// What can notice an old copy of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnchorKind {
    /// A chain in the non-volatile memory of a TPM.
    TpmNv,
    /// The revision of an etcd cluster.
    Etcd,
    /// Heads that other coordinators of the mesh keep sealed.
    Peers,
    /// Heads that users hold, of whom so many must confirm theirs after each start.
    Clients,
}

impl AnchorKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TpmNv => "tpm-nv",
            Self::Etcd => "etcd",
            Self::Peers => "peers",
            Self::Clients => "clients",
        }
    }
}

impl fmt::Display for AnchorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no anchor's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no anchor; known are tpm-nv, etcd, peers, clients")]
pub struct UnknownAnchor(String);

impl FromStr for AnchorKind {
    type Err = UnknownAnchor;

    fn from_str(text: &str) -> Result<Self, UnknownAnchor> {
        let all = [Self::TpmNv, Self::Etcd, Self::Peers, Self::Clients];
        all.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| UnknownAnchor(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(length: u64, head: u8) -> Position {
        Position { length, head: [head; 32] }
    }

    #[test]
    fn s16_shorter_is_rolled_back_and_another_of_the_same_length_is_forked() {
        assert_eq!(compare(&position(3, 3), &position(3, 3)), Ok(()));
        assert_eq!(compare(&position(3, 3), &position(4, 4)), Ok(()));
        assert_eq!(compare(&position(3, 3), &position(2, 2)).unwrap_err().code(), "STATE_ROLLED_BACK");
        assert_eq!(compare(&position(3, 3), &position(3, 4)).unwrap_err().code(), "STATE_FORKED");
    }

    #[test]
    fn words_of_kinds() {
        for kind in [AnchorKind::TpmNv, AnchorKind::Etcd, AnchorKind::Peers, AnchorKind::Clients] {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert!("TPM".parse::<AnchorKind>().is_err());
    }

    #[test]
    fn what_is_signed_differs_by_length_and_head() {
        assert_ne!(position(1, 2).to_be_signed(), position(2, 2).to_be_signed());
        assert_ne!(position(1, 2).to_be_signed(), position(1, 1).to_be_signed());
        assert_eq!(&position(1, 2).to_be_signed()[24..33], [0, 0, 0, 0, 0, 0, 0, 1, 2]);
    }
}
