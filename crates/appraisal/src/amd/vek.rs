//! The certificate of the key that signed an SNP report: a VCEK (of one chip) or a VLEK (of one cloud
//! provider), with what AMD says in its extensions (AMD 57230, VCEK Certificate and KDS Interface, table 8).

use evidence::snp::{ProductFamily, TcbComponents};
use x509_parser::asn1_rs::{Oid, oid};

use crate::der::{Elements, IA5_STRING, INTEGER, small_integer};
use crate::x509::ParsedCertificate;

const PRODUCT_NAME: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.2);
const BOOTLOADER: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.1);
const TEE: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.2);
const SNP: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.3);
const MICROCODE: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.8);
const FMC: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.3.9);
const HARDWARE_ID: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.4);
const PROVIDER: Oid<'static> = oid!(1.3.6.1.4.1.3704.1.5);

/// What kind of key the certificate is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Vcek,
    Vlek,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }
}

/// What AMD certifies of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vek {
    pub(crate) kind: Kind,
    pub(crate) family: ProductFamily,
    pub(crate) tcb: TcbComponents,
    /// The chip, for a VCEK: 64 bytes, or 8 on Turin.
    pub(crate) hardware_id: Option<Vec<u8>>,
    /// The cloud provider, for a VLEK.
    pub(crate) provider: Option<String>,
}

/// What is wrong with the extensions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VekFault {
    #[error("the extension {0} is missing or malformed")]
    Extension(&'static str),
    #[error("product {0:?} is not one that we know")]
    Product(String),
    #[error("subject {subject:?} below issuer {issuer:?} is neither a VCEK nor a VLEK")]
    Name { subject: String, issuer: String },
}

impl Vek {
    pub(crate) fn read(certificate: &ParsedCertificate<'_>) -> Result<Self, VekFault> {
        let product = text(certificate, &PRODUCT_NAME).ok_or(VekFault::Extension("productName"))?;
        // "Milan-B0" on VCEKs, "Milan" on VLEKs.
        let family = product
            .split('-')
            .next()
            .and_then(|name| name.parse::<ProductFamily>().ok())
            .ok_or_else(|| VekFault::Product(product.to_owned()))?;
        let kind = kind(certificate, family)?;
        let part =
            |oid: Oid<'static>, name| security_version(certificate, &oid).ok_or(VekFault::Extension(name));
        let tcb = TcbComponents {
            fmc: match family {
                ProductFamily::Turin => Some(part(FMC, "fmcSPL")?),
                ProductFamily::Milan | ProductFamily::Genoa => None,
            },
            bootloader: part(BOOTLOADER, "blSPL")?,
            tee: part(TEE, "teeSPL")?,
            snp: part(SNP, "snpSPL")?,
            microcode: part(MICROCODE, "ucodeSPL")?,
        };
        let hardware_id = match kind {
            Kind::Vlek => None,
            Kind::Vcek => {
                let length = hardware_id_length(family);
                let id = certificate.extension(&HARDWARE_ID).filter(|id| id.len() == length);
                Some(id.ok_or(VekFault::Extension("hwID"))?.to_vec())
            }
        };
        let provider = match kind {
            Kind::Vcek => None,
            Kind::Vlek => Some(text(certificate, &PROVIDER).ok_or(VekFault::Extension("cspID"))?.to_owned()),
        };
        Ok(Self { kind, family, tcb, hardware_id, provider })
    }
}

/// How many bytes of a report's CHIP_ID are the chip's; the rest is zero.
pub(crate) const fn hardware_id_length(family: ProductFamily) -> usize {
    match family {
        ProductFamily::Milan | ProductFamily::Genoa => 64,
        ProductFamily::Turin => 8,
    }
}

/// A VCEK is issued by the ASK, `SEV-Milan`; a VLEK by the ASVK, `SEV-VLEK-Milan`. The chain has verified
/// the issuer's name.
fn kind(certificate: &ParsedCertificate<'_>, family: ProductFamily) -> Result<Kind, VekFault> {
    let (subject, issuer) = (certificate.subject_name(), certificate.issuer_name());
    if subject == "SEV-VCEK" && issuer == format!("SEV-{family}") {
        Ok(Kind::Vcek)
    } else if subject == "SEV-VLEK" && issuer == format!("SEV-VLEK-{family}") {
        Ok(Kind::Vlek)
    } else {
        Err(VekFault::Name { subject, issuer })
    }
}

fn text<'a>(certificate: &ParsedCertificate<'a>, oid: &Oid<'_>) -> Option<&'a str> {
    let mut elements = Elements::new(certificate.extension(oid)?);
    let contents = elements.take(IA5_STRING)?;
    elements.is_empty().then_some(())?;
    str::from_utf8(contents).ok().filter(|text| text.is_ascii())
}

fn security_version(certificate: &ParsedCertificate<'_>, oid: &Oid<'_>) -> Option<u8> {
    let mut elements = Elements::new(certificate.extension(oid)?);
    let value = small_integer(elements.take(INTEGER)?)?;
    elements.is_empty().then_some(())?;
    u8::try_from(value).ok()
}
