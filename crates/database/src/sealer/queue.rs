//! What waits to be sealed, between the threads that receive and the one that seals.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{error::SealerError, item::Item};
use crate::lsn::Lsn;

/// Bytes of write-ahead log that wait at most; then PostgreSQL waits too.
const MAX_WAL: usize = 64 << 20;
/// Bytes after which a backup waits: commits go before it.
const MAX_WITH_BACKUP: usize = 4 << 20;
/// Bytes of a record, so that one entry more still fits.
const BATCH: usize = 8 << 20;

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// No more of the write-ahead log will come.
    closed: bool,
    failed: Option<SealerError>,
    sealed: Lsn,
    /// Backups that were asked for, and those that were done, by number.
    requested: u64,
    completed: u64,
    /// The backup that is being made is sealed, and the log cut.
    backup_sealed: bool,
}

/// The queue and what the threads tell each other.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the sealing thread is to do.
pub(super) enum Work {
    Seal(Vec<Item>),
    /// Nothing came until the deadline.
    Idle,
    /// Nothing will come any more.
    Closed,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item when there is room.
    pub(super) fn push(&self, item: Item) -> Result<(), SealerError> {
        let limit = if matches!(item, Item::Wal { .. }) { MAX_WAL } else { MAX_WITH_BACKUP };
        let mut state = self.state();
        while state.failed.is_none() && state.bytes >= limit {
            state = self.wait(state);
        }
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        state.bytes += item.len();
        state.items.push_back(item);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// All that waits, as far as it fits into a record; waits for it until `deadline`.
    pub(super) fn take(&self, deadline: Option<Instant>) -> Result<Work, SealerError> {
        let mut state = self.state();
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if !state.items.is_empty() {
                break;
            }
            if state.closed {
                return Ok(Work::Closed);
            }
            state = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.wait(state),
                Some(left) if left.is_zero() => return Ok(Work::Idle),
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let (mut items, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH
            && let Some(item) = state.items.pop_front()
        {
            bytes += item.len();
            items.push(item);
        }
        state.bytes -= bytes;
        drop(state);
        self.changed.notify_all();
        Ok(Work::Seal(items))
    }

    /// The write-ahead log has ended.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Whether this is the first failure; nobody waits any more.
    pub(super) fn fail(&self, error: SealerError) -> bool {
        let mut state = self.state();
        let first = state.failed.is_none();
        if first {
            state.failed = Some(error);
        }
        drop(state);
        self.changed.notify_all();
        first
    }

    pub(super) fn failure(&self) -> Option<SealerError> {
        self.state().failed.clone()
    }

    pub(super) fn sealed(&self) -> Lsn {
        self.state().sealed
    }

    pub(super) fn set_sealed(&self, sealed: Lsn) {
        self.state().sealed = sealed;
        self.changed.notify_all();
    }

    /// Returns when everything before `position` is sealed.
    pub(super) fn wait_sealed(&self, position: Lsn) -> Result<(), SealerError> {
        let mut state = self.state();
        loop {
            match &state.failed {
                Some(error) => return Err(error.clone()),
                None if state.sealed >= position => return Ok(()),
                None => state = self.wait(state),
            }
        }
    }

    /// Asks for a backup; its number.
    pub(super) fn request_backup(&self) -> u64 {
        let mut state = self.state();
        state.requested += 1;
        let number = state.requested;
        drop(state);
        self.changed.notify_all();
        number
    }

    /// Whether one is asked for, or being made.
    pub(super) fn backup_pending(&self) -> bool {
        let state = self.state();
        state.requested > state.completed
    }

    /// Waits until a backup is asked for: the number of the last that was.
    pub(super) fn wait_requested(&self) -> Result<u64, SealerError> {
        let mut state = self.state();
        loop {
            match &state.failed {
                Some(error) => return Err(error.clone()),
                None if state.closed => return Err(SealerError::Ended),
                None if state.requested > state.completed => return Ok(state.requested),
                None => state = self.wait(state),
            }
        }
    }

    /// The backup is sealed, and the log cut before it.
    pub(super) fn backup_sealed(&self) {
        self.state().backup_sealed = true;
        self.changed.notify_all();
    }

    /// Waits until it is.
    pub(super) fn wait_backup_sealed(&self) -> Result<(), SealerError> {
        let mut state = self.state();
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if std::mem::take(&mut state.backup_sealed) {
                return Ok(());
            }
            state = self.wait(state);
        }
    }

    /// All that was asked for up to `number` is done.
    pub(super) fn backup_completed(&self, number: u64) {
        self.state().completed = number;
        self.changed.notify_all();
    }

    /// Waits until the backup `number` is done.
    pub(super) fn wait_completed(&self, number: u64) -> Result<(), SealerError> {
        let mut state = self.state();
        loop {
            match &state.failed {
                Some(error) => return Err(error.clone()),
                None if state.completed >= number => return Ok(()),
                None => state = self.wait(state),
            }
        }
    }
}
