//! Versions of workloads: Semantic Versioning 2.0.0, without build metadata.

use std::{fmt, str::FromStr};

/// A version longer than this, in bytes, is none: it is a tag too.
const LONGEST: usize = 128;

/// A version that has an order (semver.org, §11). Build metadata is refused: versions that differ by it alone would be
/// neither newer nor older than each other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(semver::Version);

/// A text that is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not three numbers, or too long.
    #[error("expected a version such as 1.2.0 or 1.2.0-rc.1 (semver.org)")]
    Form,
    /// Something after a `+`.
    #[error("a version with build metadata (`+…`) is neither newer nor older than one without")]
    BuildMetadata,
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.len() > LONGEST {
            return Err(VersionError::Form);
        }
        let version = semver::Version::parse(text).map_err(|_| VersionError::Form)?;
        if !version.build.is_empty() {
            return Err(VersionError::BuildMetadata);
        }
        Ok(Self(version))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_are_compared_as_numbers_and_candidates_come_before_releases() {
        assert!(version("1.10.0") > version("1.9.9"));
        assert!(version("1.2.0-rc.1") < version("1.2.0"));
        assert!(version("1.2.0-rc.2") > version("1.2.0-rc.1"));
    }

    #[test]
    fn what_has_no_order_is_no_version() {
        for wrong in
            ["", "1", "1.2", "v1.2.0", "01.2.0", "1.2.0 ", "latest", &format!("1.2.0-{}", "a".repeat(128))]
        {
            assert_eq!(wrong.parse::<Version>(), Err(VersionError::Form), "{wrong}");
        }
        assert_eq!("1.2.0+1".parse::<Version>(), Err(VersionError::BuildMetadata));
    }
}
