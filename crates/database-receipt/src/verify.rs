//! Whether a receipt is the database's: its chain ends in the root that the database's Evidence covers, and the leaf's
//! key signed the statement.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, aws_lc_rs as algorithms};

use crate::{Digest, Receipt, Statement, Table};

/// A statement that the database of that root made. The only way to one is [`verify`].
#[derive(Debug, Clone)]
pub struct Verified {
    statement: Statement,
}

impl Verified {
    /// What it says.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Whether this is the answer that the receipt is about.
    ///
    /// # Errors
    /// [`Untrusted::Answer`].
    pub fn is_about(&self, answer: &Table) -> Result<(), Untrusted> {
        let (expected, seen) = (self.statement.answer, answer.digest());
        if expected == seen { Ok(()) } else { Err(Untrusted::Answer { expected, seen }) }
    }

    /// Whether the call was judged by this manifest.
    ///
    /// # Errors
    /// [`Untrusted::Manifest`].
    pub fn is_under(&self, manifest: &[u8]) -> Result<(), Untrusted> {
        let (expected, seen) = (self.statement.manifest, Digest::of(manifest));
        if expected == seen { Ok(()) } else { Err(Untrusted::Manifest { expected, seen }) }
    }
}

/// Why a receipt is not believed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Untrusted {
    /// The root is no certificate.
    #[error("the root that you gave is not a certificate: {0}")]
    Root(String),
    /// The chain does not end there.
    #[error("the receipt's certificates do not lead to this database's root: {0}")]
    Chain(String),
    /// Another statement was signed, or by another key.
    #[error("the signature is not over this statement by the key of the receipt's first certificate")]
    Signature,
    /// Another answer.
    #[error("the receipt is about the answer {expected}, this is {seen}")]
    Answer {
        /// The receipt's.
        expected: Digest,
        /// That of the answer.
        seen: Digest,
    },
    /// Another manifest.
    #[error("the call was judged by the manifest {expected}, this is {seen}")]
    Manifest {
        /// The receipt's.
        expected: Digest,
        /// That of the file.
        seen: Digest,
    },
}

impl Untrusted {
    /// Stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Root(_) => "RECEIPT_ROOT",
            Self::Chain(_) => "RECEIPT_CHAIN",
            Self::Signature => "RECEIPT_SIGNATURE",
            Self::Answer { .. } => "RECEIPT_OTHER_ANSWER",
            Self::Manifest { .. } => "RECEIPT_OTHER_MANIFEST",
        }
    }
}

/// Verifies a receipt by the root that the database's Evidence covers. Certificates are judged by the time that the
/// receipt names: who has the key could have written any.
///
/// # Errors
/// [`Untrusted`].
pub fn verify(receipt: Receipt, root: &CertificateDer<'_>) -> Result<Verified, Untrusted> {
    let anchor = anchor_from_trusted_cert(root).map_err(|error| Untrusted::Root(error.to_string()))?;
    let chain = |error: webpki::Error| Untrusted::Chain(error.to_string());
    let Some((leaf, issuers)) = receipt.certificates.split_first() else {
        return Err(Untrusted::Chain("it has none".into()));
    };
    let leaf = EndEntityCert::try_from(leaf).map_err(chain)?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(receipt.statement.time));
    let known = [algorithms::ECDSA_P256_SHA256, algorithms::ECDSA_P384_SHA384];
    leaf.verify_for_usage(&known, &[anchor], issuers, time, KeyUsage::server_auth(), None, None)
        .map_err(chain)?;
    leaf.verify_signature(
        algorithms::ECDSA_P256_SHA256,
        &receipt.statement.signed_bytes(),
        &receipt.signature,
    )
    .map_err(|_| Untrusted::Signature)?;
    Ok(Verified { statement: receipt.statement })
}
