//! SPIFFE IDs and trust domains (SPIFFE-ID §2), in the one form that this code writes and reads: what differs from it in
//! case, encoding, port or query is refused, so that IDs are equal exactly where their bytes are.

use std::{fmt, str::FromStr};

/// Longer IDs need not be supported (SPIFFE-ID §2.3).
const LONGEST: usize = 2048;
const LONGEST_DOMAIN: usize = 255;
const SCHEME: &str = "spiffe://";

/// Text that is not a SPIFFE ID of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Another scheme.
    #[error("a SPIFFE ID begins with `spiffe://`")]
    Scheme,
    /// A trust domain with other characters, or too many.
    #[error("a trust domain is 1 to 255 of a-z, 0-9, `.`, `-` and `_`")]
    Domain,
    /// No path, or one that is not plain.
    #[error(
        "a path is of segments that each begin with `/` and are of A-Z, a-z, 0-9, `.`, `-` and `_`, none `.` or `..`"
    )]
    Path,
    /// Too long.
    #[error("a SPIFFE ID has at most 2048 bytes")]
    Length,
}

/// Whose keys vouch for an ID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(String);

impl FromStr for TrustDomain {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if (1..=LONGEST_DOMAIN).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId::Domain)
        }
    }
}

impl TrustDomain {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID of the domain itself, by which the Workload API names its bundle.
    pub fn id(&self) -> String {
        format!("{SCHEME}{}", self.0)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ID of a workload: always with a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    domain: TrustDomain,
    /// With the `/` that it begins with.
    path: String,
}

impl SpiffeId {
    /// An ID of names, each of which becomes one segment: see [`segment`].
    pub fn new(domain: TrustDomain, names: &[&str]) -> Result<Self, InvalidId> {
        let path: String = names.iter().map(|name| format!("/{}", segment(name))).collect();
        format!("{SCHEME}{domain}{path}").parse()
    }

    /// Whose keys vouch for it.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// What follows the trust domain, with the `/` that it begins with.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.len() > LONGEST {
            return Err(InvalidId::Length);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(InvalidId::Scheme)?;
        let (domain, path) = rest.split_at(rest.find('/').ok_or(InvalidId::Path)?);
        let domain = domain.parse()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
        if path.split('/').skip(1).all(segment) {
            Ok(Self { domain, path: path.to_owned() })
        } else {
            Err(InvalidId::Path)
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.domain, self.path)
    }
}

/// A name as one segment of a path. Letters, digits, `-` and `.` stand for themselves; each other byte, also `_`, is
/// `_` and two digits, and so is each dot of a name that is only dots. So two names never share a segment, and case is
/// kept, which matters in paths (SPIFFE-ID §2.2).
pub fn segment(name: &str) -> String {
    let dots = name.bytes().all(|byte| byte == b'.');
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'.' if !dots => out.push('.'),
            b'-' => out.push('-'),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => out.push_str(&format!("_{byte:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_and_no_other() {
        for text in ["spiffe://td/a", "spiffe://0a.b-c_d/Guest/kata.v1", "spiffe://td/.../_"] {
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
        for (text, fault) in [
            ("SPIFFE://td/a", InvalidId::Scheme),
            ("https://td/a", InvalidId::Scheme),
            ("spiffe://TD/a", InvalidId::Domain),
            ("spiffe://td:80/a", InvalidId::Domain),
            ("spiffe://me@td/a", InvalidId::Domain),
            ("spiffe:///a", InvalidId::Domain),
            ("spiffe://td", InvalidId::Path),
            ("spiffe://td/", InvalidId::Path),
            ("spiffe://td/a/", InvalidId::Path),
            ("spiffe://td/a//b", InvalidId::Path),
            ("spiffe://td/../a", InvalidId::Path),
            ("spiffe://td/./a", InvalidId::Path),
            ("spiffe://td/%61", InvalidId::Path),
            ("spiffe://td/a?b", InvalidId::Path),
            ("spiffe://td/a#b", InvalidId::Path),
            ("spiffe://td/é", InvalidId::Path),
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(fault), "{text}");
        }
        let long = format!("spiffe://td/{}", "a".repeat(LONGEST));
        assert_eq!(long.parse::<SpiffeId>(), Err(InvalidId::Length));
        assert_eq!("a".repeat(256).parse::<TrustDomain>(), Err(InvalidId::Domain));
    }

    #[test]
    fn names_never_share_a_segment() {
        let names =
            ["kata", "Kata", "a_b", "a b", "a/b", "a_2fb", ".", "..", "_2e", "a.b", "spiffe://td/x", "a%2fb"];
        let segments: std::collections::BTreeSet<_> = names.iter().map(|name| segment(name)).collect();
        assert_eq!(segments.len(), names.len());
        let domain: TrustDomain = "td".parse().unwrap();
        for name in names {
            let id = SpiffeId::new(domain.clone(), &["guest", name]).unwrap();
            assert_eq!(id.path().split('/').count(), 3, "{id}");
        }
        assert_eq!(segment("my pod_1"), "my_20pod_5f1");
        assert_eq!(SpiffeId::new(domain, &[]), Err(InvalidId::Path));
    }
}
