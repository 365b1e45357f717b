//! What SGX and TDX quotes have in common: the header, and the signature data with the quoting enclave's
//! report and the certification data (Intel SGX DCAP Quote Generation Library, appendix A; Intel TDX DCAP
//! Quote Generation Library, appendix A).

use crate::reader::Reader;
use crate::sgx::EnclaveReport;
use crate::{CertificateDer, Malformed, pem};

/// TEE type of a TDX quote.
pub const TEE_TYPE_TDX: u32 = 0x81;

/// TEE type of an SGX quote.
pub const TEE_TYPE_SGX: u32 = 0;

/// Attestation key type 2: ECDSA over P-256 with SHA-256.
pub const ATTESTATION_KEY_P256: u16 = 2;
/// Attestation key type 3: ECDSA over P-384 with SHA-384, which the formats foresee and no quoting enclave makes.
pub const ATTESTATION_KEY_P384: u16 = 3;

/// The vendor id of Intel's quoting enclaves: 939A7233-F79C-4CA9-940A-0DB3957F0607.
pub const INTEL_QE_VENDOR_ID: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];

const KIND_PPID: u16 = 1;
const KIND_PPID_RSA_2048: u16 = 2;
const KIND_PPID_RSA_3072: u16 = 3;
const KIND_PCK_CERTIFICATE: u16 = 4;
/// Certification data of kind 5: a PCK certificate chain.
pub const KIND_PCK_CHAIN: u16 = 5;
const KIND_QE_REPORT: u16 = 6;
const KIND_PLATFORM_MANIFEST: u16 = 7;

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
            let seen = match key_type {
                ATTESTATION_KEY_P384 => "3 (ECDSA P-384), which this version does not verify".to_owned(),
                other => other.to_string(),
            };
            let expected = "2 (ECDSA P-256)";
            return Err(Malformed::unsupported(format, "attestation key type", key_offset, expected, seen));
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
        let kind_offset = reader.offset();
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
            certification_data: CertificationData::read(format, kind, data, kind_offset, offset)?,
        })
    }
}

/// How the quote names the PCK (provisioning certification key) that signed the quoting enclave's report.
/// Kind 6 holds the quoting enclave's report in quotes of version 4 and 5, and one of the others inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificationData {
    /// Kinds 1, 2 and 3: what Intel needs to look the PCK certificate up.
    PckName(PckName),
    /// Kind 4: the PCK certificate without its issuers.
    PckCertificate(CertificateDer),
    /// Kind 5: the PCK certificate and those of its issuers, in any order.
    PckChain(Vec<CertificateDer>),
    /// Kind 7: the manifest of a platform that is not registered yet, opaque.
    PlatformManifest(Vec<u8>),
}

/// What a PCK certificate is looked up by (`sgx_ql_ppid_cleartext_cert_info_t` and its two encrypted siblings).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PckName {
    /// The platform's id.
    pub ppid: Ppid,
    /// The CPU's security version, as the CPU tells it.
    pub cpu_svn: [u8; 16],
    /// Security version of the provisioning certification enclave.
    pub pce_svn: u16,
    /// Which provisioning certification enclave. The samples of Intel's own library with kind 1 leave it out.
    pub pce_id: Option<[u8; 2]>,
}

/// A platform's id, or what Intel alone can turn into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ppid {
    /// Kind 1.
    Plain([u8; 16]),
    /// Kind 2, by RSA-2048-OAEP (256 bytes), and kind 3, by RSA-3072-OAEP (384 bytes).
    Encrypted(Vec<u8>),
}

impl CertificationData {
    /// The number of the kind.
    pub fn kind(&self) -> u16 {
        match self {
            Self::PckName(name) => match &name.ppid {
                Ppid::Plain(_) => KIND_PPID,
                Ppid::Encrypted(ppid) if ppid.len() == 256 => KIND_PPID_RSA_2048,
                Ppid::Encrypted(_) => KIND_PPID_RSA_3072,
            },
            Self::PckCertificate(_) => KIND_PCK_CERTIFICATE,
            Self::PckChain(_) => KIND_PCK_CHAIN,
            Self::PlatformManifest(_) => KIND_PLATFORM_MANIFEST,
        }
    }

    fn read(
        format: &'static str,
        kind: u16,
        bytes: &[u8],
        kind_offset: usize,
        offset: usize,
    ) -> Result<Self, Malformed> {
        match kind {
            KIND_PPID | KIND_PPID_RSA_2048 | KIND_PPID_RSA_3072 => {
                PckName::read(format, kind, bytes, offset).map(Self::PckName)
            }
            KIND_PCK_CERTIFICATE => {
                let mut certificates = pem::certificates_at(bytes, offset)?;
                match (certificates.pop(), certificates.len()) {
                    (Some(certificate), 0) => Ok(Self::PckCertificate(certificate)),
                    (_, more) => {
                        let seen = (more + 1).to_string();
                        Err(Malformed::value(format, "PCK certificate", offset, "one certificate", seen))
                    }
                }
            }
            KIND_PCK_CHAIN => pem::certificates_at(bytes, offset).map(Self::PckChain),
            KIND_PLATFORM_MANIFEST => Ok(Self::PlatformManifest(bytes.to_vec())),
            other => {
                let (field, expected) = ("certification data kind", "1 to 5, or 7");
                Err(Malformed::unsupported(format, field, kind_offset, expected, other.to_string()))
            }
        }
    }
}

impl PckName {
    fn read(format: &'static str, kind: u16, bytes: &[u8], offset: usize) -> Result<Self, Malformed> {
        let mut reader = Reader::at(format, bytes, offset);
        let ppid = match kind {
            KIND_PPID => Ppid::Plain(reader.array("PPID")?),
            KIND_PPID_RSA_2048 => Ppid::Encrypted(reader.take("encrypted PPID", 256)?.to_vec()),
            _ => Ppid::Encrypted(reader.take("encrypted PPID", 384)?.to_vec()),
        };
        let (cpu_svn, pce_svn) = (reader.array("CPUSVN")?, reader.u16("PCESVN")?);
        let short = kind == KIND_PPID && reader.rest().is_empty();
        let pce_id = if short { None } else { Some(reader.array("PCEID")?) };
        reader.finish("certification data length")?;
        Ok(Self { ppid, cpu_svn, pce_svn, pce_id })
    }
}

/// Body of an SGX enclave in a quote of version 5.
pub(crate) const BODY_ENCLAVE: u16 = 1;
/// Bodies of TDs.
pub(crate) const BODY_TD_1_0: u16 = 2;
pub(crate) const BODY_TD_1_5: u16 = 3;
pub(crate) const BODY_TD_1_5_EXTENDED: u16 = 4;

/// Reads the descriptor that comes before the body in version 5: one of the kinds in `known`, and its one length.
pub(crate) fn read_body_kind(
    format: &'static str,
    reader: &mut Reader<'_>,
    known: &[(u16, usize)],
    expected: &'static str,
) -> Result<u16, Malformed> {
    let kind_offset = reader.offset();
    let kind = reader.u16("body kind")?;
    let length_offset = reader.offset();
    let length = reader.u32("body length")?;
    match known.iter().find(|(own, _)| *own == kind) {
        Some((_, own)) if length as usize == *own => Ok(kind),
        Some((_, own)) => {
            let (own, seen) = (own.to_string(), length.to_string());
            Err(Malformed::value(format, "body length", length_offset, own, seen))
        }
        None => Err(Malformed::unsupported(format, "body kind", kind_offset, expected, kind.to_string())),
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
