//! An attested read replica: a PostgreSQL in another TEE that replays the sealed log. It reads the log's files, which any
//! host may carry to it, with the log's key, which only an attested instance has; what reaches it is verified as at a
//! restore, and nothing is shown that is not anchored.
//!
//! ```text
//!  files of the log (shared or copied by hosts) ──▶ [follows, up to the anchor's head] ──▶ pg_wal ──▶ PostgreSQL, standby
//!                                                            ▲
//!                                            anchor: which record is the newest
//! ```
//!
//! It takes the database over only when it has everything that the anchor knows of: [`Replica::promote`].

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use sealed_log::{Ahead, Anchored, Contents, Cursor, Error, Held, LogKey, Step};
use tokio::sync::watch;
use volume::{Anchor, AnchorError, Head, Host};

use crate::{
    lsn::Lsn,
    restore::{Building, RestoreError, Until, segments::Segments},
    sealer::{Malformed, Seen},
    threads,
};

/// Settings of a PostgreSQL that replays what is put before it. It looks into its folder as often as this says, and
/// leaves files of log that it is done with alone.
pub const PARAMETERS: [(&str, &str); 3] =
    [("hot_standby", "on"), ("wal_retrieve_retry_interval", "20ms"), ("wal_recycle", "off")];
const SIGNAL: &str = "standby.signal";

/// How it follows.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Between two looks at log and anchor.
    pub pause: Duration,
    /// How long a file may be missing that the log's writer may have removed: hosts copy files in any order.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { pause: Duration::from_millis(50), patience: Duration::from_secs(10) }
    }
}

/// Why a replica does not start, or ended. Whoever started it must stop its PostgreSQL then.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The log, or its anchor.
    #[error(transparent)]
    Log(#[from] Error),
    /// What the log holds.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The copy of the log that is here has no whole base backup, or the anchor knows of no log.
    #[error("there is no whole base backup in this copy of the log")]
    Nothing,
    /// It was slower than the checkpoints, which remove what no restore needs.
    #[error("the log goes on behind a checkpoint that this replica has not reached: start it again")]
    LeftBehind,
    /// A file that it comes to is of another key.
    #[error(
        "the log goes on under a key that this replica does not have: its key was exchanged, or the host put files of \
         another log there; start the replica again, and it follows with the key of now"
    )]
    OtherKey,
    /// Its copy of the log has not everything that the anchor knows of.
    #[error("this copy of the log has not all that the anchor knows of, and does not get it")]
    Behind,
    /// Its folder.
    #[error("the replica's folder cannot be written")]
    Folder(#[source] std::io::Error),
    /// A thread of it failed.
    #[error("the replica ended")]
    Ended,
}

impl ReplicaError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Log(error) => error.code(),
            Self::Restore(error) => error.code(),
            Self::Nothing => "REPLICA_NOTHING",
            Self::LeftBehind => "REPLICA_LEFT_BEHIND",
            Self::OtherKey => Error::Swapped.code(),
            Self::Behind => "REPLICA_BEHIND",
            Self::Folder(_) => "DATABASE_FOLDER",
            Self::Ended => "REPLICA_ENDED",
        }
    }
}

impl ReplicaError {
    /// Whether the host may yet bring what is missing: it copies one file after the other.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Nothing | Self::Log(Error::Cut(_) | Error::Missing | Error::AnchorUnreachable(_))
        )
    }
}

impl From<AnchorError> for ReplicaError {
    fn from(error: AnchorError) -> Self {
        Self::Log(error.into())
    }
}

/// How far a replica is.
#[derive(Debug, Clone, Copy)]
pub struct Followed {
    /// Up to where PostgreSQL has the log before it.
    pub position: Lsn,
    /// The last record of that.
    pub head: Option<Head>,
    /// When it last had everything that the anchor knew of; `None`: never.
    pub current_at: Option<Instant>,
}

/// A database's folder, and what follows the log from there.
pub struct Follower {
    host: Box<dyn Host>,
    key: LogKey,
    anchor: Box<dyn Anchor>,
    cursor: Cursor,
    segments: Segments,
    data: PathBuf,
    current_at: Option<Instant>,
    /// The record that it goes to first, and when that was the newest: a log that grows all the time is never had whole.
    goal: Option<(Instant, u64)>,
    /// Since when there was nothing new, though the anchor knows more.
    missing_since: Option<Instant>,
}

fn seen(entry: sealed_log::Entry<'_>) -> Result<Seen<'_>, ReplicaError> {
    Seen::parse(entry).map_err(|Malformed| RestoreError::Content("an entry cannot be understood").into())
}

/// The next record, if the anchor knows of it.
fn next<'a>(
    cursor: &'a mut Cursor,
    host: &dyn Host,
    anchored: Head,
) -> Result<Option<sealed_log::Plaintext<'a>>, ReplicaError> {
    let at = cursor.head();
    if at.is_some_and(|at| at.sequence >= anchored.sequence) {
        return match cursor.holds(anchored) {
            Held::Contradicted => Err(Error::Forked(anchored.sequence).into()),
            Held::Contained | Held::Forgotten => Ok(None),
        };
    }
    match cursor.next(host) {
        Ok(Step::Record(_, plain)) => Ok(Some(plain)),
        // Hosts copy one file after the other, and not always to its end at once.
        Ok(Step::End(_)) | Err(Error::Cut(_)) => Ok(None),
        Err(Error::Swapped) if at.is_some() => Err(ReplicaError::OtherKey),
        Err(error) => Err(error.into()),
    }
}

impl Follower {
    /// Makes the folder `data` of what there is of the log, to start PostgreSQL on with [`PARAMETERS`].
    ///
    /// # Errors
    /// With what the host did to the log; [`ReplicaError::Nothing`].
    pub fn unpack(
        host: Box<dyn Host>,
        key: &LogKey,
        anchor: Box<dyn Anchor>,
        data: &Path,
    ) -> Result<Self, ReplicaError> {
        let mut cursor = Cursor::open(&*host, key)?;
        let anchored = anchor.current()?.ok_or(ReplicaError::Nothing)?;
        let mut building = Building::new(data);
        while let Some(plain) = next(&mut cursor, &*host, anchored)? {
            for entry in plain.entries() {
                building.apply(seen(entry?)?)?;
            }
        }
        let (_, segments) = building.finish(Until::End)?.ok_or(ReplicaError::Nothing)?;
        fs::write(data.join(SIGNAL), []).map_err(ReplicaError::Folder)?;
        let (key, data) = (key.clone(), data.to_owned());
        Ok(Self {
            host,
            key,
            anchor,
            cursor,
            segments,
            data,
            current_at: None,
            goal: None,
            missing_since: None,
        })
    }

    /// Follows on a thread of its own, once PostgreSQL runs. When it ends by itself, `ended` is called at once, and
    /// must stop PostgreSQL.
    ///
    /// # Errors
    /// Where no thread can be made.
    pub fn follow(
        self,
        options: Options,
        ended: impl FnOnce(&ReplicaError) + Send + 'static,
    ) -> Result<Replica, ReplicaError> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (sender, followed) = watch::channel(self.followed());
        let stop = Arc::clone(&stopping);
        let run = move || {
            let (mut follower, mut ended) = (self, Some(ended));
            while !stop.load(Ordering::SeqCst) {
                if let Err(error) = follower.step(options.patience) {
                    if let Some(ended) = ended.take() {
                        ended(&error);
                    }
                    return Err(error);
                }
                sender.send_replace(follower.followed());
                thread::sleep(options.pause);
            }
            Ok(follower)
        };
        let thread = thread::Builder::new().name("replica: follows".into()).spawn(run);
        let thread = Some(thread.map_err(ReplicaError::Folder)?);
        Ok(Replica { stopping, followed, thread })
    }

    fn followed(&self) -> Followed {
        let position = self.segments.reach().map_or(Lsn(0), |(_, end)| end);
        Followed { position, head: self.cursor.head(), current_at: self.current_at }
    }

    /// What was anchored since the last look. An anchor or a host that does not answer makes it late, not wrong.
    fn step(&mut self, patience: Duration) -> Result<(), ReplicaError> {
        let asked = Instant::now();
        let anchored = match self.anchor.current() {
            Ok(Some(anchored)) => anchored,
            Ok(None) => return Err(Error::Unanchored.into()),
            Err(_) => return Ok(()),
        };
        if self.cursor.refresh(&*self.host).is_err() {
            return Ok(());
        }
        let before = self.cursor.head();
        while let Some(plain) = next(&mut self.cursor, &*self.host, anchored)? {
            for entry in plain.entries() {
                apply(&mut self.segments, seen(entry?)?)?;
            }
        }
        let (since, goal) = *self.goal.get_or_insert((asked, anchored.sequence));
        let at = self.cursor.head().map_or(0, |head| head.sequence);
        if at >= goal {
            self.current_at = Some(if at >= anchored.sequence { asked } else { since });
            (self.goal, self.missing_since) = (None, None);
        } else if self.cursor.head() != before {
            self.missing_since = None;
        } else if self.missing_since.get_or_insert(asked).elapsed() >= patience {
            return self.left_behind();
        }
        Ok(())
    }

    /// Whether the log can be read from a place behind ours alone, or with another key: the files before that are not
    /// needed any more.
    fn left_behind(&self) -> Result<(), ReplicaError> {
        let begins = match Cursor::open(&*self.host, &self.key) {
            Ok(cursor) => cursor.head(),
            Err(Error::Swapped) => return Err(ReplicaError::OtherKey),
            Err(_) => None,
        };
        let at = self.cursor.head().map_or(0, |head| head.sequence);
        if begins.is_some_and(|begins| at < begins.sequence) { Err(ReplicaError::LeftBehind) } else { Ok(()) }
    }
}

fn apply(segments: &mut Segments, seen: Seen<'_>) -> Result<(), RestoreError> {
    match seen {
        Seen::Wal { timeline, start, bytes } => segments.write(timeline, start, bytes),
        // It has a base.
        Seen::Backup { .. } | Seen::BackupData(_) | Seen::BackupEnd { .. } => Ok(()),
    }
}

/// A replica that follows; dropped, it stops.
pub struct Replica {
    stopping: Arc<AtomicBool>,
    followed: watch::Receiver<Followed>,
    thread: Option<JoinHandle<Result<Follower, ReplicaError>>>,
}

/// What goes on as the database: start PostgreSQL on the same folder, and a sealer on the log.
pub struct Promoted {
    /// The log, which this instance writes from now on.
    pub contents: Contents,
    /// Its files.
    pub host: Box<dyn Host>,
    /// Its anchor.
    pub anchor: Box<dyn Anchor>,
    /// Up to where the log goes.
    pub end: Lsn,
}

impl Replica {
    /// How far it is, whenever it looked.
    pub fn followed(&self) -> watch::Receiver<Followed> {
        self.followed.clone()
    }

    /// Waits until it has everything that the anchor knew of at a moment after this call.
    ///
    /// # Errors
    /// [`ReplicaError::Behind`], after `patience`.
    pub async fn catch_up(&self, patience: Duration) -> Result<(), ReplicaError> {
        let (since, mut followed) = (Instant::now(), self.followed());
        let current = followed.wait_for(|it| it.current_at.is_some_and(|at| at >= since));
        match tokio::time::timeout(patience, current).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ReplicaError::Behind),
        }
    }

    /// Why it ended by itself.
    pub fn failure(mut self) -> Option<ReplicaError> {
        self.join().err()
    }

    /// Takes the database over, once its anchor refuses whoever had it before. PostgreSQL must have been killed; it is
    /// started again on the same folder, and goes on in the same history. `ahead`: how many records may be ahead of the
    /// anchor.
    ///
    /// # Errors
    /// `LOG_ROLLED_BACK`, `LOG_CUT`: this copy of the log has not everything that the anchor knows of; `LOG_FORKED`.
    pub fn promote(mut self, ahead: Ahead) -> Result<Promoted, ReplicaError> {
        let follower = self.join()?;
        let anchored = Anchored::from(follower.anchor.current()?);
        let (host, mut segments) = (follower.host, follower.segments);
        let mut failure = None;
        let contents = follower.cursor.close(&*host, anchored, ahead, &mut |_, entry| {
            let applied = seen(entry).and_then(|seen| Ok(apply(&mut segments, seen)?));
            applied.map_err(|error| {
                failure = Some(error);
                Error::Ended
            })
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        let contents = contents?;
        let (_, end) = segments.reach().ok_or(ReplicaError::Nothing)?;
        fs::remove_file(follower.data.join(SIGNAL)).map_err(ReplicaError::Folder)?;
        Ok(Promoted { contents, host, anchor: follower.anchor, end })
    }

    fn join(&mut self) -> Result<Follower, ReplicaError> {
        self.stopping.store(true, Ordering::SeqCst);
        let joined = self.thread.take().map(threads::join);
        joined.and_then(Result::ok).unwrap_or(Err(ReplicaError::Ended))
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // Why it ended was told when it did.
        let _ = self.join();
    }
}
