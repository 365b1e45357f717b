//! What Intel certifies of a platform in its PCK certificate (Intel SGX PCK Certificate and CRL Profile
//! Specification 1.5, §1.3.5): one SEQUENCE of pairs of object identifier and value.

use x509_parser::asn1_rs::{Oid, oid};

use crate::der::{Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, small_integer};
use crate::x509::ParsedCertificate;

const SGX_EXTENSIONS: Oid<'static> = oid!(1.2.840.113741.1.13.1);
/// 1.2.840.113741.1.13.1, encoded.
const PREFIX: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];

/// What Intel certifies of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pck {
    /// Platform provisioning id: the platform instance.
    pub(crate) ppid: [u8; 16],
    /// The components of the CPU's security version.
    pub(crate) components: [u8; 16],
    /// Security version of the provisioning certification enclave.
    pub(crate) pce_svn: u16,
    /// Which provisioning certification enclave.
    pub(crate) pce_id: [u8; 2],
    /// Family, model, stepping, platform and custom SKU.
    pub(crate) fmspc: [u8; 6],
}

/// The part of the extension that is missing or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the SGX extension of the PCK certificate has no valid {0}")]
pub(crate) struct PckFault(pub(crate) &'static str);

impl Pck {
    pub(crate) fn read(certificate: &ParsedCertificate<'_>) -> Result<Self, PckFault> {
        let value = certificate.extension(&SGX_EXTENSIONS).ok_or(PckFault("value"))?;
        let mut outer = Elements::new(value);
        let entries = outer.sequence().filter(|_| outer.is_empty()).ok_or(PckFault("value"))?;
        let find = |number, name| find(entries, &PREFIX, number).ok_or(PckFault(name));
        let (components, pce_svn) = tcb(find(2, "TCB")?).ok_or(PckFault("TCB"))?;
        Ok(Self {
            ppid: octets(find(1, "PPID")?).ok_or(PckFault("PPID"))?,
            components,
            pce_svn,
            pce_id: octets(find(3, "PCE-ID")?).ok_or(PckFault("PCE-ID"))?,
            fmspc: octets(find(4, "FMSPC")?).ok_or(PckFault("FMSPC"))?,
        })
    }

    /// Whether the certificate has the extension at all: it tells a PCK certificate from others.
    pub(crate) fn is_present(certificate: &ParsedCertificate<'_>) -> bool {
        certificate.extension(&SGX_EXTENSIONS).is_some()
    }
}

/// The value of the entry `prefix.number`; none when there is not exactly one.
fn find<'a>(mut entries: Elements<'a>, prefix: &[u8], number: u8) -> Option<(u8, &'a [u8])> {
    let mut found = None;
    while !entries.is_empty() {
        let mut pair = entries.sequence()?;
        let name = pair.take(OBJECT_IDENTIFIER)?;
        let value = pair.any()?;
        if !pair.is_empty() {
            return None;
        }
        if name.strip_prefix(prefix) == Some(&[number]) && found.replace(value).is_some() {
            return None;
        }
    }
    found
}

fn octets<const N: usize>((tag, contents): (u8, &[u8])) -> Option<[u8; N]> {
    (tag == OCTET_STRING).then(|| contents.try_into().ok()).flatten()
}

fn tcb((tag, contents): (u8, &[u8])) -> Option<([u8; 16], u16)> {
    if tag != SEQUENCE {
        return None;
    }
    let prefix = [&PREFIX[..], &[2]].concat();
    let integer = |number| match find(Elements::new(contents), &prefix, number) {
        Some((INTEGER, digits)) => small_integer(digits),
        _ => None,
    };
    let mut components = [0; 16];
    for (number, component) in (1u8..).zip(&mut components) {
        *component = u8::try_from(integer(number)?).ok()?;
    }
    Some((components, integer(17)?))
}
