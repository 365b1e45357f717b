//! The appraisal crate's cryptography in pure Rust, for where aws-lc-rs cannot be built: browsers.
//!
//! What it is: [`PureRust`], an implementation of [`appraisal::Crypto`] by the RustCrypto crates. It verifies and
//! hashes; it has no secrets, so the timing leak of RSA decryption in the crate `rsa` (RUSTSEC-2023-0071) does not
//! concern it. What it is not: fast, or used by any service of ours.

use appraisal::{Crypto, InvalidSignature, SignatureAlgorithm};
use rsa::RsaPublicKey;
use rsa::signature::Verifier;
use rsa::traits::PublicKeyParts;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// RustCrypto.
#[derive(Clone, Copy, Debug, Default)]
pub struct PureRust;

impl Crypto for PureRust {
    fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        verify(algorithm, key, message, signature).map_err(|_| InvalidSignature)
    }

    fn sha1(&self, parts: &[&[u8]]) -> [u8; 20] {
        hash::<sha1::Sha1>(parts).into()
    }

    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        hash::<Sha256>(parts).into()
    }

    fn sha384(&self, parts: &[&[u8]]) -> [u8; 48] {
        hash::<Sha384>(parts).into()
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        hash::<Sha512>(parts).into()
    }
}

fn hash<D: Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut digest = D::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

fn verify(
    algorithm: SignatureAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), rsa::signature::Error> {
    match algorithm {
        SignatureAlgorithm::EcdsaP256Sha256Fixed => {
            p256(key)?.verify(message, &p256::ecdsa::Signature::from_slice(signature)?)
        }
        SignatureAlgorithm::EcdsaP256Sha256Der => {
            p256(key)?.verify(message, &p256::ecdsa::Signature::from_der(signature)?)
        }
        SignatureAlgorithm::EcdsaP384Sha384Fixed => {
            p384(key)?.verify(message, &p384::ecdsa::Signature::from_slice(signature)?)
        }
        SignatureAlgorithm::EcdsaP384Sha384Der => {
            p384(key)?.verify(message, &p384::ecdsa::Signature::from_der(signature)?)
        }
        SignatureAlgorithm::EcdsaP521Sha512Fixed => p521::ecdsa::VerifyingKey::from_sec1_bytes(key)?
            .verify(message, &p521::ecdsa::Signature::from_slice(signature)?),
        SignatureAlgorithm::RsaPkcs1Sha256 => rsa::pkcs1v15::VerifyingKey::<Sha256>::new(rsa(key)?)
            .verify(message, &rsa::pkcs1v15::Signature::try_from(signature)?),
        SignatureAlgorithm::RsaPkcs1Sha384 => rsa::pkcs1v15::VerifyingKey::<Sha384>::new(rsa(key)?)
            .verify(message, &rsa::pkcs1v15::Signature::try_from(signature)?),
        SignatureAlgorithm::RsaPkcs1Sha512 => rsa::pkcs1v15::VerifyingKey::<Sha512>::new(rsa(key)?)
            .verify(message, &rsa::pkcs1v15::Signature::try_from(signature)?),
        SignatureAlgorithm::RsaPssSha256 => rsa::pss::VerifyingKey::<Sha256>::new(rsa(key)?)
            .verify(message, &rsa::pss::Signature::try_from(signature)?),
        SignatureAlgorithm::RsaPssSha384 => rsa::pss::VerifyingKey::<Sha384>::new(rsa(key)?)
            .verify(message, &rsa::pss::Signature::try_from(signature)?),
    }
}

fn p256(key: &[u8]) -> Result<p256::ecdsa::VerifyingKey, rsa::signature::Error> {
    p256::ecdsa::VerifyingKey::from_sec1_bytes(key)
}

fn p384(key: &[u8]) -> Result<p384::ecdsa::VerifyingKey, rsa::signature::Error> {
    p384::ecdsa::VerifyingKey::from_sec1_bytes(key)
}

/// 2048 to 8192 bits, as the native provider takes them.
fn rsa(key: &[u8]) -> Result<RsaPublicKey, rsa::signature::Error> {
    let refused = |_| rsa::signature::Error::new();
    let key = rsa::pkcs1::RsaPublicKey::try_from(key).map_err(refused)?;
    let number = |bytes: &[u8]| rsa::BigUint::from_bytes_be(bytes);
    let (modulus, exponent) = (number(key.modulus.as_bytes()), number(key.public_exponent.as_bytes()));
    let key =
        RsaPublicKey::new_with_max_size(modulus, exponent, 8192).map_err(|_| rsa::signature::Error::new())?;
    if key.n().bits() < 2048 { Err(rsa::signature::Error::new()) } else { Ok(key) }
}
