//! Paths of resources: three segments, which are names and nothing that a file system or a URL could read otherwise.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::{PathSegment, RepositoryName};

/// Where a resource is: `repository/kind/tag`, in URIs `kbs:///repository/kind/tag`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourcePath {
    repository: RepositoryName,
    kind: PathSegment,
    tag: PathSegment,
}

/// Text that is no path of a resource. It does not repeat the text, which may name a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a resource's path has three segments, `repository/kind/tag`, each of 1 to 64 ASCII letters, digits, `_`, `-` and \
     `.`, with no `.` at the beginning"
)]
pub struct InvalidResourcePath;

impl ResourcePath {
    /// A path of these segments.
    #[must_use]
    pub fn new(repository: RepositoryName, kind: PathSegment, tag: PathSegment) -> Self {
        Self { repository, kind, tag }
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The second segment.
    #[must_use]
    pub fn kind(&self) -> &PathSegment {
        &self.kind
    }

    /// The third segment.
    #[must_use]
    pub fn tag(&self) -> &PathSegment {
        &self.tag
    }

    /// As a URI. It names no broker: whoever reads it knows its own.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("kbs:///{self}")
    }
}

impl FromStr for ResourcePath {
    type Err = InvalidResourcePath;

    /// `a/b/c` or `kbs:///a/b/c`; nothing is decoded, so no two texts name the same segments in other words.
    fn from_str(text: &str) -> Result<Self, InvalidResourcePath> {
        let path = text.strip_prefix("kbs:///").unwrap_or(text);
        let mut segments = path.split('/');
        let (Some(repository), Some(kind), Some(tag), None) =
            (segments.next(), segments.next(), segments.next(), segments.next())
        else {
            return Err(InvalidResourcePath);
        };
        Ok(Self {
            repository: repository.parse().map_err(|_| InvalidResourcePath)?,
            kind: kind.parse().map_err(|_| InvalidResourcePath)?,
            tag: tag.parse().map_err(|_| InvalidResourcePath)?,
        })
    }
}

impl TryFrom<String> for ResourcePath {
    type Error = InvalidResourcePath;

    fn try_from(text: String) -> Result<Self, InvalidResourcePath> {
        text.parse()
    }
}

impl From<ResourcePath> for String {
    fn from(path: ResourcePath) -> Self {
        path.to_string()
    }
}

impl fmt::Display for ResourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.repository, self.kind, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_three_plain_segments() {
        let path: ResourcePath = "default/key/db_1.v2".parse().expect("a path");
        assert_eq!(path.uri().parse::<ResourcePath>(), Ok(path));
        let long = format!("a/b/{}", "x".repeat(65));
        let texts = [
            "",
            "a",
            "a/b",
            "a/b/c/d",
            "/a/b/c",
            "a//c",
            "a/b/",
            "../b/c",
            "a/../c",
            "a/b/..",
            "a/b/.c",
            "a/b/%2e%2e",
            "a%2fb/c/d",
            "a/b/c?d",
            "a/b/c#d",
            "a\\b\\c/d/e",
            "a/b/c\n",
            "a/b/c\0",
            "a/b/ö",
            "kbs://host/a/b/c",
            "kbs:////a/b/c",
            "KBS:///a/b/c",
            "a/b/c:1",
            &long,
        ];
        for text in texts {
            assert_eq!(text.parse::<ResourcePath>(), Err(InvalidResourcePath), "{text:?}");
        }
    }
}
