//! Why bytes are not a message.

/// Why bytes are not a message. Says nothing of their content: it may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Over the bound of this message.
    #[error("a message of more than {max} bytes; no {what} is that large")]
    TooLarge {
        /// Which message.
        what: &'static str,
        /// Its bound, in bytes.
        max: usize,
    },
    /// No CBOR item of ours, whatever it holds.
    #[error("{fault} at byte {offset}")]
    Structure {
        /// What is wrong.
        fault: Fault,
        /// Where.
        offset: usize,
    },
    /// Ends within an item.
    #[error("it ends within a message")]
    Truncated,
    /// Bytes follow the message.
    #[error("{bytes} bytes follow the message")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// An item, and not the one that is expected.
    #[error("not a {what}: {reason}")]
    Shape {
        /// Which message was expected.
        what: &'static str,
        /// What serde says of it.
        reason: String,
    },
    /// It decodes, and would be encoded otherwise.
    #[error("a {what} that is not in its one encoding: a field is missing, or out of order")]
    NotDeterministic {
        /// Which message.
        what: &'static str,
    },
    /// A rule that no type expresses.
    #[error("{field} of a {what}: {rule}")]
    Rule {
        /// Which message.
        what: &'static str,
        /// Which field.
        field: &'static str,
        /// What holds for it.
        rule: &'static str,
    },
}

impl ProtocolError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "MESSAGE_TOO_LARGE",
            Self::Truncated => "MESSAGE_TRUNCATED",
            _ => "MESSAGE_MALFORMED",
        }
    }
}

/// What no message of ours has, by RFC 8949.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// §4.2.1: preferred serialisation.
    #[error("a number in more bytes than it needs")]
    LongHead,
    /// §3.2.
    #[error("an indefinite length")]
    Indefinite,
    /// §3: additional information 28 to 30.
    #[error("a reserved initial byte")]
    Reserved,
    /// §3.4.
    #[error("a tag")]
    Tag,
    /// §3.3, but false, true and null.
    #[error("a float or an unassigned simple value")]
    Simple,
    /// §3.1, major type 1.
    #[error("a negative number")]
    Negative,
    /// Deeper than any message.
    #[error("too many levels")]
    Depth,
    /// More items than any message.
    #[error("too many items")]
    Items,
}
