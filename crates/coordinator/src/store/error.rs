//! Why the state cannot be read or written.

use attester::AttesterError;

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("the state file cannot be opened: {0}")]
    Open(String),
    /// The TEE gave no sealing key.
    #[error("this TEE gave no sealing key")]
    Sealing(#[from] AttesterError),
    /// The recovery secret is not that of this log.
    #[error("what the shares give together does not open the state: the file was changed")]
    Unseal,
    /// Records without a key.
    #[error("the state file has records and no key: it was damaged or tampered with")]
    KeyMissing,
    /// The embedded store cannot make sense of its own pages.
    #[error("the state file is no longer what was written: it was damaged or tampered with")]
    Damaged,
    /// A record fails authentication.
    #[error("record {index} of the state log {what}: the file was damaged or tampered with")]
    Record {
        /// Which.
        index: u64,
        /// How.
        what: &'static str,
    },
    /// A record is authentic and does not parse: written by another version.
    #[error("record {index} of the state log is not of this version: {reason}")]
    Version {
        /// Which.
        index: u64,
        /// The decoder's word.
        reason: String,
    },
    /// A snapshot fails authentication.
    #[error(
        "the snapshot after {length} records was changed or belongs elsewhere: the file was damaged or tampered with"
    )]
    SnapshotChanged {
        /// How many records it stands for.
        length: u64,
    },
    /// A snapshot is authentic and does not parse: written by another version.
    #[error("the snapshot after {length} records of the state log is not of this version: {reason}")]
    Snapshot {
        /// How many records are in it.
        length: u64,
        /// The decoder's word.
        reason: String,
    },
    /// The embedded store failed.
    #[error("the state file cannot be read or written")]
    Database(#[source] Box<redb::Error>),
    /// Cryptography failed.
    #[error("sealing failed")]
    Crypto,
    /// Another replica appended first: what was decided must be decided again, on what came.
    #[error("another replica appended to the log first")]
    Conflict,
}

pub(super) fn opening(error: impl std::fmt::Display) -> StoreError {
    StoreError::Open(error.to_string())
}

macro_rules! from_redb {
    ($($kind:ty),*) => {$(
        impl From<$kind> for StoreError {
            fn from(error: $kind) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);
