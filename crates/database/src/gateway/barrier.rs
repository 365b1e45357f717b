//! Nothing that is not sealed may be seen. PostgreSQL lets nobody see a commit before its synchronous standby, the
//! sealer, has it; unless its wait is interrupted, which the gateway never does. Should PostgreSQL say that it happened
//! all the same, every answer to every client waits until the log is sealed up to there.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::Mutex;
use tokio_postgres::{Config, NoTls};

use crate::{
    engine::SUPERUSER,
    lsn::{Lsn, SealedPosition},
};

/// How long the sealer may take.
const PATIENCE: Duration = Duration::from_secs(60);
const UNKNOWN: u64 = u64::MAX;

pub(super) struct Barrier {
    sealed: SealedPosition,
    socket: PathBuf,
    /// No answer leaves before the log is sealed up to here.
    required: AtomicU64,
    raising: Mutex<()>,
}

/// The log was not sealed in time.
#[derive(Debug)]
pub(super) struct Unsealed;

impl Barrier {
    pub(super) fn new(sealed: SealedPosition, socket: PathBuf) -> Self {
        Self { sealed, socket, required: AtomicU64::new(0), raising: Mutex::new(()) }
    }

    /// Whether answers may leave.
    pub(super) fn open(&self) -> bool {
        let required = self.required.load(Ordering::Acquire);
        required == 0 || *self.sealed.borrow() >= Lsn(required)
    }

    /// From now on nothing leaves before all is sealed that is in the log now.
    pub(super) async fn raise(&self, database: &str) -> Result<(), Unsealed> {
        let _one = self.raising.lock().await;
        self.required.store(UNKNOWN, Ordering::Release);
        let position = self.position(database).await.ok_or(Unsealed)?;
        self.required.store(position.0, Ordering::Release);
        Ok(())
    }

    /// Waits until answers may leave.
    pub(super) async fn passed(&self) -> Result<(), Unsealed> {
        let mut sealed = self.sealed.clone();
        let wait = async {
            while !self.open() {
                // The position may have been unknown, and known by now.
                let _ = tokio::time::timeout(Duration::from_millis(20), sealed.changed()).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.map_err(|_| Unsealed)
    }

    async fn position(&self, database: &str) -> Option<Lsn> {
        let mut config = Config::new();
        config.host_path(&self.socket).user(SUPERUSER).dbname(database);
        let (client, connection) = config.connect(NoTls).await.ok()?;
        let work = async {
            let row = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await.ok()?;
            row.get::<_, String>(0).parse().ok()
        };
        tokio::select! {
            position = work => position,
            _ = connection => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;

    #[tokio::test]
    async fn no_answer_leaves_before_the_log_is_sealed_up_to_there() {
        let (sealed, position) = watch::channel(Lsn(7));
        let barrier = Barrier::new(position, PathBuf::new());
        assert!(barrier.open());
        barrier.required.store(9, Ordering::Release);
        assert!(!barrier.open());
        let waiting = barrier.passed();
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        sealed.send(Lsn(9)).expect("it is watched");
        waiting.await.expect("it is sealed");
        assert!(barrier.raise("x").await.is_err(), "there is no PostgreSQL");
        assert!(!barrier.open(), "what is unknown is not sealed");
    }
}
