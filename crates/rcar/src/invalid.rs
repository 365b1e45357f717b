//! The one error of reading the protocol.

/// Why something is not what the protocol has there. Texts name members of the protocol, never their secret values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// More bytes than any honest sender needs.
    #[error("{what} has {length} bytes, and at most {limit} are taken")]
    TooLong {
        /// What.
        what: &'static str,
        /// How many are taken.
        limit: usize,
        /// How many there were.
        length: usize,
    },
    /// Not JSON, or not with these members.
    #[error("{what}: {fault}")]
    Json {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// A version that nobody here speaks.
    #[error(
        "protocol version {seen:?} is not spoken here; it must be one of 0.1.0, 0.1.1, 0.2.0, 0.3.0, 0.4.0"
    )]
    Version {
        /// What was asked for.
        seen: String,
    },
    /// A kind of TEE that the protocol does not have.
    #[error("{seen:?} is no kind of TEE in this protocol")]
    Tee {
        /// What was named.
        seen: String,
    },
    /// A member whose value the protocol does not allow.
    #[error("{member} must be {expected}")]
    Member {
        /// The member, by its path.
        member: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A key that nothing is encrypted to.
    #[error("the key is refused: {0}")]
    Key(&'static str),
    /// A JWE that is not decrypted.
    #[error("the JWE is refused: {0}")]
    Jwe(&'static str),
    /// The nonce is not that of the session.
    #[error("the nonce is not the one of this session")]
    Nonce,
    /// Evidence of a kind that nothing here reads.
    #[error("Evidence of {tee} is not supported")]
    Unsupported {
        /// The kind.
        tee: crate::Tee,
    },
    /// Evidence that cannot be read.
    #[error("the Evidence cannot be read")]
    Evidence(#[from] evidence::Malformed),
}

impl Invalid {
    /// Whether there was too much of it (HTTP 413), rather than the wrong thing.
    pub const fn is_too_long(&self) -> bool {
        matches!(self, Self::TooLong { .. })
    }
}
