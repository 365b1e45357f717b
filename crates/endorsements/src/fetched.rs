//! What fetching gives: Endorsements, where each part came from, and what people should know about them.

use std::fmt;

use appraisal::{Expiry, UnixTime};
use evidence::Endorsements;

use crate::PartFailure;

/// What was had, and what there is to say about it.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What the Evidence needs.
    pub endorsements: Endorsements,
    /// What people should know; none makes the Endorsements useless.
    pub warnings: Vec<Warning>,
    /// Where each part came from.
    pub parts: Vec<PartSource>,
}

impl Fetched {
    /// How many parts the vendor was asked for.
    pub fn requests(&self) -> usize {
        self.parts.iter().filter(|part| part.source == Source::Vendor).count()
    }
}

/// Where a part came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSource {
    /// What people call the part.
    pub part: String,
    /// Where from.
    pub source: Source,
    /// The address that it was asked for, or would have been.
    pub address: String,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The vendor's service, or a cache that speaks like it.
    Vendor,
    /// Our cache.
    Cache,
}

/// What people should know about fetched Endorsements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// A part could not be had; policies may do without.
    Missing(PartFailure),
    /// A part could not be asked for again, so what was cached is served.
    Stale(PartFailure),
    /// A part ends soon.
    EndsSoon {
        /// What people call the part.
        part: &'static str,
        /// When.
        not_after: UnixTime,
        /// Whole days until then.
        days: i64,
    },
    /// A part has ended. What that means, the policy says.
    Ended {
        /// What people call the part.
        part: &'static str,
        /// When.
        not_after: UnixTime,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(failure) => write!(f, "without {failure}"),
            Self::Stale(failure) => {
                write!(f, "from the cache, as it could not be asked for again: {failure}")
            }
            Self::EndsSoon { part, not_after, days } => {
                write!(f, "{part} ends on {not_after}, in {days} days")
            }
            Self::Ended { part, not_after } => write!(f, "{part} ended on {not_after}"),
        }
    }
}

/// The warnings about parts that have ended, or do so within `warn_days`: for whoever has Endorsements already.
pub fn expiry_warnings(endorsements: &Endorsements, now: UnixTime, warn_days: i64) -> Vec<Warning> {
    let parts = Expiry::of(endorsements).parts.into_iter();
    let warnings = parts.filter_map(|window| {
        let days = now.days_until(window.not_after);
        let (part, not_after) = (window.part, window.not_after);
        if now > not_after {
            Some(Warning::Ended { part, not_after })
        } else {
            (days < warn_days).then_some(Warning::EndsSoon { part, not_after, days })
        }
    });
    let mut unique = Vec::new();
    for warning in warnings {
        if !unique.contains(&warning) {
            unique.push(warning);
        }
    }
    unique
}
