//! The thread that makes base backups, into the same log.

use super::{
    Shared,
    error::SealerError,
    item::Item,
    logged,
    wire::{Event, Replication, texts},
};
use crate::lsn::Lsn;

/// Not that of the sealer: it is no standby.
const NAME: &str = "bailey_backup";
/// Of an archive's part: the kind of a message.
const NEW_ARCHIVE: u8 = b'n';
const DATA: u8 = b'd';
const PROGRESS: u8 = b'p';

/// Makes one whenever it is asked for.
pub(super) fn run(shared: &Shared, timeline: u32) -> Result<(), SealerError> {
    loop {
        let number = match shared.queue.wait_requested() {
            Ok(number) => number,
            // The others tell the cause.
            Err(SealerError::Ended) => return Ok(()),
            Err(error) => return Err(error),
        };
        take(shared, timeline)?;
        shared.queue.wait_backup_sealed()?;
        shared.queue.backup_completed(number);
    }
}

pub(super) fn position(row: Vec<Option<String>>) -> Result<(Lsn, u32), SealerError> {
    let unreadable = SealerError::Protocol("a position that cannot be understood");
    let [position, timeline] = texts(row)?;
    Ok((position.parse().map_err(|_| unreadable.clone())?, timeline.parse().map_err(|_| unreadable)?))
}

fn take(shared: &Shared, expected: u32) -> Result<(), SealerError> {
    let source = &shared.source;
    let mut replication = Replication::connect(&source.socket, &source.user, &source.database, NAME)?;
    shared.keep(replication.connection()?);
    logged(&mut replication)?;
    // Its write-ahead log is in ours, so it needs to bring none and to wait for none.
    replication.send(
        "BASE_BACKUP (LABEL 'bailey', CHECKPOINT 'fast', WAL false, WAIT false, MANIFEST 'no', \
         TABLESPACE_MAP false, PROGRESS false)",
    )?;
    let mut rows = Vec::new();
    loop {
        match replication.event()? {
            // The first result is where it begins, the second its folders.
            Event::Row(row) if rows.is_empty() => {
                let (start, timeline) = position(row.clone())?;
                if timeline != expected {
                    return Err(SealerError::Protocol("another timeline"));
                }
                shared.queue.push(Item::Backup { timeline, start })?;
                rows.push(row);
            }
            Event::Row(row) => rows.push(row),
            Event::Complete => {}
            Event::Copy(message) => match message.first() {
                Some(&DATA) if message.len() > 1 => {
                    shared.queue.push(Item::BackupData(message.slice(1..)))?;
                }
                Some(&(NEW_ARCHIVE | PROGRESS | DATA)) => {}
                _ => return Err(SealerError::Protocol("a part of a backup that is not known")),
            },
            Event::CopyDone => {}
            Event::Ready => break,
        }
    }
    // Begin, one folder (the second cell of which names another, if there is one), end.
    let [_, folder, end] = <[_; 3]>::try_from(rows).map_err(|_| SealerError::Tablespace)?;
    if folder.first().is_some_and(Option::is_some) {
        return Err(SealerError::Tablespace);
    }
    let (end, _) = position(end)?;
    shared.queue.wait_sealed(end)?;
    shared.queue.push(Item::BackupEnd { end })
}
