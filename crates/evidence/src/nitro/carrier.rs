//! Certificates that carry an attestation document, in the manner of RA-TLS: in an extension of its own, or (as
//! Evervault's Cages do) in hexadecimal as the first label of a DNS name. The certificate itself is not evidence of
//! anything; what counts is whether the document covers its key.

use super::is_document;
use crate::x509::{Der, OCTET_STRING, SEQUENCE, take_apart};
use crate::{CertificateDer, Malformed, pem};

const FORMAT: &str = "certificate with a Nitro document";
/// Certificates longer than this are not searched: one with a document at all limits has about 40 KiB.
const MAX_CARRIER: usize = 64 * 1024;
/// 2.5.29.17, subjectAltName (RFC 5280, §4.2.1.6).
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const DNS_NAME: u8 = 0x82;
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
    let parts = take_apart(&certificate.0).ok_or_else(|| fault("an X.509 certificate"))?;
    let mut documents = documents(&parts.extensions).ok_or_else(|| fault("readable extensions"))?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => {
            let public_key = parts.key.to_vec();
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

fn documents(extensions: &[(&[u8], &[u8])]) -> Option<Vec<Vec<u8>>> {
    let mut documents = Vec::new();
    for &(oid, value) in extensions {
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
