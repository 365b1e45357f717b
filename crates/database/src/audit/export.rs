//! The audit log for those who may read it.

use database_receipt::Digest;
use tokio_postgres::GenericClient;

use super::{AuditError, Head, Line, writer::head_of};

/// Entries of one answer.
const MOST: i64 = 10_000;

/// Entries from the number `from` on, at most 10 000, and where the log was then; as superuser.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn read(client: &impl GenericClient, from: u64) -> Result<(Vec<Line>, Head), AuditError> {
    let row = client.query_one("SELECT sequence, hash FROM bailey.audit_head", &[]).await?;
    let head = head_of(&row)?;
    let from = i64::try_from(from).unwrap_or(i64::MAX);
    let until = i64::try_from(head.sequence).unwrap_or(i64::MAX);
    let select = "SELECT sequence, at, event, hash FROM bailey.audit WHERE sequence >= $1 AND sequence <= $2 \
                  ORDER BY sequence LIMIT $3";
    let rows = client.query(select, &[&from, &until, &MOST]).await?;
    let line = |row: &tokio_postgres::Row| {
        let hash = row.get::<_, &[u8]>(3).try_into().map_err(|_| AuditError::Entry)?;
        Ok(Line {
            sequence: row.get::<_, i64>(0).unsigned_abs(),
            at: row.get(1),
            event: row.get(2),
            hash: Digest(hash),
        })
    };
    Ok((rows.iter().map(line).collect::<Result<_, AuditError>>()?, head))
}
