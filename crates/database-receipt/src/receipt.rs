//! A receipt as a file: the statement, the chain of certificates, the signature.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use rustls_pki_types::CertificateDer;

use crate::{Statement, VERSION};

/// No receipt is longer.
pub const MAX_BYTES: usize = 256 << 10;
/// Leaf, what is between, root.
const MAX_CERTIFICATES: usize = 4;

/// A receipt of which nothing has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What it says.
    pub statement: Statement,
    /// The certificate of the key that signed, then its issuers.
    pub certificates: Vec<CertificateDer<'static>>,
    /// ECDSA with P-256 and SHA-256 over [`Statement::signed_bytes`], ASN.1.
    pub signature: Vec<u8>,
}

/// Why bytes are no receipt.
#[derive(Debug, Error)]
pub enum Malformed {
    /// Too long.
    #[error("a receipt has at most {MAX_BYTES} bytes, this has {0}")]
    Long(usize),
    /// Not the JSON that is expected.
    #[error("this is no receipt")]
    Json(#[source] serde_json::Error),
    /// Of another version.
    #[error("a receipt of version {0}; this program knows version {VERSION}")]
    Version(u32),
    /// Certificates or signature.
    #[error("{0}: expected standard base64")]
    Base64(&'static str),
    /// Too many certificates, or none.
    #[error("1 to {MAX_CERTIFICATES} certificates are expected, there are {0}")]
    Certificates(usize),
}

impl Malformed {
    /// Stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Long(_) => "RECEIPT_TOO_LONG",
            Self::Json(_) => "RECEIPT_MALFORMED",
            Self::Version(_) => "RECEIPT_VERSION",
            Self::Base64(_) => "RECEIPT_BASE64",
            Self::Certificates(_) => "RECEIPT_CERTIFICATES",
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Wire {
    statement: Statement,
    certificates: Vec<String>,
    signature: String,
}

impl Receipt {
    /// From JSON.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_BYTES {
            return Err(Malformed::Long(bytes.len()));
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(Malformed::Json)?;
        if wire.statement.version != VERSION {
            return Err(Malformed::Version(wire.statement.version));
        }
        if !(1..=MAX_CERTIFICATES).contains(&wire.certificates.len()) {
            return Err(Malformed::Certificates(wire.certificates.len()));
        }
        let certificate = |text: &String| decode("Certificates", text).map(CertificateDer::from);
        Ok(Self {
            statement: wire.statement,
            certificates: wire.certificates.iter().map(certificate).collect::<Result<_, _>>()?,
            signature: decode("Signature", &wire.signature)?,
        })
    }

    /// As JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let wire = Wire {
            statement: self.statement.clone(),
            certificates: self.certificates.iter().map(|it| STANDARD.encode(it)).collect(),
            signature: STANDARD.encode(&self.signature),
        };
        // A structure of strings and numbers has a JSON form.
        serde_json::to_value(wire).unwrap_or_default()
    }
}

fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, Malformed> {
    STANDARD.decode(text).map_err(|_| Malformed::Base64(field))
}
