//! Our own predicate: reference values in a series. Tuples stay tuples: what one of them names must be met together.
//!
//! ```json
//! { "series": "kata-guest", "serial": 7, "issued": "2026-11-01T00:00:00Z", "expires": "2027-05-01T00:00:00Z",
//!   "subjects": ["sha256:<hex>"], "reference_values": [ { "label": "kata 3.2", "platform": "snp", … } ] }
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use appraisal::{ReferenceValue, UnixTime};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::refused::Refused;

const PART: &str = "statement of reference values";
/// A statement has fewer values than this, and fewer subjects.
const MOST: usize = 1024;
/// A name of a series, in bytes.
const LONGEST_SERIES: usize = 256;

/// What a signer says that Evidence ought to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Values {
    /// What is released again and again under this name.
    pub series: String,
    /// Counts within the series: a signer's later word has a greater one.
    pub serial: u64,
    /// When the signer said it.
    pub issued: UnixTime,
    /// From when on it holds; absent where from its issue on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<UnixTime>,
    /// Until when it holds.
    pub expires: UnixTime,
    /// The artefacts that were measured: provenance of one of them is about these values. In an in-toto statement,
    /// its subjects are among them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub subjects: BTreeSet<ArtefactDigest>,
    /// Any of these is acceptable; never empty.
    pub reference_values: Vec<ReferenceValue>,
}

/// SHA-256 of an artefact. Text form: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtefactDigest(pub [u8; 32]);

impl Values {
    /// Reads the predicate's JSON.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, Refused> {
        let values: Self = serde_json::from_slice(json).map_err(|error| {
            if error.to_string().contains("missing field `expires`") {
                return Refused::NoExpiry;
            }
            Refused::malformed(PART, error)
        })?;
        values.checked()
    }

    pub(crate) fn checked(self) -> Result<Self, Refused> {
        let starts = self.not_before.unwrap_or(self.issued);
        let fault = if self.series.is_empty() || self.series.len() > LONGEST_SERIES {
            "a series has a name of 1 to 256 bytes"
        } else if self.reference_values.is_empty() || self.reference_values.len() > MOST {
            "there are 1 to 1024 reference values"
        } else if self.subjects.len() > MOST {
            "there are at most 1024 subjects"
        } else if self.expires <= starts {
            "it ends before it begins"
        } else {
            return Ok(self);
        };
        Err(Refused::malformed(PART, fault))
    }

    /// From when on it holds.
    pub fn starts(&self) -> UnixTime {
        self.not_before.map_or(self.issued, |not_before| not_before.max(self.issued))
    }
}

impl fmt::Display for ArtefactDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl FromStr for ArtefactDigest {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("sha256:").unwrap_or_default();
        let bytes = hex::decode(digits).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("expected `sha256:` and 64 hexadecimal digits")
    }
}

impl Serialize for ArtefactDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArtefactDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
