//! Entries are written by one task, all that wait in one transaction: one round to the sealer for all of them.

use std::sync::{Arc, Mutex};

use attested_tls::clock::Clock;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Client, GenericClient};

use super::{Event, Head, door::Door};
use crate::engine::{Engine, EngineError, SUPERUSER};

/// Entries that may wait; whoever brings more waits with theirs.
const WAITING: usize = 1024;
/// Entries in one transaction.
const TOGETHER: usize = 256;
/// Bytes of an entry's JSON; no honest one is longer.
const LONGEST: usize = 64 * 1024;

const SCHEMA: &str = "\
CREATE SCHEMA IF NOT EXISTS bailey;
REVOKE ALL ON SCHEMA bailey FROM PUBLIC;
CREATE TABLE IF NOT EXISTS bailey.audit (
    sequence bigint PRIMARY KEY, at bigint NOT NULL, event text NOT NULL, hash bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS bailey.audit_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), sequence bigint NOT NULL, hash bytea NOT NULL
);
INSERT INTO bailey.audit_head VALUES (true, 0, decode(repeat('00', 32), 'hex')) ON CONFLICT DO NOTHING;";

/// Makes the tables of the audit log, where they are not there yet; as [`SUPERUSER`].
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn install(client: &impl GenericClient) -> Result<(), AuditError> {
    Ok(client.batch_execute(SCHEMA).await?)
}

/// Writes entries within a transaction of the caller, which is the only way to have them with other changes or not at
/// all. Until it ends, no other entry is written: it should end soon.
///
/// # Errors
/// When PostgreSQL refuses, or an entry is longer than any honest one.
pub async fn append(
    transaction: &tokio_postgres::Transaction<'_>,
    events: &[Event],
    at: i64,
) -> Result<Head, AuditError> {
    // The row's lock orders those who write.
    let row = transaction.query_one("SELECT sequence, hash FROM bailey.audit_head FOR UPDATE", &[]).await?;
    let mut head = head_of(&row)?;
    let (mut sequences, mut texts, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for event in events {
        let text = serde_json::to_string(event).map_err(|_| AuditError::Entry)?;
        if text.len() > LONGEST {
            return Err(AuditError::Entry);
        }
        head = head.then(at, text.as_bytes());
        sequences.push(i64::try_from(head.sequence).map_err(|_| AuditError::Entry)?);
        texts.push(text);
        hashes.push(head.hash.to_vec());
    }
    let insert = "INSERT INTO bailey.audit SELECT s, $2, e, h FROM unnest($1::bigint[], $3::text[], $4::bytea[]) AS t(s, e, h)";
    transaction.execute(insert, &[&sequences, &at, &texts, &hashes]).await?;
    let sequence = sequences.last().copied();
    if let Some(sequence) = sequence {
        let update = "UPDATE bailey.audit_head SET sequence = $1, hash = $2";
        transaction.execute(update, &[&sequence, &head.hash.as_slice()]).await?;
    }
    Ok(head)
}

pub(super) fn head_of(row: &tokio_postgres::Row) -> Result<Head, AuditError> {
    let (sequence, hash): (i64, &[u8]) = (row.get(0), row.get(1));
    let sequence = sequence.try_into().map_err(|_| AuditError::Entry)?;
    Ok(Head { sequence, hash: hash.try_into().map_err(|_| AuditError::Entry)? })
}

/// Records what happens. Clones write to the same log.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::Sender<Waiting>,
    pub(super) door: Arc<Mutex<Door>>,
    pub(super) clock: Clock,
}

struct Waiting {
    event: Event,
    written: oneshot::Sender<Result<Head, Arc<AuditError>>>,
}

impl Audit {
    /// A log in an engine in which [`install`] was done.
    ///
    /// # Errors
    /// When there is no session.
    pub async fn open(engine: &Engine, clock: Clock) -> Result<Self, AuditError> {
        let client = engine.session(SUPERUSER).await?;
        let (queue, waiting) = mpsc::channel(WAITING);
        tokio::spawn(write(client, waiting, Arc::clone(&clock)));
        Ok(Self { queue, door: Arc::default(), clock })
    }

    /// Records an event, and returns when that is durable. Where it cannot be recorded, it must not happen.
    ///
    /// # Errors
    /// When it cannot be recorded.
    pub async fn record(&self, event: Event) -> Result<Head, Arc<AuditError>> {
        let (written, writing) = oneshot::channel();
        let gone = |_| Arc::new(AuditError::Ended);
        self.queue.send(Waiting { event, written }).await.map_err(|_| Arc::new(AuditError::Ended))?;
        writing.await.map_err(gone)?
    }
}

async fn write(mut client: Client, mut waiting: mpsc::Receiver<Waiting>, clock: Clock) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while waiting.recv_many(&mut batch, TOGETHER).await > 0 {
        let (events, answers): (Vec<_>, Vec<_>) = batch.drain(..).map(|it| (it.event, it.written)).unzip();
        let written = commit(&mut client, &events, clock().0).await.map_err(Arc::new);
        if let Err(error) = &written {
            tracing::error!(code = error.code(), "nothing is recorded in the audit log");
        }
        for answer in answers {
            let _ = answer.send(written.clone());
        }
    }
}

async fn commit(client: &mut Client, events: &[Event], at: i64) -> Result<Head, AuditError> {
    let transaction = client.transaction().await?;
    let head = append(&transaction, events, at).await?;
    transaction.commit().await?;
    Ok(head)
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// No session.
    #[error("the audit log cannot be reached")]
    Engine(#[from] EngineError),
    /// PostgreSQL refuses.
    #[error("the audit log cannot be written or read")]
    Session(#[from] tokio_postgres::Error),
    /// An entry that none can be.
    #[error("an entry of the audit log is longer or other than any can be")]
    Entry,
    /// The service ends.
    #[error("the audit log is closed")]
    Ended,
    /// A head cannot be signed.
    #[error("the head of the audit log cannot be signed")]
    Unsigned,
}

impl AuditError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Engine(_) | Self::Session(_) => "AUDIT_UNAVAILABLE",
            Self::Entry => "AUDIT_ENTRY",
            Self::Ended => "AUDIT_ENDED",
            Self::Unsigned => "AUDIT_UNSIGNED",
        }
    }
}
