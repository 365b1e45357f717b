//! Which Endorsements a piece of Evidence needs, as its own bytes tell: what to ask the vendor for. Nothing is
//! verified here; Evidence that lies gets the Endorsements of another platform, and is refused with them.

use std::fmt;

use evidence::azure::Hardware;
use evidence::quote::{CertificationData, SignatureData};
use evidence::snp::{ProductFamily, ReportBody, SigningKey, TcbVersion};
use evidence::{Endorsements, Evidence};
use serde::{Deserialize, Serialize};

use crate::amd::{Vek, hardware_id_length};
use crate::intel::Pck;
use crate::x509::ParsedCertificate;

/// What to ask a vendor for. Its text form is the subject of bundles: lower case letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Needs {
    /// TCB info, QE identity and two revocation lists.
    Intel(IntelNeeds),
    /// The certificate of a VCEK or VLEK, its issuers', and a revocation list.
    Amd(AmdNeeds),
}

/// What a quote needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntelNeeds {
    /// The kind of TEE.
    pub tee: IntelTee,
    /// Family, model, stepping, platform and custom SKU: hexadecimal as text.
    #[serde(with = "hex::serde")]
    pub fmspc: [u8; 6],
    /// The CA that issued the PCK certificate, whose revocation list is needed.
    pub ca: PckCa,
}

/// Intel's kinds of TEE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IntelTee {
    /// SGX.
    Sgx,
    /// TDX.
    Tdx,
}

impl IntelTee {
    /// As Intel's addresses have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sgx => "sgx",
            Self::Tdx => "tdx",
        }
    }
}

/// Intel's CAs for platforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PckCa {
    /// For platforms of one processor, such as clients.
    Processor,
    /// For platforms of several processors.
    Platform,
}

impl PckCa {
    /// As Intel's addresses have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Platform => "platform",
        }
    }

    /// The CA's common name.
    pub const fn common_name(self) -> &'static str {
        match self {
            Self::Processor => "Intel SGX PCK Processor CA",
            Self::Platform => "Intel SGX PCK Platform CA",
        }
    }

    /// The CA of that common name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Processor, Self::Platform].into_iter().find(|ca| ca.common_name() == name)
    }
}

/// What an SNP report needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AmdNeeds {
    /// The product family; several when the report does not tell (version 2).
    pub families: Vec<ProductFamily>,
    /// The certificate.
    pub vek: VekNeeds,
}

/// Which certificate signs a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VekNeeds {
    /// That of a chip, for one TCB: AMD gives it to anyone.
    Vcek {
        /// The chip.
        #[serde(with = "hex::serde")]
        chip_id: [u8; 64],
        /// The reported TCB, as the firmware writes it.
        #[serde(with = "hex::serde")]
        tcb: [u8; 8],
    },
    /// That of a cloud provider, for one TCB: only the provider has it.
    Vlek {
        /// The reported TCB, as the firmware writes it.
        #[serde(with = "hex::serde")]
        tcb: [u8; 8],
    },
}

/// Why Evidence does not tell what it needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NeedsUnknown {
    /// The quote names its PCK certificate in a way that needs a look-up by whoever knows the platform.
    #[error("the quote has no PCK certificate, but certification data of kind {0}")]
    NoPckCertificate(u16),
    /// The PCK certificate cannot be read, or was issued by a CA that we do not know.
    #[error("the PCK certificate of the quote cannot be used: {0}")]
    PckUnusable(String),
    /// The report hides its chip.
    #[error("the report hides the id of its chip (MASK_CHIP_ID)")]
    ChipMasked,
    /// The report is from a processor that we do not know.
    #[error("the report is from an unknown product (CPUID family {family:#x}, model {model:#x})")]
    UnknownProduct {
        /// CPUID family.
        family: u8,
        /// CPUID model.
        model: u8,
    },
    /// The report is not signed.
    #[error("the report is not signed by a VCEK or VLEK")]
    NotSigned,
}

impl NeedsUnknown {
    /// What would mend it.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NoPckCertificate(_) => {
                "let the host's quote provider put the PCK certificate chain into quotes (a PCCS, or the \
                 platform's PCK cache)"
            }
            Self::PckUnusable(_) => "give a quote of an Intel platform",
            Self::ChipMasked => "let the firmware tell the chip id, or use a VLEK",
            Self::UnknownProduct { .. } => "use a version that knows the product",
            Self::NotSigned => "ask the firmware for a report that is signed",
        }
    }
}

/// What `evidence` needs; none when it carries all that its vendor signs, or when its vendor has no service that
/// gives more to anyone.
///
/// # Errors
/// [`NeedsUnknown`] when its bytes do not tell.
pub fn needs(evidence: &Evidence) -> Result<Option<Needs>, NeedsUnknown> {
    match evidence {
        Evidence::Sgx(quote) => needs_of_quote(IntelTee::Sgx, quote.signature_data()).map(Some),
        Evidence::Tdx(quote) => needs_of_quote(IntelTee::Tdx, quote.signature_data()).map(Some),
        Evidence::Snp(report) => needs_of_report(report.body()).map(Some),
        Evidence::Azure(attestation) => match (attestation.hcl().hardware(), attestation.td_quote()) {
            (Hardware::Snp(report), _) => needs_of_report(report.body()).map(Some),
            (Hardware::Tdx(_), Some(quote)) => {
                needs_of_quote(IntelTee::Tdx, quote.signature_data()).map(Some)
            }
            (Hardware::Tdx(_), None) => Ok(None),
        },
        Evidence::Tpm(_) | Evidence::Nitro(_) | Evidence::Cca(_) | Evidence::Nvidia(_) => Ok(None),
    }
}

/// As [`needs`], for a quote inside other Evidence.
///
/// # Errors
/// [`NeedsUnknown`] when its bytes do not tell.
pub fn needs_of_quote(tee: IntelTee, data: &SignatureData) -> Result<Needs, NeedsUnknown> {
    let chain = match data.certification_data() {
        CertificationData::PckChain(chain) => chain.as_slice(),
        CertificationData::PckCertificate(certificate) => std::slice::from_ref(certificate),
        other => return Err(NeedsUnknown::NoPckCertificate(other.kind())),
    };
    let certificate = chain
        .iter()
        .filter_map(|der| ParsedCertificate::parse(der).ok())
        .find(Pck::is_present)
        .ok_or_else(|| NeedsUnknown::PckUnusable("there is none".into()))?;
    let pck = Pck::read(&certificate).map_err(|fault| NeedsUnknown::PckUnusable(fault.to_string()))?;
    let issuer = certificate.issuer_name();
    let ca = PckCa::of_name(&issuer)
        .ok_or_else(|| NeedsUnknown::PckUnusable(format!("it was issued by {issuer:?}")))?;
    Ok(Needs::Intel(IntelNeeds { tee, fmspc: pck.fmspc, ca }))
}

/// As [`needs`], for a report inside other Evidence.
///
/// # Errors
/// [`NeedsUnknown`] when its bytes do not tell.
pub fn needs_of_report(body: &ReportBody) -> Result<Needs, NeedsUnknown> {
    let tcb = body.reported_tcb.0;
    let vek = match body.signing_key() {
        SigningKey::Vlek => VekNeeds::Vlek { tcb },
        SigningKey::Vcek if body.is_chip_masked() || body.chip_id == [0; 64] => {
            return Err(NeedsUnknown::ChipMasked);
        }
        SigningKey::Vcek => VekNeeds::Vcek { chip_id: body.chip_id, tcb },
        SigningKey::None | SigningKey::Reserved(_) => return Err(NeedsUnknown::NotSigned),
    };
    let families = match (body.cpuid, body.family()) {
        (_, Some(family)) => vec![family],
        (Some(cpuid), None) => {
            return Err(NeedsUnknown::UnknownProduct { family: cpuid.family, model: cpuid.model });
        }
        // Turin has ids of 8 bytes, and came with firmware that writes later versions.
        (None, None) => vec![ProductFamily::Milan, ProductFamily::Genoa],
    };
    Ok(Needs::Amd(AmdNeeds { families, vek }))
}

impl VekNeeds {
    /// The reported TCB.
    pub const fn tcb(&self) -> TcbVersion {
        match self {
            Self::Vcek { tcb, .. } | Self::Vlek { tcb } => TcbVersion(*tcb),
        }
    }
}

/// The part of a report's chip id that is the chip's: 64 bytes, or 8 on Turin.
pub fn hardware_id(chip_id: &[u8; 64], family: ProductFamily) -> &[u8] {
    &chip_id[..hardware_id_length(family)]
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intel(IntelNeeds { tee, fmspc, ca }) => {
                write!(f, "{}-{}-{}", tee.as_str(), hex::encode(fmspc), ca.as_str())
            }
            Self::Amd(AmdNeeds { families, vek }) => {
                f.write_str("snp")?;
                let family = match families.as_slice() {
                    [one] => Some(*one),
                    _ => None,
                };
                if let Some(family) = family {
                    write!(f, "-{}", family.as_str().to_ascii_lowercase())?;
                }
                match vek {
                    VekNeeds::Vcek { chip_id, tcb } => {
                        let id = family.map_or(&chip_id[..], |family| hardware_id(chip_id, family));
                        write!(f, "-{}-{}", hex::encode(id), hex::encode(tcb))
                    }
                    VekNeeds::Vlek { tcb } => write!(f, "-vlek-{}", hex::encode(tcb)),
                }
            }
        }
    }
}

/// What a vendor's statements are about. Numbers that a vendor gives them are compared only within one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollateralSubject {
    /// Intel's, about a family of platforms below one of its CAs.
    Intel(IntelNeeds),
    /// AMD's, about a product family.
    Amd(ProductFamily),
}

impl CollateralSubject {
    /// What the Endorsements that an appraisal of `evidence` would use are about. An appraisal that accepts has
    /// verified that they are.
    pub fn of(evidence: &Evidence, endorsements: &Endorsements) -> Option<Self> {
        match needs(evidence) {
            Ok(Some(Needs::Intel(needs))) => Some(Self::Intel(needs)),
            _ => {
                let vek = ParsedCertificate::parse(&endorsements.amd.as_ref()?.vek).ok()?;
                Some(Self::Amd(Vek::read(&vek).ok()?.family))
            }
        }
    }
}
