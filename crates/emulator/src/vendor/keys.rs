//! Signing keys of the emulated vendors: P-256, P-384 and RSA-4096. A key knows how its signatures look in
//! certificates (DER, with an AlgorithmIdentifier) and, for the elliptic curves, in Evidence (fixed length).
//! Serialised as PKCS#8, which only the platform file ever holds.

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, RSA_PSS_SHA384,
    RsaKeyPair,
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::der;
use super::error::{PlatformError, Result};

/// What signs certificates and CRLs.
pub(super) trait CertificateSigner {
    /// DER AlgorithmIdentifier of the signatures.
    fn algorithm(&self) -> Vec<u8>;
    /// The signature as it stands in the BIT STRING.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>>;
    /// DER SubjectPublicKeyInfo.
    fn public_key(&self) -> Result<Vec<u8>>;
}

/// SHA-256 of the SubjectPublicKeyInfo cut to 160 bits (RFC 7093 §2, method 4). The top bit is cleared so that
/// it serves as serial number too, as Intel's subject key identifiers do.
pub(super) fn key_identifier(public_key: &[u8]) -> [u8; 20] {
    let mut id = [0; 20];
    id.copy_from_slice(&digest::digest(&digest::SHA256, public_key).as_ref()[..20]);
    id[0] = id[0] & 0x7f | 0x40;
    id
}

/// A named curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Curve {
    P256,
    P384,
}

impl Curve {
    fn der(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        }
    }

    fn fixed(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }
}

/// An ECDSA key: P-256 with SHA-256 or P-384 with SHA-384.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "EcWire")]
pub(super) struct EcKey {
    curve: Curve,
    pkcs8: Pkcs8,
    #[serde(skip_serializing)]
    der: EcdsaKeyPair,
    #[serde(skip_serializing)]
    fixed: EcdsaKeyPair,
}

impl EcKey {
    pub(super) fn generate(curve: Curve) -> Result<Self> {
        let failed = |_| PlatformError::Cryptography { operation: "generate an ECDSA key" };
        let pair = EcdsaKeyPair::generate(curve.der()).map_err(failed)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(failed)?;
        Self::try_from(EcWire { curve, pkcs8: Pkcs8(pkcs8.as_ref().to_vec()) })
            .map_err(|_| PlatformError::Cryptography { operation: "read back an ECDSA key" })
    }

    /// r ‖ s, each big-endian and as long as the curve's order: 64 bytes for P-256, 96 for P-384.
    pub(super) fn sign_fixed<const N: usize>(&self, message: &[u8]) -> Result<[u8; N]> {
        signed(self.fixed.sign(&SystemRandom::new(), message))?
            .try_into()
            .map_err(|_| PlatformError::Cryptography { operation: "sign with a key of another curve" })
    }

    /// x ‖ y, big-endian.
    pub(super) fn point(&self) -> &[u8] {
        // The public key is the uncompressed point of SEC 1 §2.3.3: 04 ‖ x ‖ y.
        &self.der.public_key().as_ref()[1..]
    }
}

impl CertificateSigner for EcKey {
    fn algorithm(&self) -> Vec<u8> {
        let hash = match self.curve {
            Curve::P256 => 2,
            Curve::P384 => 3,
        };
        der::sequence([der::oid(&[1, 2, 840, 10045, 4, 3, hash])])
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        signed(self.der.sign(&SystemRandom::new(), message))
    }

    fn public_key(&self) -> Result<Vec<u8>> {
        encoded(self.der.public_key().as_der())
    }
}

/// An RSA-4096 key that signs RSASSA-PSS with SHA-384, MGF1 of SHA-384, and a salt of 48 bytes, as AMD's do.
#[derive(Serialize, Deserialize)]
#[serde(try_from = "RsaWire")]
pub(super) struct RsaKey {
    pkcs8: Pkcs8,
    #[serde(skip_serializing)]
    pair: RsaKeyPair,
}

impl RsaKey {
    pub(super) fn generate() -> Result<Self> {
        let failed = |_| PlatformError::Cryptography { operation: "generate an RSA-4096 key" };
        let pair = RsaKeyPair::generate(KeySize::Rsa4096).map_err(failed)?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
        Ok(Self { pkcs8: Pkcs8(pkcs8.as_ref().to_vec()), pair })
    }
}

impl CertificateSigner for RsaKey {
    fn algorithm(&self) -> Vec<u8> {
        let sha384 = der::sequence([der::oid(&[2, 16, 840, 1, 101, 3, 4, 2, 2]), der::null()]);
        let mgf1 = der::sequence([der::oid(&[1, 2, 840, 113549, 1, 1, 8]), sha384.clone()]);
        let parameters = der::sequence([
            der::explicit(0, &sha384),
            der::explicit(1, &mgf1),
            der::explicit(2, &der::integer(&[48])),
        ]);
        der::sequence([der::oid(&[1, 2, 840, 113549, 1, 1, 10]), parameters])
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PSS_SHA384, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| PlatformError::Cryptography { operation: "sign with RSASSA-PSS" })?;
        Ok(signature)
    }

    fn public_key(&self) -> Result<Vec<u8>> {
        encoded(self.pair.public_key().as_der())
    }
}

fn signed(
    signature: std::result::Result<aws_lc_rs::signature::Signature, aws_lc_rs::error::Unspecified>,
) -> Result<Vec<u8>> {
    signature
        .map(|signature| signature.as_ref().to_vec())
        .map_err(|_| PlatformError::Cryptography { operation: "sign with ECDSA" })
}

fn encoded(key: std::result::Result<PublicKeyX509Der<'_>, aws_lc_rs::error::Unspecified>) -> Result<Vec<u8>> {
    key.map(|key| key.as_ref().to_vec())
        .map_err(|_| PlatformError::Cryptography { operation: "encode a public key" })
}

/// A private key as text in the platform file.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
struct Pkcs8(#[serde(with = "hex::serde")] Vec<u8>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EcWire {
    curve: Curve,
    pkcs8: Pkcs8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RsaWire {
    pkcs8: Pkcs8,
}

impl TryFrom<EcWire> for EcKey {
    type Error = KeyRejected;

    fn try_from(EcWire { curve, pkcs8 }: EcWire) -> std::result::Result<Self, KeyRejected> {
        let der = EcdsaKeyPair::from_pkcs8(curve.der(), &pkcs8.0)?;
        let fixed = EcdsaKeyPair::from_pkcs8(curve.fixed(), &pkcs8.0)?;
        Ok(Self { curve, pkcs8, der, fixed })
    }
}

impl TryFrom<RsaWire> for RsaKey {
    type Error = KeyRejected;

    fn try_from(RsaWire { pkcs8 }: RsaWire) -> std::result::Result<Self, KeyRejected> {
        let pair = RsaKeyPair::from_pkcs8(&pkcs8.0)?;
        Ok(Self { pkcs8, pair })
    }
}
