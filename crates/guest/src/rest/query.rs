//! The query of a request to the local API: `name=value&…`, percent-encoded as forms are (WHATWG URL Standard,
//! application/x-www-form-urlencoded). Strict where browsers are lenient: what is malformed is refused.

use std::collections::BTreeMap;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// The most parameters.
const MAX_PARAMETERS: usize = 16;

/// Parameters by name, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

/// Why a query is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// `%` without two hexadecimal digits, or bytes that are no UTF-8.
    #[error("the query is not percent-encoded UTF-8")]
    Encoding,
    /// A name twice: which one counts would be a guess.
    #[error("the query has a parameter twice")]
    Twice,
    /// Too many.
    #[error("the query has more than {MAX_PARAMETERS} parameters")]
    TooMany,
    /// Not there.
    #[error("the query has no {0}")]
    Missing(&'static str),
    /// Neither absent nor `base64`.
    #[error("encoding is base64 or left out")]
    UnknownEncoding,
    /// No base64.
    #[error("runtime_data is no base64")]
    Base64,
    /// Longer than Evidence can cover.
    #[error("runtime_data has {length} bytes, and Evidence covers 64")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

impl Query {
    /// Reads what stands behind the `?`.
    ///
    /// # Errors
    /// When it is malformed, or names a parameter twice.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut parameters = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == MAX_PARAMETERS {
                return Err(QueryError::TooMany);
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if parameters.insert(decode(name)?, decode(value)?).is_some() {
                return Err(QueryError::Twice);
            }
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter.
    ///
    /// # Errors
    /// When there is none.
    pub fn value(&self, name: &'static str) -> Result<&str, QueryError> {
        self.0.get(name).map(String::as_str).ok_or(QueryError::Missing(name))
    }

    /// What Evidence is to cover: `runtime_data`, at most 64 bytes as they stand or in base64 of either alphabet.
    ///
    /// # Errors
    /// When it is missing, malformed or too long. It is never cut.
    pub fn runtime_data(&self) -> Result<Vec<u8>, QueryError> {
        let text = self.value("runtime_data")?;
        let bytes = match self.0.get("encoding").map(String::as_str) {
            None => text.as_bytes().to_vec(),
            Some("base64") => base64(text)?,
            Some(_) => return Err(QueryError::UnknownEncoding),
        };
        match bytes.len() {
            0..=64 => Ok(bytes),
            length => Err(QueryError::TooLong { length }),
        }
    }
}

fn decode(text: &str) -> Result<String, QueryError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = digit().zip(digit()).ok_or(QueryError::Encoding)?;
                u8::try_from(high << 4 | low).map_err(|_| QueryError::Encoding)?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| QueryError::Encoding)
}

/// Clients write either alphabet, with padding or without. A `+` that was not escaped has become a space.
fn base64(text: &str) -> Result<Vec<u8>, QueryError> {
    let text = text.replace(' ', "+");
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [&STANDARD, &URL_SAFE]
        .into_iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(&text).ok())
        .ok_or(QueryError::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime_data(query: &str) -> Result<Vec<u8>, QueryError> {
        Query::parse(query)?.runtime_data()
    }

    #[test]
    fn runtime_data_is_read_as_text_and_as_base64() {
        let data = runtime_data("runtime_data=a%20b+c&other=1").expect("data");
        assert_eq!(data, b"a b c");
        for text in ["-_-_", "%2B%2f%2B%2f", "+/+/"] {
            let data = runtime_data(&format!("encoding=base64&runtime_data={text}")).expect(text);
            assert_eq!(data, [0xfb, 0xff, 0xbf], "{text}");
        }
        assert!(runtime_data("runtime_data=YQ==&encoding=base64").is_ok(), "with padding");
        assert!(runtime_data("runtime_data=YQ&encoding=base64").is_ok(), "without");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        assert_eq!(runtime_data("runtime_data=a&runtime_data=b"), Err(QueryError::Twice));
        assert_eq!(runtime_data("runtime_data=a&runtime%5Fdata=b"), Err(QueryError::Twice));
        assert_eq!(runtime_data("runtime_data=%zz"), Err(QueryError::Encoding));
        assert_eq!(runtime_data("runtime_data=%f"), Err(QueryError::Encoding));
        assert_eq!(runtime_data("runtime_data=%ff"), Err(QueryError::Encoding));
        assert_eq!(runtime_data("encoding=base64"), Err(QueryError::Missing("runtime_data")));
        assert_eq!(runtime_data("runtime_data=a&encoding=hex"), Err(QueryError::UnknownEncoding));
        assert_eq!(runtime_data("runtime_data=%25&encoding=base64"), Err(QueryError::Base64));
        let many: Vec<String> = (0..17).map(|number| format!("p{number}=")).collect();
        assert_eq!(runtime_data(&many.join("&")), Err(QueryError::TooMany));
    }

    #[test]
    fn runtime_data_is_never_cut() {
        assert!(runtime_data(&format!("runtime_data={}", "a".repeat(64))).is_ok());
        let long = runtime_data(&format!("runtime_data={}", "a".repeat(65)));
        assert_eq!(long, Err(QueryError::TooLong { length: 65 }));
    }
}
