//! The audit log: what happened, each entry chained to all before it, in PostgreSQL and so in the sealed log.
//!
//! An entry's hash is `SHA-256("bailey/database-audit/1" ‖ previous hash ‖ number ‖ time ‖ event)`, numbers and times
//! (seconds) in 8 bytes big-endian, the event as the exact bytes of its JSON. Whoever has an export recomputes it, and
//! whoever kept a head sees that a later export continues it ([`verify`]).
//!
//! What is recorded names parties, certificates, algorithms with their arguments, and counts. Values of rows are in no
//! entry: those who read the audit log need not be those who read tables.

mod event;
mod export;
mod writer;

use aws_lc_rs::digest::{Context, SHA256};

pub use self::{
    event::{Event, Interface, Refused, Who},
    export::{Broken, Line, read, verify},
    writer::{Audit, AuditError, append, install},
};

/// A place in the chain: how many entries there are, and the hash of the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Entries; the first has the number 1.
    pub sequence: u64,
    /// The newest one's hash; zeros where there is none.
    pub hash: [u8; 32],
}

impl Head {
    /// Before the first entry.
    pub const NONE: Self = Self { sequence: 0, hash: [0; 32] };

    /// After one more entry.
    pub fn then(&self, at: i64, event: &[u8]) -> Self {
        let sequence = self.sequence + 1;
        let mut context = Context::new(&SHA256);
        for part in [LABEL.as_slice(), &self.hash, &sequence.to_be_bytes(), &at.to_be_bytes(), event] {
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self { sequence, hash }
    }

    /// What the database's key signs: label, number, hash.
    pub fn to_be_signed(&self) -> Vec<u8> {
        [b"bailey/database-audit-head/1".as_slice(), &self.sequence.to_be_bytes(), &self.hash].concat()
    }
}

const LABEL: &[u8; 23] = b"bailey/database-audit/1";
