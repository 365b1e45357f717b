//! Public keys of the curves that COSE's algorithms go with.

use evidence::cca::Curve;
use evidence::cose::{Algorithm, Sign1};

use crate::der::{BIT_STRING, Elements, OBJECT_IDENTIFIER};
use crate::trust_anchor::AnchorKey;
use crate::x509::{ParsedCertificate, PublicKey};
use crate::{Crypto, InvalidSignature, SignatureAlgorithm};

/// 1.2.840.10045.2.1, encoded.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
/// 1.2.840.10045.3.1.7, encoded.
const PRIME_256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// 1.3.132.0.34, encoded.
const SECP_384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
/// 1.3.132.0.35, encoded.
const SECP_521: &[u8] = &[0x2b, 0x81, 4, 0, 0x23];

/// A key, as an uncompressed point.
pub(crate) struct Key {
    pub(crate) curve: Curve,
    pub(crate) point: Vec<u8>,
}

impl Key {
    /// The key of an anchor, when it is on a curve.
    pub(crate) fn of_anchor(key: &AnchorKey) -> Option<Self> {
        match key {
            AnchorKey::PublicKey(der) => Self::of_info(der),
            AnchorKey::Certificate(der) => match ParsedCertificate::parse(der).ok()?.key() {
                PublicKey::P256(point) => Some(Self { curve: Curve::P256, point: point.to_vec() }),
                PublicKey::P384(point) => Some(Self { curve: Curve::P384, point: point.to_vec() }),
                PublicKey::Rsa(_) => None,
            },
        }
    }

    /// Reads DER `SubjectPublicKeyInfo` (RFC 5480, §2).
    fn of_info(der: &[u8]) -> Option<Self> {
        let mut outer = Elements::new(der);
        let mut info = outer.sequence().filter(|_| outer.is_empty())?;
        let mut algorithm = info.sequence()?;
        if algorithm.take(OBJECT_IDENTIFIER)? != EC_PUBLIC_KEY {
            return None;
        }
        let (curve, length) = match algorithm.take(OBJECT_IDENTIFIER)? {
            PRIME_256 => (Curve::P256, 65),
            SECP_384 => (Curve::P384, 97),
            SECP_521 => (Curve::P521, 133),
            _ => return None,
        };
        match info.take(BIT_STRING)? {
            [0, point @ ..] if point.len() == length && point[0] == 4 && info.is_empty() => {
                Some(Self { curve, point: point.to_vec() })
            }
            _ => None,
        }
    }
}

/// Verifies a message; algorithm and curve must go together.
pub(crate) fn verify(
    message: &Sign1,
    curve: Curve,
    point: &[u8],
    crypto: &dyn Crypto,
) -> Result<(), InvalidSignature> {
    let algorithm = match (message.algorithm(), curve) {
        (Algorithm::Es256, Curve::P256) => SignatureAlgorithm::EcdsaP256Sha256Fixed,
        (Algorithm::Es384, Curve::P384) => SignatureAlgorithm::EcdsaP384Sha384Fixed,
        (Algorithm::Es512, Curve::P521) => SignatureAlgorithm::EcdsaP521Sha512Fixed,
        _ => return Err(InvalidSignature),
    };
    crypto.verify(algorithm, point, &message.signed(), message.signature())
}
