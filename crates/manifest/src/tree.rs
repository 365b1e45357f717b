//! The document as a tree of plain values, before any meaning: what JSON and YAML have in common, with
//! duplicates kept so that they can be refused by name, and lines where the format gives them.

use crate::fault::{Code, Faults};
use crate::{json, yaml};

/// The largest document, in bytes.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// The deepest nesting of objects and lists. The format itself needs eight.
pub(crate) const MAX_DEPTH: usize = 32;
/// The longest field or name, in bytes: PATH_MAX, for the paths under `Files`.
pub(crate) const MAX_KEY: usize = 4096;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The line, in YAML.
    pub line: Option<usize>,
    /// What stands there.
    pub value: Value,
}

/// A plain value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from 0 to 2^64 − 1.
    Unsigned(u64),
    /// Any other number, as a float.
    OtherNumber(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Fields by name.
    Object(Vec<Entry>),
}

/// A field of an object, duplicates included, in the order of the document.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// The line, in YAML.
    pub line: Option<usize>,
    /// Its value.
    pub node: Node,
}

impl Value {
    /// What this is, with its article, for "expected text, found …".
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Unsigned(_) | Self::OtherNumber(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl Node {
    /// Reads JSON when the first byte that is not white space is `{`, else YAML.
    ///
    /// # Errors
    /// The one fault at which reading stopped.
    pub fn parse(bytes: &[u8]) -> Result<Self, Faults> {
        if bytes.len() > MAX_BYTES {
            let message = format!("the document has {} bytes, more than {MAX_BYTES}", bytes.len());
            return Err(Faults::of_document(Code::TooLarge, None, message, None));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let message = format!("the byte at offset {} is not UTF-8", error.valid_up_to());
            Faults::of_document(Code::NotUtf8, None, message, None)
        })?;
        let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        if is_json { json::read(text) } else { yaml::read(text) }
    }
}

pub(crate) fn too_deep(line: Option<usize>) -> Faults {
    let message = format!("objects and lists are nested deeper than {MAX_DEPTH} levels");
    Faults::of_document(Code::TooDeep, line, message, None)
}

pub(crate) fn key_too_long(line: Option<usize>) -> Faults {
    let message = format!("a field or name is longer than {MAX_KEY} bytes");
    Faults::of_document(Code::InvalidName, line, message, None)
}
