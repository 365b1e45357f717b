//! Public keys of signers: P-256, P-384 and Ed25519.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED,
    ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// A key that verifies statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    kind: Kind,
    /// The point, or Ed25519's 32 bytes.
    key: Vec<u8>,
    /// DER `SubjectPublicKeyInfo`.
    spki: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    P256,
    P384,
    Ed25519,
}

/// Bytes that are no key of a kind that statements are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one public key, PEM, on P-256, P-384 or Ed25519")]
pub struct UnknownKey;

/// How ECDSA's numbers are written.
#[derive(Clone, Copy)]
pub(crate) enum Encoding {
    /// DER, as in DSSE and Sigstore.
    Der,
    /// One after the other, as in JWS (RFC 7518 §3.4).
    Fixed,
}

impl PublicKey {
    /// Reads `BEGIN PUBLIC KEY`.
    ///
    /// # Errors
    /// [`UnknownKey`].
    pub fn from_pem(text: &str) -> Result<Self, UnknownKey> {
        let digits = text.trim().strip_prefix(BEGIN).and_then(|text| text.strip_suffix(END));
        let digits: String = digits.ok_or(UnknownKey)?.split_whitespace().collect();
        Self::from_spki(&STANDARD.decode(digits).map_err(|_| UnknownKey)?)
    }

    /// Reads DER `SubjectPublicKeyInfo` (RFC 5480 §2, RFC 8410 §4).
    ///
    /// # Errors
    /// [`UnknownKey`].
    pub fn from_spki(der: &[u8]) -> Result<Self, UnknownKey> {
        let Ok(([], info)) = SubjectPublicKeyInfo::from_der(der) else { return Err(UnknownKey) };
        let algorithm = info.algorithm.algorithm.to_id_string();
        let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let curve = curve.map(|oid| oid.to_id_string());
        let (kind, length) = match (algorithm.as_str(), curve.as_deref()) {
            ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7")) => (Kind::P256, 65),
            ("1.2.840.10045.2.1", Some("1.3.132.0.34")) => (Kind::P384, 97),
            ("1.3.101.112", None) => (Kind::Ed25519, 32),
            _ => return Err(UnknownKey),
        };
        let key = info.subject_public_key.data.to_vec();
        let is_point = kind == Kind::Ed25519 || key.first() == Some(&4);
        if key.len() != length || !is_point {
            return Err(UnknownKey);
        }
        Ok(Self { kind, key, spki: der.to_vec() })
    }

    /// DER `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether this key's owner signed `message`.
    pub(crate) fn signed(&self, encoding: Encoding, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match (self.kind, encoding) {
            (Kind::P256, Encoding::Der) => &ECDSA_P256_SHA256_ASN1,
            (Kind::P256, Encoding::Fixed) => &ECDSA_P256_SHA256_FIXED,
            (Kind::P384, Encoding::Der) => &ECDSA_P384_SHA384_ASN1,
            (Kind::P384, Encoding::Fixed) => &ECDSA_P384_SHA384_FIXED,
            (Kind::Ed25519, _) => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.key).verify(message, signature).is_ok()
    }
}
