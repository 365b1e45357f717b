//! The handle of a process that outlives its connection: who has it can listen to the process and end it.

use std::fmt;

use attester::emulated::byte_string;
use aws_lc_rs::{digest, rand};
use serde::{Deserialize, Serialize};

/// 32 random bytes that the host chooses before the launch, and keeps to itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Handle([u8; 32]);

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Wire(#[serde(with = "byte_string")] Vec<u8>);

impl Handle {
    /// One that nobody can guess.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn generate() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| std::io::Error::other("there is no randomness"))?;
        Ok(Self(bytes))
    }

    /// One that was kept.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// To be kept: by nobody else than its owner.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// By what the platform finds the process: comparing digests tells nothing of the handle by its timing.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        out
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle(…)")
    }
}

impl TryFrom<Wire> for Handle {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        Self::from_bytes(&wire.0).ok_or("a handle has 32 bytes")
    }
}

impl From<Handle> for Wire {
    fn from(handle: Handle) -> Self {
        Self(handle.0.to_vec())
    }
}
