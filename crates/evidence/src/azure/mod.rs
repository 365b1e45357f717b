//! Confidential VMs of Azure: an HCL report that holds an SNP report or a TD report, the key of a virtual TPM that
//! it covers, and a quote by that TPM.
//!
//! Read are the JSON forms of Trustee (versions 0 to 2) and of attestation-rs, and an HCL report alone, which can be
//! shown but not appraised: it covers nothing that its asker chose.

mod hcl;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::eventlog::EventLog;
use crate::tpm::{Blob, Quote, WireQuote, measured_registers};
use crate::{CertificateDer, Covered, Malformed, Measurement, Platform, pem, tdx};

pub use hcl::{Hardware, HclReport, RuntimeClaims, RuntimeDigest, TdReport, VmConfiguration};

const FORMAT: &str = "Azure evidence";

/// Evidence of a confidential VM of Azure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    hcl: HclReport,
    quote: Option<Quote>,
    certificates: Vec<CertificateDer>,
    td_quote: Option<tdx::Quote>,
    event_log: Option<EventLog>,
}

impl Attestation {
    /// Whether bytes look like Evidence of this kind: cheap, and no promise that they can be parsed.
    pub(crate) fn recognises(bytes: &[u8]) -> bool {
        if bytes.starts_with(&hcl::MAGIC) {
            return true;
        }
        let Some(text) = bytes.trim_ascii_start().strip_prefix(b"{") else { return false };
        let has = |name: &[u8]| text.windows(name.len()).any(|window| window == name);
        has(b"\"pcrs\"") && (has(b"\"hcl_report\"") || has(b"\"report\""))
    }

    /// Parses Evidence of this kind.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > crate::MAX_EVIDENCE {
            return Err(Malformed::too_long(FORMAT, "length", 0, crate::MAX_EVIDENCE, bytes.len()));
        }
        if bytes.starts_with(&hcl::MAGIC) {
            let hcl = HclReport::parse(bytes)?;
            return Ok(Self { hcl, quote: None, certificates: Vec::new(), td_quote: None, event_log: None });
        }
        let malformed = |error: serde_json::Error| {
            Malformed::value(FORMAT, "JSON", 0, "the members of Azure's evidence", error.to_string())
        };
        let text = bytes.trim_ascii_start();
        let wrapped = text.windows(10).any(|window| window == b"\"evidence\"");
        let evidence = if wrapped {
            let Wrapped { platform, evidence } = serde_json::from_slice(text).map_err(malformed)?;
            if !matches!(platform.as_str(), "az-snp" | "az-tdx") {
                return Err(Malformed::unsupported(FORMAT, "platform", 0, "az-snp or az-tdx", platform));
            }
            evidence
        } else {
            serde_json::from_slice(text).map_err(malformed)?
        };
        evidence.read()
    }

    /// The report of the paravisor (Azure calls it the host compatibility layer).
    pub fn hcl(&self) -> &HclReport {
        &self.hcl
    }

    /// The quote of the virtual TPM; None for an HCL report alone.
    pub fn quote(&self) -> Option<&Quote> {
        self.quote.as_ref()
    }

    /// SNP: the certificates that came along, that of the VCEK first.
    pub fn certificates(&self) -> &[CertificateDer] {
        &self.certificates
    }

    /// TDX: the quote that Azure made of the TD report.
    pub fn td_quote(&self) -> Option<&tdx::Quote> {
        self.td_quote.as_ref()
    }

    /// The log of what was extended into the registers of the virtual TPM, where it was attached.
    pub fn event_log(&self) -> Option<&EventLog> {
        self.event_log.as_ref()
    }

    pub(crate) fn attach(&mut self, log: EventLog) {
        self.event_log = Some(log);
    }

    /// The kind of TEE that holds the virtual TPM.
    pub fn platform(&self) -> Platform {
        match self.hcl.hardware() {
            Hardware::Snp(_) => Platform::AzureSnp,
            Hardware::Tdx(_) => Platform::AzureTdx,
        }
    }

    /// What the Evidence covers because its asker wanted so: the nonce of the quote.
    pub fn covered(&self) -> Covered {
        Covered::new(self.quote.as_ref().map_or(&[][..], |quote| &quote.attest.extra_data))
    }

    /// What identifies the paravisor: MEASUREMENT or MRTD.
    pub fn measurement(&self) -> Option<Measurement> {
        Some(match self.hcl.hardware() {
            Hardware::Snp(report) => report.body().measurement.into(),
            Hardware::Tdx(report) => report.body().mrtd.into(),
        })
    }

    /// What the launcher fixed beside the code: HOST_DATA or MRCONFIGID.
    pub fn launch_configuration(&self) -> &[u8] {
        match self.hcl.hardware() {
            Hardware::Snp(report) => &report.body().host_data,
            Hardware::Tdx(report) => &report.body().mrconfigid,
        }
    }

    /// Everything measured, by the name that verdicts and reference values use: that of the TEE, and registers of the
    /// virtual TPM as `pcr7.sha256`.
    pub fn measured(&self) -> BTreeMap<String, String> {
        let mut measured = match self.hcl.hardware() {
            Hardware::Snp(report) => report.body().measured(),
            Hardware::Tdx(report) => report.body().measured(),
        };
        measured.extend(self.quote.iter().flat_map(measured_registers));
        measured
    }
}

/// attestation-rs wraps the same.
#[derive(Deserialize)]
struct Wrapped {
    platform: String,
    evidence: Wire,
}

/// All versions: 0 has arrays of numbers and, on SNP, other names; 1 and 2 have text.
#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    version: u32,
    #[serde(alias = "report")]
    hcl_report: Blob,
    #[serde(alias = "quote")]
    tpm_quote: WireQuote,
    #[serde(default)]
    vcek: Option<String>,
    #[serde(default)]
    td_quote: Option<Blob>,
}

impl Wire {
    fn read(self) -> Result<Attestation, Malformed> {
        if self.version > 2 {
            return Err(Malformed::unsupported(FORMAT, "version", 0, "0 to 2", self.version.to_string()));
        }
        let hcl = HclReport::parse(&self.hcl_report.base64("hcl_report")?)?;
        let certificates = match self.vcek {
            None => Vec::new(),
            Some(text) if text.trim_start().starts_with("-----BEGIN") => pem::certificates(text.as_bytes())?,
            Some(text) => pem::certificates(&Blob::Text(text).base64("vcek")?)?,
        };
        let td_quote =
            self.td_quote.map(|quote| tdx::Quote::parse(&quote.base64("td_quote")?)).transpose()?;
        let quote = Some(self.tpm_quote.read()?);
        match (hcl.hardware(), &td_quote, certificates.is_empty()) {
            (Hardware::Snp(_), None, _) | (Hardware::Tdx(_), Some(_), true) => {}
            (Hardware::Tdx(_), None, _) => {
                return Err(Malformed::value(
                    FORMAT,
                    "td_quote",
                    0,
                    "a TDX quote beside a TD report",
                    "none",
                ));
            }
            _ => {
                let expected = "what belongs to the kind of TEE in the HCL report";
                return Err(Malformed::value(FORMAT, "vcek, td_quote", 0, expected, "those of another"));
            }
        }
        Ok(Attestation { hcl, quote, certificates, td_quote, event_log: None })
    }
}
