//! Arm CCA: attestation tokens of platform and realm.
//!
//! Source: draft-ffm-rats-cca-token, and the Realm Management Monitor specification (DEN0137), §A7.2, for tokens from
//! before it (no realm profile, the realm's key as a bare point). A token is a map, tagged 399, of two COSE_Sign1
//! messages: the platform's, signed by the platform's own key (CPAK), and the realm's, signed by a key (RAK) whose
//! digest is the challenge of the platform's.

mod platform;
mod realm;

use std::collections::BTreeMap;

use crate::cbor::{Cursor, Key, Left};
use crate::cose::Sign1;
use crate::{Covered, Malformed, Measurement};

pub use platform::{Lifecycle, PlatformClaims, SoftwareComponent};
pub use realm::{Curve, RealmClaims, RealmKey};

const FORMAT: &str = "CCA token";
const PLATFORM: &str = "CCA platform claims";
const REALM: &str = "CCA realm claims";
/// Real ones have 2.5 KiB.
const MAX_TOKEN: usize = 64 * 1024;
const COLLECTION_TAG: u64 = 399;
const PLATFORM_LABEL: i64 = 44234;
const REALM_LABEL: i64 = 44241;
/// Claims that both tokens have (RFC 9711, §4).
const CHALLENGE: i64 = 10;
const PROFILE: i64 = 265;
/// More unknown claims than that are refused, not reported.
const MAX_UNKNOWN: usize = 16;

/// The tokens of a platform and of a realm on it, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    platform: Sign1,
    platform_claims: PlatformClaims,
    realm: Sign1,
    realm_claims: RealmClaims,
}

/// A hash algorithm, by its name in IANA's registry of named information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// `sha-256`
    Sha256,
    /// `sha-384`
    Sha384,
    /// `sha-512`
    Sha512,
}

impl HashAlgorithm {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    fn read(cursor: &mut Cursor<'_>, field: &'static str) -> Result<Self, Malformed> {
        let offset = cursor.offset();
        match cursor.text(field)? {
            "sha-256" => Ok(Self::Sha256),
            "sha-384" => Ok(Self::Sha384),
            "sha-512" => Ok(Self::Sha512),
            other => Err(cursor.value(field, offset, "sha-256, sha-384 or sha-512", other)),
        }
    }
}

impl Token {
    /// Whether bytes look like Evidence of this kind: cheap, and no promise that they can be parsed.
    pub(crate) fn recognises(bytes: &[u8]) -> bool {
        bytes.starts_with(&[0xd9, 0x01, 0x8f])
    }

    /// Parses a token.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_TOKEN {
            return Err(Malformed::too_long(FORMAT, "length", 0, MAX_TOKEN, bytes.len()));
        }
        let mut cursor = Cursor::at(FORMAT, bytes, 0);
        if !cursor.has_tag(COLLECTION_TAG) {
            return Err(cursor.value("collection", 0, "a map, tagged 399", "another item"));
        }
        let (mut platform, mut realm) = (None, None);
        let mut left = cursor.map("collection")?;
        while cursor.more(&mut left) {
            let offset = cursor.offset();
            let key = cursor.key("collection")?;
            let (slot, field) = match key {
                Key::Integer(PLATFORM_LABEL) => (&mut platform, "platform token"),
                Key::Integer(REALM_LABEL) => (&mut realm, "realm token"),
                other => return Err(cursor.value("collection", offset, "44234 or 44241", other.to_string())),
            };
            let token = cursor.bytes(field)?;
            let token = Sign1::parse(FORMAT, token, cursor.offset() - token.len())?;
            if slot.replace(token).is_some() {
                return Err(cursor.value("collection", offset, "each token once", format!("{key} twice")));
            }
        }
        cursor.finish("collection")?;
        let absent = |field| Malformed::value(FORMAT, field, 0, "a signed token", "none");
        let platform = platform.ok_or_else(|| absent("platform token"))?;
        let realm = realm.ok_or_else(|| absent("realm token"))?;
        Ok(Self {
            platform_claims: PlatformClaims::read(platform.payload(PLATFORM))?,
            realm_claims: RealmClaims::read(realm.payload(REALM))?,
            platform,
            realm,
        })
    }

    /// The platform's token, as signed.
    pub fn platform(&self) -> &Sign1 {
        &self.platform
    }

    /// What the platform's token claims.
    pub fn platform_claims(&self) -> &PlatformClaims {
        &self.platform_claims
    }

    /// The realm's token, as signed.
    pub fn realm(&self) -> &Sign1 {
        &self.realm
    }

    /// What the realm's token claims.
    pub fn realm_claims(&self) -> &RealmClaims {
        &self.realm_claims
    }

    /// The realm's challenge, 64 bytes.
    pub fn covered(&self) -> Covered {
        Covered::new(self.realm_claims.challenge)
    }

    /// The realm's initial measurement (RIM).
    pub fn measurement(&self) -> Option<Measurement> {
        Measurement::new(&self.realm_claims.initial_measurement).ok()
    }

    /// The realm's personalisation value, 64 bytes.
    pub fn launch_configuration(&self) -> &[u8] {
        &self.realm_claims.personalisation
    }

    /// `rim`, `rpv`, `rem0` to `rem3` of the realm; `implementation_id`, `instance_id`, `platform_configuration`,
    /// `lifecycle` (decimal) and the components of the platform's firmware: `sw.count` (decimal), and for each
    /// `sw.NAME.measurement`, `sw.NAME.signer_id`, `sw.NAME.version` and `sw.NAME.hash_algorithm`, as far as told.
    /// NAME is the component's type where that is of letters, digits, `-` and `_`, begins with a letter, and occurs
    /// once; otherwise its index, from 0. Digests in hexadecimal; versions, and names of algorithms, as they are.
    pub fn measured(&self) -> BTreeMap<String, String> {
        let realm = &self.realm_claims;
        let mut measured = self.platform_claims.measured();
        measured.insert("rim".into(), hex::encode(&realm.initial_measurement));
        measured.insert("rpv".into(), hex::encode(realm.personalisation));
        measured.extend(
            realm
                .extensible_measurements
                .iter()
                .enumerate()
                .map(|(index, register)| (format!("rem{index}"), hex::encode(register))),
        );
        measured
    }
}

/// Reads a map of claims. `known` reads the value of a claim that it knows, and says whether it did; each claim may
/// occur once. Gives those that it did not know, as text.
fn claims<'a>(
    mut cursor: Cursor<'a>,
    mut known: impl FnMut(i64, &mut Cursor<'a>) -> Result<bool, Malformed>,
) -> Result<Vec<String>, Malformed> {
    const FIELD: &str = "claims";
    let mut seen = Vec::new();
    let mut unknown = Vec::new();
    let mut left = cursor.map(FIELD)?;
    while cursor.more(&mut left) {
        let offset = cursor.offset();
        let key = cursor.key(FIELD)?;
        if seen.contains(&key) {
            return Err(cursor.value(FIELD, offset, "each claim once", format!("{key} twice")));
        }
        seen.push(key);
        let is_known = match key {
            Key::Integer(label) => known(label, &mut cursor)?,
            Key::Text(_) => false,
        };
        if !is_known {
            if unknown.len() == MAX_UNKNOWN {
                return Err(cursor.value(FIELD, offset, "at most 16 unknown claims", "more"));
            }
            unknown.push(key.to_string());
            cursor.skip(FIELD)?;
        }
    }
    cursor.finish(FIELD)?;
    Ok(unknown)
}

/// What a claim must have; where it is not there, the error names it.
fn required<T>(format: &'static str, field: &'static str, value: Option<T>) -> Result<T, Malformed> {
    value.ok_or_else(|| Malformed::value(format, field, 0, "a claim", "none"))
}

fn array_of<const N: usize>(cursor: &mut Cursor<'_>, field: &'static str) -> Result<[u8; N], Malformed> {
    let bytes = cursor.bytes_of(field, N..=N, &[N])?;
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    Ok(array)
}

/// A digest of SHA-256, SHA-384 or SHA-512.
fn digest(cursor: &mut Cursor<'_>, field: &'static str) -> Result<Vec<u8>, Malformed> {
    cursor.bytes_of(field, 32..=64, &[32, 48, 64]).map(<[u8]>::to_vec)
}

fn short_text(cursor: &mut Cursor<'_>, field: &'static str) -> Result<String, Malformed> {
    let offset = cursor.offset();
    let text = cursor.text(field)?;
    if text.len() <= 256 && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(cursor.value(field, offset, "at most 256 printable bytes", format!("{} bytes", text.len())))
}

/// An array with `count` items at least and at most.
fn items<'a, T>(
    cursor: &mut Cursor<'a>,
    field: &'static str,
    count: std::ops::RangeInclusive<usize>,
    mut read: impl FnMut(&mut Cursor<'a>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let offset = cursor.offset();
    let mut left: Left = cursor.array(field)?;
    let mut items = Vec::new();
    while cursor.more(&mut left) {
        if items.len() == *count.end() {
            return Err(cursor.value(field, offset, format!("at most {} items", count.end()), "more"));
        }
        items.push(read(cursor)?);
    }
    if items.len() < *count.start() {
        let expected = format!("at least {} items", count.start());
        return Err(cursor.value(field, offset, expected, items.len().to_string()));
    }
    Ok(items)
}
