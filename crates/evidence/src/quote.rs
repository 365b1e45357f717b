//! What SGX and TDX quotes have in common: the header, and the signature data with the quoting enclave's
//! report and the certification data (Intel SGX DCAP Quote Generation Library, appendix A; Intel TDX DCAP
//! Quote Generation Library, appendix A).

use crate::reader::Reader;
use crate::sgx::EnclaveReport;
use crate::{CertificateDer, Malformed, pem};

/// TEE type of a TDX quote.
pub const TEE_TYPE_TDX: u32 = 0x81;

/// Attestation key type 2: ECDSA over P-256 with SHA-256.
pub const ATTESTATION_KEY_P256: u16 = 2;

/// The vendor id of Intel's quoting enclaves: 939A7233-F79C-4CA9-940A-0DB3957F0607.
pub const INTEL_QE_VENDOR_ID: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];

/// Certification data of kind 5: a PCK certificate chain.
pub const KIND_PCK_CHAIN: u16 = 5;
const KIND_QE_REPORT: u16 = 6;

pub(crate) const HEADER_LENGTH: usize = 48;
const QE_REPORT_LENGTH: usize = 384;

/// The first 48 bytes of a quote; signed together with the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the quote format: 3, 4 or 5.
    pub version: u16,
    /// The quoting enclave's security version (zero in TDX quotes).
    pub qe_svn: u16,
    /// The provisioning certification enclave's security version (zero in TDX quotes).
    pub pce_svn: u16,
    /// The quoting enclave's own data: the platform's id in the first 16 bytes.
    pub user_data: [u8; 20],
}

impl Header {
    pub(crate) fn read(
        format: &'static str,
        tee_type: u32,
        reader: &mut Reader<'_>,
    ) -> Result<Self, Malformed> {
        let version = reader.u16("version")?;
        let key_offset = reader.offset();
        let key_type = reader.u16("attestation key type")?;
        if key_type != ATTESTATION_KEY_P256 {
            return Err(Malformed::unsupported(
                format,
                "attestation key type",
                key_offset,
                "2 (ECDSA P-256)",
                key_type.to_string(),
            ));
        }
        let tee_offset = reader.offset();
        let seen = reader.u32("TEE type")?;
        if seen != tee_type {
            let expected = format!("{tee_type:#x}");
            return Err(Malformed::value(format, "TEE type", tee_offset, expected, format!("{seen:#x}")));
        }
        let qe_svn = reader.u16("QE SVN")?;
        let pce_svn = reader.u16("PCE SVN")?;
        let vendor_offset = reader.offset();
        let vendor = reader.array::<16>("QE vendor id")?;
        if vendor != INTEL_QE_VENDOR_ID {
            return Err(Malformed::unsupported(
                format,
                "QE vendor id",
                vendor_offset,
                hex::encode(INTEL_QE_VENDOR_ID),
                hex::encode(vendor),
            ));
        }
        Ok(Self { version, qe_svn, pce_svn, user_data: reader.array("user data")? })
    }
}

/// What follows the signed part of a quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureData {
    signature: [u8; 64],
    attestation_key: [u8; 64],
    qe_report: EnclaveReport,
    qe_report_bytes: [u8; QE_REPORT_LENGTH],
    qe_report_signature: [u8; 64],
    authentication_data: Vec<u8>,
    certification_data: CertificationData,
}

impl SignatureData {
    /// Signature of header and body by the attestation key: r and s, big-endian.
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// The attestation key: x and y of a point on P-256, big-endian.
    pub fn attestation_key(&self) -> &[u8; 64] {
        &self.attestation_key
    }

    /// The report of the quoting enclave that made the attestation key.
    pub fn qe_report(&self) -> &EnclaveReport {
        &self.qe_report
    }

    /// The bytes of that report: what the PCK signed.
    pub fn qe_report_bytes(&self) -> &[u8; QE_REPORT_LENGTH] {
        &self.qe_report_bytes
    }

    /// Signature of the quoting enclave's report by the PCK: r and s, big-endian.
    pub fn qe_report_signature(&self) -> &[u8; 64] {
        &self.qe_report_signature
    }

    /// Data that the quoting enclave binds beside the attestation key.
    pub fn authentication_data(&self) -> &[u8] {
        &self.authentication_data
    }

    /// Where the PCK certificate comes from.
    pub fn certification_data(&self) -> &CertificationData {
        &self.certification_data
    }

    /// Version 3: the quoting enclave's report follows the attestation key directly.
    pub(crate) fn read_v3(format: &'static str, bytes: &[u8], base: usize) -> Result<Self, Malformed> {
        let mut reader = Reader::at(format, bytes, base);
        let signature = reader.array("signature")?;
        let attestation_key = reader.array("attestation key")?;
        Self::read_qe(format, signature, attestation_key, reader)
    }

    /// Versions 4 and 5: the quoting enclave's report lies in certification data of kind 6.
    pub(crate) fn read_v4(format: &'static str, bytes: &[u8], base: usize) -> Result<Self, Malformed> {
        let mut reader = Reader::at(format, bytes, base);
        let signature = reader.array("signature")?;
        let attestation_key = reader.array("attestation key")?;
        let kind_offset = reader.offset();
        let kind = reader.u16("certification data kind")?;
        if kind != KIND_QE_REPORT {
            return Err(Malformed::unsupported(
                format,
                "certification data kind",
                kind_offset,
                "6 (QE report)",
                kind.to_string(),
            ));
        }
        let length = reader.u32("certification data length")? as usize;
        let start = reader.offset();
        let inner = reader.take("certification data", length)?;
        reader.finish("signature data length")?;
        Self::read_qe(format, signature, attestation_key, Reader::at(format, inner, start))
    }

    fn read_qe(
        format: &'static str,
        signature: [u8; 64],
        attestation_key: [u8; 64],
        mut reader: Reader<'_>,
    ) -> Result<Self, Malformed> {
        let report_offset = reader.offset();
        let qe_report_bytes = reader.array::<QE_REPORT_LENGTH>("QE report")?;
        let qe_report = EnclaveReport::read(&mut Reader::at(format, &qe_report_bytes, report_offset))?;
        let qe_report_signature = reader.array("QE report signature")?;
        let length = reader.u16("QE authentication data length")?;
        let authentication_data = reader.take("QE authentication data", usize::from(length))?.to_vec();
        let kind = reader.u16("certification data kind")?;
        let length = reader.u32("certification data length")? as usize;
        let offset = reader.offset();
        let data = reader.take("certification data", length)?;
        reader.finish("signature data length")?;
        Ok(Self {
            signature,
            attestation_key,
            qe_report,
            qe_report_bytes,
            qe_report_signature,
            authentication_data,
            certification_data: CertificationData::new(kind, data, offset)?,
        })
    }
}

/// How the quote names the PCK (provisioning certification key) that signed the quoting enclave's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificationData {
    /// Kind 5: the PCK certificate and those of its issuers, in any order.
    PckChain(Vec<CertificateDer>),
    /// Another kind, which names a PCK that must be looked up at Intel.
    Other {
        /// 1: PPID; 2, 3: encrypted PPID; 4: PCK certificate alone; 7: platform manifest.
        kind: u16,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

impl CertificationData {
    fn new(kind: u16, bytes: &[u8], offset: usize) -> Result<Self, Malformed> {
        match kind {
            KIND_PCK_CHAIN => pem::certificates_at(bytes, offset).map(Self::PckChain),
            other => Ok(Self::Other { kind: other, bytes: bytes.to_vec() }),
        }
    }
}

/// Reads the length-prefixed signature data, and what follows it, which must be zero padding.
pub(crate) fn read_tail<'a>(
    format: &'static str,
    reader: &mut Reader<'a>,
) -> Result<(&'a [u8], usize, usize), Malformed> {
    let length = reader.u32("signature data length")? as usize;
    let start = reader.offset();
    let data = reader.take("signature data", length)?;
    let padding = reader.rest();
    if let Some(index) = padding.iter().position(|&byte| byte != 0) {
        let offset = reader.offset() + index;
        return Err(Malformed::value(format, "padding", offset, "zero bytes", "a byte that is not zero"));
    }
    Ok((data, start, padding.len()))
}
