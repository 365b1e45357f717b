//! X.509 certificates and CRLs as Intel and AMD write them (RFC 5280; Intel SGX PCK Certificate and CRL
//! Profile 1.5; AMD 57230, VCEK Certificate and KDS Interface Specification).

use evidence::{CertificateDer, CrlDer};
use time::OffsetDateTime;

use super::der;
use super::error::Result;
use super::keys::{CertificateSigner, key_identifier};

/// From when to when something is valid.
#[derive(Clone, Copy)]
pub(super) struct Validity {
    pub(super) from: OffsetDateTime,
    pub(super) until: OffsetDateTime,
}

/// A DER distinguished name.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Name(Vec<u8>);

impl Name {
    /// Common name, then organisation, as in Intel's names.
    pub(super) fn intel(common_name: &str, organization: &str) -> Self {
        Self(der::sequence([attribute(3, common_name), attribute(10, organization)]))
    }

    /// Organisational unit, organisation, common name, as in AMD's names.
    pub(super) fn amd(unit: &str, organization: &str, common_name: &str) -> Self {
        Self(der::sequence([attribute(11, unit), attribute(10, organization), attribute(3, common_name)]))
    }
}

/// A certificate before its signature.
pub(super) struct Certificate<'a> {
    /// Big-endian; zero is legal here, because AMD's VCEKs have it.
    pub(super) serial: &'a [u8],
    pub(super) issuer: &'a Name,
    pub(super) subject: &'a Name,
    pub(super) validity: Validity,
    /// DER SubjectPublicKeyInfo.
    pub(super) public_key: &'a [u8],
    /// DER Extensions, in the order given.
    pub(super) extensions: Vec<Vec<u8>>,
}

impl Certificate<'_> {
    /// The signed certificate.
    pub(super) fn sign(&self, issuer: &impl CertificateSigner) -> Result<CertificateDer> {
        let version_3 = der::explicit(0, &der::integer(&[2]));
        let validity = der::sequence([der::time(self.validity.from), der::time(self.validity.until)]);
        let parts: [&[u8]; 8] = [
            &version_3,
            &der::integer(self.serial),
            &issuer.algorithm(),
            &self.issuer.0,
            &validity,
            &self.subject.0,
            self.public_key,
            &der::explicit(3, &der::sequence(&self.extensions)),
        ];
        signed(der::sequence(parts), issuer).map(CertificateDer)
    }
}

/// A certificate revocation list before its signature.
pub(super) struct RevocationList<'a> {
    pub(super) issuer: &'a Name,
    pub(super) validity: Validity,
    /// Serial numbers, big-endian.
    pub(super) revoked: &'a [Vec<u8>],
    pub(super) extensions: Vec<Vec<u8>>,
}

impl RevocationList<'_> {
    /// The signed list.
    pub(super) fn sign(&self, issuer: &impl CertificateSigner) -> Result<CrlDer> {
        let version_2 = der::integer(&[1]);
        let mut parts = vec![
            version_2,
            issuer.algorithm(),
            self.issuer.0.clone(),
            der::time(self.validity.from),
            der::time(self.validity.until),
        ];
        // RFC 5280 §5.1.2.6: the list is absent, not empty, when nothing is revoked.
        if !self.revoked.is_empty() {
            parts.push(der::sequence(self.revoked.iter().map(|serial| self.entry(serial))));
        }
        parts.push(der::explicit(0, &der::sequence(&self.extensions)));
        signed(der::sequence(parts), issuer).map(CrlDer)
    }

    fn entry(&self, serial: &[u8]) -> Vec<u8> {
        let key_compromise = extension(&[2, 5, 29, 21], Critical::No, &der::enumerated(1));
        der::sequence([der::integer(serial), der::time(self.validity.from), der::sequence([key_compromise])])
    }
}

/// Whether a verifier that does not know an extension must refuse.
pub(super) enum Critical {
    Yes,
    No,
}

/// What a key may do.
pub(super) enum KeyUsage {
    /// digitalSignature and nonRepudiation.
    Sign,
    /// keyCertSign.
    Certify,
    /// keyCertSign and cRLSign.
    CertifyAndRevoke,
}

pub(super) fn extension(oid: &[u64], critical: Critical, value: &[u8]) -> Vec<u8> {
    let value = der::octet_string(value);
    match critical {
        Critical::Yes => der::sequence([der::oid(oid), der::boolean(true), value]),
        Critical::No => der::sequence([der::oid(oid), value]),
    }
}

pub(super) fn key_usage(usage: KeyUsage) -> Vec<u8> {
    let bits = match usage {
        KeyUsage::Sign => der::bit_string(6, &[0b1100_0000]),
        KeyUsage::Certify => der::bit_string(2, &[0b0000_0100]),
        KeyUsage::CertifyAndRevoke => der::bit_string(1, &[0b0000_0110]),
    };
    extension(&[2, 5, 29, 15], Critical::Yes, &bits)
}

/// `cA` with its path length, or the empty sequence of an end entity.
pub(super) fn basic_constraints(authority: Option<u8>) -> Vec<u8> {
    let value = match authority {
        Some(path_length) => der::sequence([der::boolean(true), der::integer(&[path_length])]),
        None => der::sequence::<Vec<u8>>([]),
    };
    extension(&[2, 5, 29, 19], Critical::Yes, &value)
}

pub(super) fn subject_key(public_key: &[u8]) -> Vec<u8> {
    extension(&[2, 5, 29, 14], Critical::No, &der::octet_string(&key_identifier(public_key)))
}

pub(super) fn authority_key(public_key: &[u8]) -> Vec<u8> {
    let id = der::implicit(0, &key_identifier(public_key));
    extension(&[2, 5, 29, 35], Critical::No, &der::sequence([id]))
}

/// One full name, a URI.
pub(super) fn revocation_point(uri: &str) -> Vec<u8> {
    let full_name = der::explicit(0, &der::explicit(0, &der::implicit(6, uri.as_bytes())));
    extension(&[2, 5, 29, 31], Critical::No, &der::sequence([der::sequence([full_name])]))
}

pub(super) fn revocation_number(number: u64) -> Vec<u8> {
    extension(&[2, 5, 29, 20], Critical::No, &der::integer(&number.to_be_bytes()))
}

/// An attribute of the X.520 arc in a relative distinguished name of its own.
fn attribute(kind: u64, value: &str) -> Vec<u8> {
    der::set([der::sequence([der::oid(&[2, 5, 4, kind]), der::utf8_string(value)])])
}

fn signed(tbs: Vec<u8>, issuer: &impl CertificateSigner) -> Result<Vec<u8>> {
    let signature = der::bit_string(0, &issuer.sign(&tbs)?);
    Ok(der::sequence([tbs, issuer.algorithm(), signature]))
}

/// Certificates as hexadecimal text in the platform file.
pub(super) mod certificate_hex {
    use evidence::CertificateDer;
    use serde::{Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        certificate: &CertificateDer,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        hex::serde::serialize(&certificate.0, serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<CertificateDer, D::Error> {
        hex::serde::deserialize(deserializer).map(CertificateDer)
    }
}
