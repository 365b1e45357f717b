//! Why no value can be computed from an artefact.

/// An artefact that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A field lies outside of the file, or has a value that its format does not allow.
    #[error("{artefact}: {field}: expected {expected}")]
    Field {
        /// Which artefact.
        artefact: &'static str,
        /// Which of its fields.
        field: &'static str,
        /// What its format demands.
        expected: &'static str,
    },
    /// What is asked cannot be done with this artefact.
    #[error("{artefact}: {reason}")]
    Unsupported {
        /// Which artefact.
        artefact: &'static str,
        /// Why not, and what could be done.
        reason: &'static str,
    },
}

impl Malformed {
    pub(crate) const fn field(artefact: &'static str, field: &'static str, expected: &'static str) -> Self {
        Self::Field { artefact, field, expected }
    }
}
