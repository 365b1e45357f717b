//! Where the log lies. A medium keeps bytes and knows nothing of what is in them; it is the host's, so [`super::Store`]
//! believes nothing that it reads from one until it is opened at its place in the chain.

use std::ops::Range;

use super::{Head, StoreError};

/// How long the log is, and the hash over all of it: where the next record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// So many records.
    pub length: u64,
    /// Chained over all of them; zeros for none.
    pub head: Head,
}

impl Place {
    /// Of an empty log.
    pub const START: Self = Self { length: 0, head: [0; 32] };
}

/// What a medium keeps.
#[derive(Debug, Default)]
pub struct Content {
    /// The newest snapshot, if there is one and it was asked for.
    pub snapshot: Option<SealedSnapshot>,
    /// Records with their indices, in order.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Where the medium itself says that the log ends; `None` where it keeps no such note.
    pub end: Option<Place>,
}

/// A sealed state.
#[derive(Debug)]
pub struct SealedSnapshot {
    /// The records that it stands for.
    pub at: Place,
    /// The state.
    pub sealed: Vec<u8>,
}

/// What is appended at once, all of it or nothing.
pub struct Appended<'a> {
    /// Sealed records, oldest first.
    pub records: &'a [Vec<u8>],
    /// Public companions of the records, one for each; empty where a record has none.
    pub entries: &'a [Vec<u8>],
    /// What becomes of the recovery record.
    pub recovery: Recovery<'a>,
}

/// What becomes of the recovery record with an append.
#[derive(Clone, Copy)]
pub enum Recovery<'a> {
    /// It stays.
    Keep,
    /// It is this one.
    Replace(&'a [u8]),
    /// There is none any more.
    Remove,
}

/// Keeps what is sealed. What a call returned for is durable. All of it may block.
pub trait Medium: Send {
    /// Whether others append as well, so that an append can come second ([`StoreError::Conflict`]).
    fn is_shared(&self) -> bool;

    /// The newest snapshot and all records that are there, where `from` is absent; otherwise the records from that
    /// index on, with a snapshot if the record at `from` is no longer there.
    fn read(&self, from: Option<u64>) -> Result<Content, StoreError>;

    /// Appends at `at` what makes the log end at `end`; [`StoreError::Conflict`] and nothing done where it does not
    /// end at `at`.
    fn append(&mut self, at: &Place, end: &Place, appended: &Appended<'_>) -> Result<(), StoreError>;

    /// The companions of the records in `range`, as far as they are there, in order.
    fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError>;

    /// Keeps a snapshot in place of the one before it. Of the records that it covers none need be kept; a shared medium
    /// keeps those since the snapshot before it, for whoever is a little behind.
    fn put_snapshot(&mut self, snapshot: &SealedSnapshot) -> Result<(), StoreError>;

    /// The recovery record.
    fn recovery(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// A key that is sealed to this TEE.
    fn key(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keeps keys that are sealed to this TEE, all of them or none.
    fn put_keys(&mut self, keys: &[(&str, Vec<u8>)]) -> Result<(), StoreError>;

    /// Removes everything.
    fn remove(self: Box<Self>) -> Result<(), StoreError>;
}
