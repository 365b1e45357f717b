//! Encrypted layers, as ocicrypt makes them: AES-256-CTR, and HMAC-SHA256 over the ciphertext under the same key, which
//! a key provider wraps (ocicrypt, `spec.md` and `blockcipher`). What proves the plaintext is its digest, which is wrapped
//! with the key.

use async_trait::async_trait;
use aws_lc_rs::{
    cipher::{
        AES_256, AES_CTR_IV_LEN, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext,
        UnboundCipherKey,
    },
    hmac,
    iv::FixedLength,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use package::{Digest, Encryption};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const KEY: usize = 32;

/// Unwraps what a key provider wrapped.
#[async_trait]
pub trait Opener: Send + Sync {
    /// ocicrypt's private options out of a packet. An error says why not, for people.
    async fn open(&self, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, String>;
}

/// Opens nothing.
pub struct Sealed;

#[async_trait]
impl Opener for Sealed {
    async fn open(&self, _packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        Err("there is nothing that would open it".into())
    }
}

/// A layer's ciphertext, and what is to be wrapped.
pub struct Encrypted {
    /// As long as the plaintext.
    pub ciphertext: Vec<u8>,
    /// Over the ciphertext.
    pub hmac: [u8; 32],
    /// ocicrypt's private options: key, nonce and the plaintext's digest.
    pub options: Zeroizing<Vec<u8>>,
}

/// Why a layer was not decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionError {
    /// Nobody unwrapped its key.
    #[error("the workload is encrypted, and its key was not unwrapped: {0}")]
    NotOpened(String),
    /// What was unwrapped is no key.
    #[error("what was unwrapped is not what ocicrypt wraps")]
    Options,
    /// The ciphertext is another.
    #[error("the workload's ciphertext is not what was encrypted by this key")]
    Hmac,
    /// The plaintext is another.
    #[error("the workload was decrypted to other bytes than were encrypted")]
    Plaintext,
    /// Of the library or the operating system.
    #[error("it could not be encrypted")]
    Failed,
}

#[derive(Serialize, Deserialize)]
struct Private {
    symkey: String,
    digest: String,
    cipheroptions: Options,
}

#[derive(Serialize, Deserialize)]
struct Options {
    nonce: String,
}

/// Encrypts a layer by a key of its own.
///
/// # Errors
/// [`EncryptionError::Failed`].
pub fn encrypt(plaintext: &[u8]) -> Result<Encrypted, EncryptionError> {
    let failed = |_| EncryptionError::Failed;
    let mut key = Zeroizing::new([0; KEY]);
    let mut nonce = [0; AES_CTR_IV_LEN];
    aws_lc_rs::rand::fill(&mut *key).map_err(failed)?;
    aws_lc_rs::rand::fill(&mut nonce).map_err(failed)?;
    let mut ciphertext = plaintext.to_vec();
    let cipher = UnboundCipherKey::new(&AES_256, &*key).and_then(EncryptingKey::ctr).map_err(failed)?;
    let context = EncryptionContext::Iv128(FixedLength::from(nonce));
    cipher.less_safe_encrypt(&mut ciphertext, context).map_err(failed)?;
    let hmac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*key), &ciphertext);
    let private = Private {
        symkey: STANDARD.encode(*key),
        digest: Digest::of(plaintext).to_string(),
        cipheroptions: Options { nonce: STANDARD.encode(nonce) },
    };
    let options = serde_json::to_vec(&private).map_err(|_| EncryptionError::Failed)?;
    let hmac = hmac.as_ref().try_into().map_err(|_| EncryptionError::Failed)?;
    Ok(Encrypted { ciphertext, hmac, options: Zeroizing::new(options) })
}

/// Decrypts a layer by the first of its keys that opens.
pub(crate) async fn decrypt(
    ciphertext: Vec<u8>,
    encryption: &Encryption,
    opener: &dyn Opener,
) -> Result<Vec<u8>, EncryptionError> {
    let mut reasons = Vec::new();
    for packet in &encryption.packets {
        match opener.open(packet).await {
            Ok(options) => return decrypt_by(ciphertext, encryption, &options),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(EncryptionError::NotOpened(reasons.join("; ")))
}

fn decrypt_by(
    mut bytes: Vec<u8>,
    encryption: &Encryption,
    options: &[u8],
) -> Result<Vec<u8>, EncryptionError> {
    let private: Private = serde_json::from_slice(options).map_err(|_| EncryptionError::Options)?;
    let key = STANDARD.decode(Zeroizing::new(private.symkey).as_bytes()).map(Zeroizing::new);
    let key = key.ok().filter(|key| key.len() == KEY).ok_or(EncryptionError::Options)?;
    let nonce = STANDARD.decode(&private.cipheroptions.nonce).ok();
    let nonce: [u8; AES_CTR_IV_LEN] =
        nonce.and_then(|nonce| nonce.try_into().ok()).ok_or(EncryptionError::Options)?;
    let digest: Digest = private.digest.parse().map_err(|_| EncryptionError::Options)?;
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &key), &bytes, &encryption.hmac)
        .map_err(|_| EncryptionError::Hmac)?;
    let cipher = UnboundCipherKey::new(&AES_256, &key).and_then(DecryptingKey::ctr);
    let cipher = cipher.map_err(|_| EncryptionError::Options)?;
    cipher
        .decrypt(&mut bytes, DecryptionContext::Iv128(FixedLength::from(nonce)))
        .map_err(|_| EncryptionError::Plaintext)?;
    if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(EncryptionError::Plaintext) }
}

impl EncryptionError {
    /// Stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotOpened(_) => "WORKLOAD_KEY_NOT_OPENED",
            Self::Options => "WORKLOAD_KEY_UNUSABLE",
            Self::Hmac | Self::Plaintext => "WORKLOAD_CIPHERTEXT_ALTERED",
            Self::Failed => "INTERNAL",
        }
    }
}
