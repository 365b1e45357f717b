//! Messages and bytes: one encoding for each message, and nothing else decodes.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use zeroize::{Zeroize, Zeroizing};

use crate::{ProtocolError, scan};

/// A message of the host API or of the Keep's.
pub trait Message: Serialize + DeserializeOwned {
    /// What errors call it.
    const NAME: &'static str;
    /// No honest one is larger, in bytes.
    const MAX: usize;

    /// The rules that no type expresses. Whoever makes a message that breaks one has it refused by the other side.
    fn check(&self) -> Result<(), ProtocolError>;

    /// The one encoding.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        ciborium::into_writer(self, &mut out).expect("writing plain data to memory cannot fail");
        out
    }

    /// Reads exactly one message.
    ///
    /// # Errors
    /// When `bytes` are anything but what [`to_bytes`](Self::to_bytes) gives for a message within its rules.
    fn from_bytes(bytes: &[u8]) -> Result<Self, ProtocolError> {
        if bytes.len() > Self::MAX {
            return Err(ProtocolError::TooLarge { what: Self::NAME, max: Self::MAX });
        }
        match scan::item(bytes)? {
            None => Err(ProtocolError::Truncated),
            Some(length) if length < bytes.len() => {
                Err(ProtocolError::Trailing { bytes: bytes.len() - length })
            }
            Some(_) => decode(bytes),
        }
    }
}

/// `bytes` are one item.
fn decode<M: Message>(bytes: &[u8]) -> Result<M, ProtocolError> {
    let message: M = ciborium::from_reader(bytes)
        .map_err(|error| ProtocolError::Shape { what: M::NAME, reason: error.to_string() })?;
    if *Zeroizing::new(message.to_bytes()) != bytes {
        return Err(ProtocolError::NotDeterministic { what: M::NAME });
    }
    message.check()?;
    Ok(message)
}

/// A CBOR sequence (RFC 8742) of messages, as it arrives. Holds no more than one message and what was pushed last.
pub struct Sequence<M> {
    buffer: Vec<u8>,
    taken: usize,
    messages: PhantomData<fn() -> M>,
}

impl<M: Message> Sequence<M> {
    /// Nothing has arrived.
    pub fn new() -> Self {
        Self { buffer: Vec::new(), taken: 0, messages: PhantomData }
    }

    /// More has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, or `None` until more arrives. To be asked until it gives `None`, before more is pushed.
    ///
    /// # Errors
    /// When what arrived is no message: nothing that follows it means anything.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end where this waits")]
    pub fn next(&mut self) -> Result<Option<M>, ProtocolError> {
        let bytes = &self.buffer[self.taken..];
        let length = match scan::item(bytes)? {
            Some(length) if length <= M::MAX => length,
            None if bytes.len() <= M::MAX => return Ok(None),
            _ => return Err(ProtocolError::TooLarge { what: M::NAME, max: M::MAX }),
        };
        let message = decode(&bytes[..length])?;
        self.buffer[self.taken..self.taken + length].zeroize();
        self.taken += length;
        Ok(Some(message))
    }

    /// Nothing more will arrive.
    ///
    /// # Errors
    /// When it ended within a message.
    pub fn end(self) -> Result<(), ProtocolError> {
        if self.taken < self.buffer.len() { Err(ProtocolError::Truncated) } else { Ok(()) }
    }

    /// What arrived and was not taken: another kind of message follows.
    pub fn rest(mut self) -> Vec<u8> {
        self.buffer.split_off(self.taken)
    }
}

impl<M: Message> Default for Sequence<M> {
    fn default() -> Self {
        Self::new()
    }
}

/// What was not taken may be secret too.
impl<M> Drop for Sequence<M> {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}
