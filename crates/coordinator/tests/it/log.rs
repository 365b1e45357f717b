//! The sealed log on a hostile disk, and under kill -9.

use std::{
    io::{BufRead, BufReader, Write},
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use attester::{AttesterError, RawEvidence, SealingKey, Tee};
use coordinator::store::{Opened, Opening, Records, Shares, Store, StoreError};
use evidence::{Platform, ReportData};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tempfile::TempDir;
use testkit::tee::EmulatedTee;
use zeroize::Zeroizing;

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");

/// A TEE that seals with one known key.
struct Sealer([u8; 32]);

impl Tee for Sealer {
    fn platform(&self) -> Platform {
        Platform::Snp
    }

    fn emulated(&self) -> bool {
        true
    }

    fn launch_configuration(&self) -> &[u8] {
        b""
    }

    fn evidence(&self, _: &ReportData) -> Result<RawEvidence, AttesterError> {
        Err(AttesterError::PlatformGone)
    }

    fn sealing_key(&self, _: &str) -> Result<SealingKey, AttesterError> {
        Ok(SealingKey::new(Zeroizing::new(self.0)))
    }
}

const SEALER: Sealer = Sealer([7; 32]);

fn record(index: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(format!("record {index} CANARY-9d1f").into_bytes())
}

fn records(count: usize) -> Vec<Zeroizing<Vec<u8>>> {
    (0..count).map(record).collect()
}

/// A log of so many records, each appended by itself.
fn written(count: usize) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let (mut store, found) = opened(&path, &SEALER).unwrap();
    assert!(found.is_empty());
    records(count)
        .iter()
        .for_each(|record| store.append(std::slice::from_ref(record), Shares::Keep).unwrap());
    (directory, path)
}

fn open(path: &Path) -> Result<Vec<Zeroizing<Vec<u8>>>, StoreError> {
    opened(path, &SEALER).map(|(_, records)| records)
}

/// The log and what is in it; one that is sealed to another TEE counts as one that does not unseal.
fn opened(path: &Path, tee: &dyn Tee) -> Result<(Store, Records), StoreError> {
    match Store::open(path, tee)? {
        Opening::Open(Opened { store, records, .. }) => Ok((store, records)),
        Opening::Locked(_) => Err(StoreError::Unseal),
    }
}

/// Changes the tables behind the store's back.
fn tamper(path: &Path, change: impl FnOnce(&mut redb::Table<'_, u64, &'static [u8]>)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&mut transaction.open_table(LOG).unwrap());
    transaction.commit().unwrap();
}

fn sealed(path: &Path, index: u64) -> Vec<u8> {
    let database = Database::open(path).unwrap();
    let log = database.begin_read().unwrap().open_table(LOG).unwrap();
    let sealed = log.get(index).unwrap().unwrap();
    sealed.value().to_vec()
}

fn record_fault(path: &Path) -> u64 {
    match open(path) {
        Err(StoreError::Record { index, .. }) => index,
        Err(other) => panic!("{other:?}"),
        Ok(records) => panic!("{} records", records.len()),
    }
}

#[test]
fn reopened_log_is_the_same() {
    let (_directory, path) = written(4);
    let (mut store, found) = opened(&path, &SEALER).unwrap();
    assert_eq!(found, records(4));
    let (head, length) = (store.head(), store.length());
    assert_eq!(length, 4);
    store.append(&records(2), Shares::Keep).unwrap();
    assert_ne!(store.head(), head);
    drop(store);
    let (store, found) = opened(&path, &SEALER).unwrap();
    assert_eq!((found.len(), store.length()), (6, 6));
}

#[test]
fn head_depends_on_every_record() {
    let heads = [records(2), records(3), vec![record(1), record(0)]].map(|records| {
        let directory = tempfile::tempdir().unwrap();
        let (mut store, _) = opened(&directory.path().join("state"), &SEALER).unwrap();
        store.append(&records, Shares::Keep).unwrap();
        store.head()
    });
    assert!(heads[0] != heads[1] && heads[0] != heads[2] && heads[1] != heads[2]);
}

#[test]
fn nothing_on_disk_is_in_the_clear() {
    let (_directory, path) = written(4);
    let bytes = std::fs::read(path).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"CANARY"));
}

#[test]
fn changed_record_is_detected() {
    let (_directory, path) = written(4);
    let mut bytes = sealed(&path, 2);
    for position in [0, 11, 12, bytes.len() - 1] {
        bytes[position] ^= 1;
        tamper(&path, |log| drop(log.insert(2, bytes.as_slice()).unwrap()));
        assert_eq!(record_fault(&path), 2);
        bytes[position] ^= 1;
    }
    tamper(&path, |log| drop(log.insert(2, bytes.as_slice()).unwrap()));
    assert_eq!(open(&path).unwrap(), records(4));
    tamper(&path, |log| drop(log.insert(2, &b"short"[..]).unwrap()));
    assert_eq!(record_fault(&path), 2);
}

#[test]
fn swapped_records_are_detected() {
    let (_directory, path) = written(4);
    let (one, two) = (sealed(&path, 1), sealed(&path, 2));
    tamper(&path, |log| {
        log.insert(1, two.as_slice()).unwrap();
        log.insert(2, one.as_slice()).unwrap();
    });
    assert_eq!(record_fault(&path), 1);
}

#[test]
fn record_that_is_missing_in_the_middle_is_detected() {
    let (_directory, path) = written(4);
    tamper(&path, |log| drop(log.remove(1).unwrap()));
    assert_eq!(record_fault(&path), 1);
    let (_directory, path) = written(4);
    let later = sealed(&path, 2);
    tamper(&path, |log| {
        log.insert(1, later.as_slice()).unwrap();
        log.remove(2).unwrap();
        log.remove(3).unwrap();
    });
    assert_eq!(record_fault(&path), 1);
}

#[test]
fn record_that_is_repeated_is_detected() {
    let (_directory, path) = written(4);
    let last = sealed(&path, 3);
    tamper(&path, |log| drop(log.insert(4, last.as_slice()).unwrap()));
    assert_eq!(record_fault(&path), 4);
}

/// A log of 6 records, of which 4 are in the snapshot.
fn with_snapshot() -> (TempDir, PathBuf) {
    let (directory, path) = written(4);
    let (mut store, _) = opened(&path, &SEALER).unwrap();
    let (length, head) = (store.length(), store.head());
    for index in 4..6 {
        store.append(&[record(index)], Shares::Keep).unwrap();
    }
    store.snapshot(length, &head, b"the state CANARY-9d1f").unwrap();
    assert_eq!((store.length(), store.since_snapshot()), (6, 2));
    (directory, path)
}

fn tamper_snapshot(path: &Path, change: impl FnOnce(&mut redb::Table<'_, u64, &'static [u8]>)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&mut transaction.open_table(TableDefinition::new("snapshot")).unwrap());
    transaction.commit().unwrap();
}

fn snapshot_of(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    tamper_snapshot(path, |table| bytes = table.get(4).unwrap().unwrap().value().to_vec());
    bytes
}

#[test]
fn a_log_goes_on_from_its_snapshot_with_the_same_head() {
    let ((_one, plain), (_other, path)) = (written(4), with_snapshot());
    let Ok(Opening::Open(Opened { mut store, snapshot, records, .. })) = Store::open(&path, &SEALER) else {
        panic!("locked")
    };
    assert_eq!(snapshot.unwrap().as_slice(), b"the state CANARY-9d1f");
    assert_eq!(records, [record(4), record(5)]);
    store.append(&[record(6)], Shares::Keep).unwrap();
    let head = store.head();
    drop(store);
    let (store, found) = opened(&path, &SEALER).unwrap();
    assert_eq!((store.head(), store.length(), found.len()), (head, 7, 3));
    drop(store);
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"CANARY"), "in the clear");
    assert_eq!(open(&plain).unwrap().len(), 4);
}

#[test]
fn changed_snapshots_are_detected() {
    let (_directory, path) = with_snapshot();
    let genuine = snapshot_of(&path);
    for position in [0, 31, 32, 44, genuine.len() - 1] {
        let mut bytes = genuine.clone();
        bytes[position] ^= 1;
        tamper_snapshot(&path, |table| drop(table.insert(4, bytes.as_slice()).unwrap()));
        assert!(matches!(open(&path), Err(StoreError::SnapshotChanged { length: 4 })), "{position}");
    }
    for length in [0, 31, 43] {
        tamper_snapshot(&path, |table| drop(table.insert(4, &genuine[..length]).unwrap()));
        assert!(matches!(open(&path), Err(StoreError::SnapshotChanged { length: 4 })), "{length} bytes");
    }
}

/// The state of one moment, said to be that of another.
#[test]
fn snapshots_are_bound_to_their_place() {
    let (_directory, path) = with_snapshot();
    let genuine = snapshot_of(&path);
    tamper_snapshot(&path, |table| {
        table.remove(4).unwrap();
        table.insert(5, genuine.as_slice()).unwrap();
    });
    assert!(matches!(open(&path), Err(StoreError::SnapshotChanged { length: 5 })));
    tamper_snapshot(&path, |table| drop(table.remove(5).unwrap()));
    assert_eq!(record_fault(&path), 0, "a log whose snapshot is gone is no new log");
    let ((_one, one), (_other, other)) = (with_snapshot(), with_snapshot());
    let foreign = snapshot_of(&one);
    tamper_snapshot(&other, |table| drop(table.insert(4, foreign.as_slice()).unwrap()));
    assert!(matches!(open(&other), Err(StoreError::SnapshotChanged { .. })), "of another log");
}

#[test]
fn records_before_the_snapshot_are_refused() {
    let (_directory, path) = written(4);
    let old = sealed(&path, 3);
    let (mut store, _) = opened(&path, &SEALER).unwrap();
    let head = store.head();
    store.snapshot(4, &head, b"state").unwrap();
    drop(store);
    tamper(&path, |log| drop(log.insert(3, old.as_slice()).unwrap()));
    assert_eq!(record_fault(&path), 3);
}

/// A record of another log under the same sealing key, at the same place.
#[test]
fn record_of_another_log_is_detected() {
    let ((_one, path), (_other, elsewhere)) = (written(3), written(3));
    let foreign = sealed(&elsewhere, 0);
    tamper(&path, |log| drop(log.insert(0, foreign.as_slice()).unwrap()));
    assert_eq!(record_fault(&path), 0);
}

#[test]
fn log_without_its_key_is_never_taken_for_a_new_one() {
    let (_directory, path) = written(2);
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(KEYS).unwrap().remove("data-key").unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(open(&path), Err(StoreError::KeyMissing)));
    let database = Database::open(&path).unwrap();
    let log = database.begin_read().unwrap().open_table(LOG).unwrap();
    assert_eq!(log.iter().unwrap().count(), 2, "and nothing was removed");
}

#[test]
fn key_of_another_log_does_not_open_this_one() {
    let ((_one, path), (_other, elsewhere)) = (written(2), written(2));
    let foreign = {
        let keys = Database::open(elsewhere).unwrap().begin_read().unwrap().open_table(KEYS).unwrap();
        let key = keys.get("data-key").unwrap().unwrap();
        key.value().to_vec()
    };
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(KEYS).unwrap().insert("data-key", foreign.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert_eq!(record_fault(&path), 0);
}

#[test]
fn state_is_sealed_to_code_configuration_and_platform() {
    let launch =
        |platform, code: &[u8], configuration: &[u8]| EmulatedTee::launch(platform, code, configuration);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let ours = launch(Platform::Snp, b"coordinator", b"owner");
    opened(&path, &*ours).unwrap().0.append(&records(1), Shares::Keep).unwrap();
    for other in [
        launch(Platform::Snp, b"coordinator, changed", b"owner"),
        launch(Platform::Snp, b"coordinator", b"another owner"),
        launch(Platform::Tdx, b"coordinator", b"owner"),
    ] {
        assert!(matches!(opened(&path, &*other), Err(StoreError::Unseal)));
    }
    let again = launch(Platform::Snp, b"coordinator", b"owner");
    assert_eq!(opened(&path, &*again).unwrap().1, records(1));
}

/// One bit anywhere: an error, or the same records as before. Never others, never silently none.
#[test]
fn flipped_bits_never_empty_the_log() {
    let (_directory, path) = written(3);
    let genuine = std::fs::read(&path).unwrap();
    let copy = path.with_file_name("copy");
    // The head of the file byte by byte, then a sample of what is not zero.
    let filled: Vec<_> = (512..genuine.len()).filter(|at| genuine[*at] != 0).collect();
    let positions = (0..320).chain(filled.iter().copied().step_by((filled.len() / 250).max(1)));
    let (start, mut looked) = (Instant::now(), 0);
    let mut faults = Vec::new();
    for at in positions {
        if start.elapsed() > Duration::from_secs(10) {
            break;
        }
        let mut bytes = genuine.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&copy, bytes).unwrap();
        looked += 1;
        match std::panic::catch_unwind(AssertUnwindSafe(|| opened(&copy, &SEALER))) {
            Err(_) => faults.push(format!("byte {at}: panic")),
            Ok(Ok((store, found))) => {
                if found != records(3) {
                    faults.push(format!("byte {at}: {} records", found.len()));
                }
                // Closing a damaged file is redb's affair, and may fail by an assertion.
                let _ = std::panic::catch_unwind(AssertUnwindSafe(|| drop(store)));
            }
            Ok(Err(_)) => {}
        }
    }
    assert!(looked > 50, "{looked}");
    assert!(faults.is_empty(), "{faults:?}");
}

/// A manifest is a record like any other, and a thousand of them would be a long start.
#[test]
fn heavy_records_ask_for_a_snapshot_and_so_does_what_weighs_more_than_the_last_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let record = |mib: usize| [Zeroizing::new(vec![7; mib << 20])];
    let (mut store, _) = opened(&path, &SEALER).unwrap();
    store.append(&record(3), Shares::Keep).unwrap();
    assert!(!store.is_heavy());
    store.append(&record(1), Shares::Keep).unwrap();
    assert!(store.is_heavy());
    let (length, head) = (store.length(), store.head());
    store.snapshot(length, &head, &vec![1; 6 << 20]).unwrap();
    store.append(&record(5), Shares::Keep).unwrap();
    assert!(!store.is_heavy());
    drop(store);
    let (mut store, _) = opened(&path, &SEALER).unwrap();
    assert!(!store.is_heavy());
    store.append(&record(1), Shares::Keep).unwrap();
    assert!(store.is_heavy(), "after a restart it is counted on");
}

#[test]
fn truncated_files_are_errors() {
    let (_directory, path) = written(3);
    let genuine = std::fs::read(&path).unwrap();
    for length in [1, 64, 320, 4096, genuine.len() / 2, genuine.len() - 1] {
        std::fs::write(&path, &genuine[..length]).unwrap();
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| open(&path)));
        assert!(matches!(opened, Ok(Err(_))), "{length} of {} bytes", genuine.len());
    }
}

/// Not a test: the process that [`acknowledged_records_survive_kill`] kills. Reads the path on its input.
#[test]
#[ignore = "started by acknowledged_records_survive_kill"]
fn writer() {
    let mut path = String::new();
    std::io::stdin().read_line(&mut path).unwrap();
    if path.trim().is_empty() {
        return;
    }
    let (mut store, _) = opened(Path::new(path.trim()), &SEALER).unwrap();
    let mut out = std::io::stderr();
    for index in usize::try_from(store.length()).unwrap().. {
        store.append(&[record(index)], Shares::Keep).unwrap();
        writeln!(out, "acknowledged {index}").unwrap();
        if index % 9 == 8 {
            let (length, head) = (store.length(), store.head());
            store.snapshot(length, &head, &length.to_be_bytes()).unwrap();
        }
    }
}

#[test]
fn acknowledged_records_survive_kill() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let (start, mut durable, mut rounds) = (Instant::now(), 0, 0_u64);
    // On a busy machine a process may need long to write its first records: then there are more rounds.
    let enough = |rounds, durable| rounds > 5 && durable > 5;
    while start.elapsed() < Duration::from_secs(8)
        || (!enough(rounds, durable) && start.elapsed() < Duration::from_secs(120))
    {
        rounds += 1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["log::writer", "--exact", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{}", path.display()).unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listener = std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<usize>().ok())
                .last()
        });
        // Moments that no two rounds share; early ones hit the opening and the first commit.
        std::thread::sleep(Duration::from_micros(rounds * 7919 % (120_000 + rounds * 1_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(last) = listener.join().unwrap() {
            durable = last + 1;
        }
        if path.exists() {
            let (store, found) = opened(&path, &SEALER).unwrap();
            let length = usize::try_from(store.length()).unwrap();
            assert!(length >= durable, "{durable} acknowledged, {length} found");
            assert_eq!(found.len() as u64, store.since_snapshot());
            let covered = length - found.len();
            assert!(found.iter().zip(covered..).all(|(found, index)| *found == record(index)));
            durable = length;
        }
    }
    assert!(enough(rounds, durable), "{rounds} rounds, {durable} records");
}
