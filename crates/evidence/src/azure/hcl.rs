//! The HCL report: a header, the report of the hardware, and the runtime data whose digest it covers (Microsoft, "Guest
//! attestation for confidential virtual machines", "Guest attestation design details"; the layout by OpenHCL's
//! `openhcl_attestation_protocol::igvm_attest::get`).

use serde::Deserialize;

use crate::reader::Reader;
use crate::tdx;
use crate::tpm::{Blob, PublicKey};
use crate::{Malformed, snp};

const FORMAT: &str = "HCL report";
pub(super) const MAGIC: [u8; 4] = *b"HCLA";
/// Length of the hardware's report: an SNP report, or a TD report and zeros.
const HARDWARE_LENGTH: usize = 1184;
const RUNTIME_HEADER: usize = 20;
const TD_REPORT_LENGTH: usize = 1024;
/// Where the TPM's memory keeps a report has 2600 bytes.
const MAX_LENGTH: usize = 16 * 1024;
const KIND_SNP: u32 = 2;
const KIND_TDX: u32 = 4;

/// An HCL report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HclReport {
    version: u32,
    hardware: Hardware,
    digest: RuntimeDigest,
    runtime_data: Vec<u8>,
    claims: RuntimeClaims,
}

/// The report of the hardware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// Of SEV-SNP.
    Snp(Box<snp::Report>),
    /// Of TDX: good on the machine that made it only; a quote vouches for it.
    Tdx(Box<TdReport>),
}

/// By which algorithm the report covers the runtime data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeDigest {
    /// SHA-256, in the first half of the report data.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HclReport {
    /// Parses a report; zeros may follow it.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as the format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_LENGTH {
            return Err(Malformed::too_long(FORMAT, "length", 0, MAX_LENGTH, bytes.len()));
        }
        let mut reader = Reader::new(FORMAT, bytes);
        let magic = reader.array::<4>("signature")?;
        if magic != MAGIC {
            return Err(Malformed::value(FORMAT, "signature", 0, "HCLA", hex::encode(magic)));
        }
        let version = reader.u32("version")?;
        if !matches!(version, 1 | 2) {
            return Err(Malformed::unsupported(FORMAT, "version", 4, "1 or 2", version.to_string()));
        }
        reader.take("report size, request type, status and reserved", 24)?;
        let report = reader.take("hardware report", HARDWARE_LENGTH)?;
        let start = reader.offset();
        let data_size = reader.u32("runtime data size")?;
        reader.u32("runtime data version")?;
        let kind = reader.u32("report type")?;
        let digest = match reader.u32("report data hash type")? {
            1 => RuntimeDigest::Sha256,
            2 => RuntimeDigest::Sha384,
            3 => RuntimeDigest::Sha512,
            other => {
                let expected = "1 (SHA-256), 2 (SHA-384) or 3 (SHA-512)";
                let seen = other.to_string();
                return Err(Malformed::unsupported(
                    FORMAT,
                    "report data hash type",
                    start + 12,
                    expected,
                    seen,
                ));
            }
        };
        let length = reader.u32("variable data size")? as usize;
        if data_size as usize != length.saturating_add(RUNTIME_HEADER) {
            let expected = format!("{RUNTIME_HEADER} and the {length} bytes of the variable data");
            return Err(Malformed::value(
                FORMAT,
                "runtime data size",
                start,
                expected,
                data_size.to_string(),
            ));
        }
        let runtime_data = reader.take("variable data", length)?.to_vec();
        let rest = reader.rest().len();
        reader.zeros("padding", rest)?;
        let hardware = match kind {
            KIND_SNP => Hardware::Snp(Box::new(snp::Report::parse(report)?)),
            KIND_TDX => Hardware::Tdx(Box::new(TdReport::parse(report)?)),
            other => {
                let seen = other.to_string();
                return Err(Malformed::unsupported(
                    FORMAT,
                    "report type",
                    start + 8,
                    "2 (SNP) or 4 (TDX)",
                    seen,
                ));
            }
        };
        let claims = RuntimeClaims::parse(&runtime_data)?;
        Ok(Self { version, hardware, digest, runtime_data, claims })
    }

    /// 1 or 2.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the hardware reports.
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// By which algorithm the hardware's report covers the runtime data.
    pub fn digest(&self) -> RuntimeDigest {
        self.digest
    }

    /// The bytes that the hardware's report covers: those of the declared length, without padding.
    pub fn runtime_data(&self) -> &[u8] {
        &self.runtime_data
    }

    /// What they say.
    pub fn claims(&self) -> &RuntimeClaims {
        &self.claims
    }
}

/// TDREPORT_STRUCT (Intel TDX Module ABI): what a quote repeats of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdReport {
    body: tdx::TdReport,
}

impl TdReport {
    /// The report in the form that quotes have: of TDX 1.5, where the module says so.
    pub fn body(&self) -> &tdx::TdReport {
        &self.body
    }

    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::at(FORMAT, bytes, 32);
        let kind = reader.array::<4>("REPORTTYPE")?;
        if kind[0] != 0x81 {
            return Err(Malformed::unsupported(FORMAT, "REPORTTYPE", 32, "0x81 (TDX)", hex::encode(kind)));
        }
        reader.take("reserved, CPUSVN and digests of the parts", 124)?;
        let report_data = reader.array("REPORTDATA")?;
        reader.take("reserved and MAC", 64)?;
        reader.take("VALID", 8)?;
        let tee_tcb_svn = reader.array("TEE_TCB_SVN")?;
        let mrseam = reader.array("MRSEAM")?;
        let mrsignerseam = reader.array("MRSIGNERSEAM")?;
        let seam_attributes = reader.u64("SEAMATTRIBUTES")?;
        let tee_tcb_svn_2 = reader.array("TEE_TCB_SVN2")?;
        reader.take("reserved", 512 - 400)?;
        let body = tdx::TdReport {
            extended: None,
            tee_tcb_svn,
            mrseam,
            mrsignerseam,
            seam_attributes,
            td_attributes: reader.u64("ATTRIBUTES")?,
            xfam: reader.u64("XFAM")?,
            mrtd: reader.array("MRTD")?,
            mrconfigid: reader.array("MRCONFIGID")?,
            mrowner: reader.array("MROWNER")?,
            mrownerconfig: reader.array("MROWNERCONFIG")?,
            rtmr: [
                reader.array("RTMR0")?,
                reader.array("RTMR1")?,
                reader.array("RTMR2")?,
                reader.array("RTMR3")?,
            ],
            report_data,
            td_1_5: Some(tdx::TdReport15 { tee_tcb_svn_2, mrservicetd: reader.array("SERVTD_HASH")? }),
        };
        let consumed = reader.offset() - 32;
        reader.take("reserved", TD_REPORT_LENGTH - consumed)?;
        reader.zeros("padding", HARDWARE_LENGTH - TD_REPORT_LENGTH)?;
        Ok(Self { body })
    }
}

/// What the paravisor puts under the hardware's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeClaims {
    /// The attestation key of the virtual TPM (`HCLAkPub`).
    pub attestation_key: PublicKey,
    /// How the VM is configured.
    pub configuration: VmConfiguration,
    /// What the guest wrote for the next report, in hexadecimal; nothing vouches for when.
    pub user_data: Option<String>,
}

/// How the paravisor says that the VM is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all(deserialize = "kebab-case"))]
pub struct VmConfiguration {
    /// Whether whoever runs the VM at Azure has a console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_enabled: Option<bool>,
    /// Whether Secure Boot is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// Whether there is a virtual TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm_enabled: Option<bool>,
    /// Whether the state of the virtual TPM outlives the VM's stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm_persisted: Option<bool>,
    /// Azure's identity of the VM.
    #[serde(default, rename(deserialize = "vmUniqueId"), skip_serializing_if = "Option::is_none")]
    pub vm_unique_id: Option<String>,
}

#[derive(Deserialize)]
struct WireClaims {
    keys: Vec<Jwk>,
    #[serde(default, rename = "vm-configuration")]
    configuration: Option<VmConfiguration>,
    #[serde(default, rename = "user-data")]
    user_data: Option<String>,
}

#[derive(Deserialize)]
struct Jwk {
    #[serde(default)]
    kid: String,
    kty: String,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
}

impl RuntimeClaims {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let wrong = |field, expected: &'static str, seen: String| {
            Malformed::value(FORMAT, field, HARDWARE_LENGTH + 52, expected, seen)
        };
        let claims: WireClaims = serde_json::from_slice(bytes)
            .map_err(|error| wrong("runtime data", "JSON with keys", error.to_string()))?;
        let mut keys = claims.keys.into_iter().filter(|key| key.kid == "HCLAkPub");
        let (Some(key), None) = (keys.next(), keys.next()) else {
            return Err(wrong("keys", "HCLAkPub, once", "none, or several".into()));
        };
        let (Some(n), Some(e), "RSA") = (key.n, key.e, key.kty.as_str()) else {
            return Err(wrong("HCLAkPub", "an RSA key", key.kty));
        };
        let (n, e) = (Blob::Text(n).base64("n")?, Blob::Text(e).base64("e")?);
        Ok(Self {
            attestation_key: PublicKey::from_rsa(&n, &e),
            configuration: claims.configuration.unwrap_or_default(),
            user_data: claims.user_data,
        })
    }
}
