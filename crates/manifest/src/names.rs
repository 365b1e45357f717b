//! Names as types. A name that comes out of a manifest has the characters and the length of its kind, so
//! that it can be logged, shown, put into a certificate or a path without another thought.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text that is not a name of the wanted kind; says what such names look like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a name of a {kind}: {rule}")]
pub struct InvalidName {
    /// What should have been named.
    pub kind: &'static str,
    /// What such names look like.
    pub rule: &'static str,
}

macro_rules! names {
    ($($(#[$meta:meta])* $name:ident, $kind:literal, $check:ident, $rule:expr;)+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                if $check(&text) { Ok(Self(text)) } else { Err(InvalidName { kind: $kind, rule: $rule }) }
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                text.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

/// Printable ASCII only: letters of other alphabets that look alike must not make two names look like one.
const LABEL_RULE: &str = "1 to 128 printable ASCII characters, without space at either end";
const SEGMENT_RULE: &str = "1 to 64 ASCII letters, digits, `_`, `-` and `.`, with no `.` at the beginning";
const MARBLE_RULE: &str = "1 to 63 ASCII letters, digits, `-` and `_`, with a letter or digit at both ends";

names! {
    /// The name of a Marble: a path segment of its SPIFFE ID and, in lower case without `_`, its host name.
    MarbleName, "Marble", is_marble, MARBLE_RULE;
    /// The name of a package: a set of Reference Values.
    PackageName, "package", is_label, LABEL_RULE;
    /// The name of a secret.
    SecretName, "secret", is_label, LABEL_RULE;
    /// The name of a user.
    UserName, "user", is_label, LABEL_RULE;
    /// The name of a role.
    RoleName, "role", is_label, LABEL_RULE;
    /// The name of a recovery key, which is its holder's.
    RecoveryKeyName, "recovery key", is_label, LABEL_RULE;
    /// The name of a secret store.
    StoreName, "secret store", is_label, LABEL_RULE;
    /// The name of a release policy of the broker.
    PolicyName, "release policy", is_segment, SEGMENT_RULE;
    /// The name of a repository of the broker: the first segment of a resource's path.
    RepositoryName, "repository", is_segment, SEGMENT_RULE;
    /// One segment of a resource's path.
    PathSegment, "segment of a resource's path", is_segment, SEGMENT_RULE;
    /// The name of whoever signs reference values.
    SignerName, "signer", is_label, LABEL_RULE;
}

impl MarbleName {
    /// Whether peers can reach this Marble under its name: a lower-case DNS label (RFC 1123 §2.1).
    #[must_use]
    pub fn is_host_name(&self) -> bool {
        self.0.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    }
}

fn is_label(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && !text.starts_with(' ')
        && !text.ends_with(' ')
}

/// As brokers of confidential containers write the segments of resources' paths: no segment is `.` or `..`.
fn is_segment(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        && !text.starts_with('.')
}

fn is_marble(text: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && alphanumeric(text.as_bytes().first())
        && alphanumeric(text.as_bytes().last())
}

/// Whether a text is a DNS name that a certificate may carry: lower-case labels, no wildcard, no
/// trailing dot, and not something that reads as an IPv4 address.
pub(crate) fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_numeric =
        text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !last_is_numeric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marble_names_fit_certificates_and_paths() {
        for name in ["tally", "tally-2", "a", "backend_first", "Frontend", &"x".repeat(63)] {
            assert!(name.parse::<MarbleName>().is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "_a", "a.b", "a/b", "a b", "tälly", "../x", &"x".repeat(64)] {
            assert!(name.parse::<MarbleName>().is_err(), "{name}");
        }
        assert!(!"backend_first".parse::<MarbleName>().expect("a name").is_host_name());
    }

    #[test]
    fn labels_are_printable_ascii() {
        for name in ["admin", "The admin", "a@example.com", "key/1"] {
            assert!(name.parse::<UserName>().is_ok(), "{name}");
        }
        for name in ["", " a", "a ", "a\nb", "a\u{1b}b", "аdmin", &"x".repeat(129)] {
            assert!(name.parse::<UserName>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn dns_names_are_plain() {
        for name in ["localhost", "vote.example.org", "a-1.b"] {
            assert!(is_dns_name(name), "{name}");
        }
        for name in ["", "*.example.org", "a..b", "a.", "A.b", "-a", "1.2.3", "a_b", "a:1"] {
            assert!(!is_dns_name(name), "{name}");
        }
    }
}
