//! Why a statement is not believed.

use appraisal::{ReferencesRefused, UnixTime};

/// Why a statement is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More bytes than any statement has.
    #[error("the statement has {seen} bytes; {limit} are allowed")]
    TooLong {
        /// The limit.
        limit: usize,
        /// What it has.
        seen: usize,
    },
    /// It is of none of the forms that statements come in.
    #[error("this is no DSSE envelope, Sigstore bundle, JWS or CoRIM")]
    Unrecognised,
    /// It says what it says, and nobody signed it.
    #[error("the statement is not signed")]
    Unsigned,
    /// A part of it cannot be read.
    #[error("the {part} cannot be read: {reason}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It says something that is neither values nor provenance.
    #[error("a statement of type {predicate:?} says nothing of reference values")]
    OtherPredicate {
        /// The predicate's type.
        predicate: String,
    },
    /// No signature is of a signer that the caller named.
    #[error("none of the {known} signers that were given signed this{}", told(reasons))]
    UnknownSigner {
        /// How many signers there are.
        known: usize,
        /// What is wrong for each signer of whom more can be said.
        reasons: Vec<String>,
    },
    /// The signer's statements must be in a log, and this one is not.
    #[error("signer {signer} demands an entry in a transparency log, and there is no proof of one")]
    NotInLog {
        /// The signer.
        signer: String,
    },
    /// The trust root that the signature depends on is too old to be believed.
    #[error("the trust root of signer {signer} was to be believed until {expires}, and it is {now}")]
    TrustRootExpired {
        /// The signer.
        signer: String,
        /// Until when.
        expires: UnixTime,
        /// The time given.
        now: UnixTime,
    },
    /// Signed, as the log says, at a time that is yet to come.
    #[error("the statement was signed at {signed}, and it is {now}")]
    SignedInFuture {
        /// When, by the log.
        signed: UnixTime,
        /// The time given.
        now: UnixTime,
    },
    /// It does not hold yet.
    #[error("the statement holds from {not_before}, and it is {now}")]
    NotYetValid {
        /// From when.
        not_before: UnixTime,
        /// The time given.
        now: UnixTime,
    },
    /// It does not hold any more.
    #[error("the statement held until {expires}, and it is {now}")]
    Expired {
        /// Until when.
        expires: UnixTime,
        /// The time given.
        now: UnixTime,
    },
    /// Values without an end would be believed for ever.
    #[error("the statement does not say until when it holds")]
    NoExpiry,
    /// The CoRIM gives no values.
    #[error(transparent)]
    Corim(#[from] ReferencesRefused),
}

impl Refused {
    pub(crate) fn malformed(part: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Malformed { part, reason: reason.to_string() }
    }

    /// The stable name of the reason.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "STATEMENT_TOO_LONG",
            Self::Unrecognised => "STATEMENT_UNRECOGNISED",
            Self::Unsigned | Self::Corim(ReferencesRefused::Unsigned) => "STATEMENT_UNSIGNED",
            Self::Malformed { .. } => "STATEMENT_MALFORMED",
            Self::OtherPredicate { .. } => "STATEMENT_OF_OTHER_TYPE",
            Self::UnknownSigner { .. } | Self::Corim(ReferencesRefused::UnknownSigner { .. }) => {
                "STATEMENT_SIGNER_UNKNOWN"
            }
            Self::NotInLog { .. } => "STATEMENT_NOT_IN_LOG",
            Self::TrustRootExpired { .. } => "TRUST_ROOT_EXPIRED",
            Self::SignedInFuture { .. } => "STATEMENT_SIGNED_IN_FUTURE",
            Self::NotYetValid { .. } | Self::Corim(ReferencesRefused::NotYetValid { .. }) => {
                "STATEMENT_NOT_YET_VALID"
            }
            Self::Expired { .. } | Self::Corim(ReferencesRefused::Expired { .. }) => "STATEMENT_EXPIRED",
            Self::NoExpiry => "STATEMENT_WITHOUT_EXPIRY",
            Self::Corim(_) => "STATEMENT_MALFORMED",
        }
    }
}

fn told(reasons: &[String]) -> String {
    if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) }
}
