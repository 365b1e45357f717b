//! What Vault and OpenBao answer, as far as it is used: bytes to values, without I/O. Other fields than these are not
//! looked at, for servers add some with every version (Vault's "HTTP API" pages `secret/kv`, `secret/transit`,
//! `auth/token`, `auth/approle`).

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use manifest::{KvEngine, StoredEncoding};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::{Fetched, StoreError};

/// An access, and how long it lasts.
pub struct Lease {
    /// The token.
    pub token: Zeroizing<String>,
    /// How long it lasts; without end where absent.
    pub lasts: Option<Duration>,
    /// Whether it can be made to last longer.
    pub renewable: bool,
}

/// Fields by name, not decoded: only the one that is wanted ever is.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow)]
    data: Option<Fields<'a>>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
}

#[derive(Deserialize)]
struct Plaintext {
    plaintext: String,
}

#[derive(Deserialize)]
struct Login {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct OwnToken {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

/// Never serde's own words: they quote the input.
fn json<'a, T: Deserialize<'a>>(body: &'a [u8], what: &'static str) -> Result<T, StoreError> {
    serde_json::from_slice(body).map_err(|_| StoreError::Malformed(what))
}

/// A field of a secret of a key-value engine.
pub fn kv(
    body: &[u8],
    engine: KvEngine,
    field: &str,
    encoding: StoredEncoding,
) -> Result<Fetched, StoreError> {
    const FORM: &str = "it is not a secret of this key-value engine";
    let (fields, version) = match engine {
        KvEngine::One => (json::<Data<Fields<'_>>>(body, FORM)?.data, None),
        KvEngine::Two(wanted) => {
            let secret = json::<Data<Versioned<'_>>>(body, FORM)?.data;
            let version = secret.metadata.version;
            if wanted.is_some_and(|wanted| wanted != version) {
                return Err(StoreError::Malformed("it is of another version than the one asked for"));
            }
            // A version that was deleted has no data.
            (secret.data.ok_or(StoreError::Missing)?, Some(version))
        }
    };
    let text = fields.get(field).ok_or(StoreError::Missing)?;
    let text = Zeroizing::new(json::<String>(text.get().as_bytes(), "the field is not text")?);
    let value = match encoding {
        StoredEncoding::Text => Zeroizing::new(text.as_bytes().to_vec()),
        StoredEncoding::Base64 => base64(&text, "the field is not base64")?,
    };
    if value.is_empty() { Err(StoreError::Missing) } else { Ok(Fetched { value, version }) }
}

/// What the transit engine decrypted.
pub fn plaintext(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let data: Data<Plaintext> = json(body, "it is not an answer of the transit engine")?;
    let text = Zeroizing::new(data.data.plaintext);
    let value = base64(&text, "the plaintext is not base64")?;
    if value.is_empty() { Err(StoreError::Malformed("the plaintext is empty")) } else { Ok(value) }
}

fn base64(text: &str, fault: &'static str) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    STANDARD.decode(text).map(Zeroizing::new).map_err(|_| StoreError::Malformed(fault))
}

/// A login's or a renewal's token.
pub fn login(body: &[u8]) -> Result<Lease, StoreError> {
    let Auth { client_token, lease_duration, renewable } =
        json::<Login>(body, "it is not an answer to a login")?.auth;
    let client_token = Zeroizing::new(client_token);
    if client_token.is_empty() || !client_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(StoreError::Malformed("its token is not one"));
    }
    Ok(Lease { token: client_token, lasts: lasts(lease_duration), renewable })
}

/// What a token knows of itself.
pub fn own_token(body: &[u8], token: Zeroizing<String>) -> Result<Lease, StoreError> {
    let OwnToken { ttl, renewable } = json::<Data<OwnToken>>(body, "it does not say what the token is")?.data;
    Ok(Lease { token, lasts: lasts(ttl), renewable })
}

/// Zero means for ever.
fn lasts(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}
