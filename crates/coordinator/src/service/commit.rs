//! Making decisions durable, many at a time. Whoever commits decides on the newest state, durable or not, under a
//! lock that is never held over the disk, and leaves records in the batch that is filling. The first who finds the
//! store free writes the whole batch in one transaction, while others go on deciding for the next; each is answered
//! when the batch that its decision saw or made is on the disk, refusals too. Where the disk fails, the whole batch
//! fails, and with it everything after: what was decided on it never was.
//!
//! Where other replicas append to the same log, a batch is written only if what it was decided on is still the newest.
//! If it is not, what came is read and everyone whose decision was in the batch, or saw what was in it, decides again.
//! There, everyone is answered only then, refusals and reads too: each answer follows from the newest state that there
//! was at some moment between the question and the answer.
//!
//! Where a TPM keeps a chain ([`crate::core::anchor`]), a batch ends with the chain's value, and the chain goes one step
//! before anyone is answered.
//!
//! After every so many records the one who wrote also leaves a snapshot, and the records before it go.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
};

use manifest::SealMode;
use zeroize::Zeroizing;

use super::{
    Decided, Snapshot,
    anchor::{AnchorFault, Tether},
};
use crate::{
    core::{Event, Mesh, Refusal, State, anchor::Unfit, recovery::Descriptor},
    store::{Records, Shares, Store, StoreError},
};

/// So many records at least are between two snapshots.
pub(super) const SNAPSHOT_EVERY: u64 = 4096;

/// So often at most is a decision made again because other replicas came first.
const MOST_TURNS: usize = 100;

/// The one way to the store.
pub(super) struct Committer {
    tail: Mutex<Tail>,
    written: Condvar,
    snapshot_every: u64,
    /// The chain in a TPM, for whoever has the store.
    tether: Mutex<Option<Tether>>,
}

/// Why a batch failed.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The TPM.
    #[error(transparent)]
    Anchor(#[from] AnchorFault),
}

struct Tail {
    /// Absent while someone writes.
    store: Option<Store>,
    /// Whether other replicas append as well.
    shared: bool,
    /// After all that was decided.
    state: State,
    /// After all that is durable.
    published: Snapshot,
    batch: Batch,
    /// What becomes of the batch that is being written.
    writing: Option<Fate>,
    compacting: bool,
    /// Whether a snapshot waits for the store: before the next batch, or a busy log would never have one.
    wanted: bool,
    /// What ends the next batch, where there is a chain.
    anchored: Option<Event>,
    /// Why nothing can be committed any more.
    failed: Option<Failure>,
}

/// What goes to the disk together.
#[derive(Default)]
struct Batch {
    records: Records,
    /// What each record adds to the transparency log.
    entries: Vec<Vec<u8>>,
    shares: NewShares,
    forget: bool,
    fate: Fate,
}

/// What became of a batch, once that is known.
type Fate = Arc<OnceLock<Result<Written, Failure>>>;

#[derive(Clone, Copy)]
enum Written {
    /// It is durable, and the state that it was decided on was the newest.
    Durable,
    /// Other replicas came first: it never was.
    Overtaken,
}

/// Why a batch never was; or, where etcd did not answer, may or may not have been.
#[derive(Clone)]
enum Failure {
    /// The store cannot be written any more.
    Broken(String),
    /// The log is another than the one that was seen.
    RolledBack(String),
    /// etcd does not answer now.
    CutOff(String),
}

impl From<&StoreError> for Failure {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::RolledBack { .. } => Self::RolledBack(error.to_string()),
            error if error.is_passing() => Self::CutOff(error.to_string()),
            error => Self::Broken(error.to_string()),
        }
    }
}

impl From<&WriteError> for Failure {
    fn from(error: &WriteError) -> Self {
        match error {
            WriteError::Store(error) => error.into(),
            // What was written stands, and whether it is the newest is the chain's to say: nothing goes on here.
            WriteError::Anchor(fault) => Self::Broken(fault.to_string()),
        }
    }
}

impl From<&Failure> for Refusal {
    fn from(failure: &Failure) -> Self {
        match failure.clone() {
            Failure::Broken(reason) => Self::Internal(reason),
            Failure::RolledBack(reason) => Unfit::Replaced(reason).into(),
            Failure::CutOff(reason) => Self::CutOff(reason),
        }
    }
}

#[derive(Default)]
enum NewShares {
    #[default]
    Keep,
    Replace(Descriptor, Zeroizing<[u8; 32]>),
    Remove,
}

impl Committer {
    /// Goes on from what is in `store`.
    pub(super) fn new(store: Store, published: Snapshot, snapshot_every: u64) -> Self {
        let tail = Tail {
            shared: store.is_shared(),
            store: Some(store),
            state: published.state.as_ref().clone(),
            published,
            batch: Batch::default(),
            writing: None,
            compacting: false,
            wanted: false,
            anchored: None,
            failed: None,
        };
        Self { tail: Mutex::new(tail), written: Condvar::new(), snapshot_every, tether: Mutex::default() }
    }

    /// Decides on the newest state, makes the events durable, lets `publish` have the new state, and gives what
    /// `decide` had to say. Where other replicas came first, it decides again, on what they did.
    pub(super) fn commit<T>(
        &self,
        decide: impl Fn(&State) -> Result<Decided<T>, Refusal>,
        publish: impl Fn(&Snapshot),
    ) -> Result<T, Refusal> {
        for _ in 0..MOST_TURNS {
            let mut tail =
                self.tail.lock().map_err(|_| Refusal::Internal("an earlier commit failed".into()))?;
            if let Some(failure) = &tail.failed {
                return Err(failure.into());
            }
            let answer = tail.decide(&decide);
            let Some(fate) = tail.answered_after() else { return answer };
            let (written, compact) = self.settle(tail, &fate, &publish)?;
            if let Some(snapshot) = compact {
                self.compact(&snapshot);
            }
            if matches!(written, Written::Durable) {
                return answer;
            }
        }
        Err(Refusal::Busy)
    }

    /// Waits until it is known what became of a batch, or finds out. Gives the state to make a snapshot of, if it is
    /// time for one.
    fn settle<'a>(
        &'a self,
        mut tail: MutexGuard<'a, Tail>,
        fate: &Fate,
        publish: &impl Fn(&Snapshot),
    ) -> Result<(Written, Option<Snapshot>), Refusal> {
        let mut compact = None;
        loop {
            match fate.get() {
                Some(Ok(written)) => return Ok((*written, compact)),
                Some(Err(failure)) => return Err(failure.into()),
                None => {}
            }
            let free = if tail.wanted { None } else { tail.store.take() };
            let Some(mut store) = free else {
                tail = self.written.wait(tail).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if let Err(error) = tail.announce() {
                tail.forsake(Err(Failure::from(&error)));
                tail.store = Some(store);
                self.written.notify_all();
                continue;
            }
            let batch = std::mem::take(&mut tail.batch);
            tail.writing = Some(batch.fate.clone());
            let (decided, before) = (tail.state.clone(), tail.published.clone());
            drop(tail);
            let outcome = guarded(|| self.write(&batch, &mut store, decided, &before));
            tail = self.lock();
            let fate = outcome.map_err(|error| Failure::from(&error)).map(|(outcome, anchored)| {
                tail.anchored = anchored;
                match outcome {
                    Outcome::Unchanged => Written::Durable,
                    Outcome::Appended(snapshot) => {
                        tail.published = snapshot;
                        Written::Durable
                    }
                    Outcome::Overtaken(snapshot) => {
                        tail.published = snapshot;
                        Written::Overtaken
                    }
                }
            });
            if tail.published.length != before.length {
                publish(&tail.published);
            }
            match &fate {
                Ok(Written::Durable) => {
                    let due = store.is_heavy()
                        || tail.published.state.snapshot_due(store.since_snapshot(), self.snapshot_every);
                    if due && !tail.compacting {
                        tail.compacting = true;
                        compact = Some(tail.published.clone());
                    }
                }
                // What was decided since was decided on what never was, or perhaps never was.
                fate => tail.forsake(fate.clone()),
            }
            let _ = batch.fate.set(fate);
            (tail.store, tail.writing) = (Some(store), None);
            self.written.notify_all();
        }
    }

    /// Writes the batch; where there is a chain, it goes one step with it. Gives what ends the next batch.
    fn write(
        &self,
        batch: &Batch,
        store: &mut Store,
        decided: State,
        before: &Snapshot,
    ) -> Result<(Outcome, Option<Event>), WriteError> {
        let outcome = batch.write(store, decided, before)?;
        let mut tether = self.tether.lock().unwrap_or_else(PoisonError::into_inner);
        if batch.forget {
            *tether = None;
        }
        let Some(chain) = tether.as_mut() else { return Ok((outcome, None)) };
        if let Outcome::Appended(snapshot) = &outcome {
            chain.advance(&snapshot.head)?;
        }
        Ok((outcome, Some(chain.announcement())))
    }

    /// Why nothing can be committed any more, if so.
    pub(super) fn failure(&self) -> Option<Refusal> {
        self.lock().failed.as_ref().map(Refusal::from)
    }

    /// From now on the log goes with this chain.
    pub(super) fn tie(&self, tether: Option<Tether>) {
        self.lock().anchored = tether.as_ref().map(Tether::announcement);
        *self.tether.lock().unwrap_or_else(PoisonError::into_inner) = tether;
    }

    /// Whether the chain, if there is one, is where the log left it.
    pub(super) fn check_tether(&self) -> Result<(), AnchorFault> {
        let mut tether = self.tether.lock().unwrap_or_else(PoisonError::into_inner);
        tether.as_mut().map_or(Ok(()), Tether::check)
    }

    /// Asks the store about what lies on the disk, while nobody writes.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&Store) -> T) -> T {
        let mut tail = self.lock();
        loop {
            match &tail.store {
                Some(store) => return ask(store),
                None => tail = self.written.wait(tail).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Reads from the store, while nobody writes and others go on deciding.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut tail = self.lock();
        let store = loop {
            match tail.store.take() {
                Some(store) => break store,
                None => tail = self.written.wait(tail).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(tail);
        let answer = catch_unwind(AssertUnwindSafe(|| read(&store))).unwrap_or(Err(StoreError::Damaged));
        self.lock().store = Some(store);
        self.written.notify_all();
        answer
    }

    /// Leaves a snapshot in the store. Without one the log is longer and nothing else, so a failure is no one's
    /// answer.
    fn compact(&self, snapshot: &Snapshot) {
        let record = snapshot.state.to_snapshot();
        let mut tail = self.lock();
        tail.wanted = true;
        let mut store = loop {
            match tail.store.take() {
                Some(store) => break store,
                None => tail = self.written.wait(tail).unwrap_or_else(PoisonError::into_inner),
            }
        };
        tail.wanted = false;
        drop(tail);
        let written = record.map_err(|refusal| refusal.to_string()).and_then(|record| {
            guarded(|| Ok(store.snapshot(snapshot.length, &snapshot.head, &record)?))
                .map_err(|error| error.to_string())
        });
        let mut tail = self.lock();
        match written {
            Ok(()) => tracing::info!(code = "SNAPSHOT", records = snapshot.length, "the log has a snapshot"),
            Err(reason) => {
                tracing::warn!(code = "SNAPSHOT_FAILED", reason, "the log has no new snapshot");
            }
        }
        (tail.store, tail.compacting) = (Some(store), false);
        self.written.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    /// The batch that a decision made just now is answered after: the one that it is in, or whose records it saw. With
    /// other replicas about, also one that wrote nothing is answered only when its state is known to be the newest.
    fn answered_after(&self) -> Option<Fate> {
        if self.shared || !self.batch.records.is_empty() {
            return Some(self.batch.fate.clone());
        }
        self.writing.clone()
    }

    /// What fills the batch goes the way of the one before it, and decisions go on from what is durable.
    fn forsake(&mut self, fate: Result<Written, Failure>) {
        if let Err(failure @ (Failure::Broken(reason) | Failure::RolledBack(reason))) = &fate {
            tracing::error!(
                code = "STATE_NOT_WRITTEN",
                reason,
                "nothing can be committed until the coordinator starts again"
            );
            self.failed = Some(failure.clone());
        }
        let _ = std::mem::take(&mut self.batch).fate.set(fate);
        self.state = self.published.state.as_ref().clone();
    }

    /// The batch is complete: where there is a chain, its value goes into the log.
    fn announce(&mut self) -> Result<(), WriteError> {
        if self.batch.records.is_empty() {
            return Ok(());
        }
        let Some(anchored) = self.anchored.take().filter(|_| !self.batch.forget) else { return Ok(()) };
        let index = self.published.length + self.batch.records.len() as u64;
        let record = anchored.to_record();
        let stepped = self.state.clone().step_logged(anchored);
        let (state, entry) = stepped.map_err(|reason| StoreError::Version { index, reason })?;
        self.batch.records.push(record);
        self.batch.entries.push(entry);
        self.state = state;
        Ok(())
    }

    /// Decides, and puts the events into the batch.
    fn decide<T>(&mut self, decide: impl Fn(&State) -> Result<Decided<T>, Refusal>) -> Result<T, Refusal> {
        let Decided { events, shares, answer } = decide(&self.state)?;
        if events.is_empty() {
            return Ok(answer);
        }
        let records: Vec<_> = events.iter().map(Event::to_record).collect();
        let (mut state, mut entries) = (self.state.clone(), Vec::with_capacity(records.len()));
        for event in events {
            let (next, more) = state.step_logged(event).map_err(Refusal::Internal)?;
            state = next;
            entries.push(more);
        }
        let disabled = |mesh: &Mesh| mesh.manifest().settings().seal_mode == SealMode::Disabled;
        let forget = state.mesh().is_some_and(disabled);
        if forget && self.shared {
            return Err(Refusal::SealModeShared);
        }
        let secret = state.mesh().and_then(Mesh::recovery_secret);
        match (shares, secret) {
            (Some(descriptor), Some(secret)) => {
                self.batch.shares = NewShares::Replace(descriptor, secret.clone());
            }
            (None, Some(_)) => {}
            (_, None) => self.batch.shares = NewShares::Remove,
        }
        self.batch.forget |= forget;
        self.batch.records.extend(records);
        self.batch.entries.extend(entries);
        self.state = state;
        Ok(answer)
    }
}

/// What writing a batch came to.
enum Outcome {
    /// Nothing was to be written, and nothing came from others.
    Unchanged,
    Appended(Snapshot),
    Overtaken(Snapshot),
}

impl Batch {
    /// Appends, if what was decided on is still the newest; reads what came, if it is not.
    fn write(&self, store: &mut Store, decided: State, before: &Snapshot) -> Result<Outcome, StoreError> {
        if !self.records.is_empty() {
            let shares = match &self.shares {
                NewShares::Keep => Shares::Keep,
                NewShares::Replace(descriptor, secret) => Shares::Replace(descriptor, secret),
                NewShares::Remove => Shares::Remove,
            };
            match store.append_with(&self.records, &self.entries, shares) {
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    if self.forget {
                        store.forget()?;
                    }
                    return Ok(Outcome::Appended(snapshot(store, decided)));
                }
            }
        }
        let Some(news) = store.catch_up()? else { return Ok(Outcome::Unchanged) };
        let state = before.state.as_ref().clone().followed_by(news)?;
        if state.root().key().is_err() && before.state.root().key().is_ok() {
            return Err(StoreError::Superseded);
        }
        Ok(Outcome::Overtaken(snapshot(store, state)))
    }
}

fn snapshot(store: &Store, state: State) -> Snapshot {
    Snapshot { state: Arc::new(state), head: store.head(), length: store.length() }
}

/// redb asserts that its pages are as it wrote them, and the host can write others.
fn guarded<T>(write: impl FnOnce() -> Result<T, WriteError>) -> Result<T, WriteError> {
    catch_unwind(AssertUnwindSafe(write)).unwrap_or(Err(StoreError::Damaged.into()))
}

#[cfg(test)]
mod tests;
