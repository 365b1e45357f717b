//! Conceptual message wrappers: Evidence and Endorsements in one envelope that says what each part is
//! (draft-ietf-rats-msg-wrap-14). Records, CBOR tags, and collections, in JSON and CBOR.
//!
//! A wrapper is not signed and proves nothing; it only keeps parts together and apart.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ciborium::Value;
use serde_json::Value as Json;

use crate::Malformed;

const FORMAT: &str = "CMW";
/// Media type of our encoded [`crate::Endorsements`].
pub const MEDIA_TYPE_ENDORSEMENTS: &str = "application/vnd.bailey.endorsements+cbor";
/// The first tag of those that stand for a CoAP content format (RFC 9277, §4.3).
const FIRST_CONTENT_FORMAT_TAG: u64 = 1_668_546_817;
/// How deep collections may be nested, and how many members all of them may have together.
const MAX_DEPTH: usize = 4;
const MAX_MEMBERS: usize = 64;
/// The member of a JSON collection that names its type (§3.3).
const COLLECTION_TYPE: &str = "__cmwc_t";

/// What the value of a record is: a media type, or the number of a CoAP content format.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ContentType {
    /// Such as `application/eat+cwt`.
    MediaType(String),
    /// A CoAP content format, 0 to 65 535.
    ContentFormat(u16),
}

/// Which conceptual messages of RFC 9334 a record holds (§3.1, "cm-ind").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indicator(pub u8);

impl Indicator {
    /// Reference values.
    pub const REFERENCE_VALUES: Self = Self(1);
    /// Endorsements.
    pub const ENDORSEMENTS: Self = Self(2);
    /// Evidence.
    pub const EVIDENCE: Self = Self(4);
    /// Attestation results.
    pub const RESULTS: Self = Self(8);

    /// Whether the record may hold `other`: said so, or nothing said.
    pub fn allows(self, other: Self) -> bool {
        self.0 == 0 || self.0 & other.0 != 0
    }
}

/// A conceptual message wrapper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cmw {
    /// One message.
    Record {
        /// What it is.
        content_type: ContentType,
        /// Its bytes.
        value: Vec<u8>,
        /// Which kinds of message it may be; zero when nothing is said.
        indicator: Indicator,
    },
    /// Several, by label; an integer label of CBOR is its decimal digits here.
    Collection(BTreeMap<String, Cmw>),
}

impl Cmw {
    /// One message of a media type.
    pub fn record(media_type: &str, value: Vec<u8>, indicator: Indicator) -> Self {
        Self::Record { content_type: ContentType::MediaType(media_type.into()), value, indicator }
    }

    /// Whether bytes look like a wrapper: cheap, and no promise that they can be parsed. A CBOR map is not taken
    /// for a collection here, because other formats are maps, too.
    pub fn recognises(bytes: &[u8]) -> bool {
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => std::str::from_utf8(bytes).is_ok() && Self::from_json(bytes).is_ok(),
            Some(b'{') => Self::from_json(bytes).is_ok(),
            // An array of two or three items, or a tag of four bytes.
            Some(0x82 | 0x83 | 0xda | 0xa1..=0xb7) => Self::from_cbor(bytes).is_ok(),
            _ => false,
        }
    }

    /// Parses JSON or CBOR, told apart by the first byte.
    ///
    /// # Errors
    /// [`Malformed`] names the part that is not as it should be.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[' | b'{') => Self::from_json(bytes),
            _ => Self::from_cbor(bytes),
        }
    }

    fn from_json(bytes: &[u8]) -> Result<Self, Malformed> {
        let json: Json = serde_json::from_slice(bytes)
            .map_err(|error| Malformed::value(FORMAT, "JSON", 0, "one value", error.to_string()))?;
        read_json(json, 0, &mut { MAX_MEMBERS })
    }

    fn from_cbor(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = bytes;
        let value: Value = ciborium::de::from_reader_with_recursion_limit(&mut rest, 16)
            .map_err(|error| Malformed::value(FORMAT, "CBOR", 0, "one item", error.to_string()))?;
        if !rest.is_empty() {
            let seen = format!("{} bytes more", rest.len());
            return Err(Malformed::value(FORMAT, "CBOR", bytes.len() - rest.len(), "one item", seen));
        }
        read_cbor(value, 0, &mut { MAX_MEMBERS })
    }

    /// The records in it with the labels that lead to each, separated by `/`.
    pub fn records(&self) -> Vec<(String, &ContentType, &[u8], Indicator)> {
        let mut found = Vec::new();
        self.collect(String::new(), &mut found);
        found
    }

    fn collect<'a>(&'a self, path: String, found: &mut Vec<(String, &'a ContentType, &'a [u8], Indicator)>) {
        match self {
            Self::Record { content_type, value, indicator } => {
                found.push((path, content_type, value, *indicator));
            }
            Self::Collection(members) => {
                for (label, member) in members {
                    let path = if path.is_empty() { label.clone() } else { format!("{path}/{label}") };
                    member.collect(path, found);
                }
            }
        }
    }

    /// The wrapper as JSON.
    pub fn to_json(&self) -> String {
        write_json(self).to_string()
    }

    /// A record as a CBOR tag, which stands for its content format and says nothing of the kind of message. None for
    /// a record of a media type, and for a collection.
    pub fn to_tag(&self) -> Option<Vec<u8>> {
        let Self::Record { content_type: ContentType::ContentFormat(number), value, .. } = self else {
            return None;
        };
        let mut bytes = Vec::new();
        let tagged = Value::Tag(tag_of(*number), Box::new(Value::Bytes(value.clone())));
        // Writing to a vector cannot fail, and the value holds nothing that CBOR cannot express.
        let written = ciborium::into_writer(&tagged, &mut bytes);
        debug_assert!(written.is_ok());
        Some(bytes)
    }

    /// The wrapper as CBOR.
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to a vector cannot fail, and the value holds nothing that CBOR cannot express.
        let written = ciborium::into_writer(&write_cbor(self), &mut bytes);
        debug_assert!(written.is_ok());
        bytes
    }
}

/// The tag that stands for a content format (RFC 9277, §4.3): its last byte counts to 254 only.
fn tag_of(content_format: u16) -> u64 {
    let number = u64::from(content_format);
    FIRST_CONTENT_FORMAT_TAG + number / 255 * 256 + number % 255
}

fn wrong(field: &'static str, expected: &'static str) -> Malformed {
    Malformed::value(FORMAT, field, 0, expected, "something else")
}

fn nested(depth: usize, members: usize, left: &mut usize) -> Result<(), Malformed> {
    if depth >= MAX_DEPTH {
        return Err(wrong("collection", "at most 4 levels of collections"));
    }
    if members == 0 || members > *left {
        return Err(wrong("collection", "1 to 64 members in all"));
    }
    *left -= members;
    Ok(())
}

fn content_format(number: u64) -> Result<ContentType, Malformed> {
    u16::try_from(number)
        .map(ContentType::ContentFormat)
        .map_err(|_| wrong("type", "a CoAP content format, 0 to 65535"))
}

fn indicator(number: Option<u64>) -> Result<Indicator, Malformed> {
    match number {
        None => Ok(Indicator::default()),
        Some(number @ 1..=15) => Ok(Indicator(number as u8)),
        Some(_) => Err(wrong("indicator", "the sum of 1, 2, 4 and 8")),
    }
}

fn read_json(json: Json, depth: usize, left: &mut usize) -> Result<Cmw, Malformed> {
    match json {
        Json::Array(items) => {
            let (content_type, value, number) = match items.as_slice() {
                [content_type, Json::String(value)] => (content_type, value, None),
                [content_type, Json::String(value), number] => (content_type, value, Some(number)),
                _ => return Err(wrong("record", "a type, a value in base64url, and perhaps an indicator")),
            };
            let content_type = match (content_type, content_type.as_u64()) {
                (Json::String(text), _) if text.contains('/') => ContentType::MediaType(text.clone()),
                (_, Some(number)) => content_format(number)?,
                _ => return Err(wrong("type", "a media type or a content format")),
            };
            let number = match number {
                None => None,
                Some(number) => {
                    Some(number.as_u64().ok_or_else(|| wrong("indicator", "the sum of 1, 2, 4 and 8"))?)
                }
            };
            let value = URL_SAFE_NO_PAD
                .decode(value)
                .map_err(|error| Malformed::value(FORMAT, "value", 0, "base64url", error.to_string()))?;
            Ok(Cmw::Record { content_type, value, indicator: indicator(number)? })
        }
        Json::Object(mut members) => {
            members.remove(COLLECTION_TYPE);
            nested(depth, members.len(), left)?;
            members
                .into_iter()
                .map(|(label, member)| Ok((label, read_json(member, depth + 1, left)?)))
                .collect::<Result<_, _>>()
                .map(Cmw::Collection)
        }
        _ => Err(wrong("wrapper", "a record or a collection")),
    }
}

fn read_cbor(value: Value, depth: usize, left: &mut usize) -> Result<Cmw, Malformed> {
    let unsigned = |value: &Value| value.as_integer().and_then(|number| u64::try_from(number).ok());
    match value {
        Value::Tag(tag, inner) => {
            let number = tag.checked_sub(FIRST_CONTENT_FORMAT_TAG).ok_or_else(|| {
                Malformed::unsupported(FORMAT, "tag", 0, "that of a content format", tag.to_string())
            })?;
            let Value::Bytes(value) = *inner else { return Err(wrong("value", "a byte string")) };
            // The last byte of a tag counts to 254 only, so that no tag ends in zero bytes.
            let (high, low) = (number / 256, number % 256);
            if low == 255 {
                return Err(Malformed::unsupported(
                    FORMAT,
                    "tag",
                    0,
                    "that of a content format",
                    tag.to_string(),
                ));
            }
            let number = high * 255 + low;
            Ok(Cmw::Record { content_type: content_format(number)?, value, indicator: Indicator::default() })
        }
        Value::Array(items) => {
            let (content_type, value, number) = match items.as_slice() {
                [content_type, Value::Bytes(value)] => (content_type, value, None),
                [content_type, Value::Bytes(value), number] => (content_type, value, Some(number)),
                _ => return Err(wrong("record", "a type, a byte string, and perhaps an indicator")),
            };
            let content_type = match (content_type, unsigned(content_type)) {
                (Value::Text(text), _) if text.contains('/') => ContentType::MediaType(text.clone()),
                (_, Some(number)) => content_format(number)?,
                _ => return Err(wrong("type", "a media type or a content format")),
            };
            let number = match number {
                None => None,
                Some(number) => {
                    Some(unsigned(number).ok_or_else(|| wrong("indicator", "the sum of 1, 2, 4 and 8"))?)
                }
            };
            Ok(Cmw::Record { content_type, value: value.clone(), indicator: indicator(number)? })
        }
        Value::Map(members) => {
            let members: Vec<_> =
                members.into_iter().filter(|(label, _)| label.as_text() != Some(COLLECTION_TYPE)).collect();
            nested(depth, members.len(), left)?;
            let mut collection = BTreeMap::new();
            for (label, member) in members {
                let label = match (label.as_text(), label.as_integer()) {
                    (Some(text), _) => text.to_owned(),
                    (_, Some(number)) => i128::from(number).to_string(),
                    _ => return Err(wrong("label", "a text or an integer")),
                };
                if collection.insert(label, read_cbor(member, depth + 1, left)?).is_some() {
                    return Err(wrong("label", "labels that differ"));
                }
            }
            Ok(Cmw::Collection(collection))
        }
        _ => Err(wrong("wrapper", "a record, a tag or a collection")),
    }
}

fn write_json(cmw: &Cmw) -> Json {
    match cmw {
        Cmw::Record { content_type, value, indicator } => {
            let content_type = match content_type {
                ContentType::MediaType(text) => Json::from(text.as_str()),
                ContentType::ContentFormat(number) => Json::from(*number),
            };
            let mut items = vec![content_type, Json::from(URL_SAFE_NO_PAD.encode(value))];
            items.extend((indicator.0 != 0).then(|| Json::from(indicator.0)));
            Json::Array(items)
        }
        Cmw::Collection(members) => {
            Json::Object(members.iter().map(|(label, member)| (label.clone(), write_json(member))).collect())
        }
    }
}

fn write_cbor(cmw: &Cmw) -> Value {
    match cmw {
        Cmw::Record { content_type, value, indicator } => {
            let content_type = match content_type {
                ContentType::MediaType(text) => Value::from(text.as_str()),
                ContentType::ContentFormat(number) => Value::from(*number),
            };
            let mut items = vec![content_type, Value::Bytes(value.clone())];
            items.extend((indicator.0 != 0).then(|| Value::from(indicator.0)));
            Value::Array(items)
        }
        Cmw::Collection(members) => Value::Map(
            members.iter().map(|(label, member)| (Value::from(label.as_str()), write_cbor(member))).collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the draft, as crate `cmw` 0.1.2 (Apache-2.0) has them.
    #[test]
    fn examples_of_the_draft_are_read() {
        let json = Cmw::parse(br#"{"a": ["application/vnd.a", "YQ"], "b": ["application/vnd.b", "Yg", 4]}"#);
        let json = json.unwrap();
        assert_eq!(json.records().len(), 2);
        assert_eq!(json.records()[1].3, Indicator::EVIDENCE);
        // {1: ["application/signed-corim+cbor", h'd28443a10126a1', 3], 2: 1668576818(h'2347da55'),
        //  "s": [30001, h'2347da55']}
        let bytes = hex::decode(
            "a30183781d6170706c69636174696f6e2f7369676e65642d636f72696d2b63626f7247d28443a10126a10302\
             da63747632442347da55617382197531442347da55",
        )
        .unwrap();
        let cbor = Cmw::parse(&bytes).unwrap();
        let records = cbor.records();
        assert_eq!(records[0].0, "1");
        // The tag's number is not the content format's: RFC 9277, §4.3.
        assert_eq!(records[1].1, &ContentType::ContentFormat(29_884));
        assert_eq!(records[2].1, &ContentType::ContentFormat(30_001));
    }

    #[test]
    fn both_encodings_round_trip() {
        let record = Cmw::record("application/x", vec![0, 255], Indicator::ENDORSEMENTS);
        let collection = Cmw::Collection([("a".into(), record.clone()), ("b".into(), record)].into());
        let outer = Cmw::Collection([("outer".into(), collection)].into());
        assert_eq!(Cmw::parse(outer.to_json().as_bytes()).unwrap(), outer);
        assert_eq!(Cmw::parse(&outer.to_cbor()).unwrap(), outer);
        assert_eq!(outer.records()[1].0, "outer/b");
    }

    #[test]
    fn every_content_format_has_its_tag() {
        // The example of the draft.
        assert_eq!(tag_of(29_884), 1_668_576_818);
        for number in 0..=u16::MAX {
            let content_type = ContentType::ContentFormat(number);
            let record =
                Cmw::Record { content_type, value: vec![number as u8], indicator: Indicator::default() };
            assert_eq!(Cmw::parse(&record.to_tag().unwrap()), Ok(record));
        }
        assert_eq!(Cmw::record("application/x", vec![], Indicator::EVIDENCE).to_tag(), None);
    }

    #[test]
    fn what_is_no_wrapper_is_refused() {
        for wrong in [
            r#"["application/x"]"#,
            r#"["x", "YQ"]"#,
            r#"["application/x", "Y!"]"#,
            r#"["application/x", "YQ", 16]"#,
            r#"["application/x", "YQ", "4"]"#,
            r#"[70000, "YQ"]"#,
            r#"{}"#,
            r#"{"a":{"b":{"c":{"d":{"e":["application/x","YQ"]}}}}}"#,
            "null",
        ] {
            assert!(Cmw::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let many: Vec<_> = (0..65).map(|n| format!(r#""{n}":["application/x","YQ"]"#)).collect();
        assert!(Cmw::parse(format!("{{{}}}", many.join(",")).as_bytes()).is_err());
        // A duplicate label, and a byte after the item.
        assert!(Cmw::parse(&hex::decode("a2018200410101820041ff").unwrap()).is_err());
        assert!(Cmw::parse(&hex::decode("8200410100").unwrap()).is_err());
    }
}
