//! Concise reference integrity manifests (draft-ietf-rats-corim): what makers of firmware and workloads say that
//! Evidence ought to show, in CBOR, signed (COSE_Sign1) or not. Reference triples are read whole; other triples
//! (endorsements, keys) are passed over, and what would change the meaning of a reference triple is refused.

mod environment;
mod measurement;

use crate::Malformed;
use crate::cbor::{Cursor, Key, Left};
use crate::cose::Sign1;
pub use environment::{ClassId, Environment};
pub use measurement::{ElementKey, Measured, SecurityVersion, Values};

const FORMAT: &str = "CoRIM";
/// A manifest longer than this is refused unread.
pub const MAX_LENGTH: usize = 1024 * 1024;
/// Tags of the CBOR items: a manifest in any form and a signed one (until draft 04), an unsigned one, a CoMID.
const ANY: u64 = 500;
const SIGNED: u64 = 502;
const UNSIGNED: u64 = 501;
const COMID: u64 = 506;
/// Header parameters: RFC 9052, §3.1, and the metadata of a manifest.
const CONTENT_TYPE: i64 = 3;
const META: i64 = 8;
const MEDIA_TYPE: &str = "application/rim+cbor";

/// A manifest as it comes in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// A signed one. Not verified.
    Signed(Box<Signed>),
    /// One that anybody can have written.
    Unsigned(Corim),
}

/// A signed manifest, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    message: Sign1,
    validity: Validity,
    corim: Corim,
}

/// What a manifest says. Whether to believe it is another matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corim {
    /// Its name: text, or a UUID in hexadecimal.
    pub id: String,
    /// The profile that says what its numbers mean: a URI, or an object identifier's DER contents in hexadecimal.
    pub profile: Option<String>,
    /// When it holds.
    pub validity: Validity,
    /// What it expects of Evidence.
    pub reference_triples: Vec<ReferenceTriple>,
}

/// When something holds, in seconds since 1970; both ends may be open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// Not before this.
    pub not_before: Option<i64>,
    /// Not after this.
    pub not_after: Option<i64>,
}

/// One environment, and all that is expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceTriple {
    /// What the values are about.
    pub environment: Environment,
    /// The values.
    pub measurements: Vec<Measured>,
}

impl Document {
    /// Whether bytes look like a manifest: cheap, and no promise that they can be parsed. Any COSE_Sign1 with a tag does,
    /// so Evidence is to be recognised first where both can come.
    pub fn recognises(bytes: &[u8]) -> bool {
        let mut cursor = Cursor::at(FORMAT, bytes, 0);
        cursor.has_tag(ANY) || cursor.has_tag(SIGNED) || cursor.has_tag(UNSIGNED) || cursor.has_tag(18)
    }

    /// Reads a manifest that fills `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as the draft demands, or that this version does not read.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_LENGTH {
            return Err(Malformed::too_long(FORMAT, "length", 0, MAX_LENGTH, bytes.len()));
        }
        let mut cursor = Cursor::at(FORMAT, bytes, 0);
        cursor.has_tag(ANY);
        if cursor.clone().has_tag(UNSIGNED) {
            let corim = Corim::read(&mut cursor)?;
            cursor.finish("length")?;
            return Ok(Self::Unsigned(corim));
        }
        cursor.has_tag(SIGNED);
        let base = cursor.offset();
        let message = Sign1::parse(FORMAT, &bytes[base..], base)?;
        let validity = protected(message.protected(FORMAT))?;
        let mut payload = message.payload(FORMAT);
        let corim = Corim::read(&mut payload)?;
        payload.finish("payload")?;
        Ok(Self::Signed(Box::new(Signed { message, validity, corim })))
    }
}

impl Signed {
    /// The signed message.
    pub fn message(&self) -> &Sign1 {
        &self.message
    }

    /// When the signature holds, by the word of the signer.
    pub fn signature_validity(&self) -> Validity {
        self.validity
    }

    /// The manifest. Believe it once the message's signature is verified.
    pub fn unverified(&self) -> &Corim {
        &self.corim
    }
}

impl Corim {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        const FIELD: &str = "manifest";
        let start = cursor.offset();
        if !cursor.has_tag(UNSIGNED) {
            return Err(cursor.value(FIELD, start, "tag 501", "another item"));
        }
        let (mut id, mut profile, mut validity, mut triples) = (None, None, Validity::default(), None);
        fields(cursor, FIELD, |key, cursor| {
            match key {
                0 => id = Some(identity(cursor, "id")?),
                1 => triples = Some(tags(cursor)?),
                3 => profile = Some(read_profile(cursor)?),
                4 => validity = Validity::read(cursor)?,
                5 => cursor.skip("entities")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let missing = |field| Malformed::value(FORMAT, field, start, "the field", "none");
        Ok(Self {
            id: id.ok_or_else(|| missing("id"))?,
            profile,
            validity,
            reference_triples: triples.ok_or_else(|| missing("tags"))?,
        })
    }
}

impl Validity {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        const FIELD: &str = "validity";
        let mut validity = Self::default();
        let start = cursor.offset();
        fields(cursor, FIELD, |key, cursor| {
            let time = match key {
                0 => &mut validity.not_before,
                1 => &mut validity.not_after,
                _ => return Ok(false),
            };
            let offset = cursor.offset();
            if !cursor.has_tag(1) {
                return Err(cursor.value(FIELD, offset, "a time with tag 1", "another item"));
            }
            *time = Some(cursor.integer(FIELD)?);
            Ok(true)
        })?;
        if validity.not_after.is_none() {
            return Err(cursor.value(FIELD, start, "an end", "none"));
        }
        Ok(validity)
    }
}

/// What the protected header says beside the algorithm.
fn protected(mut header: Cursor<'_>) -> Result<Validity, Malformed> {
    const FIELD: &str = "protected header";
    let start = header.offset();
    let (mut media_type, mut meta) = (None, None);
    let mut left = header.map(FIELD)?;
    while header.more(&mut left) {
        let offset = header.offset();
        let twice = match header.key(FIELD)? {
            Key::Integer(CONTENT_TYPE) => media_type.replace(header.text("content type")?).is_some(),
            Key::Integer(META) => {
                let bytes = header.bytes("metadata")?;
                meta.replace((bytes, header.offset() - bytes.len())).is_some()
            }
            _ => {
                header.skip(FIELD)?;
                false
            }
        };
        if twice {
            return Err(header.value(FIELD, offset, "each parameter once", "one twice"));
        }
    }
    if media_type != Some(MEDIA_TYPE) {
        let seen = media_type.unwrap_or("none");
        return Err(header.value("content type", start, MEDIA_TYPE, seen));
    }
    let Some((bytes, base)) = meta else { return Ok(Validity::default()) };
    let (mut cursor, mut validity) = (Cursor::at(FORMAT, bytes, base), Validity::default());
    fields(&mut cursor, "metadata", |key, cursor| {
        match key {
            0 => cursor.skip("signer")?,
            1 => validity = Validity::read(cursor)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    cursor.finish("metadata")?;
    Ok(validity)
}

/// The tags of a manifest, of which all must be CoMIDs: what another kind says would be lost.
fn tags(cursor: &mut Cursor<'_>) -> Result<Vec<ReferenceTriple>, Malformed> {
    let mut triples = Vec::new();
    let mut left = cursor.array("tags")?;
    while cursor.more(&mut left) {
        let offset = cursor.offset();
        if !cursor.has_tag(COMID) {
            return Err(Malformed::unsupported(FORMAT, "tags", offset, "CoMIDs (tag 506)", "another kind"));
        }
        let bytes = cursor.bytes("CoMID")?;
        let mut inner = Cursor::at(FORMAT, bytes, cursor.offset() - bytes.len());
        comid(&mut inner, &mut triples)?;
        inner.finish("CoMID")?;
    }
    Ok(triples)
}

fn comid(cursor: &mut Cursor<'_>, triples: &mut Vec<ReferenceTriple>) -> Result<(), Malformed> {
    const FIELD: &str = "CoMID";
    let start = cursor.offset();
    let (mut identified, mut stated) = (false, false);
    fields(cursor, FIELD, |key, cursor| {
        match key {
            0 | 2 | 3 => cursor.skip(FIELD)?,
            1 => {
                cursor.skip("tag identity")?;
                identified = true;
            }
            4 => {
                fields(cursor, "triples", |key, cursor| {
                    match key {
                        0 => reference_triples(cursor, triples)?,
                        // Endorsements, keys, dependencies, members, software identities: not reference values.
                        1..=6 | 8 | 10 => cursor.skip("triples")?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                stated = true;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match identified && stated {
        true => Ok(()),
        false => Err(cursor.value(FIELD, start, "a tag identity and triples", "one without")),
    }
}

fn reference_triples(cursor: &mut Cursor<'_>, triples: &mut Vec<ReferenceTriple>) -> Result<(), Malformed> {
    const FIELD: &str = "reference triple";
    let mut left = cursor.array(FIELD)?;
    while cursor.more(&mut left) {
        pair(cursor, FIELD)?;
        let environment = Environment::read(cursor)?;
        let start = cursor.offset();
        let mut measurements = Vec::new();
        let mut left = cursor.array("measurements")?;
        while cursor.more(&mut left) {
            measurements.push(Measured::read(cursor)?);
        }
        if measurements.is_empty() {
            return Err(cursor.value("measurements", start, "at least one", "none"));
        }
        triples.push(ReferenceTriple { environment, measurements });
    }
    Ok(())
}

/// Enters an array of two items, which must be of definite length.
fn pair(cursor: &mut Cursor<'_>, field: &'static str) -> Result<(), Malformed> {
    let start = cursor.offset();
    match cursor.array(field)? {
        Left::Items(2) => Ok(()),
        _ => Err(cursor.value(field, start, "an array of 2 items", "another array")),
    }
}

/// Reads a map with numbers as keys, each once. `read` reads the value of a key that it knows, and says whether it did;
/// others are refused: an extension could change what the rest means.
fn fields<'a>(
    cursor: &mut Cursor<'a>,
    field: &'static str,
    mut read: impl FnMut(i64, &mut Cursor<'a>) -> Result<bool, Malformed>,
) -> Result<(), Malformed> {
    let mut seen = Vec::new();
    let mut left = cursor.map(field)?;
    while cursor.more(&mut left) {
        let offset = cursor.offset();
        let key = cursor.integer(field)?;
        if seen.contains(&key) {
            return Err(cursor.value(field, offset, "each key once", format!("{key} twice")));
        }
        if !read(key, cursor)? {
            let seen = format!("key {key}");
            return Err(Malformed::unsupported(FORMAT, field, offset, "keys that are known", seen));
        }
        seen.push(key);
    }
    Ok(())
}

/// Text, or the bytes of a UUID.
fn identity(cursor: &mut Cursor<'_>, field: &'static str) -> Result<String, Malformed> {
    match cursor.clone().text(field) {
        Ok(_) => cursor.text(field).map(str::to_owned),
        Err(_) => {
            cursor.has_tag(environment::UUID);
            cursor.bytes_of(field, 16..=16, &[16]).map(hex::encode)
        }
    }
}

fn read_profile(cursor: &mut Cursor<'_>) -> Result<String, Malformed> {
    if cursor.has_tag(environment::OID) {
        return cursor.bytes("profile").map(hex::encode);
    }
    let start = cursor.offset();
    match cursor.has_tag(32) {
        true => cursor.text("profile").map(str::to_owned),
        false => Err(cursor.value("profile", start, "a URI or an object identifier", "another item")),
    }
}
