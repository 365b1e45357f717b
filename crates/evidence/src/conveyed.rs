//! What people have in files: Evidence as it is, as text, or in one of the envelopes in which it is conveyed
//! (RFC 9334, §2 "conveyance"), with Endorsements stapled to it. Several pieces make Composite Evidence.
//!
//! Known: raw Evidence of every kind; hexadecimal and base64 text of it; CMW records and collections
//! ([`crate::cmw`]); the kernel's TSM report as JSON or CBOR (`provider`, `outblob`, `auxblob`); an SNP report
//! followed by the certificate table of the GHCB specification; `{"quote": …}` and `{"attestation_report": …}`, also by members
//! ([`crate::coco`]); RA-TLS
//! certificates ([`crate::ra_tls`]).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use ciborium::Value;
use serde::Deserialize;

use crate::cmw::{Cmw, Indicator};
use crate::{Evidence, MAX_EVIDENCE, Malformed, coco, ra_tls, snp};

const FORMAT: &str = "envelope";
/// How many wrappings are taken off: text of a CMW of text, and no more.
const MAX_DEPTH: usize = 4;
/// No more pieces of Evidence are taken from one envelope.
pub const MAX_PIECES: usize = 32;
/// Of a SEV-SNP certificate table (GHCB specification, §4.1.8.1): a GUID, an offset and a length.
const TABLE_ENTRY: usize = 24;
const MAX_TABLE_ENTRIES: usize = 16;

/// Everything that one file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conveyed {
    /// Evidence, by the label that the envelope gives it; empty where it gives none.
    pub evidence: Vec<(String, Evidence)>,
    /// Files of Endorsements that came with it, not looked at.
    pub stapled: Vec<Vec<u8>>,
    /// The certificate that the Evidence is in, and whose key it is about.
    pub certificate: Option<ra_tls::Certificate>,
}

impl Conveyed {
    /// Takes Evidence out of whatever holds it.
    ///
    /// # Errors
    /// [`Malformed`] when there is no Evidence in it, or when what looks like Evidence cannot be parsed.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > 2 * MAX_EVIDENCE {
            return Err(Malformed::too_long(FORMAT, "length", 0, 2 * MAX_EVIDENCE, bytes.len()));
        }
        if ra_tls::Certificate::recognises(bytes) {
            let certificate = ra_tls::Certificate::parse(bytes)?;
            let evidence = vec![(String::new(), certificate.evidence.clone())];
            return Ok(Self { evidence, stapled: Vec::new(), certificate: Some(certificate) });
        }
        let mut conveyed = Self::default();
        conveyed.open(String::new(), bytes, 0)?;
        match conveyed.evidence.len() {
            0 => Err(Malformed::value(FORMAT, "contents", 0, "Evidence", "Endorsements only")),
            1..=MAX_PIECES => Ok(conveyed),
            count => Err(Malformed::value(
                FORMAT,
                "contents",
                0,
                "at most 32 pieces of Evidence",
                count.to_string(),
            )),
        }
    }

    fn open(&mut self, label: String, bytes: &[u8], depth: usize) -> Result<(), Malformed> {
        let plain = match Evidence::parse(bytes) {
            Ok(evidence) => {
                self.evidence.push((label, evidence));
                return Ok(());
            }
            Err(malformed) => malformed,
        };
        if depth >= MAX_DEPTH {
            return Err(plain);
        }
        if let Some((report, table)) = snp_with_table(bytes) {
            self.evidence.push((label, Evidence::parse(report)?));
            self.stapled.extend(table);
            return Ok(());
        }
        if let Some(report) = TsmReport::read(bytes) {
            return self.open_tsm(label, &report, depth);
        }
        if coco::recognises_snp(bytes) {
            let conveyed = coco::read_snp(bytes)?;
            self.evidence
                .extend(conveyed.evidence.into_iter().map(|(_, evidence)| (label.clone(), evidence)));
            self.stapled.extend(conveyed.stapled);
            return Ok(());
        }
        if let Some(named) = Named::read(bytes) {
            self.stapled.extend(named.stapled);
            return self.open(label, &named.evidence, depth + 1);
        }
        if Cmw::recognises(bytes) {
            return self.open_cmw(&label, &Cmw::parse(bytes)?, depth);
        }
        match text(bytes) {
            Some(decoded) => self.open(label, &decoded, depth + 1),
            None => Err(plain),
        }
    }

    fn open_tsm(&mut self, label: String, report: &TsmReport, depth: usize) -> Result<(), Malformed> {
        match report.provider.trim_matches(['\n', '\0', ' ']) {
            "sev_guest" => {
                self.stapled.extend(certificate_table(&report.auxblob).unwrap_or_default());
                self.open(label, &report.outblob, depth + 1)
            }
            "tdx_guest" => self.open(label, &report.outblob, depth + 1),
            other => Err(Malformed::unsupported(
                "TSM report",
                "provider",
                0,
                "sev_guest or tdx_guest",
                other.chars().take(40).collect::<String>(),
            )),
        }
    }

    fn open_cmw(&mut self, label: &str, cmw: &Cmw, depth: usize) -> Result<(), Malformed> {
        for (path, _, value, indicator) in cmw.records() {
            let path = match (label, path.as_str()) {
                ("", path) => path.to_owned(),
                (label, "") => label.to_owned(),
                (label, path) => format!("{label}/{path}"),
            };
            if indicator.allows(Indicator::EVIDENCE) {
                self.open(path, value, depth + 1)?;
            } else if indicator.allows(Indicator::ENDORSEMENTS) {
                self.stapled.push(value.to_vec());
            }
        }
        Ok(())
    }
}

/// An SNP report with something after it: the certificates that the host gave with it.
pub(crate) fn snp_with_table(bytes: &[u8]) -> Option<(&[u8], Vec<Vec<u8>>)> {
    let (report, table) = bytes.split_at_checked(snp::REPORT_LENGTH)?;
    let version = u32::from_le_bytes(*report.first_chunk()?);
    (snp::OLDEST_VERSION..=snp::NEWEST_VERSION).contains(&version).then_some(())?;
    Some((report, certificate_table(table)?))
}

/// The certificates of a table, in its order. None when it is no such table. The host fills it: nothing in it is
/// trusted.
pub fn certificate_table(table: &[u8]) -> Option<Vec<Vec<u8>>> {
    Some(certificate_entries(table)?.into_iter().map(|(_, certificate)| certificate).collect())
}

/// As [`certificate_table`], with the GUID of each entry that says what it is.
pub(crate) fn certificate_entries(table: &[u8]) -> Option<Vec<([u8; 16], Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in table.chunks_exact(TABLE_ENTRY).take(MAX_TABLE_ENTRIES) {
        if entry.iter().all(|&byte| byte == 0) {
            return Some(found);
        }
        let number = |at: usize| Some(u32::from_le_bytes(*entry.get(at..)?.first_chunk()?) as usize);
        let (offset, length) = (number(16)?, number(20)?);
        if length != 0 {
            let certificate = table.get(offset..offset.checked_add(length)?)?.to_vec();
            found.push((*entry.first_chunk()?, certificate));
        }
    }
    None
}

/// The kernel's configfs-tsm report, as ratsd and others pass it on.
#[derive(Deserialize)]
struct TsmReport {
    provider: String,
    outblob: Vec<u8>,
    auxblob: Vec<u8>,
}

impl TsmReport {
    fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? {
            b'{' => {
                #[derive(Deserialize)]
                struct Wire {
                    provider: String,
                    outblob: String,
                    #[serde(default)]
                    auxblob: String,
                }
                let end = bytes.iter().rposition(|byte| *byte != 0)?;
                let wire: Wire = serde_json::from_slice(&bytes[..=end]).ok()?;
                Some(Self {
                    provider: wire.provider,
                    outblob: base64(wire.outblob.as_bytes())?,
                    auxblob: base64(wire.auxblob.as_bytes())?,
                })
            }
            0xa1..=0xb7 => {
                let value: Value = ciborium::de::from_reader_with_recursion_limit(bytes, 4).ok()?;
                let map = value.as_map()?;
                let member = |name: &str| {
                    map.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
                };
                let bytes = |name| member(name).and_then(Value::as_bytes).cloned();
                Some(Self {
                    provider: member("provider")?.as_text()?.into(),
                    outblob: bytes("outblob")?,
                    auxblob: bytes("auxblob").unwrap_or_default(),
                })
            }
            _ => None,
        }
    }
}

/// A JSON object with Evidence under a telling name, as dstack (`quote`), attestation-rs
/// (`evidence.attestation_report`) and ratsd (`cmw`) write it.
struct Named {
    evidence: Vec<u8>,
    stapled: Vec<Vec<u8>>,
}

impl Named {
    fn read(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Outer {
            #[serde(default)]
            quote: Option<String>,
            #[serde(default)]
            cmw: Option<String>,
            #[serde(default)]
            evidence: Option<Inner>,
            #[serde(flatten)]
            inner: Inner,
        }
        #[derive(Default, Deserialize)]
        struct Inner {
            #[serde(default)]
            attestation_report: Option<String>,
            #[serde(default)]
            cert_chain: Option<Certificates>,
            #[serde(default)]
            quote: Option<String>,
        }
        #[derive(Deserialize)]
        struct Certificates {
            #[serde(default)]
            vcek: Option<String>,
            #[serde(default)]
            vlek: Option<String>,
        }
        (bytes.first()? == &b'{').then_some(())?;
        let outer: Outer = serde_json::from_slice(bytes).ok()?;
        let inner = outer.evidence.unwrap_or(outer.inner);
        let evidence = outer.quote.or(outer.cmw).or(inner.attestation_report).or(inner.quote)?;
        let certificates = inner.cert_chain.into_iter().flat_map(|chain| [chain.vcek, chain.vlek]);
        Some(Self {
            evidence: text(evidence.as_bytes())?,
            stapled: certificates.flatten().filter_map(|certificate| text(certificate.as_bytes())).collect(),
        })
    }
}

/// Bytes from hexadecimal or base64, with white space between. None when it is neither.
fn text(bytes: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digits = digits.strip_prefix(b"0x").unwrap_or(&digits);
    // Whatever is all hexadecimal is taken for it: no Evidence is base64 of hexadecimal digits only.
    if digits.len() < 16 {
        return None;
    }
    hex::decode(digits).ok().or_else(|| base64(digits))
}

fn base64(digits: &[u8]) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|alphabet| alphabet.decode(digits).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_lies_about_lengths_is_no_table() {
        let mut table = vec![1; 16];
        table.extend_from_slice(&48u32.to_le_bytes());
        table.extend_from_slice(&4u32.to_le_bytes());
        table.extend_from_slice(&[0; 24]);
        table.extend_from_slice(b"cert");
        assert_eq!(certificate_table(&table), Some(vec![b"cert".to_vec()]));
        for (at, value) in [(16, u32::MAX), (20, u32::MAX), (20, 5), (16, 49)] {
            let mut wrong = table.clone();
            wrong[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!(certificate_table(&wrong), None, "{at}");
        }
        // No end.
        assert_eq!(certificate_table(&table[..24]), None);
        assert_eq!(certificate_table(&[1; 24 * 40]), None);
    }

    #[test]
    fn wrapping_upon_wrapping_ends() {
        let mut bytes = vec![0xff; 40];
        for _ in 0..12 {
            bytes = URL_SAFE_NO_PAD.encode(&bytes).into_bytes();
        }
        assert!(Conveyed::parse(&bytes).is_err());
        assert!(Conveyed::parse(b"").is_err());
        assert!(Conveyed::parse(&vec![b'A'; 2 * MAX_EVIDENCE + 1]).is_err());
    }
}
