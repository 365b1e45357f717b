//! Intel SGX: quotes of version 3, 4 and 5, and the enclave report that they carry (Intel SGX DCAP Quote Generation
//! Library, appendix A.3 and A.4; `sgx_quote_4.h`, `sgx_quote_5.h`). TDX quotes carry one too, that of their quoting
//! enclave.

use std::collections::BTreeMap;

use crate::Malformed;
use crate::quote::{BODY_ENCLAVE, Header, SignatureData, TEE_TYPE_SGX, read_body_kind, read_tail};
use crate::reader::Reader;

const FORMAT: &str = "SGX quote";
const REPORT_LENGTH: usize = 384;

/// ATTRIBUTES: the enclave has been initialised; set in every report.
pub const ATTRIBUTE_INIT: u64 = 1;
/// ATTRIBUTES: a debugger may read and change the enclave.
pub const ATTRIBUTE_DEBUG: u64 = 1 << 1;
/// ATTRIBUTES: the enclave runs in 64-bit mode.
pub const ATTRIBUTE_MODE64: u64 = 1 << 2;
/// ATTRIBUTES: the enclave may derive the provisioning key, and so recognise the platform for ever.
pub const ATTRIBUTE_PROVISION_KEY: u64 = 1 << 4;
/// ATTRIBUTES: the enclave may derive the key that launches enclaves.
pub const ATTRIBUTE_EINITTOKEN_KEY: u64 = 1 << 5;
/// ATTRIBUTES: control-flow enforcement.
pub const ATTRIBUTE_CET: u64 = 1 << 6;
/// ATTRIBUTES: key separation and sharing; CONFIGID and the extended ids mean something.
pub const ATTRIBUTE_KSS: u64 = 1 << 7;
/// ATTRIBUTES: the enclave is told of asynchronous exits (a defence against single stepping).
pub const ATTRIBUTE_AEX_NOTIFY: u64 = 1 << 10;

/// An SGX quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    header: Header,
    report: Box<EnclaveReport>,
    signed: Vec<u8>,
    signature_data: SignatureData,
    padding: usize,
}

impl Quote {
    /// Parses a quote.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as the format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(FORMAT, bytes);
        let header = Header::read(FORMAT, TEE_TYPE_SGX, &mut reader)?;
        match header.version {
            3 | 4 => {}
            5 => {
                let known = [(BODY_ENCLAVE, REPORT_LENGTH)];
                read_body_kind(FORMAT, &mut reader, &known, "1 (enclave report)")?;
            }
            other => {
                return Err(Malformed::unsupported(FORMAT, "version", 0, "3, 4 or 5", other.to_string()));
            }
        }
        let report = Box::new(EnclaveReport::read(&mut reader)?);
        let signed = bytes[..reader.offset()].to_vec();
        let (data, start, padding) = read_tail(FORMAT, &mut reader)?;
        let signature_data = match header.version {
            3 => SignatureData::read_v3(FORMAT, data, start)?,
            _ => SignatureData::read_v4(FORMAT, data, start)?,
        };
        Ok(Self { header, report, signed, signature_data, padding })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What the CPU reported of the enclave.
    pub fn report(&self) -> &EnclaveReport {
        &self.report
    }

    /// The bytes that the attestation key signed: header, body descriptor (version 5) and report.
    pub fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// The signature and what certifies it.
    pub fn signature_data(&self) -> &SignatureData {
        &self.signature_data
    }

    /// How many zero bytes followed the quote.
    pub fn padding(&self) -> usize {
        self.padding
    }
}

/// What the CPU reports of an enclave (Intel SDM volume 3D, REPORT; 384 bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnclaveReport {
    /// Security version of the CPU, opaque; the PCK certificate spells out its components.
    pub cpu_svn: [u8; 16],
    /// Extended state saved on exceptions.
    pub misc_select: u32,
    /// Extended product id.
    pub isv_ext_prod_id: [u8; 16],
    /// ATTRIBUTES.FLAGS: INIT, DEBUG, MODE64BIT, PROVISIONKEY, EINITTOKENKEY, KSS and more.
    pub attributes: u64,
    /// ATTRIBUTES.XFRM: which extended CPU state the enclave uses.
    pub xfrm: u64,
    /// The measurement of the enclave's code and data.
    pub mrenclave: [u8; 32],
    /// SHA-256 of the signer's public key.
    pub mrsigner: [u8; 32],
    /// What the launcher configured.
    pub config_id: [u8; 64],
    /// The signer's product id.
    pub isv_prod_id: u16,
    /// The signer's security version.
    pub isv_svn: u16,
    /// The security version of what the launcher configured.
    pub config_svn: u16,
    /// The signer's product family id.
    pub isv_family_id: [u8; 16],
    /// 64 bytes that the enclave chose.
    pub report_data: [u8; 64],
}

impl EnclaveReport {
    /// Everything measured, by the name that verdicts and reference values use.
    pub fn measured(&self) -> BTreeMap<String, String> {
        [
            ("mrenclave", hex::encode(self.mrenclave)),
            ("mrsigner", hex::encode(self.mrsigner)),
            ("isv_prod_id", self.isv_prod_id.to_string()),
            ("isv_svn", self.isv_svn.to_string()),
            ("config_id", hex::encode(self.config_id)),
            ("config_svn", self.config_svn.to_string()),
            ("isv_ext_prod_id", hex::encode(self.isv_ext_prod_id)),
            ("isv_family_id", hex::encode(self.isv_family_id)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let cpu_svn = reader.array("CPUSVN")?;
        let misc_select = reader.u32("MISCSELECT")?;
        reader.take("reserved 1", 12)?;
        let isv_ext_prod_id = reader.array("ISVEXTPRODID")?;
        let attributes = reader.u64("ATTRIBUTES.FLAGS")?;
        let xfrm = reader.u64("ATTRIBUTES.XFRM")?;
        let mrenclave = reader.array("MRENCLAVE")?;
        reader.take("reserved 2", 32)?;
        let mrsigner = reader.array("MRSIGNER")?;
        reader.take("reserved 3", 32)?;
        let config_id = reader.array("CONFIGID")?;
        let isv_prod_id = reader.u16("ISVPRODID")?;
        let isv_svn = reader.u16("ISVSVN")?;
        let config_svn = reader.u16("CONFIGSVN")?;
        reader.take("reserved 4", 42)?;
        let isv_family_id = reader.array("ISVFAMILYID")?;
        let report_data = reader.array("REPORTDATA")?;
        Ok(Self {
            cpu_svn,
            misc_select,
            isv_ext_prod_id,
            attributes,
            xfrm,
            mrenclave,
            mrsigner,
            config_id,
            isv_prod_id,
            isv_svn,
            config_svn,
            isv_family_id,
            report_data,
        })
    }

    /// Whether a debugger may read the enclave.
    pub fn is_debug(&self) -> bool {
        self.attributes & ATTRIBUTE_DEBUG != 0
    }
}
