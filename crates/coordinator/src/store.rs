//! The state on the host's disk: an append-only log of sealed, hash-chained records in an embedded store.
//!
//! Each record is AES-256-GCM under a data key that only this measured coordinator can unseal, with its
//! position and the hash of everything before it as associated data, so records cannot be read, changed,
//! reordered, dropped from the middle or moved between logs. A record that [`Store::append`] returned for
//! is on disk.
//!
//! A snapshot is the state after so many records, sealed with their number and their hash as associated data; in the
//! transaction that writes it, the records before it go. Head and length are those of the whole log, as if nothing
//! had gone.
//!
//! What this does not detect is an old copy of the whole file put back: that needs an anchor
//! outside the host (design.md promise 5), and until there is one the log's head in the coordinator's
//! Evidence is what a client can compare.

use std::{
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
};

use attester::{AttesterError, Tee};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    constant_time::verify_slices_are_equal,
    digest::{Context, SHA256},
    rand::{SecureRandom, SystemRandom},
};
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    WriteTransaction,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use crate::core::{IdentityKey, State, recovery::Descriptor};

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// By the number of records before it: the head after them, and the sealed state. One at most.
const SNAPSHOT: TableDefinition<u64, &[u8]> = TableDefinition::new("snapshot");
const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
/// Opens the log; sealed to the TEE.
const DATA_KEY: &str = "data-key";
/// Opens the CA keys in the log; sealed to the TEE, and given to nobody else.
const IDENTITY_KEY: &str = "identity-key";
/// Who can recover the log, in the clear, and the data key under what their shares give.
const RECOVERY: &str = "recovery";
const SEALING_CONTEXT: &str = "coordinator/state/1";
const RECOVERY_CONTEXT: &[u8] = b"coordinator/recovery/1";

/// Hash of the newest record, chained over all before it; zeros for an empty log.
pub type Head = [u8; 32];

/// Records in the clear, oldest first; wiped when dropped.
pub type Records = Vec<Zeroizing<Vec<u8>>>;

/// The sealed log.
pub struct Store {
    /// Absent where the manifest says that nothing be written.
    database: Option<Database>,
    path: PathBuf,
    data_key: Zeroizing<[u8; 32]>,
    key: LessSafeKey,
    head: Head,
    length: u64,
    /// How many of the records are in the snapshot.
    covered: u64,
}

/// A log that was opened.
pub struct Opened {
    /// The log.
    pub store: Store,
    /// The state at an earlier length, if a snapshot was made.
    pub snapshot: Option<Zeroizing<Vec<u8>>>,
    /// What came since.
    pub records: Records,
    /// Opens the CA keys in it, those of this TEE.
    pub identity: IdentityKey,
}

/// A log that is sealed to another TEE.
pub struct Locked {
    database: Database,
    path: PathBuf,
    recovery: Option<Recovery>,
}

/// What opening gives.
pub enum Opening {
    /// A log of this TEE, perhaps a new one.
    Open(Opened),
    /// A log of another TEE, which shares may open.
    Locked(Locked),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recovery {
    descriptor: Descriptor,
    /// The data key under the recovery secret.
    data_key: ByteBuf,
}

/// What becomes of the shares with an append.
pub enum Shares<'a> {
    /// They stay.
    Keep,
    /// There are new ones, for this secret.
    Replace(&'a Descriptor, &'a [u8; 32]),
    /// Nobody can recover the log any more.
    Remove,
}

impl Store {
    /// Opens the log in `path`, or begins one. A log that was changed is an error, never an empty log; one that is
    /// sealed to another TEE is locked.
    pub fn open(path: &Path, tee: &dyn Tee) -> Result<Opening, StoreError> {
        // redb asserts that its pages are as it wrote them, and the host can write others.
        std::panic::catch_unwind(AssertUnwindSafe(|| Self::open_intact(path, tee)))
            .unwrap_or(Err(StoreError::Damaged))
    }

    fn open_intact(path: &Path, tee: &dyn Tee) -> Result<Opening, StoreError> {
        let sealing = tee.sealing_key(SEALING_CONTEXT)?;
        let sealing = aead_key(sealing.as_bytes())?;
        if !path.try_exists().map_err(opening)? {
            begin(path, &sealing)?;
        }
        let database = Database::open(path).map_err(opening)?;
        Self::open_database(database, path.to_owned(), &sealing)
    }

    /// The same over another storage than a file. A new log is begun where nothing was ever written.
    pub fn open_on(storage: impl StorageBackend, tee: &dyn Tee) -> Result<Opening, StoreError> {
        let sealing = tee.sealing_key(SEALING_CONTEXT)?;
        let sealing = aead_key(sealing.as_bytes())?;
        let new = storage.len().map_err(opening)? == 0;
        let database = Database::builder().create_with_backend(storage).map_err(opening)?;
        if new {
            lay_out(&database, &sealing)?;
        }
        Self::open_database(database, PathBuf::new(), &sealing)
    }

    fn open_database(
        database: Database,
        path: PathBuf,
        sealing: &LessSafeKey,
    ) -> Result<Opening, StoreError> {
        // A log without its key can only be a destroyed one: never take it for a new one.
        let sealed = entry(&database, DATA_KEY)?.ok_or(StoreError::KeyMissing)?;
        let identity = entry(&database, IDENTITY_KEY)?.ok_or(StoreError::KeyMissing)?;
        let keys = unseal(sealing, DATA_KEY, &sealed).zip(unseal(sealing, IDENTITY_KEY, &identity));
        let Some((data_key, identity)) = keys else {
            let recovery = entry(&database, RECOVERY)?
                .map(|record| ciborium::from_reader(record.as_slice()).map_err(|_| StoreError::Damaged));
            return Ok(Opening::Locked(Locked { database, path, recovery: recovery.transpose()? }));
        };
        let log = replay(&database, &aead_key(data_key.as_slice())?)?;
        Self::opened(database, path, data_key, IdentityKey::new(identity), log).map(Opening::Open)
    }

    fn opened(
        database: Database,
        path: PathBuf,
        data_key: Zeroizing<[u8; 32]>,
        identity: IdentityKey,
        log: Log,
    ) -> Result<Opened, StoreError> {
        let key = aead_key(data_key.as_slice())?;
        let Log { snapshot, covered, records, head, length } = log;
        let store = Self { database: Some(database), path, data_key, key, head, length, covered };
        Ok(Opened { store, snapshot, records, identity })
    }

    /// Appends `records` in one transaction and returns when they are durable.
    pub fn append(&mut self, records: &[Zeroizing<Vec<u8>>], shares: Shares<'_>) -> Result<(), StoreError> {
        let (mut head, mut length) = (self.head, self.length);
        let transaction = self.database.as_ref().map(Database::begin_write).transpose()?;
        {
            let mut log = transaction.as_ref().map(|transaction| transaction.open_table(LOG)).transpose()?;
            for record in records {
                let sealed = seal(&self.key, &position(length, &head), record)?;
                if let Some(log) = &mut log {
                    log.insert(length, sealed.as_slice())?;
                }
                head = chain(&head, length, &sealed);
                length += 1;
            }
        }
        if let Some(transaction) = transaction {
            self.write_shares(&transaction, shares)?;
            transaction.commit()?;
        }
        (self.head, self.length) = (head, length);
        Ok(())
    }

    /// Keeps `state` as what the first `length` records came to, of which `head` is the hash, and removes them: in
    /// one transaction, durable when this returns.
    pub fn snapshot(&mut self, length: u64, head: &Head, state: &[u8]) -> Result<(), StoreError> {
        let Some(database) = &self.database else { return Ok(()) };
        let sealed = seal(&self.key, &snapshot_position(length, head), state)?;
        let transaction = database.begin_write()?;
        {
            let mut snapshots = transaction.open_table(SNAPSHOT)?;
            snapshots.retain(|_, _| false)?;
            snapshots.insert(length, [head.as_slice(), &sealed].concat().as_slice())?;
            transaction.open_table(LOG)?.retain_in(..length, |_, _| false)?;
        }
        transaction.commit()?;
        self.covered = length;
        Ok(())
    }

    fn write_shares(&self, transaction: &WriteTransaction, shares: Shares<'_>) -> Result<(), StoreError> {
        let mut keys = transaction.open_table(KEYS)?;
        match shares {
            Shares::Keep => {}
            Shares::Remove => drop(keys.remove(RECOVERY)?),
            Shares::Replace(descriptor, secret) => {
                let data_key = seal(&aead_key(secret)?, RECOVERY_CONTEXT, self.data_key.as_slice())?;
                let record = Recovery { descriptor: descriptor.clone(), data_key: ByteBuf::from(data_key) };
                let mut bytes = Vec::new();
                ciborium::into_writer(&record, &mut bytes).map_err(|_| StoreError::Crypto)?;
                keys.insert(RECOVERY, bytes.as_slice())?;
            }
        }
        Ok(())
    }

    /// Who could recover the log from what lies on the disk now; nobody where absent.
    pub fn descriptor(&self) -> Result<Option<Descriptor>, StoreError> {
        Ok(self.recovery()?.map(|recovery| recovery.descriptor))
    }

    /// Whether `secret` would open what lies on the disk now.
    pub fn opens_with(&self, secret: &[u8; 32]) -> Result<bool, StoreError> {
        let Some(recovery) = self.recovery()? else { return Ok(false) };
        let opened = open(&aead_key(secret)?, RECOVERY_CONTEXT, &recovery.data_key);
        Ok(opened.is_some_and(|key| verify_slices_are_equal(&key, self.data_key.as_slice()).is_ok()))
    }

    fn recovery(&self) -> Result<Option<Recovery>, StoreError> {
        let Some(database) = &self.database else { return Ok(None) };
        let record = std::panic::catch_unwind(AssertUnwindSafe(|| entry(database, RECOVERY)))
            .unwrap_or(Err(StoreError::Damaged))?;
        record
            .map(|record| ciborium::from_reader(record.as_slice()).map_err(|_| StoreError::Damaged))
            .transpose()
    }

    /// From now on nothing is written, and what was is removed.
    pub fn forget(&mut self) -> Result<(), StoreError> {
        if self.database.take().is_some() {
            std::fs::remove_file(&self.path).map_err(opening)?;
        }
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

    /// How many of them came since the snapshot: so many are replayed at the next start.
    pub fn since_snapshot(&self) -> u64 {
        self.length - self.covered
    }
}

/// Associated data of a record: its position and everything before it.
fn position(index: u64, head: &Head) -> [u8; 48] {
    labelled(b"record/1", index, head)
}

/// Associated data of a snapshot: the records that it stands for.
fn snapshot_position(length: u64, head: &Head) -> [u8; 48] {
    labelled(b"states/1", length, head)
}

fn labelled(label: &[u8; 8], index: u64, head: &Head) -> [u8; 48] {
    let mut out = [0; 48];
    out[..8].copy_from_slice(label);
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

fn entry(database: &Database, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let transaction = database.begin_read()?;
    match transaction.open_table(KEYS) {
        Ok(keys) => Ok(keys.get(name)?.map(|sealed| sealed.value().to_vec())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn unseal(sealing: &LessSafeKey, name: &str, sealed: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let key = open(sealing, &context(name), sealed)?;
    Some(Zeroizing::new(key.as_slice().try_into().ok()?))
}

/// Associated data of a sealed key: what it is for.
fn context(name: &str) -> Vec<u8> {
    [SEALING_CONTEXT, "/", name].concat().into_bytes()
}

fn random_key() -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let mut key = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(key.as_mut()).map_err(|_| StoreError::Crypto)?;
    Ok(key)
}

impl Unlocked {
    /// How long the log is, and its head.
    pub fn position(&self) -> (u64, Head) {
        (self.log.length, self.log.head)
    }
}

impl Locked {
    /// Who can recover it; nobody where absent.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        self.recovery.as_ref().map(|recovery| &recovery.descriptor)
    }

    /// Reads the whole log with the recovery secret. Changes nothing.
    pub fn read(&self, secret: &[u8; 32]) -> Result<Unlocked, StoreError> {
        std::panic::catch_unwind(AssertUnwindSafe(|| {
            let recovery = self.recovery.as_ref().ok_or(StoreError::Unseal)?;
            let key =
                open(&aead_key(secret)?, RECOVERY_CONTEXT, &recovery.data_key).ok_or(StoreError::Unseal)?;
            let data_key: [u8; 32] = key.as_slice().try_into().map_err(|_| StoreError::Damaged)?;
            let data_key = Zeroizing::new(data_key);
            let log = replay(&self.database, &aead_key(data_key.as_slice())?)?;
            Ok(Unlocked { data_key, log })
        }))
        .unwrap_or(Err(StoreError::Damaged))
    }

    /// Seals the log's keys to this TEE, with a new key for CA keys: those in the log stay closed.
    pub fn adopt(self, unlocked: Unlocked, tee: &dyn Tee) -> Result<Opened, StoreError> {
        let sealing = tee.sealing_key(SEALING_CONTEXT)?;
        let sealing = aead_key(sealing.as_bytes())?;
        let identity = random_key()?;
        let transaction = self.database.begin_write()?;
        write_keys(&transaction, &sealing, &unlocked.data_key, &identity)?;
        transaction.commit()?;
        let Unlocked { data_key, log } = unlocked;
        Store::opened(self.database, self.path, data_key, IdentityKey::new(identity), log)
    }
}

/// A log that shares opened, before anything is changed.
pub struct Unlocked {
    data_key: Zeroizing<[u8; 32]>,
    log: Log,
}

impl Unlocked {
    /// What is in it, with the CA keys that `identity` opens. `None` for an empty log.
    pub fn state(&self, identity: &IdentityKey) -> Result<Option<State>, StoreError> {
        let snapshot = self.log.snapshot.as_deref().map(Vec::as_slice);
        State::resume(snapshot, self.log.covered, &self.log.records, identity)
    }
}

struct Log {
    snapshot: Option<Zeroizing<Vec<u8>>>,
    covered: u64,
    records: Records,
    head: Head,
    length: u64,
}

fn replay(database: &Database, key: &LessSafeKey) -> Result<Log, StoreError> {
    let transaction = database.begin_read()?;
    let (snapshot, covered, mut head) = latest_snapshot(&transaction, key)?;
    let (mut records, mut length) = (Vec::new(), covered);
    let log = transaction.open_table(LOG)?;
    for entry in log.iter()? {
        let (index, sealed) = entry?;
        let (index, sealed) = (index.value(), sealed.value());
        if index != length {
            let what = if index < length { "lies before the snapshot" } else { "is missing" };
            return Err(StoreError::Record { index: index.min(length), what });
        }
        let record = open(key, &position(index, &head), sealed)
            .ok_or(StoreError::Record { index, what: "was changed or belongs elsewhere" })?;
        head = chain(&head, index, sealed);
        length += 1;
        records.push(record);
    }
    Ok(Log { snapshot, covered, records, head, length })
}

/// A state, how many records are in it, and their hash.
type Latest = (Option<Zeroizing<Vec<u8>>>, u64, Head);

fn latest_snapshot(transaction: &ReadTransaction, key: &LessSafeKey) -> Result<Latest, StoreError> {
    let table = match transaction.open_table(SNAPSHOT) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok((None, 0, [0; 32])),
        Err(error) => return Err(error.into()),
    };
    let Some((length, value)) = table.last()? else { return Ok((None, 0, [0; 32])) };
    let length = length.value();
    let changed = StoreError::SnapshotChanged { length };
    let Some((head, sealed)) = value.value().split_first_chunk::<32>() else { return Err(changed) };
    let state = open(key, &snapshot_position(length, head), sealed).ok_or(changed)?;
    Ok((Some(state), length, *head))
}

fn write_keys(
    transaction: &WriteTransaction,
    sealing: &LessSafeKey,
    data_key: &Zeroizing<[u8; 32]>,
    identity: &Zeroizing<[u8; 32]>,
) -> Result<(), StoreError> {
    let mut keys = transaction.open_table(KEYS)?;
    for (name, key) in [(DATA_KEY, data_key), (IDENTITY_KEY, identity)] {
        keys.insert(name, seal(sealing, &context(name), key.as_slice())?.as_slice())?;
    }
    Ok(())
}

/// A new log with a random data key, sealed. It is made whole under another name and then renamed, so that a
/// crash leaves a log that can be opened, or none.
fn begin(path: &Path, sealing: &LessSafeKey) -> Result<(), StoreError> {
    let draft = path.with_extension("draft");
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(opening(error)),
        _ => {}
    }
    let database = Database::create(&draft).map_err(opening)?;
    lay_out(&database, sealing)?;
    drop(database);
    std::fs::rename(&draft, path).map_err(opening)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(opening)
}

fn lay_out(database: &Database, sealing: &LessSafeKey) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    transaction.open_table(LOG)?;
    write_keys(&transaction, sealing, &random_key()?, &random_key()?)?;
    Ok(transaction.commit()?)
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
    /// The recovery secret is not that of this log.
    #[error("what the shares give together does not open the state: the file was changed")]
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
    /// A snapshot fails authentication.
    #[error(
        "the snapshot after {length} records was changed or belongs elsewhere: the file was damaged or tampered with"
    )]
    SnapshotChanged {
        /// How many records it stands for.
        length: u64,
    },
    /// A snapshot is authentic and does not parse: written by another version.
    #[error("the snapshot after {length} records of the state log is not of this version: {reason}")]
    Snapshot {
        /// How many records are in it.
        length: u64,
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
