//! Evidence as JSON, the way that attesters of Confidential Containers send it to a key broker (guest-components,
//! `attestation-agent/attester`), read and written.
//!
//! | platform | JSON |
//! |---|---|
//! | sgx | `{"quote": base64}` |
//! | tdx | `{"quote": base64, "cc_eventlog": base64 or null}` |
//! | snp | `{"attestation_report": {members of the `sev` crate}, "cert_chain": [{"cert_type", "data"}] or null}` |
//! | azure-snp, azure-tdx, tpm, nvidia | as their own modules read it |
//! | cca | `{"token": [bytes]}` |
//!
//! Where CoCo has bytes, text in base64 or an array of numbers is taken. Beside CoCo's members, our own guests add
//! `endorsements` (base64) where their platform gives them some, so that nobody has to fetch those; other brokers
//! ignore it.

mod snp;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::conveyed::{self, Conveyed};
use crate::eventlog::EventLog;
use crate::tpm::Blob;
use crate::{Evidence, MAX_EVIDENCE, Malformed, Platform};

pub(crate) use snp::{read as read_snp, recognises as recognises_snp};

const FORMAT: &str = "CoCo evidence";

/// Reads the Evidence of a platform, with what was stapled to it.
///
/// # Errors
/// [`Malformed`], also when it is Evidence of another platform.
pub fn read(platform: Platform, json: &[u8]) -> Result<Conveyed, Malformed> {
    if json.len() > 2 * MAX_EVIDENCE {
        return Err(Malformed::too_long(FORMAT, "length", 0, 2 * MAX_EVIDENCE, json.len()));
    }
    let conveyed = match platform {
        Platform::Snp => snp::read(json)?,
        Platform::Sgx | Platform::Tdx => wire::<WireQuote>(json)?.read()?,
        Platform::Cca => wire::<WireToken>(json)?.read()?,
        Platform::AzureSnp | Platform::AzureTdx | Platform::Tpm | Platform::Nvidia => {
            alone(Evidence::parse(json)?)
        }
        Platform::Nitro => {
            let expected = "a platform that the protocol knows";
            return Err(Malformed::unsupported(FORMAT, "platform", 0, expected, platform.as_str()));
        }
    };
    match conveyed.evidence.iter().find(|(_, evidence)| evidence.platform() != platform) {
        None => Ok(conveyed),
        Some((_, other)) => {
            Err(Malformed::value(FORMAT, "platform", 0, platform.as_str(), other.platform().as_str()))
        }
    }
}

/// Writes Evidence, which is as its platform gives it, with Endorsements as we carry them (none: empty).
///
/// # Errors
/// [`Malformed`] when it is no Evidence of a platform that the protocol knows.
pub fn write(evidence: &[u8], endorsements: &[u8]) -> Result<String, Malformed> {
    write_with_log(evidence, endorsements, None)
}

/// As [`write`], with the event log of a TDX guest (`CCEL`, and what the guest itself measured after it).
///
/// # Errors
/// As those of [`write`].
pub fn write_with_log(evidence: &[u8], endorsements: &[u8], log: Option<&[u8]>) -> Result<String, Malformed> {
    let endorsements = (!endorsements.is_empty()).then(|| Blob::Text(STANDARD.encode(endorsements)));
    let text = |bytes: &[u8]| Blob::Text(STANDARD.encode(bytes));
    let parsed = match Evidence::parse(evidence) {
        Ok(parsed) => parsed,
        // With the host's certificates after it.
        Err(malformed) => match conveyed::snp_with_table(evidence).map(|(report, _)| Evidence::parse(report))
        {
            Some(report) => report?,
            None => return Err(malformed),
        },
    };
    match parsed {
        Evidence::Snp(report) => snp::write(&report, evidence, endorsements),
        Evidence::Tdx(_) => {
            json(&WireQuote { quote: text(evidence), cc_eventlog: log.map(text), endorsements })
        }
        Evidence::Sgx(_) => json(&WireQuote { quote: text(evidence), cc_eventlog: None, endorsements }),
        Evidence::Cca(_) => json(&WireToken { token: Blob::Bytes(evidence.to_vec()) }),
        // Attesters of these make JSON in the first place.
        Evidence::Azure(_) | Evidence::Tpm(_) | Evidence::Nvidia(_)
            if evidence.trim_ascii_start().starts_with(b"{") =>
        {
            let text = String::from_utf8(evidence.to_vec());
            text.map_err(|error| Malformed::value(FORMAT, "JSON", 0, "UTF-8", error.to_string()))
        }
        other => {
            let expected = "Evidence of a platform that the protocol knows, in its form";
            Err(Malformed::unsupported(FORMAT, "platform", 0, expected, other.platform().as_str()))
        }
    }
}

fn json(wire: &impl Serialize) -> Result<String, Malformed> {
    serde_json::to_string(wire)
        .map_err(|error| Malformed::value(FORMAT, "JSON", 0, "text", error.to_string()))
}

fn wire<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, Malformed> {
    serde_json::from_slice(json).map_err(|error| {
        Malformed::value(FORMAT, "JSON", 0, "the members of its platform", error.to_string())
    })
}

fn alone(evidence: Evidence) -> Conveyed {
    Conveyed { evidence: vec![(String::new(), evidence)], ..Conveyed::default() }
}

#[derive(Serialize, Deserialize)]
struct WireQuote {
    quote: Blob,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cc_eventlog: Option<Blob>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endorsements: Option<Blob>,
}

impl WireQuote {
    fn read(self) -> Result<Conveyed, Malformed> {
        let evidence = Evidence::parse(&self.quote.base64("quote")?)?;
        let log = self.cc_eventlog.map(|log| log.base64("cc_eventlog")).transpose()?;
        let evidence = match log.as_deref() {
            None | Some([]) => evidence,
            Some(log) => {
                let platform = evidence.platform();
                evidence.with_event_log(EventLog::parse(log)?).map_err(|_| {
                    Malformed::value(FORMAT, "cc_eventlog", 0, "none on this platform", platform.as_str())
                })?
            }
        };
        let mut conveyed = alone(evidence);
        conveyed.stapled.extend(self.endorsements.map(|text| text.base64("endorsements")).transpose()?);
        Ok(conveyed)
    }
}

#[derive(Serialize, Deserialize)]
struct WireToken {
    token: Blob,
}

impl WireToken {
    fn read(self) -> Result<Conveyed, Malformed> {
        Ok(alone(Evidence::parse(&self.token.base64("token")?)?))
    }
}

/// CoCo's stand-in for Evidence: unsigned, and proof of nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// A number that the stand-in makes up.
    pub svn: String,
    /// What it covers.
    pub report_data: Vec<u8>,
}

impl Sample {
    /// Reads a stand-in.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(json: &[u8]) -> Result<Self, Malformed> {
        let wire: WireSample = wire(json)?;
        let report_data = Blob::Text(wire.report_data).base64("report_data")?;
        Ok(Self { svn: wire.svn, report_data })
    }

    /// As CoCo writes it.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_json(&self) -> Result<String, Malformed> {
        json(&WireSample { svn: self.svn.clone(), report_data: STANDARD.encode(&self.report_data) })
    }
}

#[derive(Serialize, Deserialize)]
struct WireSample {
    svn: String,
    report_data: String,
}
