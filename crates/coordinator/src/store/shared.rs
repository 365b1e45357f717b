//! The log in etcd, where several coordinators append. Whoever appends says where it believes the log to end, and etcd
//! does it only if it does; there is no leader among coordinators. All that etcd gets is sealed, but for the records'
//! public companions and for who can recover the log.
//!
//! ```text
//! bailey/1/head            length, hash: what every append compares and replaces
//! bailey/1/log/<index>     the records of one append, by the index of the first
//! bailey/1/entry/<index>   their public companions
//! bailey/1/recovery        the recovery record
//! bailey/1/snapshot        length, hash, sealed state
//! bailey/1/part/<kind>/<index>/<id>/<number>   of a value too large for one request; written before what names it
//! bailey/1/replica/<id>    who serves, under its lease
//! ```
//!
//! An append whose answer is lost is asked for again, with the same bytes, until it is known what became of it: its
//! sealed records are its own, so whoever finds them in the log knows that it was done.
//!
//! Keys that are sealed to this TEE lie in a file beside, and so does a note of how far the log was seen to go, by which
//! a log from an old backup is known.

use std::{
    fs,
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use etcd::{Client, Condition, EtcdError, Operation, Pair, Ranged, Transaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::{ByteArray, ByteBuf};

use super::{
    Content, Place, StoreError,
    error::opening,
    medium::{Appended, Medium, Recovery, SealedSnapshot},
};

/// How long anything is tried before it is given up. An election of etcd's takes 1 to 2 s; a lease lasts 5.
const PATIENCE: Duration = Duration::from_secs(4);
/// Values above this are kept in parts: etcd takes requests of 1.5 MiB unless it is told otherwise.
const PART: usize = 512 * 1024;
/// Appends that are read at once.
const PAGE: i64 = 32;
/// The log goes back no further than 2⁶⁴ records.
const EVERYTHING: u64 = u64::MAX;

const HEAD: &[u8] = b"bailey/1/head";
const RECOVERY: &[u8] = b"bailey/1/recovery";
const SNAPSHOT: &[u8] = b"bailey/1/snapshot";

/// The log in etcd, and the file beside it.
pub struct Shared {
    client: Client,
    directory: PathBuf,
    /// When it was last noted how far the log goes.
    noted: Mutex<Option<Instant>>,
}

/// The keys of a replica, sealed to its TEE.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<(String, ByteBuf)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    length: u64,
    head: ByteArray<32>,
}

impl From<&Place> for Note {
    fn from(place: &Place) -> Self {
        Self { length: place.length, head: ByteArray::new(place.head) }
    }
}

impl From<Note> for Place {
    fn from(note: Note) -> Self {
        Self { length: note.length, head: note.head.into_array() }
    }
}

/// A value, or where its parts are.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Value {
    Whole(ByteBuf),
    Parts { id: ByteArray<16>, count: u32 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotNote {
    at: Note,
    sealed: Value,
}

impl Shared {
    /// The log that `client` leads to; what is this replica's own lies in `directory`.
    pub fn new(client: Client, directory: &Path) -> Self {
        Self { client, directory: directory.to_owned(), noted: Mutex::default() }
    }

    fn range(&self, range: etcd::Range) -> Result<Ranged, StoreError> {
        let client = self.client.clone();
        Ok(self.client.wait(async move { client.range(range, PATIENCE).await })?)
    }

    fn transact(&self, transaction: Transaction) -> Result<(bool, Vec<Ranged>), StoreError> {
        let client = self.client.clone();
        Ok(self.client.wait(async move { client.transact(transaction, PATIENCE).await })?)
    }

    /// All pairs of a range as of `revision`, a page at a time.
    fn pages(&self, from: Vec<u8>, before: &[u8], revision: i64) -> Result<Vec<Pair>, StoreError> {
        let (mut from, mut pairs) = (from, Vec::new());
        loop {
            let before = Some(before.to_vec());
            let page =
                self.range(etcd::Range { from, before, limit: PAGE, revision, ..Default::default() })?;
            let last = page.pairs.last().map(|pair| [pair.key.as_slice(), &[0]].concat());
            pairs.extend(page.pairs);
            match last {
                Some(next) if page.more => from = next,
                _ => return Ok(pairs),
            }
        }
    }

    /// Writes the parts of a large value. `kind` and `index` say when they may go.
    fn value(&self, kind: &str, index: u64, bytes: Vec<u8>) -> Result<Value, StoreError> {
        if bytes.len() <= PART {
            return Ok(Value::Whole(ByteBuf::from(bytes)));
        }
        let mut id = [0; 16];
        rand::fill(&mut id).map_err(|_| StoreError::Crypto)?;
        let mut count = 0;
        for part in bytes.chunks(PART) {
            let put = put(part_key(kind, index, &id, count), part.to_vec());
            self.transact(Transaction { then: vec![put], ..Default::default() })?;
            count += 1;
        }
        Ok(Value::Parts { id: ByteArray::new(id), count })
    }

    fn whole(&self, kind: &str, index: u64, value: Value, revision: i64) -> Result<Vec<u8>, StoreError> {
        let (id, count) = match value {
            Value::Whole(bytes) => return Ok(bytes.into_vec()),
            Value::Parts { id, count } => (id.into_array(), count),
        };
        let mut bytes = Vec::new();
        for number in 0..count {
            let key = part_key(kind, index, &id, number);
            let part = self.range(etcd::Range { revision, ..etcd::Range::key(key) })?.only();
            bytes.extend(part.ok_or(StoreError::Damaged)?.value);
        }
        Ok(bytes)
    }

    /// The records of appends, each with its index.
    fn records(&self, from: u64, revision: i64) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let mut records = Vec::new();
        for pair in self.pages(indexed("log", from), &indexed("log", EVERYTHING), revision)? {
            let first = index_of(&pair.key)?;
            let batch = self.whole("log", first, decoded(&pair.value)?, revision)?;
            let batch: Vec<ByteBuf> = decoded(&batch)?;
            records.extend((first..).zip(batch.into_iter().map(ByteBuf::into_vec)));
        }
        Ok(records)
    }

    fn sealed_snapshot(
        &self,
        pair: Option<Pair>,
        revision: i64,
    ) -> Result<Option<SealedSnapshot>, StoreError> {
        let Some(pair) = pair else { return Ok(None) };
        let note: SnapshotNote = decoded(&pair.value)?;
        let at = Place::from(note.at);
        let sealed = self.whole("snapshot", at.length, note.sealed, revision)?;
        Ok(Some(SealedSnapshot { at, sealed }))
    }

    fn read_once(&self, from: Option<u64>) -> Result<Content, StoreError> {
        let reads = [HEAD, SNAPSHOT].map(|key| Operation::Read(etcd::Range::key(key.to_vec())));
        let (_, mut read) = self.transact(Transaction { then: reads.into(), ..Default::default() })?;
        let (Some(snapshot), Some(head)) = (read.pop(), read.pop()) else {
            return Err(EtcdError::Malformed.into());
        };
        let revision = head.revision;
        let end = match head.only() {
            None => Place::START,
            Some(pair) => place(&pair.value)?,
        };
        if from == Some(end.length) {
            return Ok(Content { end: Some(end), ..Content::default() });
        }
        if let Some(from) = from {
            let records = self.records(from, revision)?;
            if records.first().is_some_and(|(first, _)| *first == from) || from > end.length {
                return Ok(Content { snapshot: None, records, end: Some(end) });
            }
        }
        let snapshot = self.sealed_snapshot(snapshot.only(), revision)?;
        let first = snapshot.as_ref().map_or(0, |snapshot| snapshot.at.length);
        Ok(Content { snapshot, records: self.records(first, revision)?, end: Some(end) })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Medium for Shared {
    fn is_shared(&self) -> bool {
        true
    }

    fn read(&self, from: Option<u64>) -> Result<Content, StoreError> {
        // Someone may compact etcd between two pages.
        for _ in 0..3 {
            match self.read_once(from) {
                Err(StoreError::Etcd(EtcdError::Compacted)) => {}
                read => return read,
            }
        }
        self.read_once(from)
    }

    fn append(&mut self, at: &Place, end: &Place, appended: &Appended<'_>) -> Result<(), StoreError> {
        let log = encoded(&self.value("log", at.length, batch(appended.records)?)?)?;
        let key = indexed("log", at.length);
        let mut then = vec![put(HEAD.to_vec(), place_bytes(end)), put(key.clone(), log.clone())];
        if appended.entries.iter().any(|entry| !entry.is_empty()) {
            let entries = self.value("entry", at.length, batch(appended.entries)?)?;
            then.push(put(indexed("entry", at.length), encoded(&entries)?));
        }
        match appended.recovery {
            Recovery::Keep => {}
            Recovery::Remove => then.push(Operation::Delete(RECOVERY.to_vec(), None)),
            Recovery::Replace(record) => then.push(put(RECOVERY.to_vec(), record.to_vec())),
        }
        let when = match at.length {
            0 => Condition::Absent(HEAD.to_vec()),
            _ => Condition::Value(HEAD.to_vec(), place_bytes(at)),
        };
        let otherwise = vec![Operation::Read(etcd::Range::key(key))];
        let (done, mut found) = self.transact(Transaction { when: vec![when], then, otherwise })?;
        // An earlier attempt of ours, whose answer was lost?
        let mut ours = || found.pop().and_then(Ranged::only).is_some_and(|pair| pair.value == log);
        if done || ours() { Ok(()) } else { Err(StoreError::Conflict) }
    }

    fn entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        // The append that has the first of them may begin before it.
        let before = Some([indexed("entry", range.start).as_slice(), &[0]].concat());
        let at = etcd::Range {
            from: indexed("entry", 0),
            before,
            limit: 1,
            backwards: true,
            ..Default::default()
        };
        let at = self.range(at)?;
        let revision = at.revision;
        let first = at.only().map_or(Ok(range.start), |pair| index_of(&pair.key))?;
        let mut entries = Vec::new();
        for pair in self.pages(indexed("entry", first), &indexed("entry", range.end), revision)? {
            let first = index_of(&pair.key)?;
            let batch: Vec<ByteBuf> =
                decoded(&self.whole("entry", first, decoded(&pair.value)?, revision)?)?;
            let within =
                (first..).zip(batch).filter(|(index, entry)| range.contains(index) && !entry.is_empty());
            entries.extend(within.map(|(_, entry)| entry.into_vec()));
        }
        Ok(entries)
    }

    fn put_snapshot(&mut self, snapshot: &SealedSnapshot) -> Result<(), StoreError> {
        let before = self.range(etcd::Range::key(SNAPSHOT.to_vec()))?.only();
        let (kept, unchanged) = match &before {
            None => (0, Condition::Absent(SNAPSHOT.to_vec())),
            Some(pair) => {
                let note: SnapshotNote = decoded(&pair.value)?;
                (note.at.length, Condition::Unchanged(SNAPSHOT.to_vec(), pair.revision))
            }
        };
        if before.is_some() && kept >= snapshot.at.length {
            return Ok(());
        }
        let sealed = self.value("snapshot", snapshot.at.length, snapshot.sealed.clone())?;
        let note = encoded(&SnapshotNote { at: (&snapshot.at).into(), sealed })?;
        let up_to = |kind: &str, index| Operation::Delete(indexed(kind, 0), Some(indexed(kind, index)));
        let then = vec![
            put(SNAPSHOT.to_vec(), note),
            up_to("log", kept),
            up_to("part/log", kept),
            up_to("part/snapshot", snapshot.at.length),
            Operation::Read(etcd::Range::key(HEAD.to_vec())),
        ];
        let (done, read) =
            self.transact(Transaction { when: vec![unchanged], then, ..Default::default() })?;
        if let Some(read) = read.first().filter(|_| done) {
            // What was overwritten or removed; whether it takes up space is nobody's answer.
            let (client, revision) = (self.client.clone(), read.revision);
            let _ = self.client.wait(async move { client.compact(revision, PATIENCE).await });
        }
        Ok(())
    }

    fn recovery(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.range(etcd::Range::key(RECOVERY.to_vec()))?.only().map(|pair| pair.value))
    }

    fn key(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let keys: Option<Keys> = read_file(&self.file("replica.keys"))?;
        let mut keys = keys.unwrap_or_default().keys.into_iter();
        Ok(keys.find(|(known, _)| known == name).map(|(_, key)| key.into_vec()))
    }

    fn put_keys(&mut self, keys: &[(&str, Vec<u8>)]) -> Result<(), StoreError> {
        let keys = keys.iter().map(|(name, key)| ((*name).to_owned(), ByteBuf::from(key.clone()))).collect();
        write_file(&self.file("replica.keys"), &Keys { keys }, Durably::Yes)
    }

    fn seen(&self) -> Result<Option<Place>, StoreError> {
        let note: Option<Note> = read_file(&self.file("replica.seen"))?;
        Ok(note.map(Place::from))
    }

    fn note(&self, place: &Place) -> Result<(), StoreError> {
        // Most of what is seen is seen again soon; what this guards against is an operator's mistake, not a hostile host.
        let mut noted = self.noted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if noted.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            return Ok(());
        }
        let durably = if noted.is_none() { Durably::Yes } else { Durably::No };
        *noted = Some(Instant::now());
        write_file(&self.file("replica.seen"), &Note::from(place), durably)
    }

    fn remove(self: Box<Self>) -> Result<(), StoreError> {
        Err(StoreError::Shared)
    }
}

fn put(key: Vec<u8>, value: Vec<u8>) -> Operation {
    Operation::Put { key, value, lease: 0 }
}

/// Keys in the order of their indices.
fn indexed(kind: &str, index: u64) -> Vec<u8> {
    format!("bailey/1/{kind}/{index:016x}").into_bytes()
}

fn part_key(kind: &str, index: u64, id: &[u8; 16], number: u32) -> Vec<u8> {
    format!("bailey/1/part/{kind}/{index:016x}/{}/{number:08x}", hex::encode(id)).into_bytes()
}

fn index_of(key: &[u8]) -> Result<u64, StoreError> {
    let digits = key.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let index = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 16);
    index.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or(StoreError::Damaged)
}

fn batch(of: &[Vec<u8>]) -> Result<Vec<u8>, StoreError> {
    encoded(&of.iter().map(|bytes| serde_bytes::Bytes::new(bytes)).collect::<Vec<_>>())
}

fn place_bytes(place: &Place) -> Vec<u8> {
    [&place.length.to_be_bytes()[..], &place.head].concat()
}

fn place(bytes: &[u8]) -> Result<Place, StoreError> {
    let (length, head) = bytes.split_first_chunk::<8>().ok_or(StoreError::Damaged)?;
    let head = head.try_into().map_err(|_| StoreError::Damaged)?;
    Ok(Place { length: u64::from_be_bytes(*length), head })
}

fn encoded(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(|_| StoreError::Crypto)?;
    Ok(bytes)
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    ciborium::from_reader(bytes).map_err(|_| StoreError::Damaged)
}

fn read_file<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => decoded(&bytes).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(opening(error)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Durably {
    Yes,
    No,
}

/// Another name first, so that a crash leaves the one file or the other.
fn write_file(path: &Path, value: &impl Serialize, durably: Durably) -> Result<(), StoreError> {
    let draft = path.with_extension("draft");
    let mut file = fs::File::create(&draft).map_err(opening)?;
    file.write_all(&encoded(value)?).map_err(opening)?;
    if durably == Durably::Yes {
        file.sync_all().map_err(opening)?;
    }
    fs::rename(&draft, path).map_err(opening)?;
    if durably == Durably::Yes {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(opening)?;
    }
    Ok(())
}
