//! What Intel certifies of a platform in its PCK certificate (Intel SGX PCK Certificate and CRL Profile
//! Specification 1.5, §1.3.5): one SEQUENCE of pairs of object identifier and value.

use serde::{Deserialize, Serialize};
use x509_parser::asn1_rs::{Oid, oid};

use crate::der::{Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, small_integer};
use crate::x509::ParsedCertificate;

const SGX_EXTENSIONS: Oid<'static> = oid!(1.2.840.113741.1.13.1);
/// 1.2.840.113741.1.13.1, encoded.
const PREFIX: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
/// The entries of the platform's TCB, and of its configuration, below that.
const TCB: u8 = 2;
const CONFIGURATION: u8 = 7;

const BOOLEAN: u8 = 0x01;
const ENUMERATED: u8 = 0x0a;

/// What Intel certifies of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pck {
    /// Platform provisioning id: the platform instance.
    pub(crate) ppid: [u8; 16],
    /// The components of the CPU's security version.
    pub(crate) components: [u8; 16],
    /// Security version of the provisioning certification enclave.
    pub(crate) pce_svn: u16,
    /// The CPU's security version as the CPU tells it.
    pub(crate) cpu_svn: [u8; 16],
    /// Which provisioning certification enclave.
    pub(crate) pce_id: [u8; 2],
    /// Family, model, stepping, platform and custom SKU.
    pub(crate) fmspc: [u8; 6],
    /// How the platform protects its memory.
    pub(crate) sgx_type: SgxType,
    /// Platforms of several packages: their instance, which changes when a package is replaced.
    pub(crate) platform_instance_id: Option<[u8; 16]>,
    /// Platforms of several packages: how they are set up.
    pub(crate) configuration: Option<Configuration>,
}

/// How a platform protects the memory of its TEEs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SgxType {
    /// Integrity and replay protection (client CPUs).
    Standard,
    /// Encryption alone: DDR interposers can replay memory (server CPUs).
    Scalable,
    /// Encryption with integrity.
    ScalableWithIntegrity,
}

impl SgxType {
    /// The word for it, such as `scalable`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Scalable => "scalable",
            Self::ScalableWithIntegrity => "scalable-with-integrity",
        }
    }
}

/// What the PCK certificate says of a platform of several packages; none where Intel leaves it undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// Packages can be added.
    pub(crate) dynamic_platform: Option<bool>,
    /// Intel keeps the platform's root keys.
    pub(crate) cached_keys: Option<bool>,
    /// Hyperthreading is on.
    pub(crate) smt_enabled: Option<bool>,
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
        let optional = |number, name| find(entries, &PREFIX, number).map_err(|Ambiguous| PckFault(name));
        let find = |number, name| optional(number, name)?.ok_or(PckFault(name));
        let (components, pce_svn, cpu_svn) = tcb(find(TCB, "TCB")?).ok_or(PckFault("TCB"))?;
        Ok(Self {
            ppid: octets(find(1, "PPID")?).ok_or(PckFault("PPID"))?,
            components,
            pce_svn,
            cpu_svn,
            pce_id: octets(find(3, "PCE-ID")?).ok_or(PckFault("PCE-ID"))?,
            fmspc: octets(find(4, "FMSPC")?).ok_or(PckFault("FMSPC"))?,
            sgx_type: sgx_type(find(5, "SGX type")?).ok_or(PckFault("SGX type"))?,
            platform_instance_id: optional(6, "platform instance id")?
                .map(|value| octets(value).ok_or(PckFault("platform instance id")))
                .transpose()?,
            configuration: optional(CONFIGURATION, "configuration")?
                .map(|value| configuration(value).ok_or(PckFault("configuration")))
                .transpose()?,
        })
    }

    /// Whether the certificate has the extension at all: it tells a PCK certificate from others.
    pub(crate) fn is_present(certificate: &ParsedCertificate<'_>) -> bool {
        certificate.extension(&SGX_EXTENSIONS).is_some()
    }
}

/// Entries that are no pairs, or one that comes twice.
struct Ambiguous;

/// The value of the entry `prefix.number`, if it is there.
fn find<'a>(
    mut entries: Elements<'a>,
    prefix: &[u8],
    number: u8,
) -> Result<Option<(u8, &'a [u8])>, Ambiguous> {
    let mut found = None;
    while !entries.is_empty() {
        let mut pair = entries.sequence().ok_or(Ambiguous)?;
        let name = pair.take(OBJECT_IDENTIFIER).ok_or(Ambiguous)?;
        let value = pair.any().ok_or(Ambiguous)?;
        let again = name.strip_prefix(prefix) == Some(&[number]) && found.replace(value).is_some();
        if again || !pair.is_empty() {
            return Err(Ambiguous);
        }
    }
    Ok(found)
}

fn octets<const N: usize>((tag, contents): (u8, &[u8])) -> Option<[u8; N]> {
    (tag == OCTET_STRING).then(|| contents.try_into().ok()).flatten()
}

fn sgx_type((tag, contents): (u8, &[u8])) -> Option<SgxType> {
    match (tag, contents) {
        (ENUMERATED, [0]) => Some(SgxType::Standard),
        (ENUMERATED, [1]) => Some(SgxType::Scalable),
        (ENUMERATED, [2]) => Some(SgxType::ScalableWithIntegrity),
        _ => None,
    }
}

fn configuration((tag, contents): (u8, &[u8])) -> Option<Configuration> {
    let prefix = [&PREFIX[..], &[CONFIGURATION]].concat();
    let boolean = |number| match find(Elements::new(contents), &prefix, number) {
        Ok(None) => Some(None),
        Ok(Some((BOOLEAN, [0]))) => Some(Some(false)),
        Ok(Some((BOOLEAN, [0xff]))) => Some(Some(true)),
        _ => None,
    };
    (tag == SEQUENCE).then_some(())?;
    Some(Configuration { dynamic_platform: boolean(1)?, cached_keys: boolean(2)?, smt_enabled: boolean(3)? })
}

fn tcb((tag, contents): (u8, &[u8])) -> Option<([u8; 16], u16, [u8; 16])> {
    if tag != SEQUENCE {
        return None;
    }
    let prefix = [&PREFIX[..], &[TCB]].concat();
    let value = |number| find(Elements::new(contents), &prefix, number).ok().flatten();
    let integer = |number| match value(number) {
        Some((INTEGER, digits)) => small_integer(digits),
        _ => None,
    };
    let mut components = [0; 16];
    for (number, component) in (1u8..).zip(&mut components) {
        *component = u8::try_from(integer(number)?).ok()?;
    }
    Some((components, integer(17)?, octets(value(18)?)?))
}
