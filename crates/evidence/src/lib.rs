//! Bytes to typed Evidence and Endorsements of each TEE platform.
//!
//! What it is: the one place where Evidence (RFC 9334) stops being bytes. [`Evidence::parse`] recognises
//! an Intel SGX quote (versions 3 to 5), an Intel TDX quote (versions 4 and 5) and an AMD SEV-SNP report
//! (versions 2 to 5) by content, and refuses everything else with a [`Malformed`] that names the field,
//! its offset, and what was expected there. [`Endorsements`] carries what the vendors sign about a
//! platform, as exact bytes.
//!
//! What it is not: nothing here checks a signature, reads a clock, a file or the network, or decides
//! anything. Parsed Evidence is a claim of whoever sent it until the `appraisal` crate has spoken.
//!
//! ```
//! use evidence::{Evidence, MalformedKind};
//!
//! let refused = Evidence::parse(b"not a quote").unwrap_err();
//! assert_eq!(refused.kind, MalformedKind::Truncated);
//! assert_eq!(refused.to_string(), "Evidence: length at offset 0: expected at least 48 bytes, seen 11 bytes");
//! ```

pub mod azure;
pub mod bundle;
mod cbor;
pub mod cca;
mod claims;
pub mod cmw;
pub mod coco;
pub mod conveyed;
pub mod corim;
pub mod cose;
mod dcap;
pub mod describe;
mod endorsements;
pub mod eventlog;
mod malformed;
pub mod nitro;
pub mod nvidia;
pub mod pem;
mod platform;
pub mod quote;
pub mod ra_tls;
mod reader;
pub mod sgx;
pub mod snp;
pub mod tdx;
pub mod tpm;
mod x509;

use std::collections::BTreeMap;

pub use claims::{Covered, LaunchConfiguration, Measurement, ReportData};
pub use endorsements::{
    AmdCollateral, AwsCollateral, CertificateDer, CrlDer, Endorsements, IntelCollateral, NvidiaCollateral,
    SignedDocument, TpmCollateral,
};
pub use malformed::{Malformed, MalformedKind};
pub use platform::{Platform, UnknownPlatform};

/// A quote or report longer than this is refused unread. The largest real one, with its padding, has 8000 bytes.
const MAX_QUOTE: usize = 64 * 1024;

/// Evidence longer than this is refused unread. The largest real ones carry event logs, or the certificate chains
/// of several devices.
pub const MAX_EVIDENCE: usize = 1024 * 1024;

/// Evidence of one TEE, parsed and not yet appraised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// An Intel SGX quote, version 3 to 5.
    Sgx(sgx::Quote),
    /// An Intel TDX quote, version 4 or 5.
    Tdx(tdx::Quote),
    /// An AMD SEV-SNP attestation report, version 2 to 5.
    Snp(Box<snp::Report>),
    /// Evidence of a confidential VM of Azure.
    Azure(Box<azure::Attestation>),
    /// Quotes of a TPM 2.0.
    Tpm(Box<tpm::Attestation>),
    /// An attestation document of AWS Nitro Enclaves.
    Nitro(Box<nitro::Document>),
    /// A token of Arm CCA.
    Cca(Box<cca::Token>),
    /// Reports of NVIDIA devices.
    Nvidia(Box<nvidia::Attestation>),
}

/// An event log was attached to Evidence of a platform that has no registers for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no event log can be attached to Evidence of {platform}")]
pub struct NoRegisters {
    /// The platform.
    pub platform: Platform,
}

impl Evidence {
    /// Parses Evidence, recognised by content.
    ///
    /// Bytes beyond the length that a quote declares are tolerated when they are zero (clouds pad quotes
    /// to a fixed size) and counted in [`Evidence::padding`].
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_EVIDENCE {
            return Err(Malformed::too_long("Evidence", "length", 0, MAX_EVIDENCE, bytes.len()));
        }
        if nitro::Document::recognises(bytes) {
            return nitro::Document::parse(bytes).map(|document| Self::Nitro(Box::new(document)));
        }
        if cca::Token::recognises(bytes) {
            return cca::Token::parse(bytes).map(|token| Self::Cca(Box::new(token)));
        }
        if azure::Attestation::recognises(bytes) {
            return azure::Attestation::parse(bytes).map(|attestation| Self::Azure(Box::new(attestation)));
        }
        if nvidia::Attestation::recognises(bytes) {
            return nvidia::Attestation::parse(bytes).map(|attestation| Self::Nvidia(Box::new(attestation)));
        }
        if tpm::Attestation::recognises(bytes) {
            return tpm::Attestation::parse(bytes).map(|attestation| Self::Tpm(Box::new(attestation)));
        }
        if bytes.len() > MAX_QUOTE {
            return Err(Malformed::too_long("Evidence", "length", 0, MAX_QUOTE, bytes.len()));
        }
        let Some((head, _)) = bytes.split_first_chunk::<48>() else {
            return Err(Malformed::truncated("Evidence", "length", 0, 48, bytes.len()));
        };
        let word = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let tee = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        // An SNP report starts with its version as 32 bits; a quote with 16 bits of version and 16 bits of
        // attestation key type, which is never zero.
        if (snp::OLDEST_VERSION..=snp::NEWEST_VERSION).contains(&word) {
            return snp::Report::parse(bytes).map(|report| Self::Snp(Box::new(report)));
        }
        match (word & 0xffff, tee) {
            (3, _) => sgx::Quote::parse(bytes).map(Self::Sgx),
            (4 | 5, quote::TEE_TYPE_TDX) => tdx::Quote::parse(bytes).map(Self::Tdx),
            (4 | 5, quote::TEE_TYPE_SGX) => sgx::Quote::parse(bytes).map(Self::Sgx),
            (4 | 5, _) => Err(Malformed::unsupported(
                "quote",
                "TEE type",
                4,
                "0 (SGX) or 0x81 (TDX) in a quote of version 4 or 5",
                format!("{tee:#x}"),
            )),
            _ => Err(Malformed::unsupported(
                "Evidence",
                "version",
                0,
                "an SGX quote v3 to v5, a TDX quote v4 or v5, or an SNP report v2 to v5",
                format!("{word:#010x}"),
            )),
        }
    }

    /// The same Evidence with an event log attached, which an appraisal then compares with its registers.
    ///
    /// # Errors
    /// [`NoRegisters`] for Evidence that no event log replays to, or that carries its own.
    pub fn with_event_log(mut self, log: eventlog::EventLog) -> Result<Self, NoRegisters> {
        match &mut self {
            Self::Tdx(quote) => quote.attach(log),
            Self::Tpm(attestation) => attestation.attach(log),
            Self::Azure(attestation) => attestation.attach(log),
            _ => return Err(NoRegisters { platform: self.platform() }),
        }
        Ok(self)
    }

    /// The kind of TEE that the Evidence claims to come from.
    pub fn platform(&self) -> Platform {
        match self {
            Self::Sgx(_) => Platform::Sgx,
            Self::Tdx(_) => Platform::Tdx,
            Self::Snp(_) => Platform::Snp,
            Self::Azure(attestation) => attestation.platform(),
            Self::Tpm(_) => Platform::Tpm,
            Self::Nitro(_) => Platform::Nitro,
            Self::Cca(_) => Platform::Cca,
            Self::Nvidia(_) => Platform::Nvidia,
        }
    }

    /// What the Evidence covers because its asker wanted so: the 64 bytes of report data that the attested code
    /// chose (SGX, TDX, SNP), a nonce (TPM, Azure, Nitro, NVIDIA) or a challenge (CCA).
    pub fn covered(&self) -> Covered {
        match self {
            Self::Sgx(quote) => ReportData(quote.report().report_data).into(),
            Self::Tdx(quote) => ReportData(quote.report().report_data).into(),
            Self::Snp(report) => ReportData(report.body().report_data).into(),
            Self::Azure(attestation) => attestation.covered(),
            Self::Tpm(attestation) => attestation.covered(),
            Self::Nitro(document) => document.covered(),
            Self::Cca(token) => token.covered(),
            Self::Nvidia(attestation) => attestation.covered(),
        }
    }

    /// What identifies the code: MRENCLAVE, MRTD, MEASUREMENT, PCR 0 of Nitro, or a realm's initial measurement.
    /// None where registers alone tell.
    pub fn measurement(&self) -> Option<Measurement> {
        match self {
            Self::Sgx(quote) => Some(quote.report().mrenclave.into()),
            Self::Tdx(quote) => Some(quote.report().mrtd.into()),
            Self::Snp(report) => Some(report.body().measurement.into()),
            Self::Azure(attestation) => attestation.measurement(),
            Self::Tpm(attestation) => attestation.measurement(),
            Self::Nitro(document) => document.measurement(),
            Self::Cca(token) => token.measurement(),
            Self::Nvidia(attestation) => attestation.measurement(),
        }
    }

    /// What the launcher fixed beside the code: CONFIGID (64 bytes), MRCONFIGID (48), HOST_DATA (32), or a realm's
    /// personalisation value (64). Empty where there is none.
    pub fn launch_configuration(&self) -> &[u8] {
        match self {
            Self::Sgx(quote) => &quote.report().config_id,
            Self::Tdx(quote) => &quote.report().mrconfigid,
            Self::Snp(report) => &report.body().host_data,
            Self::Azure(attestation) => attestation.launch_configuration(),
            Self::Tpm(attestation) => attestation.launch_configuration(),
            Self::Nitro(document) => document.launch_configuration(),
            Self::Cca(token) => token.launch_configuration(),
            Self::Nvidia(attestation) => attestation.launch_configuration(),
        }
    }

    /// Everything measured, by the name that verdicts and reference values use: digests in hexadecimal, numbers in
    /// decimal.
    pub fn measured(&self) -> BTreeMap<String, String> {
        match self {
            Self::Sgx(quote) => quote.report().measured(),
            Self::Tdx(quote) => quote.report().measured(),
            Self::Snp(report) => report.body().measured(),
            Self::Azure(attestation) => attestation.measured(),
            Self::Tpm(attestation) => attestation.measured(),
            Self::Nitro(document) => document.measured(),
            Self::Cca(token) => token.measured(),
            Self::Nvidia(attestation) => attestation.measured(),
        }
    }

    /// How many zero bytes followed the Evidence proper. They are not covered by any signature.
    pub fn padding(&self) -> usize {
        match self {
            Self::Sgx(quote) => quote.padding(),
            Self::Tdx(quote) => quote.padding(),
            Self::Nvidia(attestation) => attestation.padding(),
            _ => 0,
        }
    }
}
