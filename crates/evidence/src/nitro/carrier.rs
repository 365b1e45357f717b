//! Certificates that carry an attestation document, in the manner of RA-TLS: in an extension of its own, or (as
//! Evervault's Cages do) in hexadecimal as the first label of a DNS name. The certificate itself is not evidence of
//! anything; what counts is whether the document covers its key.

use super::is_document;
use crate::{CertificateDer, Malformed, pem};

const FORMAT: &str = "certificate with a Nitro document";
/// Certificates longer than this are not searched: one with a document at all limits has about 40 KiB.
const MAX_CARRIER: usize = 64 * 1024;
/// 2.5.29.17, subjectAltName (RFC 5280, §4.2.1.6).
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const DNS_NAME: u8 = 0x82;
const EXPLICIT_0: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// The start of every document: an array of four, whose protected header says ES384.
const START: &[u8] = &[0x84, 0x44, 0xa1, 0x01, 0x38, 0x22];
const START_IN_HEX: &[u8] = b"8444a1013822";

/// The certificate around a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrier {
    certificate: CertificateDer,
    public_key: Vec<u8>,
}

impl Carrier {
    /// The certificate. Nothing of it is verified.
    pub fn certificate(&self) -> &CertificateDer {
        &self.certificate
    }

    /// Its key: DER `SubjectPublicKeyInfo` (RFC 5280, §4.1).
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

pub(super) fn recognises(bytes: &[u8]) -> bool {
    certificate(bytes).is_some_and(|der| {
        let has = |start: &[u8]| der.0.windows(start.len()).any(|window| window == start);
        has(START) || has(START_IN_HEX)
    })
}

/// The certificate with its key, and the document in it.
pub(super) fn read(bytes: &[u8]) -> Result<(Carrier, Vec<u8>), Malformed> {
    let fault = |expected: &'static str| Malformed::value(FORMAT, "certificate", 0, expected, "other bytes");
    let certificate = certificate(bytes).ok_or_else(|| fault("a certificate, DER or PEM"))?;
    let (public_key, extensions) = take_apart(&certificate.0).ok_or_else(|| fault("an X.509 certificate"))?;
    let mut documents = documents(extensions).ok_or_else(|| fault("readable extensions"))?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => {
            let public_key = public_key.to_vec();
            Ok((Carrier { certificate, public_key }, document))
        }
        (None, _) => Err(fault("an extension with a document")),
        (Some(_), false) => Err(fault("one document")),
    }
}

fn certificate(bytes: &[u8]) -> Option<CertificateDer> {
    let plausible =
        bytes.len() <= MAX_CARRIER && (bytes.starts_with(b"-----BEGIN") || bytes.starts_with(b"\x30\x82"));
    plausible.then(|| pem::certificates(bytes).ok()?.into_iter().next()).flatten()
}

/// The key and the extensions of a certificate (RFC 5280, §4.1).
fn take_apart(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut certificate = Der(Der(der).take(SEQUENCE)?);
    let mut signed = Der(certificate.take(SEQUENCE)?);
    if signed.0.first() == Some(&EXPLICIT_0) {
        signed.any()?;
    }
    // serialNumber, signature, issuer, validity, subject
    for _ in 0..5 {
        signed.any()?;
    }
    let before = signed.0;
    signed.take(SEQUENCE)?;
    let public_key = &before[..before.len() - signed.0.len()];
    while !signed.0.is_empty() {
        let (tag, contents) = signed.any()?;
        if tag == EXTENSIONS {
            return Some((public_key, Der(contents).take(SEQUENCE)?));
        }
    }
    None
}

fn documents(extensions: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut documents = Vec::new();
    let mut extensions = Der(extensions);
    while !extensions.0.is_empty() {
        let mut extension = Der(extensions.take(SEQUENCE)?);
        let oid = extension.take(OBJECT_IDENTIFIER)?;
        let value = match extension.any()? {
            (OCTET_STRING, value) => value,
            // The flag `critical` comes before.
            _ => extension.take(OCTET_STRING)?,
        };
        if oid == SUBJECT_ALT_NAME {
            let mut names = Der(Der(value).take(SEQUENCE)?);
            while !names.0.is_empty() {
                let (tag, name) = names.any()?;
                let label = name.split(|&byte| byte == b'.').next().unwrap_or_default();
                let document = hex::decode(label).ok().filter(|bytes| is_document(bytes));
                documents.extend(document.filter(|_| tag == DNS_NAME));
            }
        } else {
            let inner = Der(value).take(OCTET_STRING).unwrap_or_default();
            documents.extend([value, inner].into_iter().find(|bytes| is_document(bytes)).map(<[u8]>::to_vec));
        }
    }
    Some(documents)
}

/// The elements that are left to read (X.690).
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (seen, contents) = self.any()?;
        (seen == tag).then_some(contents)
    }

    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }
}
