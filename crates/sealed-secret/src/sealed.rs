//! Reading: text → [`Sealed`], whose payload nothing reads → [`Secret`], once the signature is verified.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcar::{Invalid, ResourceUri};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    VERSION,
    envelope::{Envelope, EnvelopeError, EnvelopeWire},
    key::VerifyingKey,
};

/// The longest sealed secret, in bytes: a Kubernetes `Secret` has no more.
pub const MAX_SEALED: usize = 1 << 20;
/// The longest name of a file with a key.
const MAX_FILE_NAME: usize = 255;

/// A sealed secret whose signature was not verified yet. Of its content only the name of the key can be had.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    key: KeyId,
    /// `<header>.<payload>`, what the signature covers.
    signed: String,
    /// Where the payload begins in it.
    payload: usize,
    signature: Vec<u8>,
}

/// Whose signature a sealed secret has: the header's `kid`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyId {
    /// The JWK is a resource of the key broker.
    Resource(ResourceUri),
    /// The JWK is a file of this name, in the folder of keys that was given to the guest.
    File(String),
}

/// What was sealed, of a sealed secret whose signature verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret is this resource of the key broker.
    Vault(ResourceUri),
    /// The secret is in here, under a key of the key broker.
    Envelope(Envelope),
}

/// Why a text names no key.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum KeyIdError {
    /// It looks like a resource, and is none.
    #[error("it is no resource")]
    Resource(#[source] Invalid),
    /// It is no plain name of a file.
    #[error("it is neither a resource kbs:///… nor the plain name of a file")]
    File,
}

/// Why a sealed secret cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// Another kind of text.
    #[error("this is no sealed secret: those begin with \"sealed.\"")]
    NotSealed,
    /// Too long.
    #[error("the sealed secret has {length} bytes, and none has more than {MAX_SEALED}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The form of releases before sealed secrets were signed.
    #[error(
        "this is a sealed secret of the time before they were signed (\"fakejwsheader\", \"fakesignature\"): anyone \
         could have written it, and it is not opened; seal it again, with `bailey secret seal`"
    )]
    Unsigned,
    /// Not four sections.
    #[error("a sealed secret has four sections, and this has {count}")]
    Sections {
        /// How many there are.
        count: usize,
    },
    /// A section is no base64url.
    #[error("the {section} of the sealed secret is no base64url without padding")]
    Encoding {
        /// Which.
        section: &'static str,
    },
    /// The header is none.
    #[error("the header of the sealed secret is malformed")]
    Header(#[source] serde_json::Error),
    /// Another algorithm, or none.
    #[error("the sealed secret is signed by another algorithm than ES256")]
    Algorithm,
    /// The header brings a key, or asks for what is not understood.
    #[error("the header of the sealed secret has {member:?}, which is not taken from a sealed secret")]
    Member {
        /// The member.
        member: &'static str,
    },
    /// The header names no key.
    #[error("the header of the sealed secret names no key (\"kid\")")]
    NoKeyId,
    /// The header names a key that is none.
    #[error("the key that the sealed secret names cannot be looked for")]
    KeyId(#[source] KeyIdError),
    /// Somebody else signed it, or it was changed.
    #[error(
        "the signature of the sealed secret does not verify: it was changed, or another key signed it than the one \
         that it names"
    )]
    Signature,
    /// The payload is none.
    #[error("the payload of the sealed secret is malformed")]
    Payload(#[source] serde_json::Error),
    /// Another version.
    #[error("the sealed secret is of another version than {VERSION}")]
    Version,
    /// Another key management service.
    #[error(
        "the sealed secret is for another provider than \"kbs\", which is the only one that there is here"
    )]
    Provider,
    /// The resource that it names is none.
    #[error("what the sealed secret names is no resource")]
    Resource(#[source] Invalid),
    /// The envelope is none.
    #[error("the envelope in the sealed secret is malformed")]
    Envelope(#[from] EnvelopeError),
}

/// RFC 7515 §4. What is not named here is to be ignored (§4), except that `crit` forbids to (§4.1.11).
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
    #[serde(default)]
    b64: Option<bool>,
    #[serde(default)]
    jwk: Option<IgnoredAny>,
    #[serde(default)]
    jku: Option<IgnoredAny>,
    #[serde(default)]
    x5c: Option<IgnoredAny>,
    #[serde(default)]
    x5u: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Payload {
    version: String,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Kind {
    Vault { provider: String, name: String },
    Envelope(EnvelopeWire),
}

impl Sealed {
    /// Takes the text apart, and reads the header. White space around it is dropped.
    ///
    /// # Errors
    /// When it is none, is signed by another algorithm, or its header brings or demands anything that would decide
    /// about the verification.
    pub fn parse(text: &str) -> Result<Self, SealedError> {
        let text = text.trim_ascii();
        if text.len() > MAX_SEALED {
            return Err(SealedError::TooLong { length: text.len() });
        }
        let jws = text.strip_prefix("sealed.").ok_or(SealedError::NotSealed)?;
        let sections: Vec<&str> = jws.splitn(4, '.').collect();
        let [header, payload, signature] = sections[..] else {
            return Err(SealedError::Sections { count: 1 + jws.split('.').count() });
        };
        if header.starts_with("fake") || signature.starts_with("fake") {
            return Err(SealedError::Unsigned);
        }
        let key = read_header(&decode("header", header)?)?;
        // So that a text which verifies has one form only.
        decode("payload", payload)?;
        let signature = decode("signature", signature)?;
        let signed = format!("{header}.{payload}");
        Ok(Self { key, signed, payload: header.len() + 1, signature })
    }

    /// Which key is to verify it. Not yet proven: whoever wrote the text chose it, so it must be a key that this guest
    /// was given, or one that its key broker releases.
    pub fn key_id(&self) -> &KeyId {
        &self.key
    }

    /// Verifies the signature, and only then reads the payload.
    ///
    /// # Errors
    /// When the signature is not one by this key over this text, or what was signed is no secret.
    pub fn verify(self, key: &VerifyingKey) -> Result<Secret, SealedError> {
        if !key.verifies(self.signed.as_bytes(), &self.signature) {
            return Err(SealedError::Signature);
        }
        read_payload(&decode("payload", &self.signed[self.payload..])?)
    }
}

fn decode(section: &'static str, text: &str) -> Result<Vec<u8>, SealedError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| SealedError::Encoding { section })
}

fn read_header(json: &[u8]) -> Result<KeyId, SealedError> {
    let header: Header = serde_json::from_slice(json).map_err(SealedError::Header)?;
    if header.alg != "ES256" {
        return Err(SealedError::Algorithm);
    }
    for (member, present) in [
        ("crit", header.crit.is_some()),
        ("b64", header.b64 == Some(false)),
        ("jwk", header.jwk.is_some()),
        ("jku", header.jku.is_some()),
        ("x5c", header.x5c.is_some()),
        ("x5u", header.x5u.is_some()),
    ] {
        if present {
            return Err(SealedError::Member { member });
        }
    }
    header.kid.ok_or(SealedError::NoKeyId)?.parse().map_err(SealedError::KeyId)
}

fn read_payload(json: &[u8]) -> Result<Secret, SealedError> {
    let payload: Payload = serde_json::from_slice(json).map_err(SealedError::Payload)?;
    if payload.version != VERSION {
        return Err(SealedError::Version);
    }
    let provider = match &payload.kind {
        Kind::Vault { provider, .. } => provider,
        Kind::Envelope(envelope) => &envelope.provider,
    };
    if provider != "kbs" {
        return Err(SealedError::Provider);
    }
    match payload.kind {
        Kind::Vault { name, .. } => Ok(Secret::Vault(resource(&name).map_err(SealedError::Resource)?)),
        Kind::Envelope(envelope) => Ok(Secret::Envelope(envelope.try_into()?)),
    }
}

/// The name of a resource, with its scheme: a path alone could be meant for another provider.
pub(crate) fn resource(text: &str) -> Result<ResourceUri, Invalid> {
    if !text.starts_with("kbs") {
        return Err(Invalid::Member {
            member: "the resource",
            expected: "a URI such as kbs:///repository/type/tag",
        });
    }
    text.parse()
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        if text.starts_with("kbs:") || text.starts_with("kbs+") {
            return resource(text).map(Self::Resource).map_err(KeyIdError::Resource);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let plain =
            (1..=MAX_FILE_NAME).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(allowed);
        if plain { Ok(Self::File(text.to_owned())) } else { Err(KeyIdError::File) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource(uri) => uri.fmt(f),
            Self::File(name) => f.write_str(name),
        }
    }
}

/// Without the names in it.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}
