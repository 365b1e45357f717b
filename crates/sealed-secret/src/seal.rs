//! Writing: what a person does once, with the key that guests verify.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rcar::ResourceUri;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    VERSION,
    envelope::{KEY, WRAP_TYPE},
    key::SigningKey,
    sealed::{KeyId, MAX_SEALED},
};

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no randomness.
    #[error("the cryptographic library has no randomness")]
    NoRandomness,
    /// The secret is too long for an envelope.
    #[error(
        "the sealed secret would have {length} bytes, and none may have more than {MAX_SEALED}; make it a resource, and \
         seal its name"
    )]
    TooLong {
        /// How long it would be, in bytes.
        length: usize,
    },
}

/// Seals the name of a resource, which is the secret. `kid` is where guests find the public half of `signer`.
///
/// # Errors
/// When there is no randomness.
pub fn vault(name: &ResourceUri, kid: &KeyId, signer: &SigningKey) -> Result<String, SealError> {
    let payload = json!({
        "version": VERSION, "type": "vault", "name": name.to_string(), "provider": "kbs",
        "provider_settings": {}, "annotations": {},
    });
    sign(&payload, kid, signer)
}

/// Seals the secret itself, under `key`, which is the resource `name`.
///
/// # Errors
/// When there is no randomness, or the secret is too long.
pub fn envelope(
    secret: &[u8],
    name: &ResourceUri,
    key: &[u8; KEY],
    kid: &KeyId,
    signer: &SigningKey,
) -> Result<String, SealError> {
    let mut data_key = Zeroizing::new([0; KEY]);
    rand::fill(&mut *data_key).map_err(|_| SealError::NoRandomness)?;
    let (nonce, data) = encrypt(&data_key, secret)?;
    let (wrapping_nonce, wrapped_key) = encrypt(key, &*data_key)?;
    let payload = json!({
        "version": VERSION, "type": "envelope", "provider": "kbs", "key_id": name.to_string(),
        "encrypted_key": STANDARD.encode(wrapped_key), "encrypted_data": STANDARD.encode(data),
        "wrap_type": WRAP_TYPE, "iv": STANDARD.encode(nonce),
        "provider_settings": {}, "annotations": { "iv": STANDARD.encode(wrapping_nonce) },
    });
    sign(&payload, kid, signer)
}

fn encrypt(key: &[u8; KEY], plain: &[u8]) -> Result<([u8; NONCE_LEN], Vec<u8>), SealError> {
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::NoRandomness)?;
    let mut bytes = plain.to_vec();
    LessSafeKey::new(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut bytes)
        .map_err(|_| SealError::TooLong { length: plain.len() })?;
    Ok((nonce, bytes))
}

fn sign(payload: &Value, kid: &KeyId, signer: &SigningKey) -> Result<String, SealError> {
    let header = json!({ "alg": "ES256", "kid": kid.to_string() });
    let [header, payload] = [&header, payload].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{header}.{payload}");
    let signature = signer.sign(signed.as_bytes()).ok_or(SealError::NoRandomness)?;
    let text = format!("sealed.{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    if text.len() > MAX_SEALED { Err(SealError::TooLong { length: text.len() }) } else { Ok(text) }
}
