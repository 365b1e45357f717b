//! The transcript that Evidence covers: one everywhere, so that Evidence made for one role, key, nonce or set
//! of claims says nothing for another.
//!
//! `report_data = SHA-512(deterministic CBOR ["bailey/evidence/1", role, SHA-256(SPKI), nonce, SHA-256(claims)])`
//!
//! The items have fixed lengths or a length prefix, so two transcripts never have the same bytes.

use std::fmt;
use std::str::FromStr;

use evidence::ReportData;

use crate::Crypto;

const LABEL: &str = "bailey/evidence/1";

/// What the attested code acts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The control plane.
    Coordinator,
    /// A TEE instance that runs one workload.
    Keep,
    /// The confidential SQL service.
    Database,
    /// A coordinator that asks another one of its mesh for what coordinators share.
    Replica,
    /// A TEE instance that waits for one deployment of one client. Never a Marble.
    DirectKeep,
}

impl Role {
    /// The word for it in the transcript.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Keep => "keep",
            Self::Database => "database",
            Self::Replica => "replica",
            Self::DirectKeep => "direct-keep",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown role {0:?}: expected coordinator, keep, database, replica or direct-keep")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        [Self::Coordinator, Self::Keep, Self::Database, Self::Replica, Self::DirectKeep]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// What Evidence covers.
#[derive(Clone, Copy, Debug)]
pub struct Transcript<'a> {
    /// What the attested code acts as.
    pub role: Role,
    /// SHA-256 of the SubjectPublicKeyInfo of the key that the TEE holds.
    pub key: &'a [u8; 32],
    /// The verifier's nonce.
    pub nonce: &'a [u8; 32],
    /// What the TEE's own code asserts: a CBOR map, which travels beside the Evidence.
    pub claims: &'a [u8],
}

impl Transcript<'_> {
    /// The report data that covers this transcript. Platforms with a 32-byte field use the first half.
    pub fn report_data(&self, crypto: &dyn Crypto) -> ReportData {
        let claims = crypto.sha256(&[self.claims]);
        ReportData(crypto.sha512(&[&self.encode(&claims)]))
    }

    /// RFC 8949, §4.2.1. All lengths here are below 256, so one byte of length is the shortest form.
    fn encode(&self, claims: &[u8; 32]) -> Vec<u8> {
        let role = self.role.as_str();
        let mut bytes = Vec::with_capacity(160);
        bytes.push(0x85);
        bytes.push(0x60 | LABEL.len() as u8);
        bytes.extend_from_slice(LABEL.as_bytes());
        bytes.push(0x60 | role.len() as u8);
        bytes.extend_from_slice(role.as_bytes());
        for digest in [self.key, self.nonce, claims] {
            bytes.extend_from_slice(&[0x58, 32]);
            bytes.extend_from_slice(digest);
        }
        bytes
    }
}

// The header of a CBOR text of up to 23 bytes holds its length.
const _: () = assert!(LABEL.len() <= 23);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_deterministic_cbor_of_the_array() {
        let transcript = Transcript { role: Role::Keep, key: &[1; 32], nonce: &[2; 32], claims: &[0xa0] };
        let value = ciborium::Value::Array(vec![
            LABEL.into(),
            "keep".into(),
            ciborium::Value::Bytes(vec![1; 32]),
            ciborium::Value::Bytes(vec![2; 32]),
            ciborium::Value::Bytes(vec![3; 32]),
        ]);
        let mut expected = Vec::new();
        ciborium::into_writer(&value, &mut expected).unwrap();
        assert_eq!(transcript.encode(&[3; 32]), expected);
    }
}
