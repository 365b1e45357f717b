//! Versions of the protocol. Clients name one in their first request, and what they send and hash depends on it.

use std::fmt;
use std::str::FromStr;

use crate::Invalid;

/// A version that clients in the field speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `0.1.0`: the key and the Evidence, as text.
    V0_1_0,
    /// `0.1.1`: the same, where keys may be elliptic and Evidence is JSON.
    V0_1_1,
    /// `0.2.0`: nonce and key together are what the Evidence covers.
    V0_2_0,
    /// `0.3.0`: init-data may come along.
    V0_3_0,
    /// `0.4.0`: Evidence of devices beside that of the CPU, and canonical JSON.
    V0_4_0,
}

impl Version {
    /// All, the oldest first.
    pub const ALL: [Self; 5] = [Self::V0_1_0, Self::V0_1_1, Self::V0_2_0, Self::V0_3_0, Self::V0_4_0];
    /// The one our own client speaks.
    pub const NEWEST: Self = Self::V0_4_0;

    /// As it is on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_1_1 => "0.1.1",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_4_0 => "0.4.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| Invalid::Version { seen: text.chars().take(32).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_versions_are_taken_and_the_refusal_names_them() {
        for version in Version::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
        }
        for wrong in ["", "0", "0.4", "0.4.0 ", "=0.4.0", "0.4.1", "0.5.0", "1.0.0", "0.4.0-rc1", "00.4.0"] {
            let refused = wrong.parse::<Version>().expect_err(wrong).to_string();
            assert!(refused.contains("0.1.0, 0.1.1, 0.2.0, 0.3.0, 0.4.0"), "{refused}");
        }
    }
}
