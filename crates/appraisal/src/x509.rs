//! Certificates and revocation lists, read for the few shapes that TEE vendors use. What is read here is not
//! verified: [`crate::chain`] does that.

use std::borrow::Cow;

use evidence::{CertificateDer, CrlDer};
use x509_parser::asn1_rs::{Oid, Tag, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use crate::der::{BIT_STRING, EXPLICIT_0, Elements, INTEGER, OBJECT_IDENTIFIER, SEQUENCE};
use crate::{Crypto, InvalidSignature, SignatureAlgorithm, UnixTime};

const EC_PUBLIC_KEY: Oid<'static> = oid!(1.2.840.10045.2.1);
const RSA_ENCRYPTION: Oid<'static> = oid!(1.2.840.113549.1.1.1);
const PRIME_256: Oid<'static> = oid!(1.2.840.10045.3.1.7);
const SECP_384: Oid<'static> = oid!(1.3.132.0.34);
/// 1.2.840.10045.4.3.2, encoded.
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// 1.2.840.10045.4.3.3, encoded.
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// 1.2.840.113549.1.1.11 to 13, encoded: vendors of TPMs sign so.
const RSA_PKCS1_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
const RSA_PKCS1_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
const RSA_PKCS1_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
/// 2.16.840.1.101.3.4.2.1, encoded.
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
/// 1.2.840.113549.1.1.10, encoded. Of its parameters only the digest is read: for each there is one set that is
/// verified.
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];

/// Why a certificate or revocation list cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateFault {
    #[error("not a DER certificate: {0}")]
    Unreadable(String),
    #[error("not a DER revocation list: {0}")]
    UnreadableCrl(String),
    #[error("not the one DER encoding of a signed object")]
    NotDer,
    #[error("{0} bytes follow its end")]
    TrailingBytes(usize),
    #[error("two extensions {0}")]
    DuplicateExtension(String),
    #[error("unknown critical extension {0}")]
    UnknownCriticalExtension(String),
    #[error("a key of an unsupported kind ({0})")]
    UnsupportedKey(String),
    #[error("not a CA certificate")]
    NotACa,
    #[error("a CA certificate where that of a signer belongs")]
    UnexpectedCa,
    #[error("its key may not sign certificates")]
    MayNotSign,
    #[error("not self-issued")]
    NotSelfIssued,
    #[error("no next update")]
    NoNextUpdate,
}

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
    fn read(info: &SubjectPublicKeyInfo<'a>) -> Result<Self, CertificateFault> {
        let bits = info.subject_public_key.data.clone();
        let algorithm = &info.algorithm.algorithm;
        let unsupported = || CertificateFault::UnsupportedKey(algorithm.to_id_string());
        if *algorithm == RSA_ENCRYPTION {
            return Ok(Self::Rsa(bits));
        }
        let parameters = info.algorithm.parameters.as_ref().filter(|any| any.tag() == Tag::Oid);
        match parameters.and_then(|any| any.as_oid().ok()) {
            Some(curve) if *algorithm == EC_PUBLIC_KEY && curve == PRIME_256 && is_point(&bits, 65) => {
                Ok(Self::P256(bits))
            }
            Some(curve) if *algorithm == EC_PUBLIC_KEY && curve == SECP_384 && is_point(&bits, 97) => {
                Ok(Self::P384(bits))
            }
            _ => Err(unsupported()),
        }
    }

    pub(crate) fn into_owned(self) -> PublicKey<'static> {
        match self {
            Self::P256(key) => PublicKey::P256(Cow::Owned(key.into_owned())),
            Self::P384(key) => PublicKey::P384(Cow::Owned(key.into_owned())),
            Self::Rsa(key) => PublicKey::Rsa(Cow::Owned(key.into_owned())),
        }
    }

    /// Verifies the signature of a certificate or revocation list. Key and algorithm must be of one kind:
    /// there is one algorithm for each kind of key, as vendors use them.
    fn verify(&self, signed: &Signed<'_>, crypto: &dyn Crypto) -> Result<(), InvalidSignature> {
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
        crypto.verify(algorithm, key, signed.bytes, signed.signature)
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
struct Signed<'a> {
    bytes: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
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

/// A certificate that could be read.
#[derive(Debug)]
pub(crate) struct ParsedCertificate<'a> {
    pub(crate) der: &'a [u8],
    parsed: X509Certificate<'a>,
    signed: Signed<'a>,
    key: PublicKey<'a>,
}

impl<'a> ParsedCertificate<'a> {
    pub(crate) fn parse(der: &'a CertificateDer) -> Result<Self, CertificateFault> {
        let (rest, parsed) = X509Certificate::from_der(&der.0)
            .map_err(|error| CertificateFault::Unreadable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CertificateFault::TrailingBytes(rest.len()));
        }
        let signed = Signed::read(&der.0).ok_or(CertificateFault::NotDer)?;
        check_extensions(&parsed)?;
        let key = PublicKey::read(&parsed.tbs_certificate.subject_pki)?;
        Ok(Self { der: &der.0, parsed, signed, key })
    }

    pub(crate) fn key(&self) -> &PublicKey<'a> {
        &self.key
    }

    /// The subject's DER encoding: names are compared byte by byte.
    pub(crate) fn subject(&self) -> &'a [u8] {
        self.parsed.tbs_certificate.subject.as_raw()
    }

    pub(crate) fn issuer(&self) -> &'a [u8] {
        self.parsed.tbs_certificate.issuer.as_raw()
    }

    pub(crate) fn subject_name(&self) -> String {
        name_for_people(&self.parsed.tbs_certificate.subject)
    }

    pub(crate) fn issuer_name(&self) -> String {
        name_for_people(&self.parsed.tbs_certificate.issuer)
    }

    pub(crate) fn serial(&self) -> &'a [u8] {
        self.parsed.tbs_certificate.raw_serial()
    }

    pub(crate) fn not_before(&self) -> UnixTime {
        UnixTime(self.parsed.validity().not_before.timestamp())
    }

    pub(crate) fn not_after(&self) -> UnixTime {
        UnixTime(self.parsed.validity().not_after.timestamp())
    }

    /// The value of an extension, without its OCTET STRING.
    pub(crate) fn extension(&self, oid: &Oid<'_>) -> Option<&'a [u8]> {
        self.parsed
            .extensions()
            .iter()
            .find(|extension| extension.oid == *oid)
            .map(|extension| extension.value)
    }

    pub(crate) fn require_ca(&self) -> Result<(), CertificateFault> {
        if !self.parsed.is_ca() {
            return Err(CertificateFault::NotACa);
        }
        match self.parsed.key_usage() {
            Ok(Some(usage)) if !usage.value.key_cert_sign() => Err(CertificateFault::MayNotSign),
            _ => Ok(()),
        }
    }

    pub(crate) fn require_end_entity(&self) -> Result<(), CertificateFault> {
        if self.parsed.is_ca() { Err(CertificateFault::UnexpectedCa) } else { Ok(()) }
    }

    pub(crate) fn require_root(&self) -> Result<(), CertificateFault> {
        self.require_ca()?;
        if self.is_self_issued() { Ok(()) } else { Err(CertificateFault::NotSelfIssued) }
    }

    pub(crate) fn is_self_issued(&self) -> bool {
        self.subject() == self.issuer()
    }

    pub(crate) fn verify_signed_by(
        &self,
        key: &PublicKey<'_>,
        crypto: &dyn Crypto,
    ) -> Result<(), InvalidSignature> {
        key.verify(&self.signed, crypto)
    }
}

fn check_extensions(certificate: &X509Certificate<'_>) -> Result<(), CertificateFault> {
    let extensions = certificate.extensions();
    for (index, extension) in extensions.iter().enumerate() {
        if extensions[..index].iter().any(|earlier| earlier.oid == extension.oid) {
            return Err(CertificateFault::DuplicateExtension(extension.oid.to_id_string()));
        }
        let known = matches!(
            extension.parsed_extension(),
            // No decision rests on the other names, and `tpm` reads the extended usage where it matters.
            ParsedExtension::BasicConstraints(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::SubjectAlternativeName(_)
        );
        if extension.critical && !known {
            return Err(CertificateFault::UnknownCriticalExtension(extension.oid.to_id_string()));
        }
    }
    Ok(())
}

/// The subject of a certificate of which nothing else matters here; None when it cannot be read.
pub(crate) fn subject_for_people(der: &[u8]) -> Option<String> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    rest.is_empty().then(|| name_for_people(&certificate.tbs_certificate.subject))
}

fn name_for_people(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|value| value.as_str().ok());
    common.map_or_else(|| name.to_string(), str::to_owned)
}

/// A revocation list that could be read.
pub(crate) struct ParsedCrl<'a> {
    parsed: CertificateRevocationList<'a>,
    signed: Signed<'a>,
    next_update: UnixTime,
}

impl<'a> ParsedCrl<'a> {
    pub(crate) fn parse(der: &'a CrlDer) -> Result<Self, CertificateFault> {
        let (rest, parsed) = CertificateRevocationList::from_der(&der.0)
            .map_err(|error| CertificateFault::UnreadableCrl(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CertificateFault::TrailingBytes(rest.len()));
        }
        let signed = Signed::read(&der.0).ok_or(CertificateFault::NotDer)?;
        if let Some(extension) = parsed.extensions().iter().find(|extension| extension.critical) {
            // A critical extension, such as an indirect CRL's or a delta's, changes what the list means.
            return Err(CertificateFault::UnknownCriticalExtension(extension.oid.to_id_string()));
        }
        let next_update = parsed.next_update().ok_or(CertificateFault::NoNextUpdate)?.timestamp();
        Ok(Self { parsed, signed, next_update: UnixTime(next_update) })
    }

    pub(crate) fn issuer(&self) -> &'a [u8] {
        self.parsed.tbs_cert_list.issuer.as_raw()
    }

    pub(crate) fn issuer_name(&self) -> String {
        name_for_people(&self.parsed.tbs_cert_list.issuer)
    }

    pub(crate) fn this_update(&self) -> UnixTime {
        UnixTime(self.parsed.last_update().timestamp())
    }

    pub(crate) fn next_update(&self) -> UnixTime {
        self.next_update
    }

    /// The list's number; none when it has none, or one beyond 64 bits.
    pub(crate) fn number(&self) -> Option<u64> {
        let digits = self.parsed.crl_number()?.to_bytes_be();
        let digits = strip_zeros(&digits);
        (digits.len() <= 8).then(|| digits.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
    }

    pub(crate) fn revokes(&self, serial: &[u8]) -> bool {
        let serial = strip_zeros(serial);
        self.parsed.iter_revoked_certificates().any(|revoked| strip_zeros(revoked.raw_serial()) == serial)
    }

    pub(crate) fn verify_signed_by(
        &self,
        key: &PublicKey<'_>,
        crypto: &dyn Crypto,
    ) -> Result<(), InvalidSignature> {
        key.verify(&self.signed, crypto)
    }
}

/// DER puts a zero before a serial number whose first bit is set, and some writers forget it.
fn strip_zeros(mut serial: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = serial {
        serial = rest;
    }
    serial
}
