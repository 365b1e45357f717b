//! Envelopes: data under a data key, the data key under a key of the key broker, both by AES-256-GCM.
//!
//! Confidential Containers leaves to each provider how it wraps a data key, and has a place for what the provider must
//! remember, `annotations`. For `kbs` that is, here: `encrypted_key` is ciphertext and tag, and `annotations.iv` the
//! nonce of the wrapping, where `iv` is that of the data.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcar::{Invalid, ResourceUri};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::sealed;

/// The only way of wrapping that authenticates.
pub(crate) const WRAP_TYPE: &str = "A256GCM";
/// The length of keys, in bytes.
pub(crate) const KEY: usize = 32;

/// A secret under a key of the key broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    key: ResourceUri,
    wrapped_key: Vec<u8>,
    wrapping_nonce: [u8; NONCE_LEN],
    data: Vec<u8>,
    nonce: [u8; NONCE_LEN],
}

/// As it is written.
#[derive(Serialize, Deserialize)]
pub(crate) struct EnvelopeWire {
    pub(crate) provider: String,
    pub(crate) key_id: String,
    pub(crate) encrypted_key: String,
    pub(crate) encrypted_data: String,
    pub(crate) wrap_type: String,
    pub(crate) iv: String,
    #[serde(default)]
    pub(crate) provider_settings: Map<String, Value>,
    #[serde(default)]
    pub(crate) annotations: Map<String, Value>,
}

/// Why an envelope is none, or cannot be opened.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum EnvelopeError {
    /// Its key is no resource.
    #[error("what it names as its key is no resource")]
    Key(#[source] Invalid),
    /// Another way of wrapping.
    #[error(
        "it is wrapped in another way than {WRAP_TYPE}; A256CTR does not authenticate, and is not opened"
    )]
    WrapType,
    /// No base64, or of the wrong length.
    #[error("its {member:?} is not base64 of the right length")]
    Member {
        /// Which member.
        member: &'static str,
    },
    /// The resource is no key.
    #[error("the resource that is its key has {length} bytes, and a key has {KEY}")]
    KeyLength {
        /// Its length in bytes.
        length: usize,
    },
    /// Another key, or something was changed.
    #[error("its {what} cannot be decrypted: the key is another one, or it was changed")]
    Decrypt {
        /// Key or data.
        what: &'static str,
    },
}

impl TryFrom<EnvelopeWire> for Envelope {
    type Error = EnvelopeError;

    fn try_from(wire: EnvelopeWire) -> Result<Self, EnvelopeError> {
        if wire.wrap_type != WRAP_TYPE {
            return Err(EnvelopeError::WrapType);
        }
        let wrapping = wire.annotations.get("iv").and_then(Value::as_str);
        Ok(Self {
            key: sealed::resource(&wire.key_id).map_err(EnvelopeError::Key)?,
            wrapped_key: decode("encrypted_key", &wire.encrypted_key)?,
            wrapping_nonce: nonce("annotations.iv", wrapping.unwrap_or_default())?,
            data: decode("encrypted_data", &wire.encrypted_data)?,
            nonce: nonce("iv", &wire.iv)?,
        })
    }
}

fn decode(member: &'static str, text: &str) -> Result<Vec<u8>, EnvelopeError> {
    STANDARD.decode(text).map_err(|_| EnvelopeError::Member { member })
}

fn nonce(member: &'static str, text: &str) -> Result<[u8; NONCE_LEN], EnvelopeError> {
    decode(member, text)?.try_into().map_err(|_| EnvelopeError::Member { member })
}

impl Envelope {
    /// The resource that is its key: 32 bytes.
    pub fn key(&self) -> &ResourceUri {
        &self.key
    }

    /// The secret.
    ///
    /// # Errors
    /// When the key is none or another one, or the envelope was changed.
    pub fn open(&self, key: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        if key.len() != KEY {
            return Err(EnvelopeError::KeyLength { length: key.len() });
        }
        let data_key = decrypt("key", key, self.wrapping_nonce, &self.wrapped_key)?;
        decrypt("data", &data_key, self.nonce, &self.data)
    }
}

fn decrypt(
    what: &'static str,
    key: &[u8],
    nonce: [u8; NONCE_LEN],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
    let failed = EnvelopeError::Decrypt { what };
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| failed.clone())?;
    let mut bytes = Zeroizing::new(sealed.to_vec());
    let nonce = Nonce::assume_unique_for_key(nonce);
    let length = match LessSafeKey::new(key).open_in_place(nonce, Aad::empty(), &mut bytes) {
        Ok(plain) => plain.len(),
        Err(_) => return Err(failed),
    };
    bytes.truncate(length);
    Ok(bytes)
}

/// Without the name of its key.
impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Envelope(…)")
    }
}
