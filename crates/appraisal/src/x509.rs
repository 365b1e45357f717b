//! Certificates and revocation lists, read for the few shapes that TEE vendors use. What is read here is not
//! verified: [`crate::chain`] does that.

mod crl;
mod extension;
mod key;
mod name;
mod oid;

use evidence::CertificateDer;
use x509_parser::asn1_rs::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::der::{EXPLICIT_0, EXPLICIT_3, Elements, IMPLICIT_1, IMPLICIT_2, INTEGER, SEQUENCE, time};
use crate::{Crypto, InvalidSignature, UnixTime};
use extension::{Extensions, constraints, signs};
use key::Signed;
use name::{dotted, is_name, name_for_people};
use oid::{BASIC_CONSTRAINTS, EXTENDED_KEY_USAGE, KEY_USAGE, SERIAL_NUMBER, SUBJECT_ALTERNATIVE_NAME};

pub(crate) use crl::ParsedCrl;
pub(crate) use key::PublicKey;
pub(crate) use name::subject_for_people;

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

#[cfg(test)]
mod tests;
