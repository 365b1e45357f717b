//! Bytes to typed Evidence and Endorsements of each TEE platform.
//!
//! What it is: the one place where Evidence (RFC 9334) stops being bytes. [`Evidence::parse`] recognises
//! an Intel SGX quote (version 3), an Intel TDX quote (versions 4 and 5) and an AMD SEV-SNP report
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

mod claims;
mod dcap;
mod endorsements;
mod malformed;
pub mod pem;
mod platform;
pub mod quote;
mod reader;
pub mod sgx;
pub mod snp;
pub mod tdx;

pub use claims::{LaunchConfiguration, Measurement, ReportData};
pub use endorsements::{
    AmdCollateral, CertificateDer, CrlDer, Endorsements, IntelCollateral, SignedDocument,
};
pub use malformed::{Malformed, MalformedKind};
pub use platform::{Platform, UnknownPlatform};

/// Evidence longer than this is refused unread. The largest real quote, with its padding, has 8000 bytes.
pub const MAX_EVIDENCE: usize = 64 * 1024;

/// Evidence of one TEE, parsed and not yet appraised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// An Intel SGX quote, version 3.
    Sgx(sgx::Quote),
    /// An Intel TDX quote, version 4 or 5.
    Tdx(tdx::Quote),
    /// An AMD SEV-SNP attestation report, version 2 to 5.
    Snp(Box<snp::Report>),
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
            (4 | 5, _) => Err(Malformed::unsupported(
                "quote",
                "TEE type",
                4,
                "0x81 (TDX) in a quote of version 4 or 5",
                format!("{tee:#x}"),
            )),
            _ => Err(Malformed::unsupported(
                "Evidence",
                "version",
                0,
                "an SGX quote v3, a TDX quote v4 or v5, or an SNP report v2 to v5",
                format!("{word:#010x}"),
            )),
        }
    }

    /// The kind of TEE that the Evidence claims to come from.
    pub fn platform(&self) -> Platform {
        match self {
            Self::Sgx(_) => Platform::Sgx,
            Self::Tdx(_) => Platform::Tdx,
            Self::Snp(_) => Platform::Snp,
        }
    }

    /// The 64 bytes that the attested code asked to be covered.
    pub fn report_data(&self) -> ReportData {
        match self {
            Self::Sgx(quote) => ReportData(quote.report().report_data),
            Self::Tdx(quote) => ReportData(quote.report().report_data),
            Self::Snp(report) => ReportData(report.body().report_data),
        }
    }

    /// What identifies the code: MRENCLAVE, MRTD, or MEASUREMENT.
    pub fn measurement(&self) -> Measurement {
        match self {
            Self::Sgx(quote) => Measurement::from(quote.report().mrenclave),
            Self::Tdx(quote) => Measurement::from(quote.report().mrtd),
            Self::Snp(report) => Measurement::from(report.body().measurement),
        }
    }

    /// What the launcher fixed beside the code: CONFIGID (64 bytes), MRCONFIGID (48) or HOST_DATA (32).
    pub fn launch_configuration(&self) -> &[u8] {
        match self {
            Self::Sgx(quote) => &quote.report().config_id,
            Self::Tdx(quote) => &quote.report().mrconfigid,
            Self::Snp(report) => &report.body().host_data,
        }
    }

    /// How many zero bytes followed the Evidence proper. They are not covered by any signature.
    pub fn padding(&self) -> usize {
        match self {
            Self::Sgx(quote) => quote.padding(),
            Self::Tdx(quote) => quote.padding(),
            Self::Snp(_) => 0,
        }
    }
}
