//! Anchors that a policy names for platforms whose vendors' roots are not compiled in. Who names one says: what it
//! signs is genuine.

mod files;

use evidence::{CertificateDer, pem};
use serde::{Deserialize, Serialize};

use crate::x509::ParsedCertificate;

/// What is trusted, under the name by which verdicts show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct TrustAnchor {
    name: String,
    key: AnchorKey,
    identity: Option<Vec<u8>>,
}

/// The key of a trust anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnchorKey {
    /// A CA, or an attestation key with its certificate.
    Certificate(CertificateDer),
    /// A key alone: DER `SubjectPublicKeyInfo` (RFC 5280, §4.1).
    PublicKey(Vec<u8>),
}

/// A trust anchor that nothing could chain to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("trust anchor {name:?}: {fault}")]
pub struct InvalidAnchor {
    name: String,
    fault: String,
}

impl TrustAnchor {
    /// Takes a key. `identity` is the platform instance that it belongs to, when it is of one alone.
    ///
    /// # Errors
    /// [`InvalidAnchor`] for a certificate that cannot be read.
    pub fn new(
        name: impl Into<String>,
        key: AnchorKey,
        identity: Option<Vec<u8>>,
    ) -> Result<Self, InvalidAnchor> {
        let name = name.into();
        if let AnchorKey::Certificate(der) = &key
            && let Err(fault) = ParsedCertificate::parse(der)
        {
            return Err(InvalidAnchor { name, fault: fault.to_string() });
        }
        Ok(Self { name, key, identity })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    pub fn key(&self) -> &AnchorKey {
        &self.key
    }

    /// The platform instance that the key belongs to, when it is of one alone.
    pub fn identity(&self) -> Option<&[u8]> {
        self.identity.as_deref()
    }
}

/// The DER of a public key of a kind that attestation keys have: `BEGIN PUBLIC KEY`, or the DER itself.
fn public_key(bytes: &[u8]) -> Option<Vec<u8>> {
    const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
    const END: &str = "-----END PUBLIC KEY-----";
    let der = match str::from_utf8(bytes).ok().map(str::trim).and_then(|text| text.strip_prefix(BEGIN)) {
        Some(text) => {
            let digits: String = text.strip_suffix(END)?.split_whitespace().collect();
            pem::decode_base64(&digits)?
        }
        None => bytes.to_vec(),
    };
    evidence::tpm::PublicKey::from_spki(&der).ok().map(|key| key.spki())
}

/// As a policy writes it: `certificate` or `public_key`, PEM; `identity`, hexadecimal.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

impl From<TrustAnchor> for Text {
    fn from(anchor: TrustAnchor) -> Self {
        let (certificate, public_key) = match anchor.key {
            AnchorKey::Certificate(der) => (Some(pem::encode(&der)), None),
            AnchorKey::PublicKey(der) => (None, Some(hex::encode(der))),
        };
        Self { name: anchor.name, certificate, public_key, identity: anchor.identity.map(hex::encode) }
    }
}

impl TryFrom<Text> for TrustAnchor {
    type Error = InvalidAnchor;

    fn try_from(text: Text) -> Result<Self, InvalidAnchor> {
        let Text { name, certificate, public_key, identity } = text;
        let invalid = |fault: String| InvalidAnchor { name: name.clone(), fault };
        let identity = identity.map(hex::decode).transpose().map_err(|error| invalid(error.to_string()))?;
        let key = match (certificate, public_key) {
            (Some(text), None) => {
                let chain =
                    pem::certificates(text.as_bytes()).map_err(|malformed| invalid(malformed.to_string()))?;
                match <[CertificateDer; 1]>::try_from(chain) {
                    Ok([certificate]) => AnchorKey::Certificate(certificate),
                    Err(_) => return Err(invalid("expected one certificate".into())),
                }
            }
            (None, Some(text)) => {
                AnchorKey::PublicKey(hex::decode(text).map_err(|error| invalid(error.to_string()))?)
            }
            _ => return Err(invalid("expected one of certificate and public_key".into())),
        };
        Self::new(name, key, identity)
    }
}
