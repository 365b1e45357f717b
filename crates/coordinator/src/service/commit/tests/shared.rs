//! Several committers on one log that answers late, twice, or not at all.

use std::{collections::BTreeSet, ops::Range};

use super::*;
use crate::store::{Appended, Content, Locked, Medium, Place, Recovery, SealedSnapshot};

/// What all share.
#[derive(Default)]
struct Log {
    records: Vec<(u64, Vec<u8>)>,
    snapshot: Option<(Place, Vec<u8>)>,
    end: Option<Place>,
    recovery: Option<Vec<u8>>,
    asked: u64,
}

/// One replica's way to it, and its own keys.
struct Memory {
    log: Arc<Mutex<Log>>,
    keys: Vec<(String, Vec<u8>)>,
    /// Whether answers get lost.
    fails: Arc<AtomicBool>,
}

impl Memory {
    fn new(log: &Arc<Mutex<Log>>, fails: &Arc<AtomicBool>) -> Box<Self> {
        Box::new(Self { log: log.clone(), keys: Vec::new(), fails: fails.clone() })
    }

    fn lost() -> StoreError {
        StoreError::Etcd(etcd::EtcdError::Unreachable("a test".into()))
    }
}

impl Medium for Memory {
    fn is_shared(&self) -> bool {
        true
    }

    fn read(&self, from: Option<u64>) -> Result<Content, StoreError> {
        let mut log = self.log.lock().unwrap();
        log.asked += 1;
        if self.fails.load(Ordering::Relaxed) && log.asked % 11 == 3 {
            return Err(Self::lost());
        }
        let first = log.records.first().map_or(0, |(index, _)| *index);
        let snapshot = log.snapshot.clone().filter(|_| from.is_none_or(|from| from < first));
        let snapshot = snapshot.map(|(at, sealed)| SealedSnapshot { at, sealed });
        let from = snapshot.as_ref().map_or(from.unwrap_or(0), |snapshot| snapshot.at.length);
        let records = log.records.iter().filter(|(index, _)| *index >= from).cloned().collect();
        Ok(Content { snapshot, records, end: Some(log.end.unwrap_or(Place::START)) })
    }

    fn append(&mut self, at: &Place, end: &Place, appended: &Appended<'_>) -> Result<(), StoreError> {
        let mut log = self.log.lock().unwrap();
        log.asked += 1;
        let turn = if self.fails.load(Ordering::Relaxed) { log.asked % 13 } else { 0 };
        if turn == 5 {
            return Err(Self::lost());
        }
        if log.end.unwrap_or(Place::START) != *at {
            return Err(StoreError::Conflict);
        }
        log.records.extend((at.length..).zip(appended.records.iter().cloned()));
        log.end = Some(*end);
        match appended.recovery {
            Recovery::Keep => {}
            Recovery::Remove => log.recovery = None,
            Recovery::Replace(record) => log.recovery = Some(record.to_vec()),
        }
        // Done, and nobody hears of it.
        if turn == 9 { Err(Self::lost()) } else { Ok(()) }
    }

    fn entries(&self, _: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(Vec::new())
    }

    fn put_snapshot(&mut self, snapshot: &SealedSnapshot) -> Result<(), StoreError> {
        let mut log = self.log.lock().unwrap();
        let before = log.snapshot.as_ref().map_or(0, |(at, _)| at.length);
        if snapshot.at.length > before {
            log.snapshot = Some((snapshot.at, snapshot.sealed.clone()));
            log.records.retain(|(index, _)| *index >= before);
        }
        Ok(())
    }

    fn recovery(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.log.lock().unwrap().recovery.clone())
    }

    fn key(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.keys.iter().find(|(known, _)| known == name).map(|(_, key)| key.clone()))
    }

    fn put_keys(&mut self, keys: &[(&str, Vec<u8>)]) -> Result<(), StoreError> {
        self.keys = keys.iter().map(|(name, key)| ((*name).to_owned(), key.clone())).collect();
        Ok(())
    }

    fn remove(self: Box<Self>) -> Result<(), StoreError> {
        Err(StoreError::Shared)
    }
}

fn locked(log: &Arc<Mutex<Log>>, fails: &Arc<AtomicBool>) -> Locked {
    match Store::open_shared(Memory::new(log, fails), &*tee()).unwrap() {
        Opening::Locked(locked) => locked,
        Opening::Open(_) => panic!("it has no keys"),
    }
}

/// A replica that another one gave the keys.
fn joined(log: &Arc<Mutex<Log>>, first: &Committer, fails: bool, every: u64) -> Committer {
    let identity = first.lock().published.state.identity().clone();
    let keys = first.ask(|store| store.keys(&identity));
    let failing = Arc::default();
    let mut locked = locked(log, &failing);
    let unlocked = locked.admit(&keys, &*tee()).unwrap();
    let state = unlocked.state(&identity).unwrap().unwrap();
    let store = locked.admitted(unlocked, &keys).unwrap().store;
    failing.store(fails, Ordering::Relaxed);
    let (head, length) = (store.head(), store.length());
    Committer::new(store, Snapshot { state: state.into(), head, length }, every)
}

fn first(log: &Arc<Mutex<Log>>, every: u64) -> Committer {
    let Opening::Open(opened) = Store::open_shared(Memory::new(log, &Arc::default()), &*tee()).unwrap()
    else {
        panic!("locked")
    };
    let (store, before) = snapshot(opened);
    Committer::new(store, before, every)
}

/// Three replicas, 8 threads on each, 480 requests for 300 places.
#[test]
fn limits_are_exact_among_replicas_that_lose_answers() {
    for (fails, every) in [(false, u64::MAX), (true, u64::MAX), (true, 50)] {
        let log = Arc::new(Mutex::new(Log::default()));
        let one = first(&log, every);
        let two = joined(&log, &one, fails, every);
        let three = joined(&log, &one, fails, every);
        let granted = Mutex::new(BTreeSet::new());
        std::thread::scope(|scope| {
            for (replica, committer) in [&one, &two, &three].into_iter().enumerate() {
                for thread in 0..8 {
                    let granted = &granted;
                    scope.spawn(move || {
                        for request in 0..20 {
                            let instance = (replica * 1000 + thread * 100 + request) as u64;
                            match committer.commit(|state| activate(state, instance), |_| ()) {
                                Ok(()) => assert!(granted.lock().unwrap().insert(instance)),
                                Err(Refusal::ActivationsExhausted { .. } | Refusal::CutOff(_)) => {}
                                Err(refusal) => panic!("{refusal}"),
                            }
                        }
                    });
                }
            }
        });
        let granted = granted.into_inner().unwrap();
        // Everyone comes to the same, and what was granted is in it.
        let state = |committer: &Committer| {
            let nothing = || Ok(Decided { events: Vec::new(), shares: None, answer: () });
            while committer.commit(|_| nothing(), |_| ()).is_err() {}
            committer.lock().published.clone()
        };
        let states = [&one, &two, &three].map(state);
        assert!(states.iter().all(|it| (it.head, it.length) == (states[0].head, states[0].length)));
        let mesh = states[0].state.mesh().unwrap();
        let given = mesh.activations("m");
        assert!(given <= LIMIT && granted.len() as u64 <= given, "{} granted, {given} given", granted.len());
        if !fails {
            assert_eq!((granted.len() as u64, given), (LIMIT, LIMIT));
        }
        let replayed = joined(&log, &one, false, every).lock().published.clone();
        assert_eq!((replayed.head, replayed.state.mesh().unwrap().activations("m")), (states[0].head, given));
    }
}

/// Whoever hears nothing says so, and goes on from what is true when it hears again.
#[test]
fn a_refusal_is_told_only_on_the_newest_state() {
    let log = Arc::new(Mutex::new(Log::default()));
    let one = first(&log, u64::MAX);
    let two = joined(&log, &one, false, u64::MAX);
    let full = |state: &State| {
        let events = (0..LIMIT).flat_map(|it| activate(state, it).unwrap().events).collect();
        Ok(Decided { events, shares: None, answer: () })
    };
    one.commit(full, |_| ()).unwrap();
    // It has not read what happened, and still does not give a place that is taken.
    let late = two.commit(|state| activate(state, LIMIT), |_| ());
    assert!(matches!(late, Err(Refusal::ActivationsExhausted { .. })));
    let seen = two.commit(
        |state| {
            Ok(Decided { events: Vec::new(), shares: None, answer: state.mesh().unwrap().activations("m") })
        },
        |_| (),
    );
    assert_eq!(seen.unwrap(), LIMIT);
}

/// S-16: the log is another than the one that was seen.
#[test]
fn s16_a_log_that_is_shorter_or_another_stops_the_replica() {
    for forked in [false, true] {
        let log = Arc::new(Mutex::new(Log::default()));
        let one = first(&log, u64::MAX);
        let two = joined(&log, &one, false, u64::MAX);
        let before = {
            let log = log.lock().unwrap();
            (log.records.clone(), log.end)
        };
        one.commit(|state| activate(state, 1), |_| ()).unwrap();
        two.commit(|_| Ok(Decided { events: Vec::new(), shares: None, answer: () }), |_| ()).unwrap();
        {
            let mut log = log.lock().unwrap();
            (log.records, log.end) = before;
        }
        if forked {
            // Someone who never saw it goes on from the old copy.
            let other = joined_at(&log, &one);
            other.commit(|state| activate(state, 2), |_| ()).unwrap();
        }
        let answer = two.commit(|state| activate(state, 3), |_| ());
        assert!(matches!(answer, Err(Refusal::Unfit(Unfit::Replaced(_)))), "forked: {forked}");
        let after = two.commit(|state| activate(state, 4), |_| ());
        assert!(matches!(after, Err(Refusal::Unfit(Unfit::Replaced(_)))), "and it goes on saying so");
    }
}

/// A replica that is given keys by one that is not asked where the log was.
fn joined_at(log: &Arc<Mutex<Log>>, first: &Committer) -> Committer {
    let identity = first.lock().published.state.identity().clone();
    let mut keys = first.ask(|store| store.keys(&identity));
    let mut locked = locked(log, &Arc::default());
    assert!(
        matches!(locked.admit(&keys, &*tee()), Err(StoreError::RolledBack { .. })),
        "the giver knows more"
    );
    keys.at = Place::START;
    let unlocked = locked.admit(&keys, &*tee()).unwrap();
    let state = unlocked.state(&identity).unwrap().unwrap();
    let store = locked.admitted(unlocked, &keys).unwrap().store;
    let (head, length) = (store.head(), store.length());
    Committer::new(store, Snapshot { state: state.into(), head, length }, u64::MAX)
}
