//! Who remembers the newest state. Without one, a host that brings an old copy back could not be noticed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// A commit: its number, from 1, and the hash over it and everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// One more than that of the commit before.
    pub sequence: u64,
    /// SHA-256.
    pub hash: [u8; 32],
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sequence)
    }
}

/// Why an anchor did not move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// It stands elsewhere: another writer moved it.
    #[error("another writer moved the anchor")]
    Moved,
    /// No answer, so whether it moved is not known.
    #[error("the anchor does not answer: {0}")]
    Unreachable(String),
}

/// Remembers one [`Head`] where the host cannot turn it back.
pub trait Anchor: Send + Sync {
    /// Where it stands; `None`: the volume was never made.
    fn current(&self) -> Result<Option<Head>, AnchorError>;
    /// Moves it, if it stands at `from`.
    fn advance(&self, from: Option<Head>, to: Head) -> Result<(), AnchorError>;
}

/// An anchor in memory. What makes it one is that its owner carries the head on: a client of a direct deployment gives
/// the last head that it saw, and gets the new one back.
#[derive(Debug, Clone, Default)]
pub struct MemoryAnchor(Arc<Mutex<Option<Head>>>);

impl MemoryAnchor {
    /// Standing at `head`.
    pub fn new(head: Option<Head>) -> Self {
        Self(Arc::new(Mutex::new(head)))
    }

    /// Where it stands.
    pub fn head(&self) -> Option<Head> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Anchor for MemoryAnchor {
    fn current(&self) -> Result<Option<Head>, AnchorError> {
        Ok(self.head())
    }

    fn advance(&self, from: Option<Head>, to: Head) -> Result<(), AnchorError> {
        let mut head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *head != from {
            return Err(AnchorError::Moved);
        }
        *head = Some(to);
        Ok(())
    }
}
