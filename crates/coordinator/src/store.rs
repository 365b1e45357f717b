//! The state on the host's side: an append-only log of sealed, hash-chained records.
//!
//! Each record is AES-256-GCM under a data key that only this measured coordinator can unseal, with its
//! position and the hash of everything before it as associated data, so records cannot be read, changed,
//! reordered, dropped from the middle or moved between logs. A record that [`Store::append`] returned for
//! is durable.
//!
//! A snapshot is the state after so many records, sealed with their number and their hash as associated data; in the
//! transaction that writes it, the records before it go. Head and length are those of the whole log, as if nothing
//! had gone.
//!
//! Where the bytes lie is a [`Medium`]'s affair: a file of an embedded store, or etcd, where several coordinators append
//! and whoever comes second reads what came and decides again.
//!
//! What this does not detect is an old copy of the whole medium put back while no coordinator ran: that needs an anchor
//! outside the host (design.md promise 5), and until there is one the log's head in the coordinator's
//! Evidence is what a client can compare.

mod error;
mod file;
mod medium;
mod sealing;
mod shared;

use std::{collections::BTreeMap, ops::Range, panic::AssertUnwindSafe, path::Path};

use attester::Tee;
use aws_lc_rs::{aead::LessSafeKey, constant_time::verify_slices_are_equal};
use redb::StorageBackend;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

pub use self::{
    error::StoreError,
    medium::{Appended, Content, Medium, Place, Recovery, SealedSnapshot},
    shared::Shared,
};
use self::{
    file::File,
    sealing::{
        RECOVERY_CONTEXT, SEALING_CONTEXT, aead_key, chain, context, open, position, random_key, seal,
        snapshot_position, unseal,
    },
};
use crate::core::{IdentityKey, State, recovery::Descriptor};

/// Opens the log; sealed to the TEE.
const DATA_KEY: &str = "data-key";
/// Opens the CA keys in the log; sealed to the TEE, and given to nobody else but other coordinators of this mesh.
const IDENTITY_KEY: &str = "identity-key";

/// Hash of the newest record, chained over all before it; zeros for an empty log.
pub type Head = [u8; 32];

/// Records in the clear, oldest first; wiped when dropped.
pub type Records = Vec<Zeroizing<Vec<u8>>>;

/// The sealed log.
pub struct Store {
    /// Absent where the manifest says that nothing be written.
    medium: Option<Box<dyn Medium>>,
    /// Public companions where there is no medium, by their record.
    kept: BTreeMap<u64, Vec<u8>>,
    data_key: Zeroizing<[u8; 32]>,
    key: LessSafeKey,
    end: Place,
    /// How many of the records are in the snapshot.
    covered: u64,
    /// Bytes of the records since it, and its own.
    weight: Weight,
}

/// What is replayed at the next start.
#[derive(Clone, Copy, Default)]
struct Weight {
    records: usize,
    snapshot: usize,
}

/// So many bytes of records at least are between two snapshots that are made for their weight.
const HEAVY: usize = 4 << 20;

/// A log that was opened.
pub struct Opened {
    /// The log; it tells its length and head.
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
    medium: Box<dyn Medium>,
    recovery: Option<RecoveryRecord>,
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
struct RecoveryRecord {
    descriptor: Descriptor,
    /// The data key under the recovery secret.
    data_key: ByteBuf,
}

/// What opens a log, as one replica gives it to another over an attested connection; wiped when dropped.
pub struct Keys {
    /// Opens the log.
    pub data_key: Zeroizing<[u8; 32]>,
    /// Opens the CA keys in it.
    pub identity: Zeroizing<[u8; 32]>,
    /// Where the giver saw the log to end.
    pub at: Place,
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

/// What others appended since.
pub struct News {
    /// The state at a length beyond ours, where so much came that the records are no longer there.
    pub snapshot: Option<Zeroizing<Vec<u8>>>,
    /// What followed it, or what followed what we had.
    pub records: Records,
    /// The index of the first of them.
    pub first: u64,
}

impl Store {
    /// Opens the log in `path`, or begins one. A log that was changed is an error, never an empty log; one that is
    /// sealed to another TEE is locked.
    pub fn open(path: &Path, tee: &dyn Tee) -> Result<Opening, StoreError> {
        intact(|| {
            let sealing = sealing_key(tee)?;
            let file = File::open(path, |medium| lay_out(medium, &sealing))?;
            Self::open_sealed(Box::new(file), &sealing)
        })
    }

    /// The same over another storage than a file. A new log is begun where nothing was ever written.
    pub fn open_on(storage: impl StorageBackend, tee: &dyn Tee) -> Result<Opening, StoreError> {
        let sealing = sealing_key(tee)?;
        let file = File::open_on(storage, |medium| lay_out(medium, &sealing))?;
        Self::open_sealed(Box::new(file), &sealing)
    }

    /// The same where other replicas append as well. One whose keys are not here is locked, and so is one that another
    /// replica founded while this one was about to: a replica that has them can give them ([`Locked::admit`]).
    pub fn open_shared(mut medium: Box<dyn Medium>, tee: &dyn Tee) -> Result<Opening, StoreError> {
        let sealing = sealing_key(tee)?;
        let seen = medium.seen()?;
        let empty = medium.read(Some(0))?.end == Some(Place::START);
        if let (true, Some(seen)) = (empty, seen) {
            return Err(StoreError::RolledBack { found: 0, seen: seen.length });
        }
        let sealed = medium.key(DATA_KEY)?;
        let ours = sealed.and_then(|sealed| unseal(&sealing, DATA_KEY, &sealed)).is_some();
        if !ours && !empty {
            return Ok(Opening::Locked(Locked::new(medium)?));
        }
        if !ours {
            lay_out(medium.as_mut(), &sealing)?;
        }
        // Until a first append succeeds the keys are those of a mesh that may never be.
        if seen.is_none() && !empty && !Self::opens(medium.as_ref(), &sealing)? {
            return Ok(Opening::Locked(Locked::new(medium)?));
        }
        Self::open_sealed(medium, &sealing)
    }

    fn opens(medium: &dyn Medium, sealing: &LessSafeKey) -> Result<bool, StoreError> {
        let sealed = medium.key(DATA_KEY)?.ok_or(StoreError::KeyMissing)?;
        let key = unseal(sealing, DATA_KEY, &sealed).ok_or(StoreError::Unseal)?;
        match replay(medium, &aead_key(key.as_slice())?) {
            Ok(_) => Ok(true),
            Err(StoreError::Record { .. } | StoreError::SnapshotChanged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open_sealed(medium: Box<dyn Medium>, sealing: &LessSafeKey) -> Result<Opening, StoreError> {
        // A log without its key can only be a destroyed one: never take it for a new one.
        let sealed = medium.key(DATA_KEY)?.ok_or(StoreError::KeyMissing)?;
        let Some(data_key) = unseal(sealing, DATA_KEY, &sealed) else {
            return Ok(Opening::Locked(Locked::new(medium)?));
        };
        let sealed = medium.key(IDENTITY_KEY)?.ok_or(StoreError::KeyMissing)?;
        let identity = unseal(sealing, IDENTITY_KEY, &sealed).ok_or(StoreError::Damaged)?;
        let log = replay(medium.as_ref(), &aead_key(data_key.as_slice())?)?;
        Ok(Opening::Open(Self::opened(medium, data_key, IdentityKey::new(identity), log)?))
    }

    fn opened(
        medium: Box<dyn Medium>,
        data_key: Zeroizing<[u8; 32]>,
        identity: IdentityKey,
        log: Log,
    ) -> Result<Opened, StoreError> {
        let key = aead_key(data_key.as_slice())?;
        let Log { snapshot, covered, records, end } = log;
        let weight =
            Weight { records: weight(&records), snapshot: snapshot.as_ref().map_or(0, |it| it.len()) };
        let store = Self { medium: Some(medium), kept: BTreeMap::new(), data_key, key, end, covered, weight };
        Ok(Opened { store, snapshot, records, identity })
    }

    /// Appends `records` in one transaction and returns when they are durable.
    pub fn append(&mut self, records: &[Zeroizing<Vec<u8>>], shares: Shares<'_>) -> Result<(), StoreError> {
        self.append_with(records, &[], shares)
    }

    /// The same with the records' public companions, one for each record and in the clear; an empty one is none.
    pub fn append_with(
        &mut self,
        records: &[Zeroizing<Vec<u8>>],
        entries: &[Vec<u8>],
        shares: Shares<'_>,
    ) -> Result<(), StoreError> {
        let (mut end, mut sealed) = (self.end, Vec::with_capacity(records.len()));
        for record in records {
            let record = seal(&self.key, &position(&end), record)?;
            end = chain(&end, &record);
            sealed.push(record);
        }
        let recovery = self.recovery_record(shares)?;
        if let Some(medium) = &mut self.medium {
            let recovery = match &recovery {
                None => Recovery::Keep,
                Some(None) => Recovery::Remove,
                Some(Some(record)) => Recovery::Replace(record),
            };
            medium.append(&self.end, &end, &Appended { records: &sealed, entries, recovery })?;
            medium.note(&end)?;
        } else {
            self.kept.extend(
                (self.end.length..).zip(entries.iter().cloned()).filter(|(_, entry)| !entry.is_empty()),
            );
        }
        self.end = end;
        self.weight.records += weight(records);
        Ok(())
    }

    /// Public companions of the records in `range`, as far as there are any, in order.
    pub fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        match &self.medium {
            Some(medium) => intact(|| medium.entries(range)),
            None => Ok(self.kept.range(range).map(|(_, entry)| entry.clone()).collect()),
        }
    }

    /// Keeps `state` as what the first `length` records came to, of which `head` is the hash, and removes them: in
    /// one transaction, durable when this returns.
    pub fn snapshot(&mut self, length: u64, head: &Head, state: &[u8]) -> Result<(), StoreError> {
        let Some(medium) = &mut self.medium else { return Ok(()) };
        let at = Place { length, head: *head };
        let sealed = seal(&self.key, &snapshot_position(&at), state)?;
        medium.put_snapshot(&SealedSnapshot { at, sealed })?;
        self.covered = length;
        self.weight = Weight { records: 0, snapshot: state.len() };
        Ok(())
    }

    /// The recovery record to be: `None` where it stays, `Some(None)` where it goes.
    fn recovery_record(&self, shares: Shares<'_>) -> Result<Option<Option<Vec<u8>>>, StoreError> {
        Ok(match shares {
            Shares::Keep => None,
            Shares::Remove => Some(None),
            Shares::Replace(descriptor, secret) => {
                let data_key = seal(&aead_key(secret)?, RECOVERY_CONTEXT, self.data_key.as_slice())?;
                let descriptor = descriptor.clone();
                let record = RecoveryRecord { descriptor, data_key: ByteBuf::from(data_key) };
                let mut bytes = Vec::new();
                ciborium::into_writer(&record, &mut bytes).map_err(|_| StoreError::Crypto)?;
                Some(Some(bytes))
            }
        })
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

    fn recovery(&self) -> Result<Option<RecoveryRecord>, StoreError> {
        self.medium.as_deref().map_or(Ok(None), |medium| intact(|| recovery_of(medium)))
    }

    /// From now on nothing is written, and what was is removed. Public companions are in memory from now on.
    pub fn forget(&mut self) -> Result<(), StoreError> {
        if let Some(medium) = &self.medium {
            for index in 0..self.end.length {
                let entries = medium.entries(index..index + 1)?;
                self.kept.extend(entries.into_iter().map(|entry| (index, entry)));
            }
        }
        self.medium.take().map_or(Ok(()), Medium::remove)
    }

    /// Reads what others appended and goes on from there; `None` where nothing came, and where nobody else appends.
    pub fn catch_up(&mut self) -> Result<Option<News>, StoreError> {
        let Some(medium) = self.medium.as_ref().filter(|medium| medium.is_shared()) else { return Ok(None) };
        let content = medium.read(Some(self.end.length))?;
        if content.end == Some(self.end) {
            return Ok(None);
        }
        let found = content.end.map_or(0, |end| end.length);
        let log = follow(content, self.end, Some(self.end), &self.key).map_err(|error| match error {
            // What came does not follow what we had.
            StoreError::Record { .. } => StoreError::RolledBack { found, seen: self.end.length },
            error => error,
        })?;
        medium.note(&log.end)?;
        (self.end, self.covered) = (log.end, log.covered.max(self.covered));
        if let Some(snapshot) = &log.snapshot {
            self.weight = Weight { records: 0, snapshot: snapshot.len() };
        }
        self.weight.records += weight(&log.records);
        let first = log.end.length - log.records.len() as u64;
        Ok(Some(News { snapshot: log.snapshot, records: log.records, first }))
    }

    /// Seals the keys to this TEE.
    pub fn keep_keys(&mut self, identity: &IdentityKey, tee: &dyn Tee) -> Result<(), StoreError> {
        let Some(medium) = &mut self.medium else { return Ok(()) };
        let identity = Zeroizing::new(*identity.as_bytes());
        medium.put_keys(&sealed_keys(&sealing_key(tee)?, &self.data_key, &identity)?)?;
        medium.note(&self.end)
    }

    /// Closes a log whose CA keys are others'.
    pub fn lock(self) -> Result<Locked, StoreError> {
        self.medium.map_or(Err(StoreError::KeyMissing), Locked::new)
    }

    /// What another replica needs to open the log; `identity` is the key of the state in it.
    pub fn keys(&self, identity: &IdentityKey) -> Keys {
        let identity = Zeroizing::new(*identity.as_bytes());
        Keys { data_key: self.data_key.clone(), identity, at: self.end }
    }

    /// Whether others append as well.
    pub fn is_shared(&self) -> bool {
        self.medium.as_ref().is_some_and(|medium| medium.is_shared())
    }

    /// The hash of the newest record.
    pub fn head(&self) -> Head {
        self.end.head
    }

    /// How many records there are.
    pub fn length(&self) -> u64 {
        self.end.length
    }

    /// How many of them came since the snapshot: so many are replayed at the next start.
    pub fn since_snapshot(&self) -> u64 {
        self.end.length - self.covered
    }

    /// Whether those weigh so much, as manifests do, that replaying them costs more than another snapshot.
    pub fn is_heavy(&self) -> bool {
        self.weight.records >= self.weight.snapshot.max(HEAVY)
    }
}

fn weight(records: &[Zeroizing<Vec<u8>>]) -> usize {
    records.iter().map(|record| record.len()).sum()
}

impl Unlocked {
    /// How long the log is, and its head.
    pub fn position(&self) -> (u64, Head) {
        (self.log.end.length, self.log.end.head)
    }
}

impl Locked {
    fn new(medium: Box<dyn Medium>) -> Result<Self, StoreError> {
        let recovery = recovery_of(medium.as_ref())?;
        Ok(Self { medium, recovery })
    }

    /// Who can recover it; nobody where absent.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        self.recovery.as_ref().map(|recovery| &recovery.descriptor)
    }

    /// Reads the whole log with the recovery secret. Changes nothing.
    pub fn read(&self, secret: &[u8; 32]) -> Result<Unlocked, StoreError> {
        intact(|| {
            let recovery = self.recovery.as_ref().ok_or(StoreError::Unseal)?;
            let key =
                open(&aead_key(secret)?, RECOVERY_CONTEXT, &recovery.data_key).ok_or(StoreError::Unseal)?;
            let data_key: [u8; 32] = key.as_slice().try_into().map_err(|_| StoreError::Damaged)?;
            let data_key = Zeroizing::new(data_key);
            let log = replay(self.medium.as_ref(), &aead_key(data_key.as_slice())?)?;
            Ok(Unlocked { data_key, log })
        })
    }

    /// Takes the keys from another replica, which has the log open, and seals them to this TEE. The log must go by where
    /// that replica saw it to be.
    pub fn admit(&mut self, keys: &Keys, tee: &dyn Tee) -> Result<Unlocked, StoreError> {
        let key = aead_key(keys.data_key.as_slice())?;
        let log = follow(self.medium.read(None)?, Place::START, Some(keys.at), &key)?;
        self.medium.put_keys(&sealed_keys(&sealing_key(tee)?, &keys.data_key, &keys.identity)?)?;
        self.medium.note(&log.end)?;
        Ok(Unlocked { data_key: keys.data_key.clone(), log })
    }

    /// Goes on with what [`Locked::admit`] read.
    pub fn admitted(self, unlocked: Unlocked, keys: &Keys) -> Result<Opened, StoreError> {
        let identity = IdentityKey::new(keys.identity.clone());
        Store::opened(self.medium, unlocked.data_key, identity, unlocked.log)
    }

    /// Reads the recovery record again: other replicas may have changed it.
    pub fn refresh(&mut self) -> Result<(), StoreError> {
        self.recovery = recovery_of(self.medium.as_ref())?;
        Ok(())
    }

    /// Whether others append as well.
    pub fn is_shared(&self) -> bool {
        self.medium.is_shared()
    }

    /// Seals the log's keys to this TEE, with a new key for CA keys: those in the log stay closed.
    pub fn adopt(mut self, unlocked: Unlocked, tee: &dyn Tee) -> Result<Opened, StoreError> {
        let identity = random_key()?;
        let Unlocked { data_key, log } = unlocked;
        // With others about, the new keys count only once a record under them is in the log: see Store::keep_keys.
        if !self.medium.is_shared() {
            self.medium.put_keys(&sealed_keys(&sealing_key(tee)?, &data_key, &identity)?)?;
        }
        Store::opened(self.medium, data_key, IdentityKey::new(identity), log)
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
    end: Place,
}

fn replay(medium: &dyn Medium, key: &LessSafeKey) -> Result<Log, StoreError> {
    follow(medium.read(None)?, Place::START, medium.seen()?, key)
}

/// Opens what was read, each at its place after `from`, or after the snapshot where there is one. It must go by what was
/// `seen` before, and end where the medium says it does.
fn follow(content: Content, from: Place, seen: Option<Place>, key: &LessSafeKey) -> Result<Log, StoreError> {
    let (snapshot, mut end) = match content.snapshot {
        None => (None, from),
        Some(SealedSnapshot { at, sealed }) => {
            let changed = StoreError::SnapshotChanged { length: at.length };
            (Some(open(key, &snapshot_position(&at), &sealed).ok_or(changed)?), at)
        }
    };
    let another = |at: &Place| seen.is_some_and(|seen| seen.length == at.length && seen.head != at.head);
    let covered = if snapshot.is_some() { end.length } else { 0 };
    let mut forked = another(&end);
    let mut records = Vec::with_capacity(content.records.len());
    for (index, sealed) in content.records {
        if index != end.length {
            let what = if index < end.length { "lies before the snapshot" } else { "is missing" };
            return Err(StoreError::Record { index: index.min(end.length), what });
        }
        let record = open(key, &position(&end), &sealed)
            .ok_or(StoreError::Record { index, what: "was changed or belongs elsewhere" })?;
        end = chain(&end, &sealed);
        forked |= another(&end);
        records.push(record);
    }
    if let Some(seen) = seen.filter(|seen| forked || end.length < seen.length) {
        return Err(StoreError::RolledBack { found: end.length, seen: seen.length });
    }
    if content.end.is_some_and(|said| said != end) {
        return Err(StoreError::Record { index: end.length, what: "is missing" });
    }
    Ok(Log { snapshot, covered, records, end })
}

/// redb asserts that its pages are as it wrote them, and the host can write others.
fn intact<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(StoreError::Damaged))
}

fn recovery_of(medium: &dyn Medium) -> Result<Option<RecoveryRecord>, StoreError> {
    let record = medium.recovery()?;
    record.map(|record| ciborium::from_reader(record.as_slice()).map_err(|_| StoreError::Damaged)).transpose()
}

fn sealing_key(tee: &dyn Tee) -> Result<LessSafeKey, StoreError> {
    aead_key(tee.sealing_key(SEALING_CONTEXT)?.as_bytes())
}

type SealedKeys = [(&'static str, Vec<u8>); 2];

fn sealed_keys(
    sealing: &LessSafeKey,
    data_key: &Zeroizing<[u8; 32]>,
    identity: &Zeroizing<[u8; 32]>,
) -> Result<SealedKeys, StoreError> {
    let sealed = |name, key: &Zeroizing<[u8; 32]>| seal(sealing, &context(name), key.as_slice());
    Ok([(DATA_KEY, sealed(DATA_KEY, data_key)?), (IDENTITY_KEY, sealed(IDENTITY_KEY, identity)?)])
}

/// A new log's keys, random and sealed.
fn lay_out(medium: &mut dyn Medium, sealing: &LessSafeKey) -> Result<(), StoreError> {
    medium.put_keys(&sealed_keys(sealing, &random_key()?, &random_key()?)?)
}
