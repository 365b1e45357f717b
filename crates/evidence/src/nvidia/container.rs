//! The forms in which reports come: bytes, hexadecimal text, and the JSON of NVIDIA's attestation SDK and
//! remote attestation service, of Veraison and of Trustee. Those all have objects with a report and a
//! certificate chain, and differ in what is around them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Device;
use super::report::{Report, START};
use crate::{CertificateDer, Malformed, pem};

const FORMAT: &str = "NVIDIA Evidence";
/// A machine has eight GPUs and four switches; this leaves room for racks.
const MAX_DEVICES: usize = 96;

/// Whether bytes look like a report in any of the forms.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    match bytes.trim_ascii_start() {
        [b'[' | b'{', ..] => {
            [&b"\"evidence\""[..], b"\"certificate\""].iter().all(|key| contains(bytes, key))
        }
        text if text.first_chunk::<8>().is_some_and(|head| is_start(&hex_bytes(head))) => true,
        _ => bytes.first_chunk::<4>() == Some(&START),
    }
}

fn is_start(head: &[u8]) -> bool {
    head == START
}

fn hex_bytes(text: &[u8]) -> Vec<u8> {
    hex::decode(text).unwrap_or_default()
}

fn contains(bytes: &[u8], key: &[u8]) -> bool {
    bytes.windows(key.len()).any(|window| window == key)
}

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Device>, Malformed> {
    if bytes.first_chunk::<4>() == Some(&START) {
        return Ok(vec![Device { report: Report::parse(bytes)?, chain: Vec::new(), architecture: None }]);
    }
    match bytes.trim_ascii().first() {
        Some(b'[' | b'{') => parse_json(bytes),
        _ => {
            let report =
                hex::decode(bytes.trim_ascii()).map_err(|error| fault("hexadecimal", error.to_string()))?;
            Ok(vec![Device { report: Report::parse(&report)?, chain: Vec::new(), architecture: None }])
        }
    }
}

fn fault(field: &'static str, seen: impl Into<String>) -> Malformed {
    Malformed::value(FORMAT, field, 0, "reports with their certificate chains", seen)
}

/// A device, as all of them write it. Foreign formats: what is not read is not relied on.
#[derive(Deserialize)]
struct Item {
    /// Base64 or hexadecimal.
    evidence: String,
    /// PEM, or base64 of it.
    certificate: String,
    #[serde(default)]
    arch: Option<String>,
    #[serde(default)]
    nonce: Option<String>,
}

/// The object around devices, or around one alone.
#[derive(Deserialize)]
struct Object {
    /// Requests to NVIDIA's remote attestation service.
    evidence_list: Option<Vec<Item>>,
    /// Trustee.
    device_evidence_list: Option<Vec<Item>>,
    evidence: Option<String>,
    certificate: Option<String>,
    arch: Option<String>,
    nonce: Option<String>,
}

fn parse_json(bytes: &[u8]) -> Result<Vec<Device>, Malformed> {
    let unreadable = |error: serde_json::Error| fault("JSON", error.to_string());
    let (items, nonce, arch) = if bytes.trim_ascii_start().starts_with(b"[") {
        // NVIDIA's attestation SDK, and Veraison.
        (serde_json::from_slice(bytes).map_err(unreadable)?, None, None)
    } else {
        let object: Object = serde_json::from_slice(bytes).map_err(unreadable)?;
        let one = object.evidence.zip(object.certificate);
        let one =
            one.map(|(evidence, certificate)| vec![Item { evidence, certificate, arch: None, nonce: None }]);
        match (object.evidence_list, object.device_evidence_list, one) {
            (Some(items), None, None) | (None, Some(items), None) | (None, None, Some(items)) => {
                (items, object.nonce, object.arch)
            }
            _ => return Err(fault("JSON", "another object")),
        }
    };
    if !(1..=MAX_DEVICES).contains(&items.len()) {
        return Err(fault("devices", format!("{} of them", items.len())));
    }
    let devices = items.into_iter().map(|mut item: Item| {
        item.nonce = item.nonce.or_else(|| nonce.clone());
        item.arch = item.arch.or_else(|| arch.clone());
        item.device()
    });
    devices.collect()
}

impl Item {
    fn device(self) -> Result<Device, Malformed> {
        let text = self.evidence.trim();
        let report = match hex::decode(text) {
            Ok(report) => report,
            Err(_) => STANDARD.decode(text).map_err(|error| fault("evidence", error.to_string()))?,
        };
        let report = Report::parse(&report)?;
        if let Some(nonce) = &self.nonce
            && !nonce.eq_ignore_ascii_case(&hex::encode(report.nonce()))
        {
            let expected = hex::encode(report.nonce());
            return Err(Malformed::value(
                FORMAT,
                "nonce",
                0,
                expected,
                nonce.chars().take(80).collect::<String>(),
            ));
        }
        Ok(Device { report, chain: chain(self.certificate.as_bytes())?, architecture: self.arch })
    }
}

/// A certificate chain: PEM, DER, or base64 of one of them.
pub(super) fn chain(text: &[u8]) -> Result<Vec<CertificateDer>, Malformed> {
    // What base64 makes of `-----BEGIN` and of the header of a certificate.
    match text.trim_ascii_start().starts_with(b"LS0tLS1CRUdJT") || text.starts_with(b"MII") {
        true => {
            let inner = STANDARD
                .decode(text.trim_ascii())
                .map_err(|error| fault("certificate", error.to_string()))?;
            pem::certificates(&inner)
        }
        false => pem::certificates(text),
    }
}
