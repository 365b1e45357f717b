//! Revocation lists.

use evidence::CrlDer;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::extension::Extensions;
use super::key::{PublicKey, Signed};
use super::name::{dotted, is_name, name_for_people};
use super::oid::CRL_NUMBER;
use super::{CertificateFault, require_no_more};
use crate::der::{EXPLICIT_0, Elements, INTEGER, SEQUENCE, time};
use crate::{Crypto, InvalidSignature, UnixTime};

/// A revocation list that could be read.
pub(crate) struct ParsedCrl<'a> {
    signed: Signed<'a>,
    pub(super) issuer: &'a [u8],
    pub(super) this_update: UnixTime,
    pub(super) next_update: UnixTime,
    entries: Elements<'a>,
    pub(super) number: Option<u64>,
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
pub(super) fn strip_zeros(mut serial: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = serial {
        serial = rest;
    }
    serial
}
