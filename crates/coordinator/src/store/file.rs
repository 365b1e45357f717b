//! The log in a file: an embedded store, where one transaction is one append.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::{
    Content, Place, StoreError,
    error::opening,
    medium::{Appended, Medium, Recovery, SealedSnapshot},
};

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// By the index of the record that it belongs to.
const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
/// By the number of records before it: the head after them, and the sealed state. One at most.
const SNAPSHOT: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshot");
const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
/// Who can recover the log, in the clear, and the data key under what their shares give.
const RECOVERY: &str = "recovery";

/// A log in a file, or in another storage.
pub(super) struct File {
    database: Database,
    path: PathBuf,
}

impl File {
    /// Opens the file. A new one is made whole by `found` under another name and then renamed, so that a crash leaves a
    /// log that can be opened, or none.
    pub(super) fn open(
        path: &Path,
        found: impl FnOnce(&mut dyn Medium) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        if !path.try_exists().map_err(opening)? {
            begin(path, found)?;
        }
        Ok(Self { database: Database::open(path).map_err(opening)?, path: path.to_owned() })
    }

    /// The same over another storage. A new log is begun where nothing was ever written.
    pub(super) fn open_on(
        storage: impl StorageBackend,
        found: impl FnOnce(&mut dyn Medium) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let new = storage.len().map_err(opening)? == 0;
        let database = Database::builder().create_with_backend(storage).map_err(opening)?;
        let mut file = Self { database, path: PathBuf::new() };
        if new {
            found(&mut file)?;
        }
        Ok(file)
    }

    fn entry(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let transaction = self.database.begin_read()?;
        match transaction.open_table(KEYS) {
            Ok(keys) => Ok(keys.get(name)?.map(|sealed| sealed.value().to_vec())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Medium for File {
    fn is_shared(&self) -> bool {
        false
    }

    fn read(&self, from: Option<u64>) -> Result<Content, StoreError> {
        let transaction = self.database.begin_read()?;
        let snapshot = if from.is_none() { latest_snapshot(&transaction)? } else { None };
        let mut records = Vec::new();
        for entry in transaction.open_table(LOG)?.range(from.unwrap_or(0)..)? {
            let (index, sealed) = entry?;
            records.push((index.value(), sealed.value().to_vec()));
        }
        Ok(Content { snapshot, records, end: None })
    }

    fn append(&mut self, at: &Place, _end: &Place, appended: &Appended<'_>) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            let mut log = transaction.open_table(LOG)?;
            for (index, sealed) in (at.length..).zip(appended.records) {
                log.insert(index, sealed.as_slice())?;
            }
            let with_entry = (at.length..).zip(appended.entries).filter(|(_, entry)| !entry.is_empty());
            for (index, entry) in with_entry {
                transaction.open_table(ENTRIES)?.insert(index, entry.as_slice())?;
            }
            match appended.recovery {
                Recovery::Keep => {}
                Recovery::Remove => drop(transaction.open_table(KEYS)?.remove(RECOVERY)?),
                Recovery::Replace(record) => {
                    transaction.open_table(KEYS)?.insert(RECOVERY, record)?;
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        let transaction = self.database.begin_read()?;
        let table = match transaction.open_table(ENTRIES) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut entries = Vec::new();
        for entry in table.range(range)? {
            entries.push(entry?.1.value().to_vec());
        }
        Ok(entries)
    }

    fn put_snapshot(&mut self, snapshot: &SealedSnapshot) -> Result<(), StoreError> {
        let SealedSnapshot { at, sealed } = snapshot;
        let transaction = self.database.begin_write()?;
        {
            let mut snapshots = transaction.open_table(SNAPSHOT)?;
            snapshots.retain(|_, _| false)?;
            snapshots.insert(at.length, [at.head.as_slice(), sealed].concat().as_slice())?;
            transaction.open_table(LOG)?.retain_in(..at.length, |_, _| false)?;
        }
        Ok(transaction.commit()?)
    }

    fn recovery(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.entry(RECOVERY)
    }

    fn key(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.entry(name)
    }

    fn put_keys(&mut self, keys: &[(&str, Vec<u8>)]) -> Result<(), StoreError> {
        let transaction = self.database.begin_write()?;
        {
            transaction.open_table(LOG)?;
            let mut table = transaction.open_table(KEYS)?;
            for (name, key) in keys {
                table.insert(*name, key.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn remove(self: Box<Self>) -> Result<(), StoreError> {
        let Self { database, path } = *self;
        drop(database);
        std::fs::remove_file(path).map_err(opening)
    }
}

fn latest_snapshot(transaction: &ReadTransaction) -> Result<Option<SealedSnapshot>, StoreError> {
    let table = match transaction.open_table(SNAPSHOT) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some((length, value)) = table.last()? else { return Ok(None) };
    let length = length.value();
    let (head, sealed) =
        value.value().split_first_chunk::<32>().ok_or(StoreError::SnapshotChanged { length })?;
    Ok(Some(SealedSnapshot { at: Place { length, head: *head }, sealed: sealed.to_vec() }))
}

fn begin(
    path: &Path,
    found: impl FnOnce(&mut dyn Medium) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let draft = path.with_extension("draft");
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(opening(error)),
        _ => {}
    }
    let mut file = File { database: Database::create(&draft).map_err(opening)?, path: draft.clone() };
    found(&mut file)?;
    drop(file);
    std::fs::rename(&draft, path).map_err(opening)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(opening)
}
