//! Parties: what proves who somebody is.

use std::collections::{BTreeMap, BTreeSet};

use manifest::{
    Code,
    reading::{Collector, Path, pem},
};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

use crate::{
    Anchor, Party, PartyName, document,
    resolve::{named, sha256, span},
};

pub(super) fn resolve(
    parties: &BTreeMap<String, document::Party>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<PartyName, Party> {
    if parties.is_empty() {
        faults.add(at, Code::Missing, "a database needs at least one party");
    }
    let mut keys: BTreeMap<[u8; 32], PartyName> = BTreeMap::new();
    named(parties, at, faults, PartyName::new, |name, wire, here, faults| {
        let party = party(wire, here, faults)?;
        for (index, anchor) in party.anchors.iter().enumerate() {
            let field = here.field("Anchors");
            match keys.insert(anchor.key, name.clone()) {
                Some(other) if other != *name => {
                    let message =
                        format!("{other} has an anchor with the same key, so nobody could tell them apart");
                    faults.add(&field.index(index), Code::DuplicateValue, message);
                }
                Some(_) => {
                    faults.add(&field.index(index), Code::DuplicateValue, "this anchor's key is given twice");
                }
                None => {}
            }
        }
        Some(party)
    })
}

fn party(wire: &document::Party, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Party> {
    let field = at.field("Anchors");
    if wire.anchors.0.is_empty() {
        let message = "without an anchor nobody could prove to be this party";
        faults.hint(&field, Code::Missing, message, "give the certificate of the party's CA as PEM");
    }
    let anchors: Vec<_> =
        wire.anchors.0.iter().enumerate().map(|(i, text)| anchor(text, &field.index(i), faults)).collect();
    let field = at.field("Revoked");
    let mut revoked = BTreeSet::new();
    for (index, text) in wire.revoked.iter().enumerate() {
        match hex::decode(text).ok().and_then(|bytes| bytes.try_into().ok()) {
            Some(digest) => drop(revoked.insert(digest)),
            None => {
                let message = "expected the SHA-256 of a certificate in hexadecimal, 64 digits";
                faults.add(&field.index(index), Code::InvalidValue, message);
            }
        }
    }
    let max_validity = wire.max_validity.as_deref().map(|text| span(text, &at.field("MaxValidity"), faults));
    Some(Party {
        anchors: anchors.into_iter().collect::<Option<_>>()?,
        revoked,
        max_validity: max_validity.flatten(),
    })
}

fn anchor(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Anchor> {
    match read(text) {
        Ok(anchor) => Some(anchor),
        Err((message, hint)) => {
            faults.add_with(at, Code::InvalidCertificate, message, || hint.map(str::to_owned));
            None
        }
    }
}

fn read(text: &str) -> Result<Anchor, (String, Option<&'static str>)> {
    let der = pem(text, "CERTIFICATE").map_err(|message| (message, Some("give one certificate as PEM")))?;
    let (rest, certificate) = X509Certificate::from_der(&der)
        .map_err(|error| (format!("this certificate cannot be read: {error}"), None))?;
    if !rest.is_empty() {
        return Err(("there are bytes after the certificate".to_owned(), None));
    }
    if certificate.version() != X509Version::V3 {
        let message =
            "this certificate has no extensions (X.509 version 1), which TLS does not accept as a root";
        return Err((message.to_owned(), Some("make it anew with `bailey certificate issue --authority`")));
    }
    let authority = certificate.basic_constraints().ok().flatten().is_some_and(|it| it.value.ca);
    if !authority {
        let message = "this certificate is none of a CA, so it cannot issue the party's certificates";
        return Err((message.to_owned(), Some("give the certificate of the party's CA")));
    }
    let key = sha256(certificate.public_key().raw);
    Ok(Anchor { der, key })
}
