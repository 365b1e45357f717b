//! Reference Values: what Evidence is compared with. Without them nothing can be appraised.

mod corim;
mod profiles;

use std::collections::BTreeMap;

use evidence::{Covered, LaunchConfiguration, Measurement, Platform};
use serde::{Deserialize, Deserializer, Serialize};

pub use corim::{CorimPolicy, LeftOut, ReadReferences, ReferencesRefused, Unsigned};

/// Everything that Evidence must equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceValues {
    /// What the Evidence must cover, all of it; see [`crate::binding::Transcript`]. Of 64 bytes, a platform whose
    /// field has 32 must cover the first half.
    pub report_data: Covered,
    /// The code that is expected: one of these. An empty list accepts nothing.
    pub measurements: Vec<ReferenceValue>,
}

/// One expected program on one platform. `bailey measure` prints these; manifests hold them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReferenceValue {
    /// What people call it, such as `keep 0.1.0`.
    pub label: String,
    /// The platform it runs on.
    pub platform: Platform,
    /// Its measurement there; absent where registers or the signer tell what the code is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measurement: Option<Measurement>,
    /// What it must have been launched with; when absent, any launch configuration is accepted, and the
    /// verdict says that it was not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_configuration: Option<LaunchConfiguration>,
    /// Further values that must be equal, by the names that verdicts show: `rtmr1`, `mrsigner`, `pcr7.sha256`,
    /// `id_key_digest`. Digests in lower-case hexadecimal, numbers in decimal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub registers: BTreeMap<String, String>,
    /// Numbers that must be at least so great, by the names that verdicts show: `isv_svn`, `guest_svn`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub minimum: BTreeMap<String, u64>,
}

impl ReferenceValue {
    /// A program that its measurement alone identifies, launched in any way.
    pub fn program(label: impl Into<String>, platform: Platform, measurement: Measurement) -> Self {
        Self {
            label: label.into(),
            platform,
            measurement: Some(measurement),
            launch_configuration: None,
            registers: BTreeMap::new(),
            minimum: BTreeMap::new(),
        }
    }

    /// The same program, launched with this configuration only.
    #[must_use]
    pub fn launched_with(mut self, configuration: LaunchConfiguration) -> Self {
        self.launch_configuration = Some(configuration);
        self
    }
}

/// Reference values as a file: what `bailey measure` prints and `bailey verify` reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceFile {
    /// Any of these is acceptable.
    pub reference_values: Vec<ReferenceValue>,
}

impl<'de> Deserialize<'de> for ReferenceValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Wire::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    label: String,
    platform: Platform,
    #[serde(default)]
    measurement: Option<Measurement>,
    #[serde(default)]
    launch_configuration: Option<LaunchConfiguration>,
    #[serde(default)]
    registers: BTreeMap<String, String>,
    #[serde(default)]
    minimum: BTreeMap<String, u64>,
}

/// A reference value that could never be matched, or that anything would match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// A value whose length is not that of its platform.
    #[error("{field} of {label:?}: a value on {platform} has {expected:?} bytes, seen {seen}")]
    WrongLength {
        /// The reference value.
        label: String,
        /// Its platform.
        platform: Platform,
        /// Which of its values.
        field: &'static str,
        /// The lengths that there are.
        expected: Vec<usize>,
        /// The length that it has.
        seen: usize,
    },
    /// Neither a measurement nor a register: any code would match.
    #[error("{label:?} names neither a measurement nor a register, so it would accept any code")]
    AcceptsAnything {
        /// The reference value.
        label: String,
    },
}

impl TryFrom<Wire> for ReferenceValue {
    type Error = InvalidReference;

    fn try_from(wire: Wire) -> Result<Self, InvalidReference> {
        let Wire { label, platform, measurement, launch_configuration, registers, minimum } = wire;
        if measurement.is_none() && registers.is_empty() {
            return Err(InvalidReference::AcceptsAnything { label });
        }
        let wrong = |field, expected: &[usize], seen| InvalidReference::WrongLength {
            label: label.clone(),
            platform,
            field,
            expected: expected.to_vec(),
            seen,
        };
        if let Some(measurement) = &measurement {
            let (expected, seen) = (Measurement::lengths_on(platform), measurement.as_bytes().len());
            if !expected.contains(&seen) {
                return Err(wrong("measurement", expected, seen));
            }
        }
        if let Some(configuration) = &launch_configuration {
            let expected = LaunchConfiguration::length_on(platform);
            let seen = configuration.as_bytes().len();
            if expected != seen {
                return Err(wrong("launch_configuration", &[expected], seen));
            }
        }
        Ok(Self { label, platform, measurement, launch_configuration, registers, minimum })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips() {
        let mut value = ReferenceValue::program("keep 0.1.0", Platform::Snp, Measurement::from([1; 48]))
            .launched_with(LaunchConfiguration::new(&[2; 32]).unwrap());
        value.registers.insert("id_key_digest".into(), "00".repeat(48));
        value.minimum.insert("guest_svn".into(), 2);
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<ReferenceValue>(&json).unwrap(), value);
    }

    #[test]
    fn a_value_that_could_never_match_is_refused() {
        let json = format!(r#"{{"label":"x","platform":"snp","measurement":"{}"}}"#, "00".repeat(32));
        let refused = serde_json::from_str::<ReferenceValue>(&json).unwrap_err();
        assert!(refused.to_string().contains("has [48] bytes, seen 32"), "{refused}");
    }

    #[test]
    fn a_value_that_anything_would_match_is_refused() {
        let refused =
            serde_json::from_str::<ReferenceValue>(r#"{"label":"x","platform":"tpm","minimum":{"a":1}}"#);
        assert!(refused.unwrap_err().to_string().contains("would accept any code"));
    }

    #[test]
    fn unknown_fields_are_refused() {
        let json = format!(r#"{{"label":"x","platform":"sgx","measurement":"{}","any":1}}"#, "00".repeat(32));
        assert!(serde_json::from_str::<ReferenceValue>(&json).is_err());
    }
}
