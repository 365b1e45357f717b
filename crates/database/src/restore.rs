//! A database from its sealed log: the last base backup, and behind it the write-ahead log. All of it is verified and
//! held against the anchor before PostgreSQL is started on it.

mod archive;
mod fuzzing;
mod past;
pub(crate) mod segments;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sealed_log::{Ahead, Anchored, Contents, Error, LogKey};
use volume::Host;

use crate::{
    lsn::Lsn,
    sealer::{Malformed, Seen},
};
pub use archive::ArchiveError;
use archive::Extractor;
pub use fuzzing::{rebuild, unpack};
pub(crate) use past::free;
pub use past::{History, Past, PastError};
use segments::Segments;

/// Why a database cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The log is not what it was.
    #[error(transparent)]
    Log(#[from] Error),
    /// The memory that holds the database is full, or cannot be written.
    #[error("the database's folder cannot be written")]
    Folder(#[source] io::Error),
    /// The log is authentic, and holds no database: a fault of ours.
    #[error("the log's content cannot be restored: {0}")]
    Content(&'static str),
    /// The point that was asked for is before the last base backup, or was never reached.
    #[error("the log reaches from {from} to {to}, and {asked} is not between")]
    OutOfReach {
        /// The position that was asked for.
        asked: Lsn,
        /// The first that there is.
        from: Lsn,
        /// The last.
        to: Lsn,
    },
}

impl RestoreError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Log(error) => error.code(),
            Self::Folder(error) if error.kind() == io::ErrorKind::StorageFull => "DATABASE_MEMORY_FULL",
            Self::Folder(_) => "DATABASE_FOLDER",
            Self::Content(_) => "LOG_CONTENT",
            Self::OutOfReach { .. } => "RESTORE_OUT_OF_REACH",
        }
    }
}

/// What was found in a log.
pub struct Restored {
    /// To go on with.
    pub contents: Contents,
    /// `None`: there was no whole database yet, and nobody can have been let into one; a new one is made.
    pub database: Option<Database>,
}

/// A database's folder, ready to be started: PostgreSQL recovers from it as after a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    /// Where the base backup becomes consistent.
    pub from: Lsn,
    /// Up to where the log goes.
    pub end: Lsn,
}

/// How far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Everything that was sealed.
    End,
    /// Up to this position. Whoever asks for it asks to undo what was acknowledged: that is for the parties to decide,
    /// never for who runs the database.
    Position(Lsn),
}

/// Makes of a log the folder `data`, in the place of what is there.
///
/// # Errors
/// With what the host did to the log, by name; then nothing is left in `data`.
pub fn restore(
    host: &dyn Host,
    key: &LogKey,
    anchored: Anchored,
    ahead: Ahead,
    data: &Path,
    until: Until,
) -> Result<Restored, RestoreError> {
    let result = attempt(host, key, anchored, ahead, data, until);
    if !matches!(&result, Ok(Restored { database: Some(_), .. })) {
        clear(data).map_err(RestoreError::Folder)?;
    }
    result
}

fn attempt(
    host: &dyn Host,
    key: &LogKey,
    anchored: Anchored,
    ahead: Ahead,
    data: &Path,
    until: Until,
) -> Result<Restored, RestoreError> {
    let mut building = Building::new(data);
    let mut failure = None;
    let contents = sealed_log::read(host, key, anchored, ahead, &mut |_, entry| {
        let applied = match Seen::parse(entry) {
            Ok(seen) => building.apply(seen),
            Err(Malformed) => Err(RestoreError::Content("an entry cannot be understood")),
        };
        applied.map_err(|error| {
            failure = Some(error);
            Error::Ended
        })
    });
    let contents = match (contents, failure) {
        (_, Some(failure)) => return Err(failure),
        (contents, None) => contents?,
    };
    // A log that was never acknowledged has not been begun.
    let database =
        if anchored == Anchored::Never { None } else { building.finish(until)?.map(|found| found.0) };
    Ok(Restored { contents, database })
}

fn clear(data: &Path) -> io::Result<()> {
    match fs::remove_dir_all(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A base backup that is being unpacked.
struct Unpacking {
    start: Lsn,
    timeline: u32,
    extractor: Extractor,
}

/// One that is whole.
struct Base {
    start: Lsn,
    timeline: u32,
    end: Lsn,
}

/// A database's folder that is being built.
pub(crate) struct Building {
    data: PathBuf,
    staged: PathBuf,
    unpacking: Option<Unpacking>,
    base: Option<Base>,
    segments: Segments,
}

impl Building {
    pub(crate) fn new(data: &Path) -> Self {
        // Beside the folder, which each base backup begins anew.
        let mut staged = data.as_os_str().to_owned();
        staged.push(".wal");
        Self {
            data: data.to_owned(),
            unpacking: None,
            base: None,
            segments: Segments::new(Path::new(&staged)),
            staged: staged.into(),
        }
    }

    pub(crate) fn apply(&mut self, seen: Seen<'_>) -> Result<(), RestoreError> {
        match seen {
            Seen::Wal { timeline, start, bytes } => {
                // What comes before is of a founding that did not end: nobody was let into that database.
                if self.base.is_none() && !self.segments.goes_on_at(timeline, start) {
                    self.unpacking = None;
                    self.segments = Segments::new(&self.staged);
                }
                self.segments.write(timeline, start, bytes)
            }
            // The first that is whole serves: what comes after it is in the write-ahead log too.
            _ if self.base.is_some() => Ok(()),
            Seen::Backup { timeline, start } => {
                clear(&self.data).map_err(RestoreError::Folder)?;
                self.segments.forget_before(start)?;
                let extractor = Extractor::new(&self.data).map_err(RestoreError::Folder)?;
                self.unpacking = Some(Unpacking { start, timeline, extractor });
                Ok(())
            }
            // A backup of which the beginning was cut off: a newer one follows.
            Seen::BackupData(bytes) => match &mut self.unpacking {
                None => Ok(()),
                Some(unpacking) => unpacking.extractor.write(bytes).map_err(|error| match error {
                    ArchiveError::Folder(error) => RestoreError::Folder(error),
                    ArchiveError::Malformed(reason) => RestoreError::Content(reason),
                }),
            },
            Seen::BackupEnd { end } => {
                let Some(unpacking) = self.unpacking.take() else { return Ok(()) };
                if !unpacking.extractor.is_whole() {
                    return Err(RestoreError::Content("an archive that is not whole"));
                }
                let Unpacking { start, timeline, .. } = unpacking;
                self.base = Some(Base { start, timeline, end });
                Ok(())
            }
        }
    }

    /// Whether a base backup is unpacked.
    pub(crate) fn has_base(&self) -> bool {
        self.base.is_some()
    }

    /// The folder is whole; what comes after it goes to the segments.
    pub(crate) fn finish(mut self, until: Until) -> Result<Option<(Database, Segments)>, RestoreError> {
        let Some(base) = self.base.take() else { return Ok(None) };
        let (first, end) =
            self.segments.reach().ok_or(RestoreError::Content("a backup without write-ahead log"))?;
        if self.segments.timeline() != base.timeline || first > base.start || end < base.end {
            return Err(RestoreError::Content("the write-ahead log does not go with the backup"));
        }
        let end = match until {
            Until::End => end,
            Until::Position(asked) if asked < base.end || asked > end => {
                return Err(RestoreError::OutOfReach { asked, from: base.end, to: end });
            }
            Until::Position(asked) => {
                self.segments.cut(asked)?;
                asked
            }
        };
        self.segments.move_to(&self.data.join("pg_wal"))?;
        let segments = std::mem::replace(&mut self.segments, Segments::new(&self.staged));
        Ok(Some((Database { from: base.end, end }, segments)))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // What is left of an attempt that failed; gone already is as good.
        let _ = clear(&self.staged);
    }
}
