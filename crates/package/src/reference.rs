//! How packages are named: `registry/repository:tag@sha256:…` (OCI distribution specification 1.1, "Pulling
//! manifests"; the grammar of the distribution project's `reference` package).
//!
//! There is no default registry and no default tag: what is meant is written. In Keeps and manifests a reference has a
//! digest ([`Pinned`]), always: a tag can come to mean other code (S-29). A tag is a convenience of the command line.

use std::{fmt, str::FromStr};

use crate::{Digest, DigestError};

/// Of registry and path together, in bytes, as in the distribution project.
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// A repository in a registry: `registry.example:5000/team/app`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: String,
    path: String,
}

/// A name that a registry gives to a manifest, and can take away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// A reference as people write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where.
    pub repository: Repository,
    /// Under which tag.
    pub tag: Option<Tag>,
    /// Which bytes.
    pub digest: Option<Digest>,
}

/// A reference that can mean one thing only. A tag beside the digest is dropped: it would say nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Where.
    pub repository: Repository,
    /// SHA-256 of the manifest's exact bytes.
    pub digest: Digest,
}

/// A text that is no reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// No registry before the first slash.
    #[error("it has no registry: write REGISTRY/REPOSITORY, such as registry.example/team/app")]
    NoRegistry,
    /// A registry that is no host name or address.
    #[error("its registry is no host name or address in lower case, with or without a port")]
    Registry,
    /// A path of other characters.
    #[error("its path has other parts than lower-case letters and digits, joined by `.`, `_`, `__` or `-`")]
    Path,
    /// Longer than registries take.
    #[error("registry and path are longer than {LONGEST_NAME} bytes")]
    TooLong,
    /// A tag of other characters.
    #[error("its tag is not 1 to {LONGEST_TAG} of the characters A-Z a-z 0-9 _ and, not first, . -")]
    Tag,
    /// A digest that is none.
    #[error("its digest is none")]
    Digest(#[from] DigestError),
    /// A tag or a digest after what is a repository only.
    #[error("it names a repository, and has a tag or digest too")]
    NotARepository,
    /// No digest where one is needed.
    #[error("it has no digest, and a tag can come to mean other code: write REGISTRY/REPOSITORY@sha256:…")]
    NoDigest,
}

impl Repository {
    /// Host name or address, with its port if it has one.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's name in that registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether a text is a registry: `HOST` or `HOST:PORT`.
    #[must_use]
    pub fn is_registry(text: &str) -> bool {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.is_none_or(|port| digits(port) && port.parse::<u16>().is_ok_and(|port| port > 0));
        port && is_host(host)
    }

    fn new(registry: &str, path: &str) -> Result<Self, ReferenceError> {
        if registry.len() + path.len() >= LONGEST_NAME {
            return Err(ReferenceError::TooLong);
        }
        if !Self::is_registry(registry) {
            return Err(ReferenceError::Registry);
        }
        if !path.split('/').all(is_component) {
            return Err(ReferenceError::Path);
        }
        Ok(Self { registry: registry.to_owned(), path: path.to_owned() })
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        label.len() <= 63
            && label.bytes().next().is_some_and(plain)
            && label.bytes().last().is_some_and(plain)
            && label.bytes().all(|byte| plain(byte) || byte == b'-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// `path-component := alpha-numeric [separator alpha-numeric]*`, `separator := [_.] | __ | -*`.
fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends =
        bytes.first().is_some_and(|byte| plain(*byte)) && bytes.last().is_some_and(|byte| plain(*byte));
    let separators = bytes.split(|byte| plain(*byte));
    ends && separators
        .filter(|it| !it.is_empty())
        .all(|it| matches!(it, b"." | b"_" | b"__") || it.iter().all(|byte| *byte == b'-'))
}

impl FromStr for Repository {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let reference: Reference = text.parse()?;
        match (reference.tag, reference.digest) {
            (None, None) => Ok(reference.repository),
            _ => Err(ReferenceError::NotARepository),
        }
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let first = text.bytes().next().is_some_and(word);
        let rest = text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
        if first && rest && text.len() <= LONGEST_TAG {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReferenceError::Tag)
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (named, digest) = match text.split_once('@') {
            Some((named, digest)) => (named, Some(digest.parse()?)),
            None => (text, None),
        };
        let (registry, rest) = named.split_once('/').ok_or(ReferenceError::NoRegistry)?;
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag.parse()?)),
            None => (rest, None),
        };
        Ok(Self { repository: Repository::new(registry, path)?, tag, digest })
    }
}

impl FromStr for Pinned {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let reference: Reference = text.parse()?;
        let digest = reference.digest.ok_or(ReferenceError::NoDigest)?;
        Ok(Self { repository: reference.repository, digest })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_read_and_written_the_same() {
        for text in [
            "registry.example/app",
            "registry.example:5000/team/app:1.2.0",
            "127.0.0.1:5000/a/b/c_d/e__f/g--h.i",
            "[::1]:5000/app",
            &format!("localhost/app@{DIGEST}"),
            &format!("ghcr.io/team/app:v1@{DIGEST}"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn s29_a_reference_without_a_digest_is_not_pinned() {
        for text in ["registry.example/app", "registry.example/app:1.2.0"] {
            assert_eq!(text.parse::<Pinned>(), Err(ReferenceError::NoDigest), "{text}");
        }
        let pinned: Pinned = format!("registry.example/app:1@{DIGEST}").parse().unwrap();
        assert_eq!(pinned.to_string(), format!("registry.example/app@{DIGEST}"));
    }

    #[test]
    fn what_could_be_read_in_another_way_is_refused() {
        let long = format!("registry.example/{}", "a".repeat(255));
        for (text, error) in [
            ("app", ReferenceError::NoRegistry),
            ("", ReferenceError::NoRegistry),
            ("Registry.example/app", ReferenceError::Registry),
            ("user@registry.example/app", ReferenceError::Digest(DigestError)),
            ("registry.example:/app", ReferenceError::Registry),
            ("registry.example:0/app", ReferenceError::Registry),
            ("registry.example:+80/app", ReferenceError::Registry),
            ("registry.example:65536/app", ReferenceError::Registry),
            ("-a/app", ReferenceError::Registry),
            ("[::g]/app", ReferenceError::Registry),
            ("registry..example/app", ReferenceError::Registry),
            ("/app", ReferenceError::Registry),
            ("registry.example/", ReferenceError::Path),
            ("registry.example/../app", ReferenceError::Path),
            ("registry.example/a//b", ReferenceError::Path),
            ("registry.example/App", ReferenceError::Path),
            ("registry.example/a___b", ReferenceError::Path),
            ("registry.example/a?b", ReferenceError::Path),
            ("registry.example/a%2fb", ReferenceError::Path),
            ("https://registry.example/app", ReferenceError::Registry),
            ("registry.example/app:", ReferenceError::Tag),
            ("registry.example/app:a:b", ReferenceError::Tag),
            ("registry.example/app:.a", ReferenceError::Tag),
            ("registry.example/app:a/b", ReferenceError::Tag),
            ("registry.example/app@sha256:00", ReferenceError::Digest(DigestError)),
            (&long, ReferenceError::TooLong),
        ] {
            assert_eq!(text.parse::<Reference>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_repository_has_neither_tag_nor_digest() {
        assert_eq!("registry.example/app:1".parse::<Repository>(), Err(ReferenceError::NotARepository));
    }
}
