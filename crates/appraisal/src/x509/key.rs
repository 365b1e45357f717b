//! Public keys of certificates, and what they sign.

use std::borrow::Cow;

use super::CertificateFault;
use super::name::dotted;
use super::oid::{
    EC_PUBLIC_KEY, ECDSA_SHA256, ECDSA_SHA384, NULL, PRIME_256, RSA_ENCRYPTION, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS, SECP_384, SHA256,
};
use crate::der::{BIT_STRING, EXPLICIT_0, Elements, INTEGER, OBJECT_IDENTIFIER, SEQUENCE};
use crate::{Crypto, InvalidSignature, SignatureAlgorithm};

/// A public key of the kinds that vendors use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicKey<'a> {
    /// Uncompressed point.
    P256(Cow<'a, [u8]>),
    /// Uncompressed point.
    P384(Cow<'a, [u8]>),
    /// DER `RSAPublicKey`.
    Rsa(Cow<'a, [u8]>),
}

impl<'a> PublicKey<'a> {
    /// Reads the contents of a SubjectPublicKeyInfo (RFC 5280, §4.1.2.7).
    pub(super) fn read(mut info: Elements<'a>) -> Result<Self, CertificateFault> {
        const FAULT: CertificateFault = CertificateFault::Unreadable("public key");
        let mut algorithm = info.sequence().ok_or(FAULT)?;
        let Some([0, bits @ ..]) = info.take(BIT_STRING).filter(|_| info.is_empty()) else {
            return Err(FAULT);
        };
        let identifier = algorithm.take(OBJECT_IDENTIFIER).ok_or(FAULT)?;
        let bits = Cow::Borrowed(bits);
        if identifier == RSA_ENCRYPTION && algorithm.rest() == NULL {
            return Ok(Self::Rsa(bits));
        }
        match (identifier, algorithm.take(OBJECT_IDENTIFIER).filter(|_| algorithm.is_empty())) {
            (EC_PUBLIC_KEY, Some(PRIME_256)) if is_point(&bits, 65) => Ok(Self::P256(bits)),
            (EC_PUBLIC_KEY, Some(SECP_384)) if is_point(&bits, 97) => Ok(Self::P384(bits)),
            _ => Err(CertificateFault::UnsupportedKey(dotted(identifier))),
        }
    }

    pub(crate) fn into_owned(self) -> PublicKey<'static> {
        match self {
            Self::P256(key) => PublicKey::P256(Cow::Owned(key.into_owned())),
            Self::P384(key) => PublicKey::P384(Cow::Owned(key.into_owned())),
            Self::Rsa(key) => PublicKey::Rsa(Cow::Owned(key.into_owned())),
        }
    }

    /// Verifies the signature of something else that is signed as certificates are: `algorithm` is the DER of its
    /// `AlgorithmIdentifier`.
    pub(crate) fn verify_object(
        &self,
        bytes: &[u8],
        algorithm: &[u8],
        signature: &[u8],
        crypto: &dyn Crypto,
    ) -> Result<(), InvalidSignature> {
        self.verify(&Signed { bytes, algorithm, signature }, crypto)
    }

    /// The contents of the key's BIT STRING.
    pub(crate) fn bits(&self) -> &[u8] {
        match self {
            Self::P256(bits) | Self::P384(bits) | Self::Rsa(bits) => bits,
        }
    }

    /// Verifies the signature of a certificate or revocation list. Key and algorithm must be of one kind:
    /// there is one algorithm for each kind of key, as vendors use them.
    pub(super) fn verify(&self, signed: &Signed<'_>, crypto: &dyn Crypto) -> Result<(), InvalidSignature> {
        let mut algorithm = Elements::new(signed.algorithm).sequence().ok_or(InvalidSignature)?;
        let identifier = algorithm.take(OBJECT_IDENTIFIER).ok_or(InvalidSignature)?;
        let (algorithm, key) = match (self, identifier) {
            (Self::P256(key), ECDSA_SHA256) => (SignatureAlgorithm::EcdsaP256Sha256Der, key),
            (Self::P384(key), ECDSA_SHA384) => (SignatureAlgorithm::EcdsaP384Sha384Der, key),
            (Self::Rsa(key), RSA_PSS) if is_pss_sha256(algorithm) => (SignatureAlgorithm::RsaPssSha256, key),
            (Self::Rsa(key), RSA_PSS) => (SignatureAlgorithm::RsaPssSha384, key),
            (Self::Rsa(key), RSA_PKCS1_SHA256) => (SignatureAlgorithm::RsaPkcs1Sha256, key),
            (Self::Rsa(key), RSA_PKCS1_SHA384) => (SignatureAlgorithm::RsaPkcs1Sha384, key),
            (Self::Rsa(key), RSA_PKCS1_SHA512) => (SignatureAlgorithm::RsaPkcs1Sha512, key),
            _ => return Err(InvalidSignature),
        };
        crypto.verify_endorsement(algorithm, key, signed.bytes, signed.signature)
    }
}

/// Whether the parameters of RSASSA-PSS, which are left, name SHA-256 (RFC 8017, §A.2.3).
fn is_pss_sha256(mut parameters: Elements<'_>) -> bool {
    let hash = parameters.sequence().and_then(|mut fields| fields.take(EXPLICIT_0));
    let identifier = hash.and_then(|hash| Elements::new(hash).sequence()?.take(OBJECT_IDENTIFIER));
    identifier == Some(SHA256)
}

fn is_point(bits: &[u8], length: usize) -> bool {
    bits.len() == length && bits[0] == 4
}

/// A signed object taken apart (RFC 5280, §4.1.1 and §5.1.1): what is signed, how, and the signature. Read
/// apart from `x509-parser`, which is more tolerant of the bytes outside the signature than we want to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    pub(super) bytes: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let mut outer = Elements::new(der);
        let mut parts = outer.sequence().filter(|_| outer.is_empty())?;
        let bytes = parts.whole(SEQUENCE)?;
        let algorithm = parts.whole(SEQUENCE)?;
        let [0, signature @ ..] = parts.take(BIT_STRING)? else { return None };
        // The algorithm is told twice, and must be the same: outside, it is not signed.
        let mut signed = Elements::new(bytes).sequence()?;
        let (tag, _) = signed.any()?;
        if tag == EXPLICIT_0 {
            signed.take(INTEGER)?;
        }
        let same = signed.whole(SEQUENCE)? == algorithm;
        (same && parts.is_empty()).then_some(Self { bytes, algorithm, signature })
    }
}
