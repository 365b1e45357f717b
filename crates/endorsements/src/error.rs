//! What can fail while fetching: for each part, why, and what would mend it.

use std::fmt;
use std::time::Duration;

use appraisal::{NeedsUnknown, Unreadable};
use evidence::Endorsements;

/// Some of what an appraisal needs could not be had.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", sentence(.failures))]
pub struct FetchError {
    /// What failed, part by part; never empty.
    pub failures: Vec<PartFailure>,
    /// What could be had, for whoever wants to see the appraisal's own view.
    pub partial: Endorsements,
}

/// Why one part could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartFailure {
    /// What people call the part.
    pub part: String,
    /// Why.
    pub cause: Cause,
}

impl fmt::Display for PartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.part, self.cause, self.cause.remedy())
    }
}

fn sentence(failures: &[PartFailure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Why a vendor's service gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// Nothing is asked in this mode, and nothing is cached.
    #[error("not cached, and nothing may be asked offline")]
    Offline,
    /// The Evidence does not tell what it needs.
    #[error(transparent)]
    Unknown(#[from] NeedsUnknown),
    /// The vendor gives it to cloud providers only.
    #[error("a VLEK certificate is given to its cloud provider only")]
    NotPublic,
    /// The address may not be asked.
    #[error("{0} is no address that may be asked")]
    Address(String),
    /// No connection, or it broke.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The vendor has none.
    #[error("the service has none (404)")]
    NotFound,
    /// Too many requests from this address.
    #[error("the service gives this address no more for now{}", after(.0))]
    RateLimited(Option<Duration>),
    /// Another status.
    #[error("the service answered {0}")]
    Status(u16),
    /// Longer than any real answer.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// Compressed, though nobody asked for that.
    #[error("the answer is encoded ({0}), which was not asked for")]
    Encoded(String),
    /// Not what was asked for.
    #[error("the answer is not what was asked for: {0}")]
    WrongContent(String),
}

fn after(after: &Option<Duration>) -> String {
    after.map_or(String::new(), |after| format!(", and wants {} s of rest", after.as_secs()))
}

impl From<Unreadable> for Cause {
    fn from(fault: Unreadable) -> Self {
        Self::WrongContent(fault.to_string())
    }
}

impl Cause {
    /// Whether another try may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::TimedOut(_) | Self::RateLimited(_) => true,
            Self::Status(status) => *status == 408 || *status >= 500,
            _ => false,
        }
    }

    /// What would mend it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Offline => "prefetch it where there is a network, or carry a bundle here",
            Self::Unknown(unknown) => unknown.remedy(),
            Self::NotPublic => {
                "ask the host for it (extended guest request), or the cloud provider, and give it with the Evidence"
            }
            Self::Address(_) => "give an https address, or allow plain http to it",
            Self::Unreachable(_) | Self::TimedOut(_) => {
                "check network, name resolution and proxy, or use a cache (PCCS) or a bundle"
            }
            Self::NotFound => {
                "check that the platform is a production one of this vendor, and its TCB one it released"
            }
            Self::RateLimited(_) => "wait, prefetch with a shared cache, or use a bundle",
            Self::Status(_) => "try again later, or look at the service's own page of its state",
            Self::TooLarge(_) | Self::Encoded(_) | Self::WrongContent(_) => {
                "check the address of the service, and what stands between: it does not answer as the vendor does"
            }
        }
    }
}
