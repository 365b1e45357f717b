//! Names of resources, as Confidential Containers writes them: `kbs:///repository/type/tag`.

use std::{fmt, str::FromStr};

/// The longest segment, in bytes.
pub const MAX_SEGMENT: usize = 255;
/// The longest authority, which is not looked at: a DNS name and a port.
const MAX_AUTHORITY: usize = 260;

/// A resource of the key broker: `kbs:///repository/type/tag`.
///
/// What stands between `//` and the next slash is dropped, as the specification of these names says: which broker is
/// asked is configured, and never the choice of whoever wrote a name. Each segment begins with a letter, a digit, `_`
/// or `-`, and has these and dots; so no segment is `..`, and none needs to be escaped in a URL.
///
/// ```
/// use sealed_secret::ResourceUri;
/// let uri: ResourceUri = "kbs://kbs.example:8080/default/key/1".parse().unwrap();
/// assert_eq!(uri.to_string(), "kbs:///default/key/1");
/// assert_eq!(uri.path(), "default/key/1");
/// assert!("kbs:///default/../1".parse::<ResourceUri>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceUri {
    path: String,
}

/// Why a text names no resource. Names are no secrets to whoever wrote them, but nothing here repeats one: the error
/// may end in a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Not `kbs://`.
    #[error("a resource is named kbs:///repository/type/tag, and this begins otherwise")]
    Scheme,
    /// `kbs+plugin://`.
    #[error("only resources can be fetched, and kbs+…:// names something of a plug-in")]
    Plugin,
    /// `?` and what follows.
    #[error("a resource has no query")]
    Query,
    /// The authority is none.
    #[error("what stands between kbs:// and the next slash is no host and port")]
    Authority,
    /// Not three.
    #[error("a resource has three segments, repository/type/tag, and this has {count}")]
    Segments {
        /// How many there are.
        count: usize,
    },
    /// A segment is empty, too long, or has other characters.
    #[error(
        "segment {number} is not 1 to {MAX_SEGMENT} letters, digits, '_', '-' and '.', of which '.' is not the first"
    )]
    Segment {
        /// Which, from 1.
        number: usize,
    },
}

impl ResourceUri {
    /// Of three segments that come without the scheme: `repository/type/tag`.
    ///
    /// # Errors
    /// When they are not three, or one is none.
    pub fn from_path(path: &str) -> Result<Self, UriError> {
        let count = path.split('/').count();
        if count != 3 {
            return Err(UriError::Segments { count });
        }
        match path.split('/').position(|segment| !is_segment(segment)) {
            Some(index) => Err(UriError::Segment { number: index + 1 }),
            None => Ok(Self { path: path.to_owned() }),
        }
    }

    /// `repository/type/tag`, which can stand in a URL as it is.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for ResourceUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.starts_with("kbs+") {
            return Err(UriError::Plugin);
        }
        let rest = text.strip_prefix("kbs://").ok_or(UriError::Scheme)?;
        if rest.contains('?') {
            return Err(UriError::Query);
        }
        let (authority, path) = rest.split_once('/').ok_or(UriError::Segments { count: 0 })?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
        if authority.len() > MAX_AUTHORITY || !authority.bytes().all(plain) {
            return Err(UriError::Authority);
        }
        Self::from_path(path)
    }
}

fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=MAX_SEGMENT).contains(&segment.len()) && !segment.starts_with('.') && segment.bytes().all(allowed)
}

impl fmt::Display for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kbs:///{}", self.path)
    }
}

/// Without the name, which belongs in no log.
impl fmt::Debug for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResourceUri(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> UriError {
        text.parse::<ResourceUri>().expect_err(text)
    }

    #[test]
    fn resources_are_read_as_they_are_written() {
        for text in ["kbs:///default/key/1", "kbs:///-/_/a.b..c", "kbs:///a/b/1.0.0"] {
            assert_eq!(text.parse::<ResourceUri>().expect("a name").to_string(), text);
        }
    }

    #[test]
    fn the_host_in_a_name_chooses_no_broker() {
        for host in ["evil.example", "evil.example:443", "127.0.0.1:8080", "[::1]:8080"] {
            let uri: ResourceUri = format!("kbs://{host}/a/b/c").parse().expect("a name");
            assert_eq!(uri.to_string(), "kbs:///a/b/c");
        }
        assert_eq!(refused("kbs://user@evil.example/a/b/c"), UriError::Authority);
        assert_eq!(refused(&format!("kbs://{}/a/b/c", "h".repeat(261))), UriError::Authority);
    }

    #[test]
    fn s43_paths_that_climb_or_hide_something_are_refused() {
        assert_eq!(refused("kbs:///a/../c"), UriError::Segment { number: 2 });
        assert_eq!(refused("kbs:///./b/c"), UriError::Segment { number: 1 });
        assert_eq!(refused("kbs:///a/%2e%2e/c"), UriError::Segment { number: 2 });
        assert_eq!(refused("kbs:///a//c"), UriError::Segment { number: 2 });
        assert_eq!(refused("kbs:///a/b/"), UriError::Segment { number: 3 });
        assert_eq!(refused("kbs:///a/b/c\0"), UriError::Segment { number: 3 });
        assert_eq!(refused("kbs:///a/b/ä"), UriError::Segment { number: 3 });
        assert_eq!(refused("kbs:///a/b/c\r\nHost: x"), UriError::Segment { number: 3 });
        assert_eq!(refused(&format!("kbs:///a/b/{}", "c".repeat(256))), UriError::Segment { number: 3 });
        assert_eq!(refused("kbs:///a/b"), UriError::Segments { count: 2 });
        assert_eq!(refused("kbs:///a/b/c/d"), UriError::Segments { count: 4 });
        assert_eq!(refused("kbs://"), UriError::Segments { count: 0 });
        assert_eq!(refused("https://a/b/c/d"), UriError::Scheme);
        assert_eq!(refused("kbs+pkcs11:///a/b/c"), UriError::Plugin);
        assert_eq!(refused("kbs:///a/b/c?x=y"), UriError::Query);
    }
}
