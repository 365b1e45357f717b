//! The audit log for those who may read it, and what they check it with.

use serde::{Deserialize, Serialize};
use tokio_postgres::GenericClient;

use super::{AuditError, Event, Head, writer::head_of};

/// Entries of one answer.
const MOST: i64 = 10_000;

/// An entry as it is exported: one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Its number.
    pub sequence: u64,
    /// When, in seconds since 1970.
    pub at: i64,
    /// The exact bytes that are hashed: JSON of an [`Event`].
    pub event: String,
    /// Its hash, lower-case hex.
    pub hash: String,
}

impl Line {
    /// The event itself.
    pub fn read(&self) -> Option<Event> {
        serde_json::from_str(&self.event).ok()
    }
}

/// Entries from the number `from` on, at most 10 000, and where the log was then; as superuser.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn read(client: &impl GenericClient, from: u64) -> Result<(Vec<Line>, Head), AuditError> {
    let row = client.query_one("SELECT sequence, hash FROM bailey.audit_head", &[]).await?;
    let head = head_of(&row)?;
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let until = i64::try_from(head.sequence).unwrap_or(i64::MAX);
    let select = "SELECT sequence, at, event, hash FROM bailey.audit WHERE sequence >= $1 AND sequence <= $2 ORDER BY sequence LIMIT $3";
    let rows = client.query(select, &[&from, &until, &MOST]).await?;
    let line = |row: &tokio_postgres::Row| Line {
        sequence: row.get::<_, i64>(0).unsigned_abs(),
        at: row.get(1),
        event: row.get(2),
        hash: hex::encode(row.get::<_, &[u8]>(3)),
    };
    Ok((rows.iter().map(line).collect(), head))
}

/// Whether the entries continue `known` one after the other; where they end.
///
/// # Errors
/// With the first that does not.
pub fn verify(known: Head, lines: &[Line]) -> Result<Head, Broken> {
    lines.iter().try_fold(known, |head, line| {
        let next = head.then(line.at, line.event.as_bytes());
        if line.sequence != next.sequence {
            return Err(Broken::Missing { expected: next.sequence, seen: line.sequence });
        }
        if line.hash != hex::encode(next.hash) {
            return Err(Broken::Altered { sequence: line.sequence });
        }
        Ok(next)
    })
}

/// Why an export is not the audit log that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Entries are missing, or were exchanged.
    #[error("entry {expected} of the audit log was expected, and {seen} follows")]
    Missing {
        /// Which should come.
        expected: u64,
        /// Which came.
        seen: u64,
    },
    /// An entry or one before it was altered.
    #[error("entry {sequence} of the audit log does not continue what is known")]
    Altered {
        /// Which.
        sequence: u64,
    },
}

impl Broken {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "AUDIT_ENTRY_MISSING",
            Self::Altered { .. } => "AUDIT_ALTERED",
        }
    }
}
