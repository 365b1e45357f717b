//! Certificates and revocation lists, read for the few shapes that TEE vendors use. What is read here is not
//! verified: [`crate::chain`] does that.

use std::borrow::Cow;

use evidence::{CertificateDer, CrlDer};
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::der::{
    BIT_STRING, BOOLEAN, EXPLICIT_0, EXPLICIT_3, Elements, IA5_STRING, IMPLICIT_1, IMPLICIT_2, INTEGER,
    OBJECT_IDENTIFIER, OCTET_STRING, PRINTABLE_STRING, SEQUENCE, SET, T61_STRING, UTF8_STRING, time,
};
use crate::{Crypto, InvalidSignature, SignatureAlgorithm, UnixTime};

/// 1.2.840.10045.2.1, encoded.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
/// 1.2.840.113549.1.1.1, encoded.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// 2.5.4.5.
const SERIAL_NUMBER: Oid<'static> = oid!(2.5.4.5);
/// 2.5.29.17.
const SUBJECT_ALTERNATIVE_NAME: Oid<'static> = oid!(2.5.29.17);
/// 2.5.29.37.
const EXTENDED_KEY_USAGE: Oid<'static> = oid!(2.5.29.37);
/// The parameters of RSA keys (RFC 3279, §2.3.1).
const NULL: &[u8] = &[5, 0];
/// 1.2.840.10045.3.1.7, encoded.
const PRIME_256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// 1.3.132.0.34, encoded.
const SECP_384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
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
/// 2.5.4.3, encoded.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// 2.5.29.15, encoded.
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
/// 2.5.29.19, encoded.
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
/// 2.5.29.20, encoded.
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 20];

/// Why a certificate or revocation list cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateFault {
    #[error("not a DER certificate: no valid {0}")]
    Unreadable(&'static str),
    #[error("not a DER revocation list: no valid {0}")]
    UnreadableCrl(&'static str),
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
    #[error("more CAs below it than it allows")]
    PathTooLong,
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
    /// Reads the contents of a SubjectPublicKeyInfo (RFC 5280, §4.1.2.7).
    fn read(mut info: Elements<'a>) -> Result<Self, CertificateFault> {
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
    signed: Signed<'a>,
    serial: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    not_before: UnixTime,
    not_after: UnixTime,
    key: PublicKey<'a>,
    extensions: Extensions<'a>,
    is_ca: bool,
    path_length: Option<u32>,
    may_sign_certificates: bool,
    may_sign_data: bool,
}

impl<'a> ParsedCertificate<'a> {
    /// Reads a certificate (RFC 5280, §4.1) without allocating.
    pub(crate) fn parse(der: &'a CertificateDer) -> Result<Self, CertificateFault> {
        let fault = CertificateFault::Unreadable;
        require_no_more(&der.0, fault("SEQUENCE"))?;
        let signed = Signed::read(&der.0).ok_or(CertificateFault::NotDer)?;
        let mut fields = Elements::new(signed.bytes).sequence().ok_or(fault("SEQUENCE"))?;
        if let Some(version) = fields.optional(EXPLICIT_0).ok_or(fault("version"))? {
            // Version 3, the only one with extensions, is written as 2.
            (version == [INTEGER, 1, 2]).then_some(()).ok_or(fault("version"))?;
        }
        let serial =
            fields.take(INTEGER).filter(|digits| !digits.is_empty()).ok_or(fault("serial number"))?;
        fields.sequence().ok_or(fault("algorithm"))?;
        let issuer = fields.whole(SEQUENCE).filter(|name| is_name(name)).ok_or(fault("issuer"))?;
        let mut validity = fields.sequence().ok_or(fault("validity"))?;
        let not_before = time(&mut validity).ok_or(fault("validity"))?;
        let not_after = time(&mut validity).filter(|_| validity.is_empty()).ok_or(fault("validity"))?;
        let subject = fields.whole(SEQUENCE).filter(|name| is_name(name)).ok_or(fault("subject"))?;
        let info = fields.sequence().ok_or(fault("public key"))?;
        fields.optional(IMPLICIT_1).ok_or(fault("unique identifier"))?;
        fields.optional(IMPLICIT_2).ok_or(fault("unique identifier"))?;
        let extensions = fields.optional(EXPLICIT_3).ok_or(fault("extensions"))?;
        if !fields.is_empty() {
            return Err(fault("end"));
        }
        let extensions = Extensions::read(extensions).ok_or(fault("extensions"))?;
        let (mut is_ca, mut path_length) = (false, None);
        let (mut may_sign_certificates, mut may_sign_data) = (true, true);
        for (index, extension) in extensions.iter().enumerate() {
            if extensions.iter().take(index).any(|earlier| earlier.oid == extension.oid) {
                return Err(CertificateFault::DuplicateExtension(dotted(extension.oid)));
            }
            match extension.oid {
                BASIC_CONSTRAINTS => {
                    (is_ca, path_length) = constraints(extension.value).ok_or(fault("basic constraints"))?;
                }
                KEY_USAGE => {
                    let usage = signs(extension.value).ok_or(fault("key usage"))?;
                    (may_sign_certificates, may_sign_data) = usage;
                }
                // No decision rests on the other names, and `tpm` reads the extended usage where it matters.
                oid if oid == EXTENDED_KEY_USAGE.as_bytes() || oid == SUBJECT_ALTERNATIVE_NAME.as_bytes() => {
                }
                unknown if extension.critical => {
                    return Err(CertificateFault::UnknownCriticalExtension(dotted(unknown)));
                }
                _ => {}
            }
        }
        let key = PublicKey::read(info)?;
        let der = &der.0;
        Ok(Self {
            der,
            signed,
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            key,
            extensions,
            is_ca,
            path_length,
            may_sign_certificates,
            may_sign_data,
        })
    }

    pub(crate) fn key(&self) -> &PublicKey<'a> {
        &self.key
    }

    /// The subject's DER encoding: names are compared byte by byte.
    pub(crate) fn subject(&self) -> &'a [u8] {
        self.subject
    }

    pub(crate) fn issuer(&self) -> &'a [u8] {
        self.issuer
    }

    pub(crate) fn subject_name(&self) -> String {
        name_for_people(self.subject)
    }

    pub(crate) fn issuer_name(&self) -> String {
        name_for_people(self.issuer)
    }

    pub(crate) fn serial(&self) -> &'a [u8] {
        self.serial
    }

    pub(crate) fn not_before(&self) -> UnixTime {
        self.not_before
    }

    pub(crate) fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// The value of an extension, without its OCTET STRING.
    pub(crate) fn extension(&self, oid: &Oid<'_>) -> Option<&'a [u8]> {
        let mut extensions = self.extensions.iter();
        extensions.find(|extension| extension.oid == oid.as_bytes()).map(|extension| extension.value)
    }

    /// The serial number of the subject (X.520, 2.5.4.5), which is that of a device.
    pub(crate) fn subject_serial_number(&self) -> Option<String> {
        let (_, name) = X509Name::from_der(self.subject).ok()?;
        let mut values = name.iter_by_oid(&SERIAL_NUMBER);
        values.next().and_then(|value| value.as_str().ok()).map(str::to_owned)
    }

    pub(crate) fn require_ca(&self) -> Result<(), CertificateFault> {
        match (self.is_ca, self.may_sign_certificates) {
            (false, _) => Err(CertificateFault::NotACa),
            (true, false) => Err(CertificateFault::MayNotSign),
            (true, true) => Ok(()),
        }
    }

    /// How many CAs may follow below this one; none when it does not say.
    pub(crate) fn path_length(&self) -> Option<u32> {
        self.path_length
    }

    /// Whether its key may sign anything but certificates and revocation lists.
    pub(crate) fn may_sign_data(&self) -> bool {
        self.may_sign_data
    }

    /// Whether the certificate may sign OCSP responses in its issuer's place (RFC 6960, §4.2.2.2).
    pub(crate) fn may_answer_for_its_issuer(&self) -> bool {
        let value = self.extension(&EXTENDED_KEY_USAGE);
        let usage = value.and_then(|value| x509_parser::extensions::ExtendedKeyUsage::from_der(value).ok());
        usage.is_some_and(|(rest, usage)| rest.is_empty() && usage.ocsp_signing)
    }

    pub(crate) fn require_end_entity(&self) -> Result<(), CertificateFault> {
        if self.is_ca { Err(CertificateFault::UnexpectedCa) } else { Ok(()) }
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

/// The first element must be a SEQUENCE, and the only one.
fn require_no_more(der: &[u8], fault: CertificateFault) -> Result<(), CertificateFault> {
    let mut outer = Elements::new(der);
    outer.sequence().ok_or(fault)?;
    match outer.len() {
        0 => Ok(()),
        more => Err(CertificateFault::TrailingBytes(more)),
    }
}

/// The extensions of a certificate, a revocation list, or an entry of one (RFC 5280, §4.1), known to be
/// well-formed.
#[derive(Clone, Copy, Debug)]
struct Extensions<'a>(Elements<'a>);

#[derive(Clone, Copy)]
struct Extension<'a> {
    oid: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// Takes what is around the SEQUENCE OF extensions; none when they are malformed.
    fn read(around: Option<&'a [u8]>) -> Option<Self> {
        let Some(around) = around else { return Some(Self(Elements::new(&[]))) };
        let mut outer = Elements::new(around);
        let inner = outer.sequence().filter(|_| outer.is_empty())?;
        let mut rest = inner;
        while !rest.is_empty() {
            Extension::read(&mut rest)?;
        }
        Some(Self(inner))
    }

    fn iter(self) -> impl Iterator<Item = Extension<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || Extension::read(&mut rest))
    }
}

impl<'a> Extension<'a> {
    fn read(elements: &mut Elements<'a>) -> Option<Self> {
        let mut parts = elements.sequence()?;
        let oid = parts.take(OBJECT_IDENTIFIER)?;
        // DER leaves out what is the default, and some writers do not.
        let critical = parts.optional(BOOLEAN)?.map_or(Some(false), boolean)?;
        let value = parts.take(OCTET_STRING)?;
        parts.is_empty().then_some(Self { oid, critical, value })
    }
}

fn boolean(contents: &[u8]) -> Option<bool> {
    match contents {
        [0xff] => Some(true),
        [0] => Some(false),
        _ => None,
    }
}

/// Whether basic constraints name a CA, and how many may follow below it (RFC 5280, §4.2.1.9). A number that does not
/// fit is as good as none.
fn constraints(value: &[u8]) -> Option<(bool, Option<u32>)> {
    let mut outer = Elements::new(value);
    let mut parts = outer.sequence().filter(|_| outer.is_empty())?;
    let ca = parts.optional(BOOLEAN)?.map_or(Some(false), boolean)?;
    let length = match parts.optional(INTEGER)? {
        Some(digits) if digits.len() <= 4 && digits.first().is_some_and(|first| first & 0x80 == 0) => {
            Some(digits.iter().fold(0, |number, &digit| number << 8 | u32::from(digit)))
        }
        _ => None,
    };
    parts.is_empty().then_some((ca, length))
}

/// Whether a key usage has keyCertSign, bit 5, and digitalSignature, bit 0 (RFC 5280, §4.2.1.3).
fn signs(value: &[u8]) -> Option<(bool, bool)> {
    let mut outer = Elements::new(value);
    // Bits that are not used are zero.
    let (&unused, bits) = outer.take(BIT_STRING).filter(|_| outer.is_empty())?.split_first()?;
    let last = bits.last().filter(|_| bits.len() <= 2)?;
    let clean = unused <= 7 && last.trailing_zeros() >= u32::from(unused);
    clean.then_some((bits[0] & 4 != 0, bits[0] & 0x80 != 0))
}

fn dotted(oid: &[u8]) -> String {
    Oid::new(Cow::Borrowed(oid)).to_id_string()
}

/// The subject of a certificate of which nothing else matters here; None when it cannot be read.
pub(crate) fn subject_for_people(der: &[u8]) -> Option<String> {
    let (rest, certificate) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
    rest.is_empty().then(|| name_for_people(certificate.tbs_certificate.subject.as_raw()))
}

/// The first common name, or the whole name where there is none that is text.
fn name_for_people(name: &[u8]) -> String {
    match common_name(name) {
        Some(text) => text.to_owned(),
        None => X509Name::from_der(name).map_or_else(|_| hex::encode(name), |(_, name)| name.to_string()),
    }
}

/// Whether a name is a SEQUENCE of SETs of pairs (RFC 5280, §4.1.2.4), all of it.
fn is_name(name: &[u8]) -> bool {
    fn attributes(name: &[u8]) -> Option<()> {
        let mut parts = Elements::new(name).sequence()?;
        while !parts.is_empty() {
            let mut attributes = Elements::new(parts.take(SET)?);
            while !attributes.is_empty() {
                let mut attribute = attributes.sequence()?;
                attribute.take(OBJECT_IDENTIFIER)?;
                attribute.any()?;
                attribute.is_empty().then_some(())?;
            }
        }
        Some(())
    }
    attributes(name).is_some()
}

fn common_name(name: &[u8]) -> Option<&str> {
    let mut parts = Elements::new(name).sequence()?;
    while !parts.is_empty() {
        let mut attributes = Elements::new(parts.take(SET)?);
        while !attributes.is_empty() {
            let mut attribute = attributes.sequence()?;
            if attribute.take(OBJECT_IDENTIFIER)? == COMMON_NAME {
                let (tag, text) = attribute.any()?;
                let is_text = matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING | T61_STRING);
                return str::from_utf8(text).ok().filter(|_| is_text);
            }
        }
    }
    None
}

/// A revocation list that could be read.
pub(crate) struct ParsedCrl<'a> {
    signed: Signed<'a>,
    issuer: &'a [u8],
    this_update: UnixTime,
    next_update: UnixTime,
    entries: Elements<'a>,
    number: Option<u64>,
}

impl<'a> ParsedCrl<'a> {
    /// Reads a revocation list (RFC 5280, §5.1) without allocating, however long it is.
    pub(crate) fn parse(der: &'a CrlDer) -> Result<Self, CertificateFault> {
        let fault = CertificateFault::UnreadableCrl;
        require_no_more(&der.0, fault("SEQUENCE"))?;
        let signed = Signed::read(&der.0).ok_or(CertificateFault::NotDer)?;
        let mut fields = Elements::new(signed.bytes).sequence().ok_or(fault("SEQUENCE"))?;
        // Version 2, written as 1: lists of version 1 have none, and no number either.
        fields.take(INTEGER).filter(|version| *version == [1]).ok_or(fault("version"))?;
        fields.sequence().ok_or(fault("algorithm"))?;
        let issuer = fields.whole(SEQUENCE).filter(|name| is_name(name)).ok_or(fault("issuer"))?;
        let this_update = time(&mut fields).ok_or(fault("time"))?;
        let next_update = match fields.next_tag() {
            Some(SEQUENCE | EXPLICIT_0) | None => return Err(CertificateFault::NoNextUpdate),
            _ => time(&mut fields).ok_or(fault("next update"))?,
        };
        let entries = Elements::new(fields.optional(SEQUENCE).ok_or(fault("entries"))?.unwrap_or_default());
        let extensions = fields.optional(EXPLICIT_0).ok_or(fault("extensions"))?;
        if !fields.is_empty() {
            return Err(fault("end"));
        }
        let extensions = Extensions::read(extensions).ok_or(fault("extensions"))?;
        // A critical extension, such as an indirect CRL's or a delta's, changes what the list means.
        let no_critical = |extensions: Extensions<'_>| match extensions.iter().find(|one| one.critical) {
            None => Ok(()),
            Some(critical) => Err(CertificateFault::UnknownCriticalExtension(dotted(critical.oid))),
        };
        no_critical(extensions)?;
        let mut rest = entries;
        while !rest.is_empty() {
            let mut entry = rest.sequence().ok_or(fault("entry"))?;
            entry.take(INTEGER).ok_or(fault("serial number"))?;
            time(&mut entry).ok_or(fault("time of revocation"))?;
            if !entry.is_empty() {
                no_critical(Extensions::read(Some(entry.rest())).ok_or(fault("extensions of an entry"))?)?;
            }
        }
        let number = extensions.iter().find(|extension| extension.oid == CRL_NUMBER);
        let number = number.and_then(|extension| Elements::new(extension.value).take(INTEGER));
        let number = number.map(strip_zeros).filter(|digits| digits.len() <= 8);
        let number = number.map(|digits| digits.iter().fold(0, |sum, &byte| (sum << 8) | u64::from(byte)));
        Ok(Self { signed, issuer, this_update, next_update, entries, number })
    }

    pub(crate) fn issuer(&self) -> &'a [u8] {
        self.issuer
    }

    pub(crate) fn issuer_name(&self) -> String {
        name_for_people(self.issuer)
    }

    /// Whether the issuer's name has the text.
    pub(crate) fn is_of(&self, text: &str) -> bool {
        X509Name::from_der(self.issuer).is_ok_and(|(_, name)| name.to_string().contains(text))
    }

    pub(crate) fn this_update(&self) -> UnixTime {
        self.this_update
    }

    pub(crate) fn next_update(&self) -> UnixTime {
        self.next_update
    }

    /// The list's number; none when it has none, or one beyond 64 bits.
    pub(crate) fn number(&self) -> Option<u64> {
        self.number
    }

    pub(crate) fn revokes(&self, serial: &[u8]) -> bool {
        let serial = strip_zeros(serial);
        let mut rest = self.entries;
        std::iter::from_fn(|| rest.sequence()?.take(INTEGER)).any(|revoked| strip_zeros(revoked) == serial)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use x509_parser::certificate::X509Certificate;
    use x509_parser::revocation_list::CertificateRevocationList;

    use super::*;

    /// All certificates and lists of the corpus.
    fn corpus() -> (Vec<CertificateDer>, Vec<CrlDer>) {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
        let files = |folder| fs::read_dir(vectors.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let (mut certificates, mut lists) = (vec![], vec![]);
        for file in files("amd-collateral") {
            let der = fs::read(&file).unwrap();
            match file.to_str().unwrap().contains("-crl-") {
                true => lists.push(CrlDer(der)),
                false => certificates.push(CertificateDer(der)),
            }
        }
        for file in files("bundles") {
            let endorsements = evidence::Endorsements::from_dcap_json(&fs::read(&file).unwrap()).unwrap();
            let intel = endorsements.intel.unwrap();
            certificates.extend(intel.tcb_info.issuer_chain);
            certificates.extend(intel.pck_crl_issuer_chain);
            lists.extend([intel.root_ca_crl, intel.pck_crl]);
        }
        for file in files("sgx").chain(files("tdx")) {
            let quote = fs::read(&file).unwrap();
            let start = quote.windows(11).position(|window| window == b"-----BEGIN ");
            let Some(start) = start else { continue };
            let end = quote.iter().rposition(|&byte| byte == b'-').unwrap();
            certificates.extend(evidence::pem::certificates(&quote[start..=end]).unwrap());
        }
        certificates.sort_by(|one, other| one.0.cmp(&other.0));
        certificates.dedup();
        lists.sort_by(|one, other| one.0.cmp(&other.0));
        lists.dedup();
        assert!(certificates.len() > 40 && lists.len() > 10, "{} {}", certificates.len(), lists.len());
        (certificates, lists)
    }

    fn certificate_agrees(der: &CertificateDer) -> bool {
        let Ok(own) = ParsedCertificate::parse(der) else { return false };
        let (rest, other) = X509Certificate::from_der(&der.0).unwrap();
        assert!(rest.is_empty());
        let tbs = &other.tbs_certificate;
        assert_eq!(own.subject, tbs.subject.as_raw());
        assert_eq!(own.issuer, tbs.issuer.as_raw());
        assert_eq!(own.serial, tbs.raw_serial());
        assert_eq!(own.not_before.0, other.validity().not_before.timestamp());
        assert_eq!(own.not_after.0, other.validity().not_after.timestamp());
        assert_eq!(own.is_ca, other.is_ca());
        let usage = other.key_usage().unwrap().map(|usage| usage.value.key_cert_sign());
        assert_eq!(own.may_sign_certificates, usage.unwrap_or(true));
        assert_eq!(own.extensions.iter().count(), other.extensions().len());
        for extension in other.extensions() {
            assert_eq!(own.extension(&extension.oid), Some(extension.value));
        }
        let (PublicKey::P256(key) | PublicKey::P384(key) | PublicKey::Rsa(key)) = own.key();
        assert_eq!(**key, *tbs.subject_pki.subject_public_key.data);
        true
    }

    fn list_agrees(der: &CrlDer) -> bool {
        let Ok(own) = ParsedCrl::parse(der) else { return false };
        let (rest, other) = CertificateRevocationList::from_der(&der.0).unwrap();
        assert!(rest.is_empty());
        assert_eq!(own.issuer, other.tbs_cert_list.issuer.as_raw());
        assert_eq!(own.this_update.0, other.last_update().timestamp());
        assert_eq!(own.next_update.0, other.next_update().unwrap().timestamp());
        assert_eq!(own.number, other.crl_number().and_then(|number| u64::try_from(number.clone()).ok()));
        for revoked in other.iter_revoked_certificates() {
            assert!(own.revokes(revoked.raw_serial()));
        }
        assert!(!own.revokes(&[0x42; 20]));
        true
    }

    /// Another parser, and a more tolerant one, reads the same from all that ours accepts.
    #[test]
    fn certificates_and_lists_are_read_as_x509_parser_reads_them() {
        let (certificates, lists) = corpus();
        assert!(certificates.iter().all(certificate_agrees));
        assert!(lists.iter().all(list_agrees));
    }

    #[test]
    fn flipped_certificates_and_lists_are_read_alike_or_refused() {
        let (certificates, lists) = corpus();
        for mut certificate in certificates.into_iter().step_by(5) {
            for offset in 0..certificate.0.len() {
                certificate.0[offset] ^= 1 << (offset % 8);
                certificate_agrees(&certificate);
                certificate.0[offset] ^= 1 << (offset % 8);
            }
        }
        for mut list in lists.into_iter().step_by(4) {
            for offset in 0..list.0.len() {
                list.0[offset] ^= 1 << (offset % 8);
                list_agrees(&list);
                list.0[offset] ^= 1 << (offset % 8);
            }
        }
    }
}
