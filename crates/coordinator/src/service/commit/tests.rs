//! Many at once, on a disk that works and on one that stops.

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use appraisal::UnixTime;
use evidence::Platform;
use redb::{StorageBackend, backends::InMemoryBackend};
use serde_bytes::{ByteArray, ByteBuf};
use testkit::tee::EmulatedTee;

use super::*;
use crate::{
    core::{IdentityKey, Issued, Seat, found},
    store::{Opened, Opening},
};

const NOW: UnixTime = UnixTime(1_790_000_000);
const LIMIT: u64 = 300;

fn opened(opening: Opening) -> Opened {
    match opening {
        Opening::Open(opened) => opened,
        Opening::Locked(_) => panic!("locked"),
    }
}

fn snapshot(opened: Opened) -> (Store, Snapshot) {
    let Opened { mut store, snapshot, records, identity } = opened;
    let first = store.length() - store.since_snapshot();
    let resumed = State::resume(snapshot.as_deref().map(Vec::as_slice), first, &records, &identity);
    let state = resumed.unwrap().unwrap_or_else(|| {
        let events = mesh(&identity);
        let records: Vec<_> = events.iter().map(Event::to_record).collect();
        let [founded, set] = events;
        let (state, first) = State::begin_logged(founded, identity.clone()).unwrap();
        let (state, second) = state.step_logged(set).unwrap();
        store.append_with(&records, &[first, second], Shares::Keep).unwrap();
        state
    });
    let (head, length) = (store.head(), store.length());
    (store, Snapshot { state: state.into(), head, length })
}

/// Founded, and a manifest in force.
fn mesh(identity: &IdentityKey) -> [Event; 2] {
    let founded = found(true, identity, NOW).unwrap();
    let state = State::begin(founded.clone(), identity.clone()).unwrap();
    let manifest = serde_json::json!({
        "Packages": { "p": { "SignerID": "5e".repeat(32), "ProductID": 1, "SecurityVersion": 1 } },
        "Marbles": { "m": { "Package": "p" } },
    });
    let parsed = manifest::Manifest::parse(manifest.to_string().as_bytes()).unwrap();
    let epoch = crate::core::next_epoch(&state, &parsed, NOW).unwrap();
    let set = Event::ManifestSet {
        manifest: ByteBuf::from(manifest.to_string().into_bytes()),
        epoch,
        generated: [].into(),
        recovery_secret: None,
        at: NOW.0,
    };
    [founded, set]
}

/// One activation of 300; others are refused.
fn activate(state: &State, instance: u64) -> Result<Decided<()>, Refusal> {
    if state.mesh().unwrap().activations("m") >= LIMIT {
        return Err(Refusal::ActivationsExhausted { marble: "m".into(), limit: LIMIT });
    }
    let mut key = [0; 32];
    key[..8].copy_from_slice(&instance.to_be_bytes());
    let event = Event::Activated {
        marble: "m".into(),
        instance: ByteArray::new(key),
        epoch: 1,
        seat: Seat { platform: Platform::Snp, machine: None, emulated: true, native: false },
        delivered: [].into(),
        certificates: vec![Issued {
            serial: ByteArray::new(key[..16].try_into().unwrap()),
            until: NOW.0 + 60,
        }],
        release: None,
        package: None,
        at: NOW.0,
    };
    Ok(Decided::one(event, ()))
}

fn tee() -> std::sync::Arc<EmulatedTee> {
    EmulatedTee::launch(Platform::Tdx, b"committer", b"")
}

fn reopened(path: &Path) -> (Store, Snapshot) {
    snapshot(opened(Store::open(path, &*tee()).unwrap()))
}

/// 16 threads ask 400 times for one of 300 places.
fn crowd(committer: &Committer) -> Vec<Result<(), Refusal>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|thread| {
                let ask = move |it: u64| committer.commit(|state| activate(state, thread * 25 + it), |_| ());
                scope.spawn(move || (0..25).map(ask).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn limits_are_exact_and_everything_acknowledged_is_there_again() {
    for every in [u64::MAX, 40] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        let (store, before) = reopened(&path);
        let committer = Committer::new(store, before, every);
        let answers = crowd(&committer);
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 300);
        let refused = |it: &Result<(), Refusal>| matches!(it, Err(Refusal::ActivationsExhausted { .. }));
        assert_eq!(answers.iter().filter(|it| refused(it)).count(), 100);
        let published = committer.lock().published.clone();
        drop(committer);
        let (store, found) = reopened(&path);
        assert_eq!((found.head, found.length), (published.head, 302));
        assert_eq!(found.state.mesh().unwrap().activations("m"), 300);
        assert_eq!(found.state.size(), published.state.size());
        // Instances that all live on make the state as large as the log.
        let due = found.state.snapshot_due(store.since_snapshot(), every);
        assert!(!due && (store.since_snapshot() < 160) == (every == 40), "{}", store.since_snapshot());
    }
}

/// A refusal that follows from a place that someone else was given is told only when that is on the disk.
#[test]
fn nothing_is_answered_before_it_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let (store, before) = reopened(&path);
    let committer = Committer::new(store, before, u64::MAX);
    // As if someone wrote: the store is away.
    let away = committer.lock().store.take();
    std::thread::scope(|scope| {
        let full = scope.spawn(|| {
            committer.commit(
                |state| {
                    let events = (0..LIMIT).flat_map(|it| activate(state, it).unwrap().events).collect();
                    Ok(Decided { events, shares: None, answer: () })
                },
                |_| (),
            )
        });
        while committer.lock().batch.records.is_empty() {
            std::thread::yield_now();
        }
        let late = scope.spawn(|| committer.commit(|state| activate(state, LIMIT), |_| ()));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!full.is_finished() && !late.is_finished());
        committer.lock().store = away;
        committer.written.notify_all();
        assert!(full.join().unwrap().is_ok());
        assert!(matches!(late.join().unwrap(), Err(Refusal::ActivationsExhausted { .. })));
    });
}

/// A disk that stops when it is told to.
#[derive(Debug)]
struct Failing {
    memory: InMemoryBackend,
    broken: Arc<AtomicBool>,
}

impl Failing {
    fn works(&self) -> io::Result<()> {
        let broken = self.broken.load(Ordering::Relaxed);
        if broken { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.works().and_then(|()| self.memory.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.works().and_then(|()| self.memory.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.works().and_then(|()| self.memory.write(offset, data))
    }
}

#[test]
fn a_disk_that_fails_fails_the_batch_and_all_after_it() {
    let broken = Arc::new(AtomicBool::new(false));
    let storage = Failing { memory: InMemoryBackend::new(), broken: broken.clone() };
    let (store, before) = snapshot(opened(Store::open_on(storage, &*tee()).unwrap()));
    let committer = Committer::new(store, before, u64::MAX);
    committer.commit(|state| activate(state, 0), |_| ()).unwrap();
    broken.store(true, Ordering::Relaxed);
    let answers = crowd(&committer);
    assert!(answers.iter().all(|answer| matches!(answer, Err(Refusal::Internal(_)))));
    broken.store(false, Ordering::Relaxed);
    let after = committer.commit(|state| activate(state, 1000), |_| ());
    assert!(
        matches!(after, Err(Refusal::Internal(_))),
        "what was decided since was decided on what never was"
    );
    let published = committer.lock().published.clone();
    assert_eq!(published.state.mesh().unwrap().activations("m"), 1);
}

mod shared;
