//! The cryptography that appraisal needs, as a value that the caller passes. The crate itself has none, so
//! that it builds wherever Rust does; `crypto-aws-lc` provides the default.

/// How a signature is made and encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// ECDSA over P-256 with SHA-256; the signature is r and s, 32 bytes each, big-endian.
    EcdsaP256Sha256Fixed,
    /// ECDSA over P-256 with SHA-256; the signature is DER (RFC 3279, §2.2.3).
    EcdsaP256Sha256Der,
    /// ECDSA over P-384 with SHA-384; the signature is r and s, 48 bytes each, big-endian.
    EcdsaP384Sha384Fixed,
    /// ECDSA over P-384 with SHA-384; the signature is DER (RFC 3279, §2.2.3).
    EcdsaP384Sha384Der,
    /// ECDSA over P-521 with SHA-512; the signature is r and s, 66 bytes each, big-endian.
    EcdsaP521Sha512Fixed,
    /// RSASSA-PKCS1-v1_5 with SHA-256; 2048 to 8192 bits.
    RsaPkcs1Sha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384; 2048 to 8192 bits.
    RsaPkcs1Sha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512; 2048 to 8192 bits.
    RsaPkcs1Sha512,
    /// RSASSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes; 2048 to 8192 bits.
    RsaPssSha256,
    /// RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes; 2048 to 8192 bits.
    RsaPssSha384,
}

/// The signature is not that of this key over this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct InvalidSignature;

/// A provider of cryptography.
pub trait Crypto: Send + Sync {
    /// Verifies a signature. Keys are an uncompressed point (`04 ‖ x ‖ y`) for ECDSA, and DER
    /// `RSAPublicKey` (RFC 8017, §A.1.1) for RSA.
    ///
    /// # Errors
    /// [`InvalidSignature`], also for a key or signature that is malformed.
    fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature>;

    /// The same for what is signed once and seen again with each Evidence of a platform: certificates, revocation
    /// lists, a vendor's documents, the certification of an attestation key; never for Evidence itself.
    /// Providers leave it as it is: a [`crate::Verifier`] answers from its memory here.
    ///
    /// # Errors
    /// As [`Crypto::verify`].
    fn verify_endorsement(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.verify(algorithm, key, message, signature)
    }

    /// SHA-1 of `parts`, one after the other: for the SHA-1 banks of TPMs, and for nothing else.
    fn sha1(&self, parts: &[&[u8]]) -> [u8; 20];

    /// SHA-256 of `parts`, one after the other.
    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32];

    /// SHA-384 of `parts`, one after the other.
    fn sha384(&self, parts: &[&[u8]]) -> [u8; 48];

    /// SHA-512 of `parts`, one after the other.
    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64];
}
