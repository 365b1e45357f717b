//! Why a registry did not do what was asked. Nothing of it repeats what the other side said.

use package::Digest;

/// Why a registry did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// No connection, or none that lasted.
    #[error("registry {host} cannot be reached: {why}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// In words.
        why: &'static str,
    },
    /// Another server than the one that is meant.
    #[error("{host} is not the server that is meant: {why}")]
    Untrusted {
        /// Host and port.
        host: String,
        /// In words.
        why: &'static str,
    },
    /// Credentials are needed, and none or wrong ones were given.
    #[error("the registry wants credentials{}", if *.given { ", and does not accept these" } else { "" })]
    Unauthorised {
        /// Whether there were some.
        given: bool,
    },
    /// Not for these credentials.
    #[error("the registry does not allow it")]
    Denied,
    /// Not there.
    #[error("the registry has no such {what}")]
    NotFound {
        /// What.
        what: &'static str,
    },
    /// Too many requests, for too long.
    #[error("the registry is busy: it answered {status} again and again")]
    Busy {
        /// HTTP.
        status: u16,
    },
    /// A status that the specification does not have here.
    #[error("the registry answered {status}")]
    Status {
        /// HTTP.
        status: u16,
    },
    /// An answer that cannot be read.
    #[error("the registry's answer cannot be used: {0}")]
    Malformed(&'static str),
    /// More than is read.
    #[error("the registry's answer is longer than the {limit} bytes that are read")]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// Another length than announced.
    #[error("{what} has {seen} bytes, and should have {expected}")]
    Size {
        /// What.
        what: &'static str,
        /// By its descriptor.
        expected: u64,
        /// As far as it was read.
        seen: u64,
    },
    /// Other bytes than were asked for.
    #[error("{what} is {seen}, and should be {expected}")]
    Digest {
        /// What.
        what: &'static str,
        /// What was asked for.
        expected: Digest,
        /// What came.
        seen: Digest,
    },
    /// Elsewhere, and not there either.
    #[error("the registry sends us elsewhere: {0}")]
    Redirected(&'static str),
    /// To whom, nobody would know.
    #[error("credentials are sent over TLS only")]
    PlainCredentials,
    /// TLS could not be set up.
    #[error("TLS cannot be had: {0}")]
    Tls(String),
}

impl RegistryError {
    /// Stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "REGISTRY_UNREACHABLE",
            Self::Untrusted { .. } => "REGISTRY_UNTRUSTED",
            Self::Unauthorised { .. } => "REGISTRY_UNAUTHORISED",
            Self::Denied => "REGISTRY_DENIED",
            Self::NotFound { .. } => "REGISTRY_NOT_FOUND",
            Self::Busy { .. } => "REGISTRY_BUSY",
            Self::Status { .. } => "REGISTRY_STATUS",
            Self::Malformed(_) => "REGISTRY_ANSWER_UNUSABLE",
            Self::TooLarge { .. } => "REGISTRY_ANSWER_TOO_LARGE",
            Self::Size { .. } => "CONTENT_SIZE_MISMATCH",
            Self::Digest { .. } => "CONTENT_DIGEST_MISMATCH",
            Self::Redirected(_) => "REGISTRY_REDIRECT_REFUSED",
            Self::PlainCredentials => "CREDENTIALS_WITHOUT_TLS",
            Self::Tls(_) => "INTERNAL",
        }
    }
}
