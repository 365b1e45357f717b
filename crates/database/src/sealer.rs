//! The sealer: a synchronous standby of PostgreSQL that keeps no database, but a sealed log. PostgreSQL acknowledges a
//! commit when the sealer has confirmed it, and that it does when the commit is sealed, on the host's disk, and anchored.
//!
//! ```text
//!  PostgreSQL ── stream ──────────────────────▶ [seals: all that came, in one record] ──▶ disk ──▶ anchor
//!       │                                           ▲              │
//!       └── base backup ──▶ [backs up] ──▶ queue ───┘              └──▶ confirms to PostgreSQL, publishes the position
//! ```
//!
//! Its two threads use no runtime, so that nothing else can hold them up. It ends at the first failure of any of them,
//! and then whoever started it must stop PostgreSQL at once: [`Sealer::start`] takes what does so.

mod backup;
mod error;
mod fuzzing;
mod inbox;
mod item;
mod queue;
mod seal;
mod wire;

use std::{
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

pub use error::SealerError;
pub use fuzzing::stream;
use inbox::Inbox;
pub use item::{Item, Malformed, Seen};
use queue::Queue;
use sealed_log::{Contents, Heads, Held, LogKey, Writer};
use tokio::sync::watch;
use volume::{Anchor, Head, Host};
use wire::Replication;

use crate::{
    lsn::{Lsn, SealedPosition},
    threads,
};

/// How it names itself to PostgreSQL: what `synchronous_standby_names` must be.
pub const NAME: &str = "bailey";
/// Of PostgreSQL's files of write-ahead log.
pub const SEGMENT: u64 = 16 << 20;

/// Where PostgreSQL is.
#[derive(Debug, Clone)]
pub struct Source {
    /// The folder of its socket.
    pub socket: PathBuf,
    /// A superuser.
    pub user: String,
    /// A database of it.
    pub database: String,
}

/// The log to go on with.
pub struct Log {
    /// Its files.
    pub host: Box<dyn Host>,
    /// Its key.
    pub key: LogKey,
    /// What was found in it.
    pub contents: Contents,
    /// Who remembers its newest record.
    pub anchor: Box<dyn Anchor>,
    /// Up to where the database was restored from it; `None`: it is a new one.
    pub restored: Option<Lsn>,
}

/// How it is sealed.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long what is acknowledged may not be anchored; zero: it always is.
    pub max_lag: Duration,
    /// Bytes of log after which a base backup is made and the log before it cut; never before it has grown by twice
    /// the size of the last backup.
    pub checkpoint_after: u64,
    /// How long an anchor that does not answer is asked again.
    pub patience: Duration,
    /// Of the log's files.
    pub log: sealed_log::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_lag: Duration::ZERO,
            checkpoint_after: 256 << 20,
            patience: Duration::from_secs(30),
            log: sealed_log::Options::default(),
        }
    }
}

/// What is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Up to here.
    pub position: Lsn,
    /// By this record, which the anchor has, or will have within the lag that was agreed.
    pub head: Option<Head>,
}

/// What stops PostgreSQL.
type OnEnd = Box<dyn FnOnce(&SealerError) + Send>;

/// The key of the log.
struct Key {
    now: LogKey,
    /// With which the next record is sealed.
    next: Option<LogKey>,
    /// Nothing is left of what the key before sealed.
    is_alone: bool,
}

impl Key {
    fn alone(&mut self) {
        self.now = self.now.alone();
        self.is_alone = true;
    }
}

/// What the threads share.
struct Shared {
    key: Mutex<Key>,
    queue: Queue,
    source: Source,
    /// All are closed at the end.
    connections: Mutex<Vec<UnixStream>>,
    ended: Mutex<Option<OnEnd>>,
}

impl Shared {
    /// The end of everything: says so to whoever stops PostgreSQL before anything else.
    fn fail(&self, error: SealerError) {
        if self.queue.fail(error.clone()) {
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(ended) = ended {
                ended(&error);
            }
            for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                // Closed already is as good.
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }

    fn keep(&self, connection: UnixStream) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

/// A running sealer; dropped, it ends.
pub struct Sealer {
    shared: Arc<Shared>,
    position: SealedPosition,
    sealed: watch::Receiver<Sealed>,
    heads: Arc<Mutex<Heads>>,
    threads: Vec<JoinHandle<()>>,
}

/// Ends the sealer when its thread does, be it by a panic.
struct Watched {
    shared: Arc<Shared>,
    /// Its part is done; the others go on.
    done: bool,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.done {
            self.shared.fail(SealerError::Ended);
        }
    }
}

impl Sealer {
    /// Connects to PostgreSQL and seals from now on. When sealing ends, whatever the cause, `ended` is called at once
    /// on a thread of the sealer, and must stop PostgreSQL without waiting for anything.
    ///
    /// # Errors
    /// Where PostgreSQL is not set up so that commits wait for the sealer, or has relations that are not logged; or of
    /// the log.
    pub fn start(
        source: Source,
        log: Log,
        options: Options,
        ended: impl FnOnce(&SealerError) + Send + 'static,
    ) -> Result<Self, SealerError> {
        let mut stream = Replication::connect(&source.socket, &source.user, &source.database, NAME)?;
        check(&mut stream)?;
        let [_, timeline, now, _] = stream.row("IDENTIFY_SYSTEM")?;
        let unreadable = SealerError::Protocol("a position that cannot be understood");
        let timeline: u32 = timeline.parse().map_err(|_| unreadable.clone())?;
        let now: Lsn = now.parse().map_err(|_| unreadable)?;
        // After a restore, PostgreSQL goes on within the page of the last byte, or behind it.
        let behind = log.restored.map_or(now.0, |end| end.0.saturating_sub(1));
        let from = Lsn(behind - behind % SEGMENT);
        stream.rows("CREATE_REPLICATION_SLOT bailey TEMPORARY PHYSICAL RESERVE_WAL")?;
        let mut contents = log.contents;
        let heads = Arc::new(Mutex::new(std::mem::take(&mut contents.heads)));
        let writer = Writer::begin(log.host, &log.key, contents, log.anchor, from.0, options.log)?;
        stream.send(&format!("START_REPLICATION SLOT bailey PHYSICAL {from} TIMELINE {timeline}"))?;

        let ended: OnEnd = Box::new(ended);
        let shared = Arc::new(Shared {
            key: Mutex::new(Key { now: log.key, next: None, is_alone: false }),
            queue: Queue::new(from)?,
            source,
            connections: Mutex::new(vec![stream.connection()?]),
            ended: Mutex::new(Some(ended)),
        });
        let (position_sender, position) = watch::channel(from);
        let (sealed_sender, sealed) = watch::channel(Sealed { position: from, head: writer.head() });
        let sealing = seal::Sealing::new(
            (writer, Arc::clone(&heads)),
            Arc::clone(&shared),
            Inbox::new(stream, timeline, from),
            options,
            (position_sender, sealed_sender),
        );
        let mut sealer = Self { shared, position, sealed, heads, threads: Vec::new() };
        sealer.thread("sealer: seals", move |_| sealing.run())?;
        sealer.thread("sealer: backs up", move |shared| backup::run(shared, timeline))?;
        Ok(sealer)
    }

    fn thread(
        &mut self,
        name: &str,
        work: impl FnOnce(&Shared) -> Result<(), SealerError> + Send + 'static,
    ) -> Result<(), SealerError> {
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let mut watched = Watched { shared, done: false };
            match work(&watched.shared) {
                Ok(()) => watched.done = true,
                Err(error) => watched.shared.fail(error),
            }
        };
        self.threads.push(thread::Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }

    /// Up to where everything is sealed.
    pub fn position(&self) -> SealedPosition {
        self.position.clone()
    }

    /// The same with the record that does it.
    pub fn sealed(&self) -> watch::Receiver<Sealed> {
        self.sealed.clone()
    }

    /// Whether a head that somebody kept, say of a receipt, is in this log's history, of which `host` has what is
    /// older than the last checkpoint. Blocking.
    pub fn holds(&self, host: &dyn Host, head: Head) -> Held {
        let (held, batch) = {
            let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
            (heads.holds(head), heads.batch(head.sequence))
        };
        match (held, batch) {
            (Held::Forgotten, Some(batch)) => batch.holds(host, head),
            (held, _) => held,
        }
    }

    /// The key of the log, for who reads it beside.
    pub(crate) fn key(&self) -> LogKey {
        self.shared.key.lock().unwrap_or_else(PoisonError::into_inner).now.clone()
    }

    /// Seals with another key from now on, which must know the one of now as the one before, makes a base backup, and
    /// cuts off whatever the key before sealed. Where it says `false`, something of that is left: once more is enough.
    ///
    /// # Errors
    /// Why sealing ended before that.
    pub async fn rekey(&self, key: LogKey) -> Result<bool, SealerError> {
        {
            let mut known = self.shared.key.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Key { now: key.clone(), next: Some(key), is_alone: false };
        }
        let source = self.shared.source.clone();
        // The base must begin with a file of PostgreSQL's log that is behind the first record of the key.
        let switch = move || {
            let mut session =
                Replication::connect(&source.socket, &source.user, &source.database, "bailey_rekey")?;
            session.rows("SELECT pg_catalog.pg_switch_wal()").map(drop)
        };
        tokio::task::spawn_blocking(switch).await.unwrap_or(Err(SealerError::Ended))?;
        self.checkpoint().await?;
        Ok(self.shared.key.lock().unwrap_or_else(PoisonError::into_inner).is_alone)
    }

    /// Makes a base backup, and returns when the log is cut before it. A new database has to before anybody is let in:
    /// without one there is nothing to restore.
    ///
    /// # Errors
    /// Why sealing ended before that.
    pub async fn checkpoint(&self) -> Result<(), SealerError> {
        let number = self.shared.queue.request_backup();
        let shared = Arc::clone(&self.shared);
        let waited = tokio::task::spawn_blocking(move || shared.queue.wait_completed(number)).await;
        waited.unwrap_or(Err(SealerError::Ended))
    }

    /// Why it ended; `None`: it has not.
    pub fn failure(&self) -> Option<SealerError> {
        self.shared.queue.failure()
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.shared.fail(SealerError::Ended);
        for thread in self.threads.drain(..) {
            // One that panicked has ended the others.
            let _ = threads::join(thread);
        }
    }
}

/// Without these a commit would be acknowledged that nobody has sealed.
const SETTINGS: [(&str, &str); 4] = [
    ("synchronous_standby_names", NAME),
    ("synchronous_commit", "on"),
    ("wal_segment_size", "16MB"),
    ("server_encoding", "UTF8"),
];

fn check(replication: &mut Replication) -> Result<(), SealerError> {
    for (name, expected) in SETTINGS {
        let [seen] = replication.row(&format!("SHOW {name}"))?;
        if seen != expected {
            return Err(SealerError::Setting { name, expected, seen });
        }
    }
    logged(replication)
}

/// Refuses relations whose content is not in the write-ahead log.
fn logged(replication: &mut Replication) -> Result<(), SealerError> {
    let query = "SELECT oid::regclass::text FROM pg_catalog.pg_class WHERE relpersistence = 'u' ORDER BY 1";
    match replication.rows(query)?.into_iter().next() {
        None => Ok(()),
        Some(row) => {
            let [name] = wire::texts(row)?;
            Err(SealerError::Unlogged(name))
        }
    }
}
