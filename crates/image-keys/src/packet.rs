//! Packets: what stands in an image's annotation instead of a layer's key.
//!
//! | form | members | bound to its name by |
//! |---|---|---|
//! | CoCo 1 | `kid`, `wrapped_data`, `iv`, `wrap_type` | the key alone |
//! | CoCo 2 | these and `version`, `provider: "kbs"`, `provider_settings`, `annotations` | the key alone |
//! | verdictd | `kid`, `wrapped_data`, `iv` as arrays, `algorithm`, `key_length` | the key alone |
//! | ours | as CoCo 2 with `provider: "bailey"`; `provider_settings.data_key` where the key is in a store | name and data key are authenticated |
//!
//! A packet of CoCo's that is moved to another name does not open, unless both names are of one key. Ours does not open
//! then either.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{KeyName, KeyNameError, MAX_OPTIONS, bytes::Bytes};

/// The longest packet that is read, in bytes.
pub const MAX_PACKET: usize = 32 * 1024;
/// Nonce and tag of AES-256-GCM, in bytes.
pub(crate) const NONCE: usize = 12;
pub(crate) const TAG: usize = 16;
/// What the longest RSA key makes of a data key fits, in bytes.
const MAX_DATA_KEY: usize = 2048;
const A256GCM: &str = "A256GCM";
const VERSION: &str = "0.1.0";

/// Whose packet it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// Of Confidential Containers, without a version.
    CocoV1,
    /// Of Confidential Containers, version 0.1.0, provider `kbs`: any guest that has the key unwraps it.
    CocoV2,
    /// Of EAA's verdictd.
    Verdictd,
    /// Ours, to be unwrapped by the broker.
    Bailey {
        /// Where the key stays in a store outside: the key under which `wrapped` is, as that store encrypted it.
        data_key: Option<Vec<u8>>,
    },
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CocoV1 => "Confidential Containers, version 1",
            Self::CocoV2 => "Confidential Containers, version 2",
            Self::Verdictd => "verdictd",
            Self::Bailey { data_key: None } => "Bailey, unwrapped by the broker",
            Self::Bailey { .. } => "Bailey, unwrapped by the broker's secret store",
        })
    }
}

/// A wrapped layer key. Nothing of it is secret, and nothing of it is proven until it is unwrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// By which key.
    pub key: KeyName,
    /// Whose packet.
    pub form: Form,
    pub(crate) iv: [u8; NONCE],
    /// Ciphertext and tag.
    pub(crate) wrapped: Vec<u8>,
}

/// Why bytes are no packet that can be unwrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Not JSON, or not of this shape.
    #[error("the packet is not the JSON object that it should be (line {line}, column {column})")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Too long.
    #[error("the packet is longer than {MAX_PACKET} bytes")]
    TooLong,
    /// A member is missing, or one is there that does not belong to the others.
    #[error("the packet's member `{member}` {fault}")]
    Member {
        /// Its name.
        member: &'static str,
        /// What is wrong.
        fault: &'static str,
    },
    /// The key's name.
    #[error("the packet names no key")]
    Key(#[from] KeyNameError),
    /// AES-CTR.
    #[error(
        "the packet is wrapped by A256CTR, which authenticates nothing: whoever holds the image could change the layer's key unseen. Encrypt the image again with A256GCM"
    )]
    NotAuthenticated,
    /// Another algorithm.
    #[error("the packet is wrapped by an algorithm other than A256GCM")]
    Algorithm,
    /// Another key management service.
    #[error("the packet is for a provider other than `kbs` and `bailey`")]
    Provider,
}

#[derive(Deserialize)]
struct Wire {
    kid: Option<String>,
    wrapped_data: Option<Bytes>,
    iv: Option<Bytes>,
    wrap_type: Option<String>,
    version: Option<String>,
    provider: Option<String>,
    provider_settings: Option<BTreeMap<String, Value>>,
    algorithm: Option<String>,
    key_length: Option<u64>,
}

impl Packet {
    /// Reads any of the forms. Members that CoCo's clients do not know are passed over, as they do.
    ///
    /// # Errors
    /// See [`PacketError`]. No error repeats what the packet says.
    pub fn parse(json: &[u8]) -> Result<Self, PacketError> {
        if json.len() > MAX_PACKET {
            return Err(PacketError::TooLong);
        }
        let wire: Wire = serde_json::from_slice(json)
            .map_err(|error| PacketError::Json { line: error.line(), column: error.column() })?;
        let of_verdictd = wire.algorithm.is_some() || wire.key_length.is_some();
        if of_verdictd && wire.wrap_type.is_some() {
            return member("wrap_type", "stands beside `algorithm`, and only one of them can be meant");
        }
        if of_verdictd { verdictd(wire) } else { coco(wire) }
    }

    /// The key under which the rest is, as the store that has the packet's key encrypted it.
    #[must_use]
    pub fn data_key(&self) -> Option<&[u8]> {
        match &self.form {
            Form::Bailey { data_key } => data_key.as_deref(),
            Form::CocoV1 | Form::CocoV2 | Form::Verdictd => None,
        }
    }

    /// As it goes into an annotation.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let (kid, iv, wrapped) =
            (self.key.to_string(), STANDARD.encode(self.iv), STANDARD.encode(&self.wrapped));
        let settings = match &self.form {
            Form::Bailey { data_key: Some(key) } => BTreeMap::from([("data_key", STANDARD.encode(key))]),
            _ => BTreeMap::new(),
        };
        let written = match &self.form {
            Form::CocoV1 => serde_json::to_vec(&V1 { kid, wrapped_data: wrapped, iv, wrap_type: A256GCM }),
            Form::CocoV2 | Form::Bailey { .. } => serde_json::to_vec(&V2 {
                version: VERSION,
                kid,
                wrapped_data: wrapped,
                provider: if self.form == Form::CocoV2 { "kbs" } else { "bailey" },
                iv,
                wrap_type: A256GCM,
                provider_settings: settings,
                annotations: BTreeMap::new(),
            }),
            Form::Verdictd => serde_json::to_vec(&Verdictd {
                kid: self.key.path().strip_prefix("default/key/").unwrap_or(self.key.path()),
                wrapped_data: &self.wrapped,
                iv: &self.iv,
                algorithm: "AES",
                key_length: 256,
            }),
        };
        // Texts, numbers and maps by text: nothing that JSON cannot have.
        written.unwrap_or_default()
    }

    /// What is authenticated beside the ciphertext: for ours the name and the data key, so that neither can be another.
    /// CoCo's clients authenticate nothing more.
    pub(crate) fn bound(key: &KeyName, form: &Form) -> Vec<u8> {
        match form {
            Form::CocoV1 | Form::CocoV2 | Form::Verdictd => Vec::new(),
            Form::Bailey { data_key } => {
                // A name has no line end, so this can be read in one way only.
                let mut bound = format!("bailey/image-key/1\n{key}\n").into_bytes();
                bound.extend_from_slice(data_key.as_deref().unwrap_or_default());
                bound
            }
        }
    }
}

#[derive(Serialize)]
struct V1 {
    kid: String,
    wrapped_data: String,
    iv: String,
    wrap_type: &'static str,
}

#[derive(Serialize)]
struct V2 {
    version: &'static str,
    kid: String,
    wrapped_data: String,
    provider: &'static str,
    iv: String,
    wrap_type: &'static str,
    provider_settings: BTreeMap<&'static str, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Verdictd<'a> {
    kid: &'a str,
    wrapped_data: &'a [u8],
    iv: &'a [u8],
    algorithm: &'static str,
    key_length: u64,
}

fn member<T>(member: &'static str, fault: &'static str) -> Result<T, PacketError> {
    Err(PacketError::Member { member, fault })
}

fn coco(wire: Wire) -> Result<Packet, PacketError> {
    let form = match (wire.version.as_deref(), wire.provider.as_deref()) {
        (None, None) => Form::CocoV1,
        (Some(version), _) if version != VERSION => return member("version", "is not 0.1.0"),
        (_, None | Some("kbs")) => Form::CocoV2,
        (_, Some("bailey")) => Form::Bailey { data_key: data_key(wire.provider_settings.as_ref())? },
        _ => return Err(PacketError::Provider),
    };
    match wire.wrap_type.as_deref() {
        Some(A256GCM) => {}
        Some("A256CTR") => return Err(PacketError::NotAuthenticated),
        Some(_) => return Err(PacketError::Algorithm),
        None => return member("wrap_type", "is missing"),
    }
    let key = KeyName::in_packet(&text("kid", wire.kid)?)?;
    Ok(Packet { key, form, iv: nonce(wire.iv)?, wrapped: wrapped(wire.wrapped_data)? })
}

fn verdictd(wire: Wire) -> Result<Packet, PacketError> {
    match (wire.algorithm.as_deref(), wire.key_length) {
        (Some("AES"), Some(256)) => {}
        _ => return Err(PacketError::Algorithm),
    }
    let key = KeyName::of_verdictd(&text("kid", wire.kid)?)?;
    Ok(Packet { key, form: Form::Verdictd, iv: nonce(wire.iv)?, wrapped: wrapped(wire.wrapped_data)? })
}

fn text(name: &'static str, value: Option<String>) -> Result<String, PacketError> {
    value.map_or_else(|| member(name, "is missing"), Ok)
}

fn nonce(value: Option<Bytes>) -> Result<[u8; NONCE], PacketError> {
    let Some(bytes) = value else { return member("iv", "is missing") };
    bytes.take().try_into().or_else(|_| member("iv", "does not have 12 bytes"))
}

/// verdictd answers `[0]` where its encryption failed; here and everywhere, what is too short for a tag is no packet.
fn wrapped(value: Option<Bytes>) -> Result<Vec<u8>, PacketError> {
    let Some(bytes) = value else { return member("wrapped_data", "is missing") };
    match bytes.0.len() {
        0..=TAG => member("wrapped_data", "is too short to be a ciphertext with its tag"),
        length if length > MAX_OPTIONS + TAG => member("wrapped_data", "is too long"),
        _ => Ok(bytes.take()),
    }
}

fn data_key(settings: Option<&BTreeMap<String, Value>>) -> Result<Option<Vec<u8>>, PacketError> {
    let Some(value) = settings.and_then(|settings| settings.get("data_key")) else { return Ok(None) };
    let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
    match bytes.filter(|bytes| (1..=MAX_DATA_KEY).contains(&bytes.len())) {
        Some(bytes) => Ok(Some(bytes)),
        None => member("provider_settings", "has a `data_key` that is none"),
    }
}
