//! The audit log of a database as it is exported: entries in a chain, and heads that the database signed.
//!
//! An entry's hash is `SHA-256("bailey/database-audit/1" ‖ previous hash ‖ number ‖ time ‖ event)`, numbers and times
//! (seconds) in 8 bytes big-endian, the event as the exact bytes of its JSON.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, aws_lc_rs as algorithms};

use crate::{Digest, Untrusted};

const ENTRY: &[u8; 23] = b"bailey/database-audit/1";
const HEAD: &[u8; 28] = b"bailey/database-audit-head/1";

/// A place in the chain: how many entries there are, and the hash of the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Entries; the first has the number 1.
    pub sequence: u64,
    /// The newest one's hash; zeros where there is none.
    pub hash: [u8; 32],
}

impl Head {
    /// Before the first entry.
    pub const NONE: Self = Self { sequence: 0, hash: [0; 32] };

    /// After one more entry.
    #[must_use]
    pub fn then(&self, at: i64, event: &[u8]) -> Self {
        let sequence = self.sequence + 1;
        let mut context = Context::new(&SHA256);
        for part in [ENTRY.as_slice(), &self.hash, &sequence.to_be_bytes(), &at.to_be_bytes(), event] {
            context.update(part);
        }
        Self { sequence, hash: Digest::read(context.finish().as_ref()).0 }
    }

    /// What the database's key signs: label, number, hash, time.
    pub fn to_be_signed(&self, time: u64) -> Vec<u8> {
        [HEAD.as_slice(), &self.sequence.to_be_bytes(), &self.hash, &time.to_be_bytes()].concat()
    }
}

/// An entry as it is exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Line {
    /// Its number.
    pub sequence: u64,
    /// When, in seconds since 1970.
    pub at: i64,
    /// The exact bytes that are hashed: JSON.
    pub event: String,
    /// Its hash, lower-case hex.
    pub hash: Digest,
}

impl Line {
    /// The event as a type; `None`: it is none of that type.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.event).ok()
    }
}

/// Whether the entries continue `known` one after the other; where they end.
///
/// # Errors
/// With the first that does not.
pub fn verify_lines(known: Head, lines: &[Line]) -> Result<Head, Broken> {
    lines.iter().try_fold(known, |head, line| {
        let next = head.then(line.at, line.event.as_bytes());
        if line.sequence != next.sequence {
            return Err(Broken::Missing { expected: next.sequence, seen: line.sequence });
        }
        if line.hash.0 != next.hash {
            return Err(Broken::Altered { sequence: line.sequence });
        }
        Ok(next)
    })
}

/// A head with the signature of the database's key, of which nothing has been verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct SignedHead {
    /// Entries.
    pub sequence: u64,
    /// The newest one's hash, lower-case hex.
    pub hash: Digest,
    /// When it was signed, in seconds since 1970.
    pub time: u64,
    /// ECDSA with P-256 and SHA-256 over [`Head::to_be_signed`], ASN.1, base64.
    pub signature: String,
    /// The certificate of the key that signed, then its issuers, DER in base64.
    pub certificates: Vec<String>,
}

impl SignedHead {
    /// The head, if the database with this root signed it.
    ///
    /// # Errors
    /// [`Untrusted`]
    pub fn verify(&self, root: &CertificateDer<'_>) -> Result<Head, Untrusted> {
        let anchor = anchor_from_trusted_cert(root).map_err(|error| Untrusted::Root(error.to_string()))?;
        let chain = |error: webpki::Error| Untrusted::Chain(error.to_string());
        let decoded = |text: &String| STANDARD.decode(text).map(CertificateDer::from);
        let certificates: Result<Vec<_>, _> = self.certificates.iter().take(4).map(decoded).collect();
        let certificates = certificates.map_err(|error| Untrusted::Chain(error.to_string()))?;
        let Some((leaf, issuers)) = certificates.split_first() else {
            return Err(Untrusted::Chain("it has none".into()));
        };
        let leaf = EndEntityCert::try_from(leaf).map_err(chain)?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(self.time));
        let known = [algorithms::ECDSA_P256_SHA256];
        leaf.verify_for_usage(&known, &[anchor], issuers, time, KeyUsage::server_auth(), None, None)
            .map_err(chain)?;
        let head = Head { sequence: self.sequence, hash: self.hash.0 };
        let signature = STANDARD.decode(&self.signature).map_err(|_| Untrusted::Signature)?;
        leaf.verify_signature(algorithms::ECDSA_P256_SHA256, &head.to_be_signed(self.time), &signature)
            .map_err(|_| Untrusted::Signature)?;
        Ok(head)
    }
}

/// Why an export is not the audit log that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Entries are missing, or were exchanged.
    #[error("entry {expected} of the audit log was expected, and {seen} follows")]
    Missing {
        /// Which should come.
        expected: u64,
        /// Which came.
        seen: u64,
    },
    /// An entry or one before it was altered.
    #[error("entry {sequence} of the audit log does not continue what is known")]
    Altered {
        /// Which.
        sequence: u64,
    },
}

impl Broken {
    /// Stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "AUDIT_ENTRY_MISSING",
            Self::Altered { .. } => "AUDIT_ALTERED",
        }
    }
}
