//! Names of resources: `kbs:///repository/type/tag`, and the forms with a plug-in or a query.

use std::fmt;
use std::str::FromStr;

use crate::Invalid;

const MAX_URI: usize = 1024;
/// Trustee's plug-ins take from one segment (`nebula-ca/credential`) to four (`pkcs11/resource/r/t/t`).
const MAX_SEGMENTS: usize = 4;
const MAX_SEGMENT: usize = 64;

/// What is to be fetched. The host of a URI is ignored, as by CoCo: the broker is a matter of configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceUri {
    plugin: String,
    segments: Vec<String>,
    query: Option<String>,
}

impl ResourceUri {
    /// The plug-in: `resource` where none is named.
    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// The segments of the path.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The path and query of a request for it.
    pub fn request_target(&self) -> String {
        let query = self.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
        format!("{}/{}/{}{query}", crate::client::PREFIX, self.plugin, self.segments.join("/"))
    }
}

impl FromStr for ResourceUri {
    type Err = Invalid;

    /// Takes URIs, and `repository/type/tag` alone. Nothing is decoded or normalised: each segment starts with a letter,
    /// a digit, `_` or `-`, and goes on with those and dots.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refused = Invalid::Member {
            member: "the resource",
            expected: "repository/type/tag, or a URI such as kbs:///repository/type/tag",
        };
        if text.len() > MAX_URI {
            return Err(Invalid::TooLong { what: "the resource", limit: MAX_URI, length: text.len() });
        }
        let (plugin, rest) = match text.split_once("://") {
            None => ("resource", text),
            Some((scheme, rest)) => {
                let plugin = match scheme.strip_prefix("kbs") {
                    Some("") => "resource",
                    Some(plugin) => plugin.strip_prefix('+').ok_or(refused.clone())?,
                    None => return Err(refused),
                };
                let (_host, path) = rest.split_once('/').ok_or(refused.clone())?;
                (plugin, path)
            }
        };
        let (path, query) = match rest.split_once('?') {
            None => (rest, None),
            Some((path, query)) => (path, Some(query)),
        };
        let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        let counts = if plugin == "resource" { 3..=3 } else { 1..=MAX_SEGMENTS };
        let query_is_plain = |query: &str| {
            query.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~=&%+,:/".contains(&byte))
        };
        let good = counts.contains(&segments.len())
            && segments.iter().all(|segment| is_segment(segment))
            && is_segment(plugin)
            && query.is_none_or(query_is_plain);
        if !good {
            return Err(refused);
        }
        Ok(Self { plugin: plugin.to_owned(), segments, query: query.map(str::to_owned) })
    }
}

impl fmt::Display for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plugin = if self.plugin == "resource" { String::new() } else { format!("+{}", self.plugin) };
        let query = self.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
        write!(f, "kbs{plugin}:///{}{query}", self.segments.join("/"))
    }
}

fn is_segment(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    segment.len() <= MAX_SEGMENT
        && segment.bytes().next().is_some_and(plain)
        && segment.bytes().all(|byte| plain(byte) || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_that_are_taken() {
        for (text, target, shown) in [
            ("default/key/1", "/kbs/v0/resource/default/key/1", "kbs:///default/key/1"),
            ("kbs:///default/key/1.a", "/kbs/v0/resource/default/key/1.a", "kbs:///default/key/1.a"),
            ("kbs://broker:8080/a/b/c", "/kbs/v0/resource/a/b/c", "kbs:///a/b/c"),
            ("kbs+pkcs11:///resource/a/b/c", "/kbs/v0/pkcs11/resource/a/b/c", "kbs+pkcs11:///resource/a/b/c"),
            (
                "kbs+nebula-ca:///credential?name=a&ip=10.0.0.1/24",
                "/kbs/v0/nebula-ca/credential?name=a&ip=10.0.0.1/24",
                "kbs+nebula-ca:///credential?name=a&ip=10.0.0.1/24",
            ),
        ] {
            let uri: ResourceUri = text.parse().expect(text);
            assert_eq!((uri.request_target().as_str(), uri.to_string().as_str()), (target, shown));
        }
    }

    #[test]
    fn s43_paths_that_lead_elsewhere_are_refused() {
        for text in [
            "",
            "a/b",
            "a/b/c/d",
            "kbs://a/b/c",
            "kbs:///a/../c",
            "kbs:///a/./c",
            "kbs:///a//c",
            "kbs:///.a/b/c",
            "kbs:///a/b/c#x",
            "kbs:///a/%2e%2e/c",
            "kbs:///a\\b/c/d",
            "kbs:///a/b/c\r\nX: y",
            "http:///a/b/c",
            "kbs+:///a/b/c",
            "kbs+../x:///a/b/c",
            "kbsx:///a/b/c",
            "kbs:///a/b/ä",
            "kbs:///a/b/c?x y",
            "/a/b/c",
        ] {
            assert!(text.parse::<ResourceUri>().is_err(), "{text}");
        }
        assert!(format!("a/b/{}", "c".repeat(65)).parse::<ResourceUri>().is_err());
    }
}
