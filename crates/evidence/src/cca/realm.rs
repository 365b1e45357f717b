//! The claims of the realm's token (draft-ffm-rats-cca-token, §4.7 to §4.9).

use super::{CHALLENGE, HashAlgorithm, PROFILE, REALM, array_of, claims, digest, items, required};
use crate::Malformed;
use crate::cbor::{Cursor, Key};

const PERSONALISATION: i64 = 44235;
const HASH_ALGORITHM: i64 = 44236;
const PUBLIC_KEY: i64 = 44237;
const INITIAL_MEASUREMENT: i64 = 44238;
const EXTENSIBLE_MEASUREMENTS: i64 = 44239;
const KEY_HASH_ALGORITHM: i64 = 44240;
const REALM_PROFILE: &str = "tag:arm.com,2023:realm#1.0.0";
/// A COSE_Key on P-521 has 144 bytes.
const MAX_PUBLIC_KEY: usize = 256;

/// What the realm's monitor says of a realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmClaims {
    /// Which description of claims the token follows; none in tokens from before there was one.
    pub profile: Option<String>,
    /// What the realm asked to be covered.
    pub challenge: [u8; 64],
    /// What the host chose when it made the realm.
    pub personalisation: [u8; 64],
    /// The digest of the realm as it was launched (RIM).
    pub initial_measurement: Vec<u8>,
    /// What the realm measured itself (REM 0 to 3).
    pub extensible_measurements: Vec<Vec<u8>>,
    /// The algorithm of the measurements.
    pub hash_algorithm: HashAlgorithm,
    /// The key that signs the realm's token (RAK).
    pub key: RealmKey,
    /// The algorithm by which the platform's challenge is the digest of `key`.
    pub key_hash_algorithm: HashAlgorithm,
    /// Claims that we do not know.
    pub unknown: Vec<String>,
}

/// The curve of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
}

impl Curve {
    /// How long a coordinate is.
    const fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn of_point(length: usize) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521].into_iter().find(|curve| 1 + 2 * curve.size() == length)
    }
}

/// A realm's attestation key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealmKey {
    /// Its curve.
    pub curve: Curve,
    /// Uncompressed point: `04 ‖ x ‖ y`.
    pub point: Vec<u8>,
    /// The bytes as the claim has them, which the platform's challenge is a digest of: the point, or a COSE_Key.
    pub encoded: Vec<u8>,
}

impl RealmClaims {
    /// Parses a map of claims that stands alone, without a signature around it.
    ///
    /// # Errors
    /// [`Malformed`] names the first claim that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(Cursor::at(REALM, bytes, 0))
    }

    pub(super) fn read(cursor: Cursor<'_>) -> Result<Self, Malformed> {
        let (mut profile, mut challenge, mut personalisation, mut key) = (None, None, None, None);
        let (mut initial, mut extensible, mut hash, mut key_hash) = (None, None, None, None);
        let unknown = claims(cursor, |label, cursor| {
            match label {
                PROFILE => profile = Some(read_profile(cursor)?),
                CHALLENGE => challenge = Some(array_of(cursor, "challenge")?),
                PERSONALISATION => personalisation = Some(array_of(cursor, "personalisation value")?),
                HASH_ALGORITHM => hash = Some(HashAlgorithm::read(cursor, "hash algorithm")?),
                PUBLIC_KEY => key = Some(RealmKey::read(cursor)?),
                INITIAL_MEASUREMENT => initial = Some(digest(cursor, "initial measurement")?),
                EXTENSIBLE_MEASUREMENTS => {
                    extensible = Some(items(cursor, "extensible measurements", 4..=4, |cursor| {
                        digest(cursor, "extensible measurement")
                    })?);
                }
                KEY_HASH_ALGORITHM => {
                    key_hash = Some(HashAlgorithm::read(cursor, "hash algorithm of the public key")?);
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Self {
            profile,
            challenge: required(REALM, "challenge", challenge)?,
            personalisation: required(REALM, "personalisation value", personalisation)?,
            initial_measurement: required(REALM, "initial measurement", initial)?,
            extensible_measurements: required(REALM, "extensible measurements", extensible)?,
            hash_algorithm: required(REALM, "hash algorithm", hash)?,
            key: required(REALM, "public key", key)?,
            key_hash_algorithm: required(REALM, "hash algorithm of the public key", key_hash)?,
            unknown,
        })
    }
}

fn read_profile(cursor: &mut Cursor<'_>) -> Result<String, Malformed> {
    let offset = cursor.offset();
    match cursor.text("profile")? {
        REALM_PROFILE => Ok(REALM_PROFILE.to_owned()),
        other => Err(Malformed::unsupported(REALM, "profile", offset, REALM_PROFILE, other)),
    }
}

impl RealmKey {
    /// A bare point in tokens from before the draft, a COSE_Key (RFC 9052, §7) since.
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let encoded = cursor.bytes_of("public key", 1..=MAX_PUBLIC_KEY, &[])?;
        let base = cursor.offset() - encoded.len();
        let (curve, point) = match Curve::of_point(encoded.len()).filter(|_| encoded[0] == 4) {
            Some(curve) => (curve, encoded.to_vec()),
            None => cose_key(Cursor::at(REALM, encoded, base))?,
        };
        Ok(Self { curve, point, encoded: encoded.to_vec() })
    }
}

/// kty (1) EC2, crv (-1), x (-2), y (-3); with them only kid (2), alg (3) and key_ops (4), which say nothing here.
fn cose_key(mut cursor: Cursor<'_>) -> Result<(Curve, Vec<u8>), Malformed> {
    const FIELD: &str = "public key";
    let start = cursor.offset();
    let (mut kind, mut curve, mut x, mut y) = (None, None, None, None);
    let mut left = cursor.map(FIELD)?;
    while cursor.more(&mut left) {
        let offset = cursor.offset();
        let twice = match cursor.key(FIELD)? {
            Key::Integer(1) => kind.replace(cursor.integer("key type")?).is_some(),
            Key::Integer(-1) => curve.replace(cursor.integer("curve")?).is_some(),
            Key::Integer(-2) => x.replace(cursor.bytes("x")?).is_some(),
            Key::Integer(-3) => y.replace(cursor.bytes("y")?).is_some(),
            Key::Integer(2..=4) => {
                cursor.skip(FIELD)?;
                false
            }
            other => return Err(cursor.value(FIELD, offset, "a key on a curve", other.to_string())),
        };
        if twice {
            return Err(cursor.value(FIELD, offset, "each parameter once", "one twice"));
        }
    }
    let fault = |seen: &str| Malformed::value(REALM, FIELD, start, "a key on P-256, P-384 or P-521", seen);
    cursor.finish(FIELD)?;
    let curve = match (kind, curve) {
        (Some(2), Some(1)) => Curve::P256,
        (Some(2), Some(2)) => Curve::P384,
        (Some(2), Some(3)) => Curve::P521,
        _ => return Err(fault("another kind of key")),
    };
    match (x, y) {
        (Some(x), Some(y)) if x.len() == curve.size() && y.len() == curve.size() => {
            Ok((curve, [&[4], x, y].concat()))
        }
        _ => Err(fault("coordinates of another size")),
    }
}
