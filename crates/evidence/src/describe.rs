//! What Evidence says, field by field, for people and programs that look at it. Nothing in it is verified.

use serde::Serialize;

use crate::quote::{CertificationData, SignatureData};
use crate::sgx::EnclaveReport;
use crate::snp::ReportBody;
use crate::tdx::TdReport;
use crate::{Evidence, nitro, sgx, snp, tdx};

/// A field: its name, and a value or more fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name.
    pub name: String,
    /// What it holds.
    pub value: Value,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text: digits for numbers, hexadecimal for bytes.
    Text(String),
    /// Further fields.
    Fields(Vec<Field>),
}

/// A list of fields, which is an object in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description(pub Vec<Field>);

impl Serialize for Description {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        object(&self.0, serializer)
    }
}

fn object<S: serde::Serializer>(fields: &[Field], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().map(|field| (&field.name, &field.value)))
}

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Fields(fields) => object(fields, serializer),
        }
    }
}

impl Description {
    /// The fields as a tree of lines.
    pub fn render(&self) -> String {
        let mut text = String::new();
        lines(&self.0, "", &mut text);
        text
    }
}

fn lines(fields: &[Field], indent: &str, text: &mut String) {
    let width = fields.iter().map(|field| field.name.chars().count()).max().unwrap_or_default();
    for (index, field) in fields.iter().enumerate() {
        let last = index + 1 == fields.len();
        let branch = if last { "└─ " } else { "├─ " };
        match &field.value {
            Value::Text(value) => {
                text.push_str(&format!("{indent}{branch}{:<width$}  {value}\n", field.name));
            }
            Value::Fields(inner) => {
                text.push_str(&format!("{indent}{branch}{}\n", field.name));
                lines(inner, &format!("{indent}{}", if last { "   " } else { "│  " }), text);
            }
        }
    }
}

fn text(name: impl Into<String>, value: impl ToString) -> Field {
    Field { name: name.into(), value: Value::Text(value.to_string()) }
}

fn bytes(name: &str, value: impl AsRef<[u8]>) -> Field {
    text(name, hex::encode(value))
}

fn hexadecimal(name: &str, value: u64) -> Field {
    text(name, format!("{value:#x}"))
}

fn group(name: impl Into<String>, fields: Vec<Field>) -> Field {
    Field { name: name.into(), value: Value::Fields(fields) }
}

/// The names of the bits that are set; those without a name by their number.
fn bits(name: &str, value: u64, names: &[(u32, &str)]) -> Field {
    let set = (0..64).filter(|bit| value & (1 << bit) != 0).map(|bit| {
        names
            .iter()
            .find(|(own, _)| *own == bit)
            .map_or_else(|| format!("bit {bit}"), |(_, name)| (*name).to_owned())
    });
    let set: Vec<_> = set.collect();
    text(name, if set.is_empty() { format!("{value:#x}") } else { format!("{value:#x}: {}", set.join(", ")) })
}

impl Evidence {
    /// What the Evidence says, field by field. Nothing of it is verified.
    pub fn describe(&self) -> Description {
        let mut fields = vec![text("platform", self.platform())];
        fields.extend(self.measurement().map(|measurement| text("measurement", measurement)));
        fields.push(bytes("report_data", self.covered().as_bytes()));
        fields.extend(match self {
            Self::Sgx(quote) => sgx_quote(quote),
            Self::Tdx(quote) => tdx_quote(quote),
            Self::Snp(report) => snp_report(report),
            Self::Nitro(document) => nitro_document(document),
            Self::Cca(_) | Self::Nvidia(_) | Self::Azure(_) | Self::Tpm(_) => measured(self),
        });
        if self.padding() > 0 {
            fields.push(text("padding_bytes", self.padding()));
        }
        Description(fields)
    }
}

/// What every kind of Evidence tells.
fn measured(evidence: &Evidence) -> Vec<Field> {
    let all = evidence.measured().into_iter().map(|(name, value)| text(name, value)).collect();
    vec![group("measured", all)]
}

fn sgx_quote(quote: &sgx::Quote) -> Vec<Field> {
    let header = quote.header();
    vec![
        text("version", header.version),
        text("qe_svn", header.qe_svn),
        text("pce_svn", header.pce_svn),
        bytes("qe_user_data", header.user_data),
        group("enclave", enclave(quote.report())),
        group("signature", signature(quote.signature_data())),
    ]
}

const SGX_ATTRIBUTES: [(u32, &str); 7] = [
    (0, "INIT"),
    (1, "DEBUG"),
    (2, "MODE64BIT"),
    (4, "PROVISION_KEY"),
    (5, "EINITTOKEN_KEY"),
    (6, "CET"),
    (7, "KSS"),
];

fn enclave(report: &EnclaveReport) -> Vec<Field> {
    vec![
        bytes("mrenclave", report.mrenclave),
        bytes("mrsigner", report.mrsigner),
        text("isv_prod_id", report.isv_prod_id),
        text("isv_svn", report.isv_svn),
        bits("attributes", report.attributes, &SGX_ATTRIBUTES),
        hexadecimal("xfrm", report.xfrm),
        hexadecimal("misc_select", report.misc_select.into()),
        bytes("cpu_svn", report.cpu_svn),
        bytes("config_id", report.config_id),
        text("config_svn", report.config_svn),
        bytes("isv_ext_prod_id", report.isv_ext_prod_id),
        bytes("isv_family_id", report.isv_family_id),
    ]
}

const TD_ATTRIBUTES: [(u32, &str); 8] = [
    (0, "DEBUG"),
    (27, "LASS"),
    (28, "SEPT_VE_DISABLE"),
    (29, "MIGRATABLE"),
    (30, "PKS"),
    (31, "KL"),
    (62, "TPA"),
    (63, "PERFMON"),
];

fn tdx_quote(quote: &tdx::Quote) -> Vec<Field> {
    let header = quote.header();
    let mut fields = vec![
        text("version", header.version),
        bytes("qe_user_data", header.user_data),
        group("td", td(quote.report())),
        group("signature", signature(quote.signature_data())),
    ];
    if let Some(log) = quote.event_log() {
        fields.push(text("event_log", format!("{} events", log.events().len())));
    }
    fields
}

fn td(report: &TdReport) -> Vec<Field> {
    let mut fields = vec![
        bytes("mrtd", report.mrtd),
        bytes("rtmr0", report.rtmr[0]),
        bytes("rtmr1", report.rtmr[1]),
        bytes("rtmr2", report.rtmr[2]),
        bytes("rtmr3", report.rtmr[3]),
        bits("td_attributes", report.td_attributes, &TD_ATTRIBUTES),
        hexadecimal("xfam", report.xfam),
        bytes("mrconfigid", report.mrconfigid),
        bytes("mrowner", report.mrowner),
        bytes("mrownerconfig", report.mrownerconfig),
        bytes("tee_tcb_svn", report.tee_tcb_svn),
        bytes("mrseam", report.mrseam),
        bytes("mrsignerseam", report.mrsignerseam),
        hexadecimal("seam_attributes", report.seam_attributes),
    ];
    if let Some(later) = &report.td_1_5 {
        fields.push(bytes("tee_tcb_svn_2", later.tee_tcb_svn_2));
        fields.push(bytes("mrservicetd", later.mrservicetd));
    }
    fields
}

fn signature(data: &SignatureData) -> Vec<Field> {
    let certified = match data.certification_data() {
        CertificationData::PckChain(chain) => format!("a PCK chain of {} certificates", chain.len()),
        other => format!("{other:?}").chars().take(60).collect(),
    };
    vec![
        bytes("attestation_key", data.attestation_key()),
        bytes("qe_mrsigner", data.qe_report().mrsigner),
        text("qe_isv_svn", data.qe_report().isv_svn),
        text("certified_by", certified),
    ]
}

const GUEST_POLICY: [(u32, &str); 10] = [
    (16, "SMT"),
    (17, "reserved one"),
    (18, "MIGRATE_MA"),
    (19, "DEBUG"),
    (20, "SINGLE_SOCKET"),
    (21, "CXL_ALLOW"),
    (22, "MEM_AES_256_XTS"),
    (23, "RAPL_DIS"),
    (24, "CIPHERTEXT_HIDING"),
    (25, "PAGE_SWAP_DISABLE"),
];
const PLATFORM_INFO: [(u32, &str); 7] = [
    (0, "SMT"),
    (1, "TSME"),
    (2, "ECC"),
    (3, "RAPL_DIS"),
    (4, "CIPHERTEXT_HIDING"),
    (5, "ALIAS_CHECK_COMPLETE"),
    (7, "SEV_TIO"),
];

fn snp_report(report: &snp::Report) -> Vec<Field> {
    let body = report.body();
    let firmware = |version: [u8; 3]| format!("{}.{} build {}", version[2], version[1], version[0]);
    let mut fields = vec![
        text("version", body.version),
        bytes("host_data", body.host_data),
        text("vmpl", body.vmpl),
        text("guest_svn", body.guest_svn),
        bits("guest_policy", body.policy & !0xffff, &GUEST_POLICY),
        text("abi_minimum", format!("{}.{}", body.policy >> 8 & 0xff, body.policy & 0xff)),
        bits("platform_info", body.platform_info, &PLATFORM_INFO),
        bytes("chip_id", body.chip_id),
        text("signing_key", format!("{:?}", body.signing_key()).to_uppercase()),
    ];
    if let Some(family) = body.family() {
        fields.push(text("family", family));
    }
    fields.push(group("tcb", tcbs(body)));
    fields.extend([
        text("current_firmware", firmware(body.current_firmware)),
        text("committed_firmware", firmware(body.committed_firmware)),
        bytes("family_id", body.family_id),
        bytes("image_id", body.image_id),
        bytes("id_key_digest", body.id_key_digest),
        bytes("author_key_digest", body.author_key_digest),
        bytes("report_id", body.report_id),
    ]);
    for (name, vector) in
        [("launch_mitigations", body.launch_mitigations), ("current_mitigations", body.current_mitigations)]
    {
        fields.extend(vector.map(|vector| hexadecimal(name, vector)));
    }
    fields
}

fn tcbs(body: &ReportBody) -> Vec<Field> {
    [
        ("reported", body.reported_tcb),
        ("current", body.current_tcb),
        ("committed", body.committed_tcb),
        ("launch", body.launch_tcb),
    ]
    .into_iter()
    .map(|(name, tcb)| match body.family().and_then(|family| tcb.components(family)) {
        Some(parts) => {
            let fmc = parts.fmc.map(|fmc| format!("fmc {fmc}, ")).unwrap_or_default();
            text(
                name,
                format!(
                    "{fmc}bootloader {}, tee {}, snp {}, microcode {}",
                    parts.bootloader, parts.tee, parts.snp, parts.microcode
                ),
            )
        }
        None => text(name, format!("{tcb:?}")),
    })
    .collect()
}

fn nitro_document(document: &nitro::Document) -> Vec<Field> {
    let pcrs = document.pcrs().iter().map(|(index, value)| bytes(&format!("pcr{index}"), value)).collect();
    let mut fields = vec![
        text("module_id", document.module_id()),
        text("timestamp_ms", document.timestamp_ms()),
        group("pcrs", pcrs),
    ];
    for (name, value) in [
        ("nonce", document.nonce()),
        ("user_data", document.user_data()),
        ("public_key", document.public_key()),
    ] {
        fields.extend(value.map(|value| bytes(name, value)));
    }
    fields
}
