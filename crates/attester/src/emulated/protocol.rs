//! The messages between a launched process and the emulated platform. They exist on the inherited
//! descriptor only: the emulator's control socket, which the host can open, refuses them.

use evidence::{Platform, ReportData};
use serde::{Deserialize, Serialize};

use super::frame::{self, DecodeError};
use crate::SealingKey;

/// What a launched process asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How was I launched?
    Launch,
    /// Evidence over this report data.
    Evidence {
        /// What the Evidence is to cover.
        #[serde(with = "report_data")]
        report_data: ReportData,
    },
    /// The sealing key of this context.
    SealingKey {
        /// 1 to [`super::MAX_CONTEXT`] bytes.
        context: String,
    },
}

/// What the platform answers: the variant of the request's name, or a refusal.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Response {
    /// How the process was launched.
    Launch {
        /// As what kind of TEE.
        platform: Platform,
        /// With which measured configuration.
        #[serde(with = "byte_string")]
        configuration: Vec<u8>,
    },
    /// Evidence.
    Evidence {
        /// The quote or report.
        #[serde(with = "byte_string")]
        evidence: Vec<u8>,
        /// The stapled Endorsements.
        #[serde(with = "byte_string")]
        endorsements: Vec<u8>,
    },
    /// A sealing key.
    SealingKey {
        /// The key.
        #[serde(with = "sealing_key")]
        key: SealingKey,
    },
    /// No.
    Refused {
        /// The stable code.
        code: RefusalCode,
        /// One sentence.
        reason: String,
    },
}

/// Why the platform says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum RefusalCode {
    /// The request is no message of this protocol.
    MalformedRequest,
    /// The context of a sealing key is empty or too long.
    InvalidContext,
    /// The platform itself failed.
    PlatformFailed,
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MalformedRequest => "MALFORMED_REQUEST",
            Self::InvalidContext => "INVALID_CONTEXT",
            Self::PlatformFailed => "PLATFORM_FAILED",
        })
    }
}

impl Request {
    /// Reads a request from the payload of a frame.
    ///
    /// # Errors
    /// When it is not exactly one request in its one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        frame::decode(bytes)
    }
}

impl Response {
    /// Reads a response from the payload of a frame.
    ///
    /// # Errors
    /// When it is not exactly one response in its one encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        frame::decode(bytes)
    }
}

/// For `#[serde(with = …)]`: a `Vec<u8>` as a CBOR byte string instead of an array of integers.
pub mod byte_string {
    use serde::{Deserializer, Serializer, de};

    /// Writes a byte string.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// Reads a byte string.
    ///
    /// # Errors
    /// When the value is anything else.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl de::Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a byte string")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
            Ok(bytes)
        }
    }
}

mod report_data {
    use evidence::ReportData;
    use serde::{Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &ReportData, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&value.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ReportData, D::Error> {
        let bytes = super::byte_string::deserialize(deserializer)?;
        let length = bytes.len();
        <[u8; 64]>::try_from(bytes)
            .map(ReportData)
            .map_err(|_| D::Error::custom(format!("report data has 64 bytes, not {length}")))
    }
}

mod sealing_key {
    use serde::{Deserializer, Serializer, de::Error};
    use zeroize::Zeroizing;

    use crate::SealingKey;

    pub fn serialize<S: Serializer>(key: &SealingKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(key.as_bytes())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SealingKey, D::Error> {
        let bytes = Zeroizing::new(super::byte_string::deserialize(deserializer)?);
        let mut key = Zeroizing::new([0u8; 32]);
        if bytes.len() != key.len() {
            return Err(D::Error::custom(format!("a sealing key has 32 bytes, not {}", bytes.len())));
        }
        key.copy_from_slice(&bytes);
        Ok(SealingKey::new(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    #[test]
    fn messages_survive_the_round_trip() {
        for request in [
            Request::Launch,
            Request::Evidence { report_data: ReportData([7; 64]) },
            Request::SealingKey { context: "state".into() },
        ] {
            assert_eq!(Request::decode(&frame::encode(&request).unwrap()).unwrap(), request);
        }
        for response in [
            Response::Launch { platform: Platform::Tdx, configuration: vec![1; 5000] },
            Response::Evidence { evidence: vec![2; 9], endorsements: vec![] },
            Response::SealingKey { key: SealingKey::new(Zeroizing::new([3; 32])) },
            Response::Refused { code: RefusalCode::InvalidContext, reason: "too long".into() },
        ] {
            assert_eq!(Response::decode(&frame::encode(&response).unwrap()).unwrap(), response);
        }
    }

    #[test]
    fn s43_report_data_of_another_length_is_refused_not_padded() {
        let mut bytes = frame::encode(&Request::Evidence { report_data: ReportData([0; 64]) }).unwrap();
        let length = bytes.len();
        bytes[length - 65] = 63; // the byte string's length: 0x58 0x40
        bytes.truncate(length - 1);
        assert!(matches!(Request::decode(&bytes), Err(DecodeError::Malformed(_))));
    }

    #[test]
    fn s43_unknown_fields_and_variants_are_refused() {
        use ciborium::Value;
        let text = |text: &str| Value::Text(text.into());
        let map = |entries: Vec<(Value, Value)>| Value::Map(entries);
        let encoded = |value: &Value| frame::encode(value).unwrap();
        let context = (text("context"), text("state"));
        let good = map(vec![(text("sealing_key"), map(vec![context.clone()]))]);
        assert!(Request::decode(&encoded(&good)).is_ok());
        let extra =
            map(vec![(text("sealing_key"), map(vec![context.clone(), (text("debug"), Value::Null)]))]);
        assert!(Request::decode(&encoded(&extra)).is_err());
        let twice = map(vec![(text("sealing_key"), map(vec![context.clone(), context]))]);
        assert!(Request::decode(&encoded(&twice)).is_err());
        assert!(Request::decode(&encoded(&text("become_root"))).is_err());
    }

    #[test]
    fn s44_a_sealing_key_is_not_printed() {
        let response = Response::SealingKey { key: SealingKey::new(Zeroizing::new([0xab; 32])) };
        assert_eq!(format!("{response:?}"), "SealingKey { key: SealingKey(…) }");
    }
}
