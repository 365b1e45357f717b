//! The database as it was: unpacked once more from its own sealed log, in a folder and a PostgreSQL of their own that
//! nobody reaches but this program, to read rows from. The log is verified as at every restore, and must hold the
//! newest record of the instance that reads it: a host that shows another log is found out.
//!
//! It reaches back to the oldest base backup that is kept: the last one, and older ones as far as the manifest's `History`
//! lets the host keep their files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use database_manifest::{InvalidRestoration, Point, Restoration};
use sealed_log::{Cursor, Error as LogError, Held, LogKey, Step};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_postgres::Client;
use volume::{Folder, Head, Host};

use super::{Building, Database, RestoreError, Until};
use crate::{
    engine::{Engine, EngineError, SUPERUSER, Settings},
    sealer::{Malformed, Sealer, Seen},
};

/// Of the memory that PostgreSQL's files are in, this much stays free.
const RESERVE: u64 = 256 << 20;
/// A log of many gigabytes takes its time.
const PATIENCE: Duration = Duration::from_secs(1800);
const SIGNAL: &str = "recovery.signal";
/// PostgreSQL's words where it was to stop before the backup was whole (`xlogrecovery.c`).
const TOO_EARLY: &str = "before consistent recovery point";

/// Why there is no past to read from.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The log.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// It is before the oldest base backup that is kept, or has not come yet.
    #[error("the log reaches back to {from}, and {asked} is not between that and now")]
    OutOfReach {
        /// What was asked for.
        asked: Point,
        /// The first that there is.
        from: String,
    },
    /// There is no memory for a second copy.
    #[error("a second copy of the database needs {} MiB of memory, and {} MiB are free", needed >> 20, free >> 20)]
    NoRoom {
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
    },
    /// No point of any history.
    #[error(transparent)]
    Point(#[from] InvalidRestoration),
    /// The second PostgreSQL.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The first one.
    #[error("the database did not answer")]
    Postgres(#[from] tokio_postgres::Error),
    /// A thread of ours ended.
    #[error("a part of this program ended unexpectedly")]
    Panicked,
}

impl PastError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Restore(error) => error.code(),
            Self::OutOfReach { .. } => "RESTORE_OUT_OF_REACH",
            Self::NoRoom { .. } => "RESTORE_NO_ROOM",
            Self::Point(_) => "RESTORATION_INVALID",
            Self::Engine(error) => error.code(),
            Self::Postgres(_) => "UNAVAILABLE",
            Self::Panicked => "INTERNAL",
        }
    }
}

/// What was sealed, for as long as the log has it.
pub struct History {
    engine: Arc<Engine>,
    /// Whoever still has this when all ends must not keep the log open.
    sealer: Weak<Sealer>,
    log: PathBuf,
    /// One at a time: each is a second copy in memory.
    place: Arc<Mutex<()>>,
}

/// A database of the past; it goes with this.
pub struct Past {
    engine: Engine,
    folder: Place,
}

/// The folder of one, while it is there.
struct Place {
    path: PathBuf,
    _one: Arc<OwnedMutexGuard<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is cleared by the next.
        let _ = clear(&self.path);
    }
}

fn clear(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl History {
    /// Of the database that `engine` runs and `sealer` seals into the folder `log`.
    #[must_use]
    pub fn new(engine: Arc<Engine>, sealer: &Arc<Sealer>, log: PathBuf) -> Self {
        Self { engine, sealer: Arc::downgrade(sealer), log, place: Arc::default() }
    }

    /// Whether a head that somebody kept is in the history of this database.
    pub async fn holds(&self, head: Head) -> Held {
        let Some(sealer) = self.sealer.upgrade() else { return Held::Forgotten };
        let log = self.log.clone();
        let asked = tokio::task::spawn_blocking(move || sealer.holds(&Folder::new(&log), head)).await;
        asked.unwrap_or(Held::Forgotten)
    }

    /// The database as of a point.
    ///
    /// # Errors
    /// See [`PastError`].
    pub async fn at(&self, restoration: &Restoration) -> Result<Past, PastError> {
        let one = Arc::new(Arc::clone(&self.place).lock_owned().await);
        let (point, time) = (restoration.to.clone(), restoration.time()?);
        if let Some(time) = time {
            self.passed(&point, time).await?;
        }
        let (newest, key) = {
            let sealer = self.sealer.upgrade().ok_or(RestoreError::Log(LogError::Ended))?;
            let newest = sealer.sealed().borrow().head;
            (newest.ok_or(RestoreError::Content("nothing was sealed yet"))?, sealer.key())
        };
        let (log, of) = (self.log.clone(), key.clone());
        let looking = tokio::task::spawn_blocking(move || sealed_log::bases(&Folder::new(&log), &of));
        let mut bases = looking.await.map_err(|_| PastError::Panicked)?.map_err(RestoreError::Log)?;
        // The newest backup that is old enough has the least behind it.
        loop {
            let base = bases.pop().ok_or_else(|| out_of_reach(&point, "the last base backup"))?;
            match self.since(base, (newest, key.clone()), (point.clone(), time), Arc::clone(&one)).await {
                Err(PastError::OutOfReach { .. }) if !bases.is_empty() => {}
                found => return found,
            }
        }
    }

    /// The same by the backup behind this base of the log.
    async fn since(
        &self,
        base: u64,
        (newest, key): (Head, LogKey),
        (point, time): (Point, Option<OffsetDateTime>),
        one: Arc<OwnedMutexGuard<()>>,
    ) -> Result<Past, PastError> {
        let parent = self.engine.data().parent().map(Path::to_owned).unwrap_or_default();
        let place = Place { path: parent.join("past"), _one: one };
        self.room(&parent, base)?;
        let settings = Settings {
            shared_buffers: 16 << 20,
            connections: 8,
            patience: PATIENCE,
            parameters: parameters(time),
            ..Settings::within(self.engine.binaries().to_owned(), &place.path, "")
        };
        let (log, data) = (self.log.clone(), settings.data.clone());
        let unpacking = move || {
            // With the folder: it must not go while this works in it.
            let from = (&Folder::new(&log) as &dyn Host, &key, base);
            let made = unpack(from, newest, (&point, time), &place.path, &data);
            made.map(|()| (place, point))
        };
        let (place, point) =
            tokio::task::spawn_blocking(unpacking).await.map_err(|_| PastError::Panicked)??;
        let mut engine = match Engine::start(&settings).await {
            Err(EngineError::Ended { said }) if said.contains(TOO_EARLY) => {
                return Err(PastError::OutOfReach { asked: point, from: "the end of a base backup".into() });
            }
            started => started?,
        };
        engine.find_database().await?;
        Ok(Past { engine, folder: place })
    }

    /// A time must be over, and a later commit in the log: PostgreSQL stops before the first one behind the time.
    async fn passed(&self, point: &Point, time: OffsetDateTime) -> Result<(), PastError> {
        let client = self.engine.session(SUPERUSER).await?;
        let is_over = "SELECT $1::bigint < extract(epoch FROM clock_timestamp()) * 1000000";
        let micros = i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX);
        if !client.query_one(is_over, &[&micros]).await?.get::<_, bool>(0) {
            return Err(PastError::OutOfReach { asked: point.clone(), from: "the last base backup".into() });
        }
        client.batch_execute("UPDATE bailey.audit_head SET sequence = sequence").await?;
        Ok(())
    }

    /// What the log holds from its base on is more than what is unpacked of it.
    fn room(&self, memory: &Path, base: u64) -> Result<(), PastError> {
        let files = fs::read_dir(&self.log).map_err(RestoreError::Folder)?;
        let length = |file: io::Result<fs::DirEntry>| {
            let file = file.ok().filter(|file| {
                file.file_name().to_str().and_then(sealed_log::number).is_some_and(|first| first >= base)
            });
            file.and_then(|file| file.metadata().ok()).map_or(0, |it| it.len())
        };
        let (needed, free) = (files.map(length).sum::<u64>() + RESERVE, free(memory));
        if needed > free { Err(PastError::NoRoom { needed, free }) } else { Ok(()) }
    }
}

/// Bytes that are free where a folder is.
pub(crate) fn free(memory: &Path) -> u64 {
    rustix::fs::statvfs(memory).map_or(u64::MAX, |found| found.f_bavail * found.f_frsize)
}

impl Past {
    /// A session in it.
    ///
    /// # Errors
    /// When it is not there any more.
    pub async fn session(&self) -> Result<Client, PastError> {
        Ok(self.engine.session(SUPERUSER).await?)
    }

    /// Ends it; its folder goes when nothing writes there any more.
    pub async fn close(self) {
        self.engine.kill();
        self.engine.exited().await;
        drop(self.folder);
    }
}

/// Where PostgreSQL stops. It takes nobody in before it is there.
fn parameters(time: Option<OffsetDateTime>) -> Vec<(String, String)> {
    let mut parameters = vec![("hot_standby".to_owned(), "off".to_owned())];
    if let Some(time) = time {
        let utc = time.to_offset(time::UtcOffset::UTC);
        let text = format!(
            "{} {:02}:{:02}:{:02}.{:06}+00",
            utc.date(),
            utc.hour(),
            utc.minute(),
            utc.second(),
            utc.microsecond()
        );
        for (name, value) in [
            ("recovery_target_time", text.as_str()),
            ("recovery_target_action", "promote"),
            // All of it is in its folder already.
            ("restore_command", "/bin/false"),
        ] {
            parameters.push((name.to_owned(), value.to_owned()));
        }
    }
    parameters
}

/// Makes the folder `data` below `folder` of the log, up to the point if that is a record.
fn unpack(
    from: (&dyn Host, &LogKey, u64),
    newest: Head,
    (point, time): (&Point, Option<OffsetDateTime>),
    folder: &Path,
    data: &Path,
) -> Result<(), PastError> {
    clear(folder).and_then(|()| fs::create_dir(folder)).map_err(RestoreError::Folder)?;
    let last = match point {
        Point::Record(record) if *record <= newest.sequence => *record,
        Point::Record(_) => return Err(out_of_reach(point, "the last base backup")),
        Point::Time(_) => newest.sequence,
    };
    match read(from, newest, last, data, || begun(data, point, time))? {
        Some(_) => Ok(()),
        None => Err(out_of_reach(point, "the last base backup")),
    }
}

fn out_of_reach(asked: &Point, from: &str) -> PastError {
    PastError::OutOfReach { asked: asked.clone(), from: from.to_owned() }
}

/// Reads the whole log from a base on, which goes on being written, up to `newest`, and applies it up to the record
/// `last`; asks, once there is a base backup, whether it serves.
fn read(
    (host, key, base): (&dyn Host, &LogKey, u64),
    newest: Head,
    last: u64,
    data: &Path,
    serves: impl Fn() -> Result<(), PastError>,
) -> Result<Option<Database>, PastError> {
    let mut cursor = Cursor::open_at(host, key, base).map_err(RestoreError::Log)?;
    let (mut building, mut asked) = (Building::new(data), false);
    while cursor.head().is_none_or(|head| head.sequence < newest.sequence) {
        let next = cursor.head().map_or(1, |head| head.sequence + 1);
        match cursor.next(host).map_err(RestoreError::Log)? {
            Step::Record(head, _) if head.sequence > last && !building.has_base() => return Ok(None),
            Step::Record(head, _) if head.sequence > last => {}
            Step::Record(_, plain) => {
                for entry in plain.entries() {
                    let seen = Seen::parse(entry.map_err(RestoreError::Log)?);
                    building.apply(
                        seen.map_err(|Malformed| RestoreError::Content("an entry cannot be understood"))?,
                    )?;
                }
                if building.has_base() && !std::mem::replace(&mut asked, true) {
                    serves()?;
                }
            }
            Step::End(_) => return Err(RestoreError::Log(LogError::Cut(next)).into()),
        }
    }
    if cursor.holds(newest) != Held::Contained {
        return Err(RestoreError::Log(LogError::Forked(newest.sequence)).into());
    }
    Ok(building.finish(Until::End)?.map(|found| found.0))
}

/// Holds a time against the base backup's, and asks PostgreSQL to stop there.
fn begun(data: &Path, point: &Point, time: Option<OffsetDateTime>) -> Result<(), PastError> {
    let Some(time) = time else { return Ok(()) };
    let label = fs::read_to_string(data.join("backup_label")).map_err(RestoreError::Folder)?;
    let began =
        start_time(&label).ok_or(RestoreError::Content("a backup that does not say when it began"))?;
    // It says the second; what was committed within it may be in the backup.
    let from = began + Duration::from_secs(1);
    if time < from {
        return Err(out_of_reach(point, &from.format(&Rfc3339).unwrap_or_default()));
    }
    fs::write(data.join(SIGNAL), []).map_err(RestoreError::Folder)?;
    Ok(())
}

/// `START TIME: 2026-11-22 05:00:00 UTC`: PostgreSQL's log has our time zone.
fn start_time(label: &str) -> Option<OffsetDateTime> {
    let text = label.lines().find_map(|line| line.strip_prefix("START TIME: "))?.strip_suffix(" UTC")?;
    OffsetDateTime::parse(&format!("{}Z", text.replacen(' ', "T", 1)), &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_backup_is_read_in_the_form_that_postgresql_writes() {
        let label = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n\
                     START TIME: 2026-11-22 05:00:07 UTC\nLABEL: bailey\n";
        assert_eq!(start_time(label).map(OffsetDateTime::unix_timestamp), Some(1_795_323_607));
        for bad in
            ["", "START TIME: \n", "START TIME: 2026-11-22 05:00:07 CET\n", "START TIME: yesterday UTC\n"]
        {
            assert_eq!(start_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_is_given_to_postgresql_to_the_microsecond_and_in_utc() {
        let time = OffsetDateTime::parse("2026-11-22T06:00:00.25+01:00", &Rfc3339).unwrap();
        let given = parameters(Some(time));
        let target = given.iter().find(|(name, _)| name == "recovery_target_time").unwrap();
        assert_eq!(target.1, "2026-11-22 05:00:00.250000+00");
    }
}
