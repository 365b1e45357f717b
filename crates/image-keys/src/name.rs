//! The name of a key-encrypting key: a resource of the broker.

use std::{fmt, str::FromStr};

/// The longest segment, in bytes.
const MAX_SEGMENT: usize = 64;

/// `kbs:///repository/type/tag`. No segment can be read as anything else by a file system or a URL: each begins with a
/// letter, a digit, `_` or `-`, and goes on with these and dots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

/// Why a text names no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyNameError {
    /// Another scheme, a plugin, or a query.
    #[error("it is not of the form kbs:///REPOSITORY/TYPE/TAG")]
    Form,
    /// Not three.
    #[error("it has {seen} segments, and should have REPOSITORY/TYPE/TAG")]
    Segments {
        /// How many.
        seen: usize,
    },
    /// A segment of other characters, empty, or too long.
    #[error(
        "segment {at} is not 1 to {MAX_SEGMENT} of the characters A-Z a-z 0-9 _ - and, not at its beginning, dots"
    )]
    Segment {
        /// Which one, from 1.
        at: usize,
    },
}

impl KeyName {
    /// `repository/type/tag`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0
    }

    /// As packets have it. CoCo's clients ignore a host between the second slash and the third, and so do we: which
    /// broker is asked is not the image's word.
    ///
    /// # Errors
    /// See [`KeyNameError`].
    pub fn in_packet(uri: &str) -> Result<Self, KeyNameError> {
        let rest = uri.strip_prefix("kbs://").ok_or(KeyNameError::Form)?;
        let (host, path) = rest.split_once('/').ok_or(KeyNameError::Form)?;
        let of_host =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
        if !host.bytes().all(of_host) {
            return Err(KeyNameError::Form);
        }
        Self::of_path(path)
    }

    /// A name of verdictd's key manager, whose keys have one segment (a UUID, mostly): they are looked for in
    /// `default/key`.
    pub(crate) fn of_verdictd(kid: &str) -> Result<Self, KeyNameError> {
        match kid.contains('/') {
            true => kid.parse(),
            false => Self::of_path(&format!("default/key/{kid}")),
        }
    }

    fn of_path(path: &str) -> Result<Self, KeyNameError> {
        let seen = path.split('/').count();
        if seen != 3 {
            return Err(KeyNameError::Segments { seen });
        }
        match path.split('/').position(|segment| !is_segment(segment)) {
            Some(at) => Err(KeyNameError::Segment { at: at + 1 }),
            None => Ok(Self(path.to_owned())),
        }
    }
}

fn is_segment(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let mut bytes = text.bytes();
    text.len() <= MAX_SEGMENT
        && bytes.next().is_some_and(plain)
        && bytes.all(|byte| plain(byte) || byte == b'.')
}

/// As people give it: `kbs:///repository/type/tag`, or without the scheme.
impl FromStr for KeyName {
    type Err = KeyNameError;

    fn from_str(text: &str) -> Result<Self, KeyNameError> {
        match text.strip_prefix("kbs:///") {
            Some(path) => Self::of_path(path),
            None if text.contains(':') => Err(KeyNameError::Form),
            None => Self::of_path(text),
        }
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kbs:///{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_three_plain_segments() {
        let name: KeyName = "kbs:///default/key/1".parse().unwrap();
        assert_eq!((name.path(), name.to_string().as_str()), ("default/key/1", "kbs:///default/key/1"));
        assert_eq!("default/key/1".parse(), Ok(name.clone()));
        assert_eq!(KeyName::in_packet("kbs://broker.example:8080/default/key/1"), Ok(name));
        assert!("kbs:///d/k/v1.2".parse::<KeyName>().is_ok());
        assert!(format!("a/b/{}", "c".repeat(64)).parse::<KeyName>().is_ok());
    }

    /// Defect of verdictd: a name is joined to a folder's path.
    #[test]
    fn traversal_in_a_name_is_refused() {
        let long = format!("a/b/{}", "c".repeat(65));
        for wrong in [
            "",
            "kbs:///",
            "a/b",
            "a/b/c/d",
            "a//c",
            "/a/b/c",
            "a/b/",
            "../../etc/passwd",
            "kbs:///../../etc",
            "kbs:///a/../b",
            "kbs:///a/b/..",
            "kbs:///a/b/.c",
            "kbs:///a/b/%2e%2e",
            "kbs:///a/b/c?d=e",
            "kbs:///a/b/c#d",
            "kbs:///a/b/c\n",
            "kbs:///a/b\\c/d",
            "kbs:///a/b/c\0",
            "kbs:///a/b/ä",
            "kbs+pkcs11:///a/b/c",
            "https://a/b/c",
            "file:///etc/passwd",
            &long,
        ] {
            assert!(wrong.parse::<KeyName>().is_err(), "{wrong:?}");
            assert!(KeyName::in_packet(wrong).is_err(), "{wrong:?}");
        }
        assert!(KeyName::in_packet("kbs://a b/c/d/e").is_err());
        for wrong in ["", "..", ".", "../x", "a\0", "x/y", "/opt/verdictd/keys/x"] {
            assert!(KeyName::of_verdictd(wrong).is_err(), "{wrong:?}");
        }
        let uuid = KeyName::of_verdictd("3f2b0c1e-9a50-4f4b-8c63-1f4d9a0b7c11").unwrap();
        assert_eq!(uuid.path(), "default/key/3f2b0c1e-9a50-4f4b-8c63-1f4d9a0b7c11");
    }
}
