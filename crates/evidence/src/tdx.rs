//! Intel TDX: quotes of version 4 and 5, with TD reports of TDX 1.0 and 1.5, and the extended one of later modules
//! (Intel TDX DCAP Quote Generation Library, appendix A; `sgx_quote_5.h`).

use std::collections::BTreeMap;

use crate::Malformed;
use crate::eventlog::EventLog;
use crate::quote::{
    BODY_TD_1_0, BODY_TD_1_5, BODY_TD_1_5_EXTENDED, Header, SignatureData, TEE_TYPE_TDX, read_body_kind,
    read_tail,
};
use crate::reader::Reader;

const FORMAT: &str = "TDX quote";
const BODIES: [(u16, usize); 3] = [(BODY_TD_1_0, 584), (BODY_TD_1_5, 648), (BODY_TD_1_5_EXTENDED, 885)];

// TD attributes (Intel TDX Module ABI specification, table "ATTRIBUTES").
/// The host may read and change the TD.
pub const ATTRIBUTE_DEBUG: u64 = 1;
/// The host may use performance counters that count the TD (HGS+ profiling and performance monitoring): bits 4 to 6.
pub const ATTRIBUTES_PROFILING: u64 = 0b111 << 4;
/// Attributes of group TUD ("TD under debug"), bits 0 to 7: all of them weaken the TD.
pub const ATTRIBUTES_UNDER_DEBUG: u64 = 0xff;
/// A defence against single stepping that counts instructions.
pub const ATTRIBUTE_ICSSD: u64 = 1 << 16;
/// The TD report tells of the service TDs that were bound, and when.
pub const ATTRIBUTE_SERVTD_EXT: u64 = 1 << 17;
/// Linear address space separation.
pub const ATTRIBUTE_LASS: u64 = 1 << 27;
/// No #VE on pending pages, so that the host cannot remap them unseen.
pub const ATTRIBUTE_SEPT_VE_DISABLE: u64 = 1 << 28;
/// The TD may be migrated to another machine.
pub const ATTRIBUTE_MIGRATABLE: u64 = 1 << 29;
/// Supervisor protection keys.
pub const ATTRIBUTE_PKS: u64 = 1 << 30;
/// Key Locker.
pub const ATTRIBUTE_KL: u64 = 1 << 31;
/// The TD is a provisioning agent of TDX Connect.
pub const ATTRIBUTE_TPA: u64 = 1 << 62;
/// Performance counters, which leak what the TD does.
pub const ATTRIBUTE_PERFMON: u64 = 1 << 63;

/// A TDX quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    header: Header,
    report: Box<TdReport>,
    signed: Vec<u8>,
    signature_data: SignatureData,
    padding: usize,
    event_log: Option<EventLog>,
}

impl Quote {
    /// Parses a quote.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as the format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(FORMAT, bytes);
        let header = Header::read(FORMAT, TEE_TYPE_TDX, &mut reader)?;
        let report = Box::new(match header.version {
            4 => TdReport::read_1_0(&mut reader)?,
            5 => read_described_body(&mut reader)?,
            other => {
                return Err(Malformed::unsupported(FORMAT, "version", 0, "4 or 5", other.to_string()));
            }
        });
        let signed = bytes[..reader.offset()].to_vec();
        let (data, start, padding) = read_tail(FORMAT, &mut reader)?;
        let signature_data = SignatureData::read_v4(FORMAT, data, start)?;
        Ok(Self { header, report, signed, signature_data, padding, event_log: None })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What the TDX module reported of the TD.
    pub fn report(&self) -> &TdReport {
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

    /// The log of what was extended into RTMR 0 to 3, where it was attached.
    pub fn event_log(&self) -> Option<&EventLog> {
        self.event_log.as_ref()
    }

    pub(crate) fn attach(&mut self, log: EventLog) {
        self.event_log = Some(log);
    }

    /// How many zero bytes followed the quote.
    pub fn padding(&self) -> usize {
        self.padding
    }
}

fn read_described_body(reader: &mut Reader<'_>) -> Result<TdReport, Malformed> {
    let expected = "2 (TD report 1.0), 3 (1.5) or 4 (1.5, extended)";
    match read_body_kind(FORMAT, reader, &BODIES, expected)? {
        BODY_TD_1_0 => TdReport::read_1_0(reader),
        BODY_TD_1_5 => TdReport::read_1_5(reader),
        _ => TdReport::read_extended(reader),
    }
}

/// What the TDX module reports of a TD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdReport {
    /// Security versions at the TD's launch: 0 is the module's minor, 1 its major version, 2 the microcode.
    pub tee_tcb_svn: [u8; 16],
    /// Measurement of the TDX module.
    pub mrseam: [u8; 48],
    /// Signer of the TDX module; zero for Intel's.
    pub mrsignerseam: [u8; 48],
    /// Attributes of the TDX module.
    pub seam_attributes: u64,
    /// Attributes of the TD.
    pub td_attributes: u64,
    /// Which extended CPU state the TD uses.
    pub xfam: u64,
    /// Measurement of the TD's first memory.
    pub mrtd: [u8; 48],
    /// What the launcher configured.
    pub mrconfigid: [u8; 48],
    /// The TD's owner, as its launcher says.
    pub mrowner: [u8; 48],
    /// The owner's configuration, as the launcher says.
    pub mrownerconfig: [u8; 48],
    /// Measurement registers that firmware and kernel extend.
    pub rtmr: [[u8; 48]; 4],
    /// 64 bytes that the TD chose.
    pub report_data: [u8; 64],
    /// What TDX 1.5 adds.
    pub td_1_5: Option<TdReport15>,
    /// What the extended report of TDX 1.5 adds to that.
    pub extended: Option<Box<TdReportExtended>>,
}

/// What a TD report of TDX 1.5 adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdReport15 {
    /// Security versions now: the module may have been updated under the running TD.
    pub tee_tcb_svn_2: [u8; 16],
    /// Digest of the service TDs bound to this one (such as a migration TD); zero when there are none.
    pub mrservicetd: [u8; 48],
}

/// What the extended TD report of TDX 1.5 adds (`sgx_report2_body_v1_5_ex_t`, 237 bytes). What is said of service
/// TDs is zero unless the TD has [`ATTRIBUTE_SERVTD_EXT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdReportExtended {
    /// Which partition of the TD asked for the report; 0 when it is not partitioned.
    pub vm_id: u8,
    /// The instance of the TD: another one at each launch, the same after a migration.
    pub td_id: [u8; 32],
    /// Digest of what is known of attached devices.
    pub device_info: [u8; 48],
    /// Digest of the service TDs that were bound at the launch.
    pub initial_service_td: [u8; 48],
    /// Their attributes.
    pub initial_service_td_attributes: u64,
    /// The CPU's security version at the launch.
    pub initial_cpu_svn: [u8; 16],
    /// Security versions at the first launch, before any migration.
    pub initial_tee_tcb_svn: [u8; 16],
    /// Family and model of the platform of the launch.
    pub initial_fmspc: [u8; 12],
    /// Digest of the service TDs that are bound now.
    pub current_service_td: [u8; 48],
    /// Their attributes.
    pub current_service_td_attributes: u64,
}

impl TdReport {
    /// Everything measured, by the name that verdicts and reference values use.
    pub fn measured(&self) -> BTreeMap<String, String> {
        let later = self.td_1_5.iter().map(|later| ("mrservicetd", later.mrservicetd));
        let now = self.extended.iter().map(|extended| ("mrservicetd_now", extended.current_service_td));
        [
            ("mrtd", self.mrtd),
            ("mrconfigid", self.mrconfigid),
            ("mrowner", self.mrowner),
            ("mrownerconfig", self.mrownerconfig),
            ("mrseam", self.mrseam),
            ("rtmr0", self.rtmr[0]),
            ("rtmr1", self.rtmr[1]),
            ("rtmr2", self.rtmr[2]),
            ("rtmr3", self.rtmr[3]),
        ]
        .into_iter()
        .chain(later)
        .chain(now)
        .map(|(name, value)| (name.to_owned(), digits(&value)))
        .collect()
    }

    fn read_1_0(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            tee_tcb_svn: reader.array("TEE_TCB_SVN")?,
            mrseam: reader.array("MRSEAM")?,
            mrsignerseam: reader.array("MRSIGNERSEAM")?,
            seam_attributes: reader.u64("SEAMATTRIBUTES")?,
            td_attributes: reader.u64("TDATTRIBUTES")?,
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
            report_data: reader.array("REPORTDATA")?,
            td_1_5: None,
            extended: None,
        })
    }

    fn read_1_5(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let base = Self::read_1_0(reader)?;
        let td_1_5 = TdReport15 {
            tee_tcb_svn_2: reader.array("TEE_TCB_SVN2")?,
            mrservicetd: reader.array("MRSERVICETD")?,
        };
        Ok(Self { td_1_5: Some(td_1_5), ..base })
    }

    fn read_extended(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let base = Self::read_1_5(reader)?;
        let extended = TdReportExtended {
            vm_id: reader.u8("VMID")?,
            td_id: reader.array("TD_ID")?,
            device_info: reader.array("DEV_INFO")?,
            initial_service_td: reader.array("INIT_SERVTD_HASH")?,
            initial_service_td_attributes: reader.u64("INIT_SERVTD_ATTRIBUTES")?,
            initial_cpu_svn: reader.array("INIT_CPUSVN")?,
            initial_tee_tcb_svn: reader.array("INIT_TEE_TCB_SVN")?,
            initial_fmspc: reader.array("INIT_TEE_FMSPC")?,
            current_service_td: reader.array("CUR_SERVTD_HASH")?,
            current_service_td_attributes: reader.u64("CUR_SERVTD_ATTRIBUTES")?,
        };
        Ok(Self { extended: Some(Box::new(extended)), ..base })
    }

    /// Whether the host may read and change the TD.
    pub fn is_debug(&self) -> bool {
        self.td_attributes & ATTRIBUTES_UNDER_DEBUG != 0
    }
}

/// Hexadecimal digits, written at once: `hex::encode` goes through characters, and a verdict shows nine registers.
fn digits(bytes: &[u8]) -> String {
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
    let text = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
    // Digits are text.
    String::from_utf8(text).unwrap_or_default()
}
