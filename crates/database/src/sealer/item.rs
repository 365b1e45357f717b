//! What the sealed log holds of a database: parts of its write-ahead log, and base backups.

use bytes::Bytes;
use sealed_log::{Entry, Kind};

use crate::lsn::Lsn;

const WAL: Kind = Kind(1);
const BACKUP: Kind = Kind(2);
const BACKUP_DATA: Kind = Kind(3);
const BACKUP_END: Kind = Kind(4);

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A part of the write-ahead log. One that begins before the end of the part before it replaces what was there:
    /// after a start, PostgreSQL goes on behind the last whole record.
    Wal {
        /// Which history, as PostgreSQL counts them.
        timeline: u32,
        /// Of the first byte.
        start: Lsn,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A base backup begins; one that was begun before and has not ended never will.
    Backup {
        /// Which history.
        timeline: u32,
        /// Where recovery from it begins.
        start: Lsn,
    },
    /// A part of the backup's archive (tar).
    BackupData(Bytes),
    /// The backup is whole, and consistent from this position on.
    BackupEnd {
        /// The position.
        end: Lsn,
    },
}

/// An authentic entry that is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry of the log cannot be understood")]
pub struct Malformed;

impl Item {
    /// As an entry: its kind and its content in two parts.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Kind {
        match self {
            Self::Wal { timeline, start, bytes } => {
                out.extend(timeline.to_le_bytes());
                out.extend(start.0.to_le_bytes());
                out.extend(bytes);
                WAL
            }
            Self::Backup { timeline, start } => {
                out.extend(timeline.to_le_bytes());
                out.extend(start.0.to_le_bytes());
                BACKUP
            }
            Self::BackupData(bytes) => {
                out.extend(bytes);
                BACKUP_DATA
            }
            Self::BackupEnd { end } => {
                out.extend(end.0.to_le_bytes());
                BACKUP_END
            }
        }
    }

    /// The bytes that it carries.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Wal { bytes, .. } | Self::BackupData(bytes) => bytes.len(),
            Self::Backup { .. } | Self::BackupEnd { .. } => 0,
        }
    }
}

/// An [`Item`] as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen<'a> {
    /// As [`Item::Wal`].
    Wal {
        /// Which history.
        timeline: u32,
        /// Of the first byte.
        start: Lsn,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// As [`Item::Backup`].
    Backup {
        /// Which history.
        timeline: u32,
        /// Where recovery from it begins.
        start: Lsn,
    },
    /// As [`Item::BackupData`].
    BackupData(&'a [u8]),
    /// As [`Item::BackupEnd`].
    BackupEnd {
        /// The position.
        end: Lsn,
    },
}

impl<'a> Seen<'a> {
    /// What an entry says.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(entry: Entry<'a>) -> Result<Self, Malformed> {
        let place = || {
            let (timeline, rest) = entry.bytes.split_first_chunk().ok_or(Malformed)?;
            let (start, rest) = rest.split_first_chunk().ok_or(Malformed)?;
            Ok((u32::from_le_bytes(*timeline), Lsn(u64::from_le_bytes(*start)), rest))
        };
        match entry.kind {
            WAL => {
                let (timeline, start, bytes) = place()?;
                let fits = start.0.checked_add(bytes.len() as u64).is_some();
                if timeline == 0 || bytes.is_empty() || !fits {
                    return Err(Malformed);
                }
                Ok(Self::Wal { timeline, start, bytes })
            }
            BACKUP => match place()? {
                (timeline, start, []) if timeline > 0 => Ok(Self::Backup { timeline, start }),
                _ => Err(Malformed),
            },
            BACKUP_DATA => Ok(Self::BackupData(entry.bytes)),
            BACKUP_END => {
                let end = entry.bytes.try_into().map_err(|_| Malformed)?;
                Ok(Self::BackupEnd { end: Lsn(u64::from_le_bytes(end)) })
            }
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_read_as_they_were_written_and_nothing_shorter_is() {
        let items = [
            Item::Wal { timeline: 1, start: Lsn(16 << 20), bytes: Bytes::from_static(b"w") },
            Item::Backup { timeline: 1, start: Lsn(40) },
            Item::BackupEnd { end: Lsn(41) },
        ];
        for item in items {
            let mut bytes = Vec::new();
            let kind = item.encode(&mut bytes);
            assert!(Seen::parse(Entry { kind, bytes: &bytes }).is_ok(), "{item:?}");
            for length in 0..bytes.len() {
                assert_eq!(Seen::parse(Entry { kind, bytes: &bytes[..length] }), Err(Malformed));
            }
            if kind != WAL {
                bytes.push(0);
                assert_eq!(Seen::parse(Entry { kind, bytes: &bytes }), Err(Malformed));
            }
        }
        assert_eq!(Seen::parse(Entry { kind: Kind(9), bytes: &[] }), Err(Malformed));
    }
}
