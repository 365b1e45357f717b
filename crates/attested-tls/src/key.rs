//! Keys that are made inside a TEE and never leave it, and the digest by which Evidence covers them.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// SHA-256 over the DER SubjectPublicKeyInfo of a key: what Evidence covers (design.md §4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpkiDigest(pub [u8; 32]);

impl SpkiDigest {
    /// The digest of a DER SubjectPublicKeyInfo.
    pub fn of_spki(spki: &[u8]) -> Self {
        Self(sha256(spki))
    }

    /// The digest of the key in a DER certificate.
    pub fn of_certificate(certificate: &[u8]) -> Result<Self, KeyError> {
        spki(certificate).map(Self::of_spki)
    }
}

/// The key in a DER certificate: its subjectPublicKeyInfo. What proves the key in a handshake and what names it must not
/// read a certificate differently.
pub(crate) fn spki(certificate: &[u8]) -> Result<&[u8], KeyError> {
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| KeyError::Certificate)?;
    if !rest.is_empty() {
        return Err(KeyError::Certificate);
    }
    Ok(parsed.tbs_certificate.subject_pki.raw)
}

impl std::fmt::Display for SpkiDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for SpkiDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SpkiDigest({self})")
    }
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

/// A key of this TEE with a self-signed certificate around it: what the attested connection presents,
/// and what the coordinator certifies afterwards. The certificate's own words mean nothing to anyone.
pub struct TeeKey {
    pair: KeyPair,
    certificate: CertificateDer<'static>,
    digest: SpkiDigest,
}

impl TeeKey {
    /// A fresh ECDSA P-256 key.
    pub fn generate() -> Result<Self, KeyError> {
        Self::from_pair(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
    }

    /// Wraps a key that was made earlier and kept sealed.
    pub fn from_pair(pair: KeyPair) -> Result<Self, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "bailey attested channel");
        let certificate = params.self_signed(&pair)?.der().clone();
        let digest = SpkiDigest::of_certificate(&certificate)?;
        Ok(Self { pair, certificate, digest })
    }

    /// The self-signed certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The digest of the public key.
    pub fn digest(&self) -> &SpkiDigest {
        &self.digest
    }

    /// The public key, DER SubjectPublicKeyInfo.
    pub fn public_key_info(&self) -> Vec<u8> {
        use rcgen::PublicKeyData;
        self.pair.subject_public_key_info()
    }

    /// The private key for a TLS configuration of this process.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pair.serialize_der()))
    }
}

impl std::fmt::Debug for TeeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TeeKey({})", self.digest)
    }
}

/// Why a key could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The bytes are no DER certificate.
    #[error("not a DER X.509 certificate")]
    Certificate,
    /// Key generation or signing failed.
    #[error("the key could not be made or used")]
    Generation(#[from] rcgen::Error),
}
