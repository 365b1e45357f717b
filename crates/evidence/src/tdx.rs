//! Intel TDX: quotes of version 4 and 5, with TD reports of TDX 1.0 and 1.5 (Intel TDX DCAP Quote
//! Generation Library, appendix A). The body of kind 4 of later modules is refused by name: fields that we
//! do not understand may not be ignored.

use std::collections::BTreeMap;

use crate::Malformed;
use crate::eventlog::EventLog;
use crate::quote::{Header, SignatureData, TEE_TYPE_TDX, read_tail};
use crate::reader::Reader;

const FORMAT: &str = "TDX quote";
const BODY_TD_1_0: u16 = 2;
const BODY_TD_1_5: u16 = 3;
const TD_1_0_LENGTH: usize = 584;
const TD_1_5_LENGTH: usize = 648;

/// TD attribute: the host may read and change the TD.
pub const ATTRIBUTE_DEBUG: u64 = 1;
/// TD attribute: no #VE on pending pages, so that the host cannot remap them unseen.
pub const ATTRIBUTE_SEPT_VE_DISABLE: u64 = 1 << 28;
/// TD attribute: the TD may be migrated to another machine.
pub const ATTRIBUTE_MIGRATABLE: u64 = 1 << 29;
/// TD attribute: performance counters, which leak what the TD does.
pub const ATTRIBUTE_PERFMON: u64 = 1 << 63;
/// TD attributes of group TUD ("TD under debug"), bits 0 to 7: all of them weaken the TD.
pub const ATTRIBUTES_UNDER_DEBUG: u64 = 0xff;

/// A TDX quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    header: Header,
    report: TdReport,
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
        let report = match header.version {
            4 => TdReport::read_1_0(&mut reader)?,
            5 => read_described_body(&mut reader)?,
            other => {
                return Err(Malformed::unsupported(FORMAT, "version", 0, "4 or 5", other.to_string()));
            }
        };
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
    let kind_offset = reader.offset();
    let kind = reader.u16("body kind")?;
    let length_offset = reader.offset();
    let length = reader.u32("body length")? as usize;
    let expected = match kind {
        BODY_TD_1_0 => TD_1_0_LENGTH,
        BODY_TD_1_5 => TD_1_5_LENGTH,
        other => {
            let expected = "2 (TD report 1.0) or 3 (TD report 1.5)";
            return Err(Malformed::unsupported(
                FORMAT,
                "body kind",
                kind_offset,
                expected,
                other.to_string(),
            ));
        }
    };
    if length != expected {
        let expected = expected.to_string();
        return Err(Malformed::value(FORMAT, "body length", length_offset, expected, length.to_string()));
    }
    match kind {
        BODY_TD_1_0 => TdReport::read_1_0(reader),
        _ => TdReport::read_1_5(reader),
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
}

/// What a TD report of TDX 1.5 adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdReport15 {
    /// Security versions now: the module may have been updated under the running TD.
    pub tee_tcb_svn_2: [u8; 16],
    /// Digest of the service TDs bound to this one (such as a migration TD); zero when there are none.
    pub mrservicetd: [u8; 48],
}

impl TdReport {
    /// Everything measured, by the name that verdicts and reference values use.
    pub fn measured(&self) -> BTreeMap<String, String> {
        [
            ("mrtd", digits(&self.mrtd)),
            ("mrconfigid", digits(&self.mrconfigid)),
            ("mrowner", digits(&self.mrowner)),
            ("mrownerconfig", digits(&self.mrownerconfig)),
            ("mrseam", digits(&self.mrseam)),
            ("rtmr0", digits(&self.rtmr[0])),
            ("rtmr1", digits(&self.rtmr[1])),
            ("rtmr2", digits(&self.rtmr[2])),
            ("rtmr3", digits(&self.rtmr[3])),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
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
