//! Reference Values: what Evidence is compared with. Without them nothing can be appraised.

use evidence::{LaunchConfiguration, Measurement, Platform, ReportData};
use serde::{Deserialize, Deserializer, Serialize};

/// Everything that Evidence must equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceValues {
    /// What the Evidence must cover, all 64 bytes; see [`crate::binding::Transcript`].
    pub report_data: ReportData,
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
    /// Its measurement there.
    pub measurement: Measurement,
    /// What it must have been launched with; when absent, any launch configuration is accepted, and the
    /// verdict says that it was not checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launch_configuration: Option<LaunchConfiguration>,
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
    measurement: Measurement,
    #[serde(default)]
    launch_configuration: Option<LaunchConfiguration>,
}

/// A value whose length is not that of its platform; it could never be matched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} of {label:?}: a value on {platform} has {expected} bytes, seen {seen}")]
pub struct WrongLength {
    label: String,
    platform: Platform,
    field: &'static str,
    expected: usize,
    seen: usize,
}

impl TryFrom<Wire> for ReferenceValue {
    type Error = WrongLength;

    fn try_from(wire: Wire) -> Result<Self, WrongLength> {
        let Wire { label, platform, measurement, launch_configuration } = wire;
        let wrong =
            |field, expected, seen| WrongLength { label: label.clone(), platform, field, expected, seen };
        let (expected, seen) = (Measurement::length_on(platform), measurement.as_bytes().len());
        if expected != seen {
            return Err(wrong("measurement", expected, seen));
        }
        if let Some(configuration) = &launch_configuration {
            let expected = LaunchConfiguration::length_on(platform);
            let seen = configuration.as_bytes().len();
            if expected != seen {
                return Err(wrong("launch_configuration", expected, seen));
            }
        }
        Ok(Self { label, platform, measurement, launch_configuration })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips() {
        let value = ReferenceValue {
            label: "keep 0.1.0".into(),
            platform: Platform::Snp,
            measurement: Measurement::from([1; 48]),
            launch_configuration: LaunchConfiguration::new(&[2; 32]).ok(),
        };
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(serde_json::from_str::<ReferenceValue>(&json).unwrap(), value);
    }

    #[test]
    fn a_value_that_could_never_match_is_refused() {
        let json = format!(r#"{{"label":"x","platform":"snp","measurement":"{}"}}"#, "00".repeat(32));
        let refused = serde_json::from_str::<ReferenceValue>(&json).unwrap_err();
        assert!(refused.to_string().contains("has 48 bytes, seen 32"), "{refused}");
    }

    #[test]
    fn unknown_fields_are_refused() {
        let json = format!(r#"{{"label":"x","platform":"sgx","measurement":"{}","any":1}}"#, "00".repeat(32));
        assert!(serde_json::from_str::<ReferenceValue>(&json).is_err());
    }
}
