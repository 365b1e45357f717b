//! The appraisal crate's cryptography, provided by aws-lc-rs.
//!
//! What it is: [`AwsLc`], the one implementation of [`appraisal::Crypto`] that Bailey ships. What it is not: a
//! place for keys or for making signatures.
//!
//! ```
//! use appraisal::Crypto;
//! use crypto_aws_lc::AwsLc;
//!
//! assert_eq!(AwsLc.sha256(&[b"a", b"bc"]), AwsLc.sha256(&[b"abc"]));
//! ```

use appraisal::{Crypto, InvalidSignature, SignatureAlgorithm};
use aws_lc_rs::digest::{self, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED,
    ECDSA_P521_SHA512_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, UnparsedPublicKey,
    VerificationAlgorithm,
};

/// AWS-LC: the fastest of the libraries measured, above all at P-384.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwsLc;

impl Crypto for AwsLc {
    fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let algorithm: &'static dyn VerificationAlgorithm = match algorithm {
            SignatureAlgorithm::EcdsaP256Sha256Fixed => &ECDSA_P256_SHA256_FIXED,
            SignatureAlgorithm::EcdsaP256Sha256Der => &ECDSA_P256_SHA256_ASN1,
            SignatureAlgorithm::EcdsaP384Sha384Fixed => &ECDSA_P384_SHA384_FIXED,
            SignatureAlgorithm::EcdsaP384Sha384Der => &ECDSA_P384_SHA384_ASN1,
            SignatureAlgorithm::EcdsaP521Sha512Fixed => &ECDSA_P521_SHA512_FIXED,
            SignatureAlgorithm::RsaPkcs1Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            SignatureAlgorithm::RsaPkcs1Sha384 => &RSA_PKCS1_2048_8192_SHA384,
            SignatureAlgorithm::RsaPkcs1Sha512 => &RSA_PKCS1_2048_8192_SHA512,
            SignatureAlgorithm::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
            SignatureAlgorithm::RsaPssSha384 => &RSA_PSS_2048_8192_SHA384,
        };
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).map_err(|_| InvalidSignature)
    }

    fn sha1(&self, parts: &[&[u8]]) -> [u8; 20] {
        hash(&SHA1_FOR_LEGACY_USE_ONLY, parts)
    }

    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        hash(&SHA256, parts)
    }

    fn sha384(&self, parts: &[&[u8]]) -> [u8; 48] {
        hash(&SHA384, parts)
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        hash(&SHA512, parts)
    }
}

/// `N` is the output length of the algorithm; the four callers above are the only ones.
fn hash<const N: usize>(algorithm: &'static digest::Algorithm, parts: &[&[u8]]) -> [u8; N] {
    let mut context = Context::new(algorithm);
    for part in parts {
        context.update(part);
    }
    let mut output = [0; N];
    output.copy_from_slice(context.finish().as_ref());
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        // FIPS 180-2, appendices B.1, C.1 and D.1: "abc".
        let digest = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(digest(&AwsLc.sha256(&[b"abc"])).starts_with("ba7816bf8f01cfea"));
        assert!(digest(&AwsLc.sha384(&[b"ab", b"c"])).starts_with("cb00753f45a35e8b"));
        assert!(digest(&AwsLc.sha512(&[b"abc", b""])).starts_with("ddaf35a193617aba"));
    }

    #[test]
    fn malformed_keys_and_signatures_do_not_verify() {
        for algorithm in [
            SignatureAlgorithm::EcdsaP256Sha256Fixed,
            SignatureAlgorithm::EcdsaP256Sha256Der,
            SignatureAlgorithm::EcdsaP384Sha384Fixed,
            SignatureAlgorithm::EcdsaP384Sha384Der,
            SignatureAlgorithm::EcdsaP521Sha512Fixed,
            SignatureAlgorithm::RsaPkcs1Sha256,
            SignatureAlgorithm::RsaPkcs1Sha384,
            SignatureAlgorithm::RsaPkcs1Sha512,
            SignatureAlgorithm::RsaPssSha256,
            SignatureAlgorithm::RsaPssSha384,
        ] {
            for length in [0, 1, 64, 65, 96, 97] {
                let zeros = vec![0; length];
                assert_eq!(AwsLc.verify(algorithm, &zeros, b"", &zeros), Err(InvalidSignature));
            }
        }
    }
}
