//! The third message: the guest's key, and Evidence that covers it together with the broker's nonce.

use std::fmt;

use evidence::Platform;
use evidence::coco::{self, Sample};
use evidence::conveyed::Conveyed;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::json::read;
use crate::transcript::{self, ReportDigest};
use crate::{InitData, Invalid, PublicKey, Tee, Version};

/// No longer attestation is taken, as by Trustee.
pub const MAX_ATTESTATION: usize = 2 * 1024 * 1024;
/// Kinds of devices beside the CPU. The protocol has seven that could be.
const MAX_DEVICES: usize = 8;

/// What a session was opened with, and what its attestation is read by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The version that the client speaks.
    pub version: Version,
    /// What it says to run in.
    pub tee: Tee,
    /// The nonce that it was given.
    pub nonce: String,
}

/// What Evidence covers: the nonce, and the key that resources are to be encrypted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeData {
    /// The nonce, as text.
    pub nonce: String,
    /// The key.
    pub tee_pubkey: PublicKey,
}

/// The body of `POST /kbs/v0/attest`, read and not yet appraised.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// Init-data, if any came along. Evidence proves it or not: nothing here has looked.
    pub init_data: Option<InitData>,
    /// What Evidence covers.
    pub runtime_data: RuntimeData,
    version: Version,
    additional_evidence: String,
    pieces: Vec<Piece>,
}

/// Evidence of the guest's TEE, or of a device that it has.
#[derive(Clone, Debug)]
pub struct Piece {
    tee: Tee,
    json: String,
    digest: ReportDigest,
}

/// What one piece holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Evidence of a platform, with what was stapled to it.
    Evidence(Box<Conveyed>),
    /// CoCo's stand-in, which proves nothing.
    Sample(Sample),
}

impl Attestation {
    /// Reads the body of an attestation in a session.
    ///
    /// # Errors
    /// [`Invalid`]; [`Invalid::Nonce`] when the nonce is that of another session.
    pub fn parse(body: &[u8], opened: &Opened) -> Result<Self, Invalid> {
        let wire: Wire = read("the attestation", body, MAX_ATTESTATION)?;
        let (nonce, key) = match (wire.runtime_data, wire.tee_pubkey) {
            (Some(runtime), None) if opened.version >= Version::V0_2_0 => {
                (Some(runtime.nonce), runtime.tee_pubkey)
            }
            // The nonce is not sent back, only hashed.
            (None, Some(key)) if opened.version < Version::V0_4_0 => (None, key),
            _ => {
                let expected = "those of the session's protocol version";
                return Err(Invalid::Member { member: "runtime-data, tee-pubkey", expected });
            }
        };
        if nonce.is_some_and(|nonce| nonce != opened.nonce) {
            return Err(Invalid::Nonce);
        }
        let init_data = wire.init_data.map(WireInitData::read).transpose()?;
        let tee_pubkey = PublicKey::parse(key.get().as_bytes())?;
        let runtime_data = RuntimeData { nonce: opened.nonce.clone(), tee_pubkey };
        let TeeEvidence { primary, additional } = TeeEvidence::read(&wire.tee_evidence, opened.version)?;
        let digest = transcript::primary(&runtime_data, additional.as_deref(), opened);
        let mut pieces = vec![Piece { tee: opened.tee, json: primary, digest }];
        let additional_evidence = additional.unwrap_or_default();
        if !additional_evidence.is_empty() {
            let devices: Devices =
                read("additional_evidence", additional_evidence.as_bytes(), MAX_ATTESTATION)?;
            for (name, json) in devices.0 {
                let digest = transcript::device(&runtime_data, opened.tee);
                pieces.push(Piece { tee: name.parse()?, json: json.get().to_owned(), digest });
            }
        }
        let mut kinds: Vec<_> = pieces[1..].iter().map(Piece::tee).collect();
        kinds.sort();
        if kinds.windows(2).any(|pair| pair[0] == pair[1]) || kinds.len() > MAX_DEVICES {
            let expected = "one entry for each kind of device";
            return Err(Invalid::Member { member: "additional_evidence", expected });
        }
        Ok(Self { init_data, runtime_data, version: opened.version, additional_evidence, pieces })
    }

    /// The version of the session.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The Evidence: that of the guest's TEE first, those of its devices after it.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The text about devices exactly as it came, which is what is hashed; empty where there are none.
    pub fn additional_evidence(&self) -> &str {
        &self.additional_evidence
    }
}

impl Piece {
    /// What it says to come from.
    pub fn tee(&self) -> Tee {
        self.tee
    }

    /// Its JSON.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// What it must cover.
    pub fn digest(&self) -> &ReportDigest {
        &self.digest
    }

    /// Reads the Evidence. That it is of the kind it was announced as is checked; nothing else is.
    ///
    /// # Errors
    /// [`Invalid::Evidence`] when it cannot be read, [`Invalid::Unsupported`] when nothing here reads its kind.
    pub fn read(&self) -> Result<Content, Invalid> {
        if self.tee.is_sample() {
            return Ok(Content::Sample(Sample::parse(self.json.as_bytes())?));
        }
        let platform = self.tee.platform().ok_or(Invalid::Unsupported { tee: self.tee })?;
        Ok(Content::Evidence(Box::new(coco::read(platform, self.json.as_bytes())?)))
    }

    /// The platform, where it has one that is appraised.
    pub fn platform(&self) -> Option<Platform> {
        self.tee.platform()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Wire {
    #[serde(default)]
    init_data: Option<WireInitData>,
    #[serde(default)]
    runtime_data: Option<WireRuntimeData>,
    #[serde(default)]
    tee_pubkey: Option<Box<RawValue>>,
    tee_evidence: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireInitData {
    format: String,
    body: String,
}

impl WireInitData {
    fn read(self) -> Result<InitData, Invalid> {
        match self.format.as_str() {
            "toml" => InitData::parse(&self.body),
            _ => Err(Invalid::Member { member: "init-data.format", expected: "toml" }),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireRuntimeData {
    nonce: String,
    tee_pubkey: Box<RawValue>,
}

struct TeeEvidence {
    primary: String,
    /// None where the form has no place for it.
    additional: Option<String>,
}

impl TeeEvidence {
    fn read(raw: &RawValue, version: Version) -> Result<Self, Invalid> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Composite {
            primary_evidence: Box<RawValue>,
            additional_evidence: String,
        }
        let json = raw.get();
        match serde_json::from_str::<Composite>(json) {
            Ok(composite) => Ok(Self {
                primary: inner(&composite.primary_evidence)?,
                additional: Some(composite.additional_evidence),
            }),
            Err(fault) if version >= Version::V0_4_0 => {
                Err(Invalid::Json { what: "tee-evidence", fault: fault.to_string() })
            }
            // The older form: the Evidence itself.
            Err(_) => Ok(Self { primary: inner(raw)?, additional: None }),
        }
    }
}

/// JSON, or text of JSON as the oldest clients send it.
fn inner(raw: &RawValue) -> Result<String, Invalid> {
    let json = raw.get();
    if json.starts_with('"') {
        return serde_json::from_str(json)
            .map_err(|error| Invalid::Json { what: "tee-evidence", fault: error.to_string() });
    }
    Ok(json.to_owned())
}

/// Evidence by kind of device, where nothing is given twice.
struct Devices(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Devices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Devices;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("Evidence by kind of device")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Devices, A::Error> {
                let mut entries: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    if entries.len() == MAX_DEVICES {
                        return Err(A::Error::custom("more kinds of devices than there are"));
                    }
                    entries.push(entry);
                }
                Ok(Devices(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// What our own client sends, version 0.4.0.
pub(crate) fn to_json(
    init_data: Option<&InitData>,
    runtime: &RuntimeData,
    primary: &Value,
    additional: &str,
) -> Value {
    serde_json::json!({
        "init-data": init_data.map(InitData::to_json),
        "runtime-data": { "nonce": runtime.nonce, "tee-pubkey": runtime.tee_pubkey.to_json() },
        "tee-evidence": { "primary_evidence": primary, "additional_evidence": additional },
    })
}
