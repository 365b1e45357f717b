//! Where a secret comes from, as a person writes it: `kbs:///repository/type/tag`, or a sealed secret.

use std::str::FromStr;

use rcar::{Invalid, ResourceUri};
use sealed_secret::{Sealed, SealedError};

/// A resource, or a sealed secret.
#[derive(Debug, Clone)]
pub enum Source {
    /// A resource of the broker.
    Resource(ResourceUri),
    /// A sealed secret, not verified yet.
    Sealed(Box<Sealed>),
}

/// Why a text is no source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Neither.
    #[error("a secret is named kbs:///repository/type/tag, or given as sealed.…")]
    Neither,
    /// It begins like a resource.
    #[error(transparent)]
    Resource(#[from] Invalid),
    /// It begins like a sealed secret.
    #[error(transparent)]
    Sealed(#[from] SealedError),
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        if text.starts_with("sealed.") {
            return Ok(Self::Sealed(Box::new(Sealed::parse(text)?)));
        }
        if text.starts_with("kbs:") || text.starts_with("kbs+") {
            return Ok(Self::Resource(text.parse()?));
        }
        Err(SourceError::Neither)
    }
}
