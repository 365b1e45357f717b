//! The state on the host's disk: an append-only log of sealed, hash-chained records in an embedded store.
//!
//! Each record is AES-256-GCM under a data key that only this measured coordinator can unseal, with its
//! position and the hash of everything before it as associated data, so records cannot be read, changed,
//! reordered, dropped from the middle or moved between logs. A record that [`Store::append`] returned for
//! is on disk. What this does not detect is an old copy of the whole file put back: that needs an anchor
//! outside the host (design.md promise 5), and until there is one the log's head in the coordinator's
//! Evidence is what a client can compare.

use std::{panic::AssertUnwindSafe, path::Path};

use attester::{AttesterError, Tee};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{Context, SHA256},
    rand::{SecureRandom, SystemRandom},
};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use zeroize::Zeroizing;

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
const DATA_KEY: &str = "data-key";
const SEALING_CONTEXT: &str = "coordinator/state/1";

/// Hash of the newest record, chained over all before it; zeros for an empty log.
pub type Head = [u8; 32];

/// Records in the clear, oldest first; wiped when dropped.
pub type Records = Vec<Zeroizing<Vec<u8>>>;

/// The sealed log.
pub struct Store {
    database: Database,
    key: LessSafeKey,
    head: Head,
    length: u64,
}

impl Store {
    /// Opens the log in `path`, or begins one, and returns the records in it, oldest first. A log that
    /// cannot be unsealed or that was changed is an error, never an empty log.
    pub fn open(path: &Path, tee: &dyn Tee) -> Result<(Self, Records), StoreError> {
        // redb asserts that its pages are as it wrote them, and the host can write others.
        std::panic::catch_unwind(AssertUnwindSafe(|| Self::open_intact(path, tee)))
            .unwrap_or(Err(StoreError::Damaged))
    }

    fn open_intact(path: &Path, tee: &dyn Tee) -> Result<(Self, Records), StoreError> {
        let sealing = tee.sealing_key(SEALING_CONTEXT)?;
        let sealing = aead_key(sealing.as_bytes())?;
        if !path.try_exists().map_err(opening)? {
            begin(path, &sealing)?;
        }
        let database = Database::open(path).map_err(opening)?;
        // A log without its key can only be a destroyed one: never take it for a new one.
        let sealed = sealed_data_key(&database)?.ok_or(StoreError::KeyMissing)?;
        let key = open(&sealing, SEALING_CONTEXT.as_bytes(), &sealed).ok_or(StoreError::Unseal)?;
        let mut store = Self { database, key: aead_key(&key)?, head: [0; 32], length: 0 };
        let records = store.replay()?;
        Ok((store, records))
    }

    /// Appends `records` in one transaction and returns when they are durable.
    pub fn append(&mut self, records: &[Zeroizing<Vec<u8>>]) -> Result<(), StoreError> {
        let (mut head, mut length) = (self.head, self.length);
        let transaction = self.database.begin_write()?;
        {
            let mut log = transaction.open_table(LOG)?;
            for record in records {
                let sealed = seal(&self.key, &position(length, &head), record)?;
                log.insert(length, sealed.as_slice())?;
                head = chain(&head, length, &sealed);
                length += 1;
            }
        }
        transaction.commit()?;
        (self.head, self.length) = (head, length);
        Ok(())
    }

    /// The hash of the newest record.
    pub fn head(&self) -> Head {
        self.head
    }

    /// How many records there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    fn replay(&mut self) -> Result<Records, StoreError> {
        let transaction = self.database.begin_read()?;
        let log = transaction.open_table(LOG)?;
        let mut records = Vec::new();
        for entry in log.iter()? {
            let (index, sealed) = entry?;
            let (index, sealed) = (index.value(), sealed.value());
            if index != self.length {
                return Err(StoreError::Record { index: self.length, what: "is missing" });
            }
            let record = open(&self.key, &position(index, &self.head), sealed)
                .ok_or(StoreError::Record { index, what: "was changed or belongs elsewhere" })?;
            self.head = chain(&self.head, index, sealed);
            self.length += 1;
            records.push(record);
        }
        Ok(records)
    }
}

/// Associated data of a record: its position and everything before it.
fn position(index: u64, head: &Head) -> [u8; 48] {
    let mut out = [0; 48];
    out[..8].copy_from_slice(b"record/1");
    out[8..16].copy_from_slice(&index.to_be_bytes());
    out[16..].copy_from_slice(head);
    out
}

fn chain(head: &Head, index: u64, sealed: &[u8]) -> Head {
    let mut context = Context::new(&SHA256);
    context.update(&position(index, head));
    context.update(sealed);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

fn aead_key(key: &[u8]) -> Result<LessSafeKey, StoreError> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| StoreError::Crypto)?))
}

/// Nonce, then ciphertext and tag. Nonces are random: a log has far fewer than 2³² records.
fn seal(key: &LessSafeKey, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| StoreError::Crypto)?;
    let mut body = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body)
        .map_err(|_| StoreError::Crypto)?;
    let mut sealed = nonce.to_vec();
    sealed.append(&mut body);
    Ok(sealed)
}

fn open(key: &LessSafeKey, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut body = Zeroizing::new(body.to_vec());
    let length = key.open_in_place(nonce, Aad::from(aad), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}

fn sealed_data_key(database: &Database) -> Result<Option<Vec<u8>>, StoreError> {
    let transaction = database.begin_read()?;
    match transaction.open_table(KEYS) {
        Ok(keys) => Ok(keys.get(DATA_KEY)?.map(|sealed| sealed.value().to_vec())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A new log with a random data key, sealed. It is made whole under another name and then renamed, so that a
/// crash leaves a log that can be opened, or none.
fn begin(path: &Path, sealing: &LessSafeKey) -> Result<(), StoreError> {
    let draft = path.with_extension("draft");
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(opening(error)),
        _ => {}
    }
    let mut key = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(key.as_mut()).map_err(|_| StoreError::Crypto)?;
    let sealed = seal(sealing, SEALING_CONTEXT.as_bytes(), key.as_ref())?;
    let database = Database::create(&draft).map_err(opening)?;
    let transaction = database.begin_write()?;
    {
        transaction.open_table(LOG)?;
        transaction.open_table(KEYS)?.insert(DATA_KEY, sealed.as_slice())?;
    }
    transaction.commit()?;
    drop(database);
    std::fs::rename(&draft, path).map_err(opening)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(opening)
}

fn opening(error: impl std::fmt::Display) -> StoreError {
    StoreError::Open(error.to_string())
}

/// Why the state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("the state file cannot be opened: {0}")]
    Open(String),
    /// The TEE gave no sealing key.
    #[error("this TEE gave no sealing key")]
    Sealing(#[from] AttesterError),
    /// The data key is sealed for someone else.
    #[error(
        "the state is sealed to another coordinator: its code, its launch configuration or its machine differs, \
         or the file was changed"
    )]
    Unseal,
    /// Records without a key.
    #[error("the state file has records and no key: it was damaged or tampered with")]
    KeyMissing,
    /// The embedded store cannot make sense of its own pages.
    #[error("the state file is no longer what was written: it was damaged or tampered with")]
    Damaged,
    /// A record fails authentication.
    #[error("record {index} of the state log {what}: the file was damaged or tampered with")]
    Record {
        /// Which.
        index: u64,
        /// How.
        what: &'static str,
    },
    /// A record is authentic and does not parse: written by another version.
    #[error("record {index} of the state log is not of this version: {reason}")]
    Version {
        /// Which.
        index: u64,
        /// The decoder's word.
        reason: String,
    },
    /// The embedded store failed.
    #[error("the state file cannot be read or written")]
    Database(#[source] Box<redb::Error>),
    /// Cryptography failed.
    #[error("sealing failed")]
    Crypto,
}

macro_rules! from_redb {
    ($($kind:ty),*) => {$(
        impl From<$kind> for StoreError {
            fn from(error: $kind) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
from_redb!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError);
