//! Making decisions durable, many at a time. Whoever commits decides on the newest state, durable or not, under a
//! lock that is never held over the disk, and leaves records in the batch that is filling. The first who finds the
//! store free writes the whole batch in one transaction, while others go on deciding for the next; each is answered
//! when the batch that its decision saw or made is on the disk, refusals too. Where the disk fails, the whole batch
//! fails, and with it everything after: what was decided on it never was.
//!
//! After every so many records the one who wrote also leaves a snapshot, and the records before it go.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use manifest::SealMode;
use zeroize::Zeroizing;

use super::{
    Decided, Snapshot,
    anchor::{AnchorFault, Tether},
};
use crate::{
    core::{Event, Mesh, Refusal, State, recovery::Descriptor},
    store::{Records, Shares, Store, StoreError},
};

/// So many records at least are between two snapshots.
pub(super) const SNAPSHOT_EVERY: u64 = 4096;

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
    /// After all that was decided.
    state: State,
    /// After all that is durable.
    published: Snapshot,
    batch: Batch,
    /// The number of the batch.
    filling: u64,
    /// The number of the newest batch on the disk.
    durable: u64,
    compacting: bool,
    /// What ends the next batch, where there is a chain.
    anchored: Option<Event>,
    /// Why nothing can be committed any more.
    failed: Option<String>,
}

/// What goes to the disk together.
#[derive(Default)]
struct Batch {
    records: Records,
    /// What each record adds to the transparency log.
    entries: Vec<Vec<u8>>,
    shares: NewShares,
    forget: bool,
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
            store: Some(store),
            state: published.state.as_ref().clone(),
            published,
            batch: Batch::default(),
            filling: 1,
            durable: 0,
            compacting: false,
            anchored: None,
            failed: None,
        };
        Self { tail: Mutex::new(tail), written: Condvar::new(), snapshot_every, tether: Mutex::default() }
    }

    /// Decides on the newest state, makes the events durable, lets `publish` have the new state, and gives what
    /// `decide` had to say.
    pub(super) fn commit<T>(
        &self,
        decide: impl FnOnce(&State) -> Result<Decided<T>, Refusal>,
        publish: impl Fn(&Snapshot),
    ) -> Result<T, Refusal> {
        let mut tail = self.tail.lock().map_err(|_| failed("an earlier commit failed"))?;
        if let Some(reason) = &tail.failed {
            return Err(failed(reason));
        }
        let answer = tail.decide(decide);
        // A decision that saw what is not yet durable waits for it.
        let ticket = if tail.batch.records.is_empty() { tail.filling - 1 } else { tail.filling };
        let compact = self.settle(tail, ticket, publish)?;
        if let Some(snapshot) = compact {
            self.compact(&snapshot);
        }
        answer
    }

    /// Waits until batch `ticket` is on the disk, or brings it there. Gives the state to make a snapshot of, if it is
    /// time for one.
    fn settle<'a>(
        &'a self,
        mut tail: MutexGuard<'a, Tail>,
        ticket: u64,
        publish: impl Fn(&Snapshot),
    ) -> Result<Option<Snapshot>, Refusal> {
        let mut compact = None;
        loop {
            if tail.durable >= ticket {
                return Ok(compact);
            }
            if let Some(reason) = &tail.failed {
                return Err(failed(reason));
            }
            let Some(mut store) = tail.store.take() else {
                tail = self.written.wait(tail).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if let Err(error) = tail.announce() {
                tail.fail(&error);
                tail.store = Some(store);
                continue;
            }
            let (batch, number) = (std::mem::take(&mut tail.batch), tail.filling);
            tail.filling += 1;
            let state = tail.state.clone();
            drop(tail);
            let written = guarded(|| self.write(&batch, &mut store));
            tail = self.lock();
            match written {
                Ok(anchored) => {
                    tail.anchored = anchored;
                    let state = Arc::new(state);
                    tail.published = Snapshot { state, head: store.head(), length: store.length() };
                    publish(&tail.published);
                    tail.durable = number;
                    let due = tail.published.state.snapshot_due(store.since_snapshot(), self.snapshot_every);
                    if due && !tail.compacting {
                        tail.compacting = true;
                        compact = Some(tail.published.clone());
                    }
                }
                Err(error) => tail.fail(&error),
            }
            tail.store = Some(store);
            self.written.notify_all();
        }
    }

    /// Writes the batch; where there is a chain, it goes one step with it. Gives what ends the next batch.
    fn write(&self, batch: &Batch, store: &mut Store) -> Result<Option<Event>, WriteError> {
        batch.write(store)?;
        let mut tether = self.tether.lock().unwrap_or_else(PoisonError::into_inner);
        if batch.forget {
            *tether = None;
        }
        let Some(chain) = tether.as_mut() else { return Ok(None) };
        chain.advance(&store.head())?;
        Ok(Some(chain.announcement()))
    }

    /// Whether nothing can be committed any more.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failed.is_some()
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
        let mut store = loop {
            match tail.store.take() {
                Some(store) => break store,
                None => tail = self.written.wait(tail).unwrap_or_else(PoisonError::into_inner),
            }
        };
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
    /// Decides, and puts the events into the batch.
    fn decide<T>(
        &mut self,
        decide: impl FnOnce(&State) -> Result<Decided<T>, Refusal>,
    ) -> Result<T, Refusal> {
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
        let secret = state.mesh().and_then(Mesh::recovery_secret);
        match (shares, secret) {
            (Some(descriptor), Some(secret)) => {
                self.batch.shares = NewShares::Replace(descriptor, secret.clone());
            }
            (None, Some(_)) => {}
            (_, None) => self.batch.shares = NewShares::Remove,
        }
        let disabled = |mesh: &Mesh| mesh.manifest().settings().seal_mode == SealMode::Disabled;
        self.batch.forget |= state.mesh().is_some_and(disabled);
        self.batch.records.extend(records);
        self.batch.entries.extend(entries);
        self.state = state;
        Ok(answer)
    }

    /// The batch is complete: where there is a chain, its value goes into the log.
    fn announce(&mut self) -> Result<(), WriteError> {
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

    fn fail(&mut self, error: &WriteError) {
        let reason = error.to_string();
        tracing::error!(
            code = "STATE_NOT_WRITTEN",
            reason,
            "nothing can be committed until the coordinator starts again"
        );
        self.failed = Some(reason);
    }
}

impl Batch {
    fn write(&self, store: &mut Store) -> Result<(), StoreError> {
        let shares = match &self.shares {
            NewShares::Keep => Shares::Keep,
            NewShares::Replace(descriptor, secret) => Shares::Replace(descriptor, secret),
            NewShares::Remove => Shares::Remove,
        };
        store.append_with(&self.records, &self.entries, shares)?;
        if self.forget { store.forget() } else { Ok(()) }
    }
}

/// redb asserts that its pages are as it wrote them, and the host can write others.
fn guarded<T>(write: impl FnOnce() -> Result<T, WriteError>) -> Result<T, WriteError> {
    catch_unwind(AssertUnwindSafe(write)).unwrap_or(Err(StoreError::Damaged.into()))
}

fn failed(reason: &str) -> Refusal {
    Refusal::Internal(reason.to_owned())
}

#[cfg(test)]
mod tests;
