//! Names (RFC 5280, §4.1.2.4): whether they are some, and what people read of them.

use std::borrow::Cow;

use x509_parser::asn1_rs::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::oid::COMMON_NAME;
use crate::der::{Elements, IA5_STRING, OBJECT_IDENTIFIER, PRINTABLE_STRING, SET, T61_STRING, UTF8_STRING};

/// The subject of a certificate of which nothing else matters here; None when it cannot be read.
pub(crate) fn subject_for_people(der: &[u8]) -> Option<String> {
    let (rest, certificate) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
    rest.is_empty().then(|| name_for_people(certificate.tbs_certificate.subject.as_raw()))
}

/// The first common name, or the whole name where there is none that is text.
pub(super) fn name_for_people(name: &[u8]) -> String {
    match common_name(name) {
        Some(text) => text.to_owned(),
        None => X509Name::from_der(name).map_or_else(|_| hex::encode(name), |(_, name)| name.to_string()),
    }
}

/// Whether a name is a SEQUENCE of SETs of pairs (RFC 5280, §4.1.2.4), all of it.
pub(super) fn is_name(name: &[u8]) -> bool {
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

pub(super) fn dotted(oid: &[u8]) -> String {
    Oid::new(Cow::Borrowed(oid)).to_id_string()
}
