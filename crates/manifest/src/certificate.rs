//! Certificates as secrets: what the coordinator is to issue, of what Go's `x509.Certificate` can say.

use std::net::IpAddr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::document as wire;
use crate::fault::{Code, Collector, shown};
use crate::names::is_dns_name;
use crate::path::Path;
use crate::support::{self, Feature};

/// A key and a certificate for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateSecret {
    /// The kind of key.
    pub key: KeyKind,
    /// What the certificate says.
    pub template: CertificateTemplate,
}

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with so many bits: 2048, 3072, 4096 or 8192.
    Rsa(u16),
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519.
    Ed25519,
}

/// What a certificate says. Its serial number is random, its issuer the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateTemplate {
    /// Its subject.
    pub subject: Subject,
    /// Its DNS names.
    pub dns_names: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its mail addresses.
    pub emails: Vec<String>,
    /// The bits of its key usage (RFC 5280, §4.2.1.3), bit 0 first.
    pub key_usage: u16,
    /// Its extended key usages.
    pub extended: Vec<ExtendedKeyUsage>,
    /// Whether it may issue others, and how many CAs may stand below it.
    pub authority: Option<Option<u8>>,
    /// From when it is valid, in seconds; at once where absent.
    pub not_before: Option<i64>,
    /// Until when it is valid.
    pub end: End,
}

/// When a certificate ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// So many days after it was issued.
    Days(u32),
    /// At this time, in seconds since 1970.
    At(i64),
}

/// Names of the subject (RFC 5280, §4.1.2.6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the attribute of that name")]
pub struct Subject {
    pub common_name: Option<String>,
    pub countries: Vec<String>,
    pub organizations: Vec<String>,
    pub organizational_units: Vec<String>,
    pub localities: Vec<String>,
    pub provinces: Vec<String>,
}

/// What a certificate is for (RFC 5280, §4.2.1.12), as Go numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the purpose of that name")]
pub enum ExtendedKeyUsage {
    Any,
    ServerAuth,
    ClientAuth,
    CodeSigning,
    EmailProtection,
    TimeStamping,
    OcspSigning,
}

/// What MarbleRun issues where the manifest is silent.
const DAYS: u32 = 365;
/// Go's numbers for digitalSignature and keyCertSign.
const KEY_USAGE: u16 = 1 | 32;

pub(crate) fn resolve(
    wire: &wire::Secret,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<CertificateSecret> {
    let key = key(wire, at, faults);
    let empty = wire::Certificate::default();
    let given = wire.certificate.as_deref().unwrap_or(&empty);
    let template = template(wire, given, at, faults);
    Some(CertificateSecret { key: key?, template: template? })
}

fn key(wire: &wire::Secret, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<KeyKind> {
    let here = at.field("Size");
    let kind = match (wire.kind.as_str(), wire.size) {
        ("cert-ed25519", 0) => Some(KeyKind::Ed25519),
        ("cert-ecdsa", 256) => Some(KeyKind::P256),
        ("cert-ecdsa", 384) => Some(KeyKind::P384),
        ("cert-ecdsa", 521) => Some(KeyKind::P521),
        ("cert-ecdsa", 224) => {
            support::refuse(Feature::CurveP224, &here, faults);
            return None;
        }
        ("cert-rsa", 2048 | 3072 | 4096 | 8192) => u16::try_from(wire.size).ok().map(KeyKind::Rsa),
        _ => None,
    };
    if kind.is_none() {
        let message = format!("{} is not a size that a {} can have", wire.size, wire.kind);
        let hint = "cert-ed25519: none; cert-ecdsa: 256, 384 or 521; cert-rsa: 2048, 3072, 4096 or 8192";
        faults.hint(&here, Code::InvalidValue, message, hint);
    }
    kind
}

fn template(
    wire: &wire::Secret,
    given: &wire::Certificate,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<CertificateTemplate> {
    let here = at.field("Cert");
    for (field, set) in [("SerialNumber", given.serial_number.is_some()), ("Issuer", given.issuer.is_some())]
    {
        if set {
            let message = "the coordinator chooses this, so it would be ignored";
            faults.hint(&here.field(field), Code::NotApplicable, message, "remove it");
        }
    }
    let end = end(wire, given, at, faults);
    let not_before = given.not_before.as_deref().map(|text| time(text, &here.field("NotBefore"), faults));
    let authority = given.is_ca.then(|| match (given.max_path_len, given.max_path_len_zero) {
        (Some(0), false) | (None, false) => None,
        (length, _) => Some(length.unwrap_or(0)),
    });
    if let Some(Some(length)) = authority
        && length > u64::from(u8::MAX)
    {
        faults.add(
            &here.field("MaxPathLen"),
            Code::InvalidValue,
            format!("{length} does not fit into 8 bits"),
        );
    }
    let dns = dns_names(&given.dns_names, &here.field("DNSNames"), faults);
    let addresses = addresses(&given.ip_addresses, &here.field("IPAddresses"), faults);
    for (i, email) in given.email_addresses.iter().enumerate() {
        if !email.is_ascii() || email.chars().any(char::is_control) || !email.contains('@') {
            let message = format!("`{}` is not a mail address", shown(email));
            faults.add(&here.field("EmailAddresses").index(i), Code::InvalidValue, message);
        }
    }
    let key_usage = match given.key_usage {
        None | Some(0) => KEY_USAGE,
        Some(bits) if bits < 512 => bits as u16,
        Some(bits) => {
            faults.add(
                &here.field("KeyUsage"),
                Code::InvalidValue,
                format!("{bits} has bits that have no meaning"),
            );
            0
        }
    };
    let extended = extended(&given.ext_key_usage, &here.field("ExtKeyUsage"), faults);
    let subject = subject(given, &dns, &here.field("Subject"), faults);
    Some(CertificateTemplate {
        subject,
        dns_names: dns,
        addresses,
        emails: given.email_addresses.clone(),
        key_usage,
        extended,
        authority: authority.map(|length| length.and_then(|length| u8::try_from(length).ok())),
        not_before: not_before.map_or(Some(None), |time| time.map(Some))?,
        end: end?,
    })
}

fn end(
    wire: &wire::Secret,
    given: &wire::Certificate,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<End> {
    let here = at.field("ValidFor");
    match (&given.not_after, wire.valid_for) {
        (None, 0) => Some(End::Days(DAYS)),
        (Some(text), 0) => time(text, &at.field("Cert").field("NotAfter"), faults).map(End::At),
        (None, days) => match u32::try_from(days).ok().filter(|days| *days <= 36_500) {
            Some(days) => Some(End::Days(days)),
            None => {
                faults.add(&here, Code::InvalidValue, format!("{days} days are more than a hundred years"));
                None
            }
        },
        (Some(_), _) => {
            let message = "`Cert.NotAfter` also says how long the certificate is valid";
            faults.hint(&here, Code::Conflict, message, "keep one of them");
            None
        }
    }
}

fn time(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<i64> {
    match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(time) => Some(time.unix_timestamp()),
        Err(error) => {
            let message = format!("`{}` is not a time: {error}", shown(text));
            faults.hint(at, Code::InvalidValue, message, "write 2030-01-01T00:00:00Z");
            None
        }
    }
}

fn dns_names(list: &[String], at: &Path<'_>, faults: &mut Collector<'_>) -> Vec<String> {
    for (i, name) in list.iter().enumerate() {
        if !is_dns_name(name.strip_prefix("*.").unwrap_or(name)) {
            let message = format!("`{}` is not a DNS name in lower case", shown(name));
            faults.add(&at.index(i), Code::InvalidName, message);
        }
    }
    if list.is_empty() { vec!["localhost".to_owned()] } else { list.to_vec() }
}

fn addresses(list: &[String], at: &Path<'_>, faults: &mut Collector<'_>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (i, text) in list.iter().enumerate() {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => {
                faults.add(&at.index(i), Code::InvalidValue, format!("`{}` is not an address", shown(text)))
            }
        }
    }
    if list.is_empty() {
        addresses.extend([IpAddr::from([127, 0, 0, 1]), IpAddr::from([0_u16, 0, 0, 0, 0, 0, 0, 1])]);
    }
    addresses
}

fn extended(list: &[u64], at: &Path<'_>, faults: &mut Collector<'_>) -> Vec<ExtendedKeyUsage> {
    use ExtendedKeyUsage as E;
    if list.is_empty() {
        return vec![E::ServerAuth, E::ClientAuth];
    }
    let mut usages = Vec::new();
    for (i, number) in list.iter().enumerate() {
        usages.push(match number {
            0 => E::Any,
            1 => E::ServerAuth,
            2 => E::ClientAuth,
            3 => E::CodeSigning,
            4 => E::EmailProtection,
            8 => E::TimeStamping,
            9 => E::OcspSigning,
            _ => {
                let message = format!("{number} is not the number of an extended key usage that can be issued");
                faults.hint(
                    &at.index(i),
                    Code::InvalidValue,
                    message,
                    "0 any, 1 server, 2 client, 3 code, 4 mail, 8 time stamps, 9 OCSP, as in Go's crypto/x509",
                );
                continue;
            }
        });
    }
    usages
}

fn subject(given: &wire::Certificate, dns: &[String], at: &Path<'_>, faults: &mut Collector<'_>) -> Subject {
    let default = match dns {
        [one] => one.clone(),
        _ => "Bailey Generated Certificate".to_owned(),
    };
    let Some(name) = &given.subject else {
        return Subject { common_name: Some(default), ..Subject::default() };
    };
    for (field, set) in [
        ("StreetAddress", !name.street_address.is_empty()),
        ("PostalCode", !name.postal_code.is_empty()),
        ("SerialNumber", name.serial_number.is_some()),
    ] {
        if set {
            faults.hint(
                &at.field(field),
                Code::NotApplicable,
                "no certificate of the mesh has this, so it would be ignored",
                "remove it",
            );
        }
    }
    let words =
        [&name.country, &name.organization, &name.organizational_unit, &name.locality, &name.province];
    let all = words.into_iter().flatten().chain(&name.common_name);
    for word in all.filter(|word| word.chars().any(char::is_control) || word.len() > 128) {
        faults.add(at, Code::InvalidValue, format!("`{}` cannot stand in a certificate", shown(word)));
    }
    Subject {
        common_name: Some(name.common_name.clone().unwrap_or(default)),
        countries: name.country.clone(),
        organizations: name.organization.clone(),
        organizational_units: name.organizational_unit.clone(),
        localities: name.locality.clone(),
        provinces: name.province.clone(),
    }
}
