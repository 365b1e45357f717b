//! What is said before PostgreSQL's protocol begins. Numbers are big-endian.
//!
//! ```text
//!  primary ▸ replica   position u64 ‖ patience u32, milliseconds
//!  replica ▸ primary   1: replayed, 0: not in time ‖ position u64 that is
//! ```

use std::time::Duration;

use crate::lsn::Lsn;

/// What the primary asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The least that must be replayed.
    pub position: Lsn,
    /// How long the replica may take until it is.
    pub patience: Duration,
}

impl Request {
    /// Bytes of it.
    pub const LENGTH: usize = 12;

    /// As it is sent; a patience of more milliseconds than it has room for is the longest.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let patience = u32::try_from(self.patience.as_millis()).unwrap_or(u32::MAX);
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&self.position.0.to_be_bytes());
        bytes[8..].copy_from_slice(&patience.to_be_bytes());
        bytes
    }

    /// As it came: all of them mean something.
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        let [a, b, c, d, e, f, g, h, patience @ ..] = bytes;
        Self {
            position: Lsn(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            patience: Duration::from_millis(u32::from_be_bytes(patience).into()),
        }
    }
}

/// What the replica answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Whether it has replayed what was asked for: then a session may begin.
    pub ready: bool,
    /// Up to where it has.
    pub position: Lsn,
}

/// It is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reply of a replica")]
pub struct Malformed;

impl Reply {
    /// Bytes of it.
    pub const LENGTH: usize = 9;

    /// As it is sent.
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [u8::from(self.ready); Self::LENGTH];
        bytes[1..].copy_from_slice(&self.position.0.to_be_bytes());
        bytes
    }

    /// As it came.
    ///
    /// # Errors
    /// It is none.
    pub fn from_bytes(bytes: [u8; Self::LENGTH]) -> Result<Self, Malformed> {
        let [ready, position @ ..] = bytes;
        let position = Lsn(u64::from_be_bytes(position));
        match ready {
            0 => Ok(Self { ready: false, position }),
            1 => Ok(Self { ready: true, position }),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_as_they_were_written_and_nothing_else_is() {
        let request = Request { position: Lsn(u64::MAX - 7), patience: Duration::from_millis(1500) };
        assert_eq!(Request::from_bytes(request.to_bytes()), request);
        let long = Request { patience: Duration::MAX, ..request };
        assert_eq!(Request::from_bytes(long.to_bytes()).patience.as_millis(), u128::from(u32::MAX));
        for ready in [false, true] {
            let reply = Reply { ready, position: Lsn(9 << 33) };
            assert_eq!(Reply::from_bytes(reply.to_bytes()), Ok(reply));
        }
        assert_eq!(Reply::from_bytes([2, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Malformed));
    }
}
