//! Templates of files and environment variables: a documented subset of Go's `text/template`.
//!
//! A template is text with actions `{{ function .Path.To.Value }}`. It is parsed once, with the manifest,
//! into a list of parts whose functions and references are known to be allowed; rendering can then fail
//! only for want of a value.

mod parse;
mod render;

pub use render::{RenderError, Values};

pub(crate) use parse::{Shape, parse};

use crate::names::SecretName;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    place: Place,
}

/// One part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Bytes that stand for themselves.
    Literal(Vec<u8>),
    /// A value, encoded.
    Value {
        /// How the value is written.
        encoding: Encoding,
        /// Which value.
        reference: Reference,
    },
}

/// How a value is written: the functions `pem`, `hex`, `base64`, `raw` and `string`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// A PEM block of the part's type.
    Pem(PemLabel),
    /// Lower-case hexadecimal digits.
    Hex,
    /// Standard base64 with padding.
    Base64,
    /// The bytes themselves; files only.
    Raw,
    /// The bytes themselves, without NUL; environment variables only, plain secrets only.
    String,
}

/// The type of a PEM block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PemLabel {
    /// `CERTIFICATE`.
    Certificate,
    /// `PUBLIC KEY`.
    PublicKey,
    /// `PRIVATE KEY`.
    PrivateKey,
}

/// A value that a template refers to. Certificates are DER, public keys SubjectPublicKeyInfo DER, private
/// keys PKCS#8 DER.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `.MarbleRun.RootCA.Cert`: the root that Marbles of this epoch share.
    RootCa,
    /// `.MarbleRun.CoordinatorRoot.Cert`: the root of the deployment.
    CoordinatorRoot,
    /// `.MarbleRun.CoordinatorIntermediate.Cert`: the intermediate CA of this epoch.
    CoordinatorIntermediate,
    /// `.MarbleRun.MarbleCert.…`: this instance's own certificate or key.
    MarbleCertificate(KeyPart),
    /// `.Secrets.name…`, and `.Previous.Secrets.name…` for the value before the last rotation.
    Secret {
        /// Now, or before the last rotation.
        generation: Generation,
        /// Which secret; it exists in the manifest.
        name: SecretName,
        /// Which part of it.
        part: SecretPart,
    },
}

/// Which generation of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Generation {
    /// The value now.
    Current,
    /// The value before the last rotation or update.
    Previous,
}

/// A part of a certificate with its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyPart {
    /// The certificate.
    Certificate,
    /// The public key.
    Public,
    /// The private key.
    Private,
}

/// A part of a secret. Keys and plain secrets are one value; only certificates have parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretPart {
    /// The whole value of a symmetric key or plain secret.
    Value,
    /// A part of a certificate secret.
    Of(KeyPart),
}

/// Where a template stands, which decides the functions that it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    File,
    Env,
}

impl Template {
    /// Bytes that are no template.
    pub(crate) fn literal(bytes: Vec<u8>, place: Place) -> Self {
        Self { parts: vec![Part::Literal(bytes)], place }
    }

    /// The parts, in order.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The values that rendering will ask for.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Value { reference, .. } => Some(reference),
        })
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RootCa => f.write_str(".MarbleRun.RootCA.Cert"),
            Self::CoordinatorRoot => f.write_str(".MarbleRun.CoordinatorRoot.Cert"),
            Self::CoordinatorIntermediate => f.write_str(".MarbleRun.CoordinatorIntermediate.Cert"),
            Self::MarbleCertificate(part) => write!(f, ".MarbleRun.MarbleCert.{}", part.as_str()),
            Self::Secret { generation, name, part } => {
                f.write_str(if *generation == Generation::Previous { ".Previous" } else { "" })?;
                write!(f, ".Secrets.{name}")?;
                match part {
                    SecretPart::Value => Ok(()),
                    SecretPart::Of(part) => write!(f, ".{}", part.as_str()),
                }
            }
        }
    }
}

impl KeyPart {
    fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "Cert",
            Self::Public => "Public",
            Self::Private => "Private",
        }
    }

    fn from_field(field: &str) -> Option<Self> {
        [Self::Certificate, Self::Public, Self::Private].into_iter().find(|part| part.as_str() == field)
    }
}
