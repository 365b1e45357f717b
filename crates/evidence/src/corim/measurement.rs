//! What is expected of one element of an environment.

use super::environment::{BYTES, OID, UUID};
use super::{FORMAT, fields, pair};
use crate::Malformed;
use crate::cbor::{Cursor, Key};

/// Tags of CBOR items: a security version, and the least of those that are accepted.
const VERSION: u64 = 552;
const LEAST_VERSION: u64 = 553;

/// An element, and what it must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Which element; none where there is only one.
    pub key: Option<ElementKey>,
    /// What it must show, all of it.
    pub values: Values,
    /// Whether only certain signers of Evidence may show it.
    pub authorized: bool,
}

/// Which element of an environment, by its profile's numbers or names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElementKey {
    /// A number.
    Number(u64),
    /// A name.
    Name(String),
    /// The bytes of an object identifier or a UUID.
    Bytes(Vec<u8>),
}

/// The values of an element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// A security version.
    pub security_version: Option<SecurityVersion>,
    /// Digests of the same thing by different algorithms (IANA, "Named Information Hash Algorithm Registry").
    pub digests: Vec<(i64, Vec<u8>)>,
    /// Bytes as they are.
    pub raw: Option<Vec<u8>>,
    /// Keys of values that this version does not read: version, flags, names, masks and others.
    pub other: Vec<i64>,
}

/// A security version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityVersion {
    /// This one.
    Exactly(u64),
    /// This one or a greater.
    AtLeast(u64),
}

impl Measured {
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        const FIELD: &str = "measurement";
        let start = cursor.offset();
        let (mut element, mut values, mut authorized) = (None, None, false);
        fields(cursor, FIELD, |key, cursor| {
            match key {
                0 => element = Some(ElementKey::read(cursor)?),
                1 => values = Some(Values::read(cursor)?),
                2 => {
                    cursor.skip("authorized-by")?;
                    authorized = true;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let values = values.ok_or_else(|| cursor.value(FIELD, start, "values", "none"))?;
        Ok(Self { key: element, values, authorized })
    }
}

impl ElementKey {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        const FIELD: &str = "measured element";
        let start = cursor.offset();
        if cursor.has_tag(OID) || cursor.has_tag(UUID) {
            return cursor.bytes(FIELD).map(|bytes| Self::Bytes(bytes.to_vec()));
        }
        match cursor.key(FIELD)? {
            Key::Text(text) => Ok(Self::Name(text.to_owned())),
            Key::Integer(number) => u64::try_from(number)
                .map(Self::Number)
                .map_err(|_| cursor.value(FIELD, start, "an unsigned number", number.to_string())),
        }
    }
}

impl Values {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        const FIELD: &str = "measured values";
        let start = cursor.offset();
        let mut values = Self::default();
        fields(cursor, FIELD, |key, cursor| {
            match key {
                1 => values.security_version = Some(SecurityVersion::read(cursor)?),
                2 => values.digests = digests(cursor)?,
                4 => match cursor.has_tag(BYTES) {
                    true => values.raw = Some(cursor.bytes("raw value")?.to_vec()),
                    false => {
                        cursor.skip("raw value")?;
                        values.other.push(key);
                    }
                },
                _ => {
                    cursor.skip(FIELD)?;
                    values.other.push(key);
                }
            }
            Ok(true)
        })?;
        match values == Self::default() {
            true => Err(cursor.value(FIELD, start, "at least one", "none")),
            false => Ok(values),
        }
    }
}

impl SecurityVersion {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        const FIELD: &str = "security version";
        if cursor.has_tag(LEAST_VERSION) {
            return cursor.unsigned(FIELD).map(Self::AtLeast);
        }
        cursor.has_tag(VERSION);
        cursor.unsigned(FIELD).map(Self::Exactly)
    }
}

fn digests(cursor: &mut Cursor<'_>) -> Result<Vec<(i64, Vec<u8>)>, Malformed> {
    const FIELD: &str = "digest";
    let start = cursor.offset();
    let mut digests: Vec<(i64, Vec<u8>)> = Vec::new();
    let mut left = cursor.array("digests")?;
    while cursor.more(&mut left) {
        let offset = cursor.offset();
        pair(cursor, FIELD)?;
        let Key::Integer(algorithm) = cursor.key("digest algorithm")? else {
            return Err(Malformed::unsupported(
                FORMAT,
                FIELD,
                offset,
                "an algorithm by number",
                "one by name",
            ));
        };
        // A second digest by the same algorithm could never be that of the same thing.
        if digests.iter().any(|(own, _)| *own == algorithm) {
            return Err(cursor.value(FIELD, offset, "one for each algorithm", "two"));
        }
        digests.push((algorithm, cursor.bytes_of(FIELD, 1..=64, &[])?.to_vec()));
    }
    match digests.is_empty() {
        true => Err(cursor.value("digests", start, "at least one", "none")),
        false => Ok(digests),
    }
}
