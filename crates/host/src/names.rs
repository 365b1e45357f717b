//! The names that people give: to processes, back ends and tenants. All are 1 to 63 of `a`–`z`, `0`–`9` and
//! `-`, a letter or digit first: they become names of files, labels of metrics and lines of logs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name: 1 to 63 of a-z, 0-9 and '-', a letter or digit first")]
pub struct InvalidName(String);

fn check(name: String) -> Result<String, InvalidName> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let valid = (1..=63).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-');
    if valid { Ok(name) } else { Err(InvalidName(name)) }
}

macro_rules! name {
    ($(#[$meta:meta])* $type:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(name: String) -> Result<Self, InvalidName> {
                check(name).map(Self)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                name.to_owned().try_into()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a process on this host. It becomes the name of a file.
    ProcessName
}
name! {
    /// The name of a back end on this host.
    BackendName
}
name! {
    /// The name of a tenant on this host.
    TenantName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s43_a_name_cannot_leave_its_directory() {
        for name in ["tally", "tally-2", "0", &"x".repeat(63)] {
            assert_eq!(name.parse::<ProcessName>().unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "a/b", "../x", "-x", "Tally", "a.log", "a\0", &"x".repeat(64)] {
            assert!(name.parse::<ProcessName>().is_err(), "{name:?}");
        }
    }
}
