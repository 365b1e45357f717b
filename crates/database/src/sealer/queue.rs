//! What the sealing thread and the one that makes backups tell each other: parts of a backup that wait to be sealed, and
//! how far everything is.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::{error::SealerError, item::Item};
use crate::lsn::Lsn;

/// Bytes after which a backup waits: commits go before it.
const MAX_WAITING: usize = 4 << 20;

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
pub(super) struct Queue {
    state: Mutex<State>,
    /// A backup is asked for. Apart from [`Self::progress`], which every commit makes: who waits for this sleeps long.
    asked: Condvar,
    progress: Condvar,
    /// Readable when something waits: the sealing thread waits for it and for PostgreSQL at once.
    waiting: OwnedFd,
}

impl Queue {
    pub(super) fn new(sealed: Lsn) -> Result<Self, SealerError> {
        let waiting = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self {
            state: Mutex::new(State { sealed, ..State::default() }),
            asked: Condvar::new(),
            progress: Condvar::new(),
            waiting: waiting.map_err(std::io::Error::from)?,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for `done`, or a failure.
    fn wait<T>(
        &self,
        condition: &Condvar,
        mut done: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T, SealerError> {
        let mut state = self.state();
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if let Some(done) = done(&mut state) {
                return Ok(done);
            }
            state = condition.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Changes something that others wait for.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.progress.notify_all();
        changed
    }

    /// Adds a part of a backup when there is room.
    pub(super) fn push(&self, item: Item) -> Result<(), SealerError> {
        let mut item = Some(item);
        self.wait(&self.progress, |state| {
            let room = state.bytes < MAX_WAITING;
            if room && let Some(item) = item.take() {
                state.bytes += item.len();
                state.items.push_back(item);
            }
            room.then_some(())
        })?;
        // Full: then it is readable already.
        let _ = rustix::io::write(&self.waiting, &1_u64.to_ne_bytes());
        Ok(())
    }

    /// All that waits.
    pub(super) fn take(&self) -> Vec<Item> {
        let mut count = [0; 8];
        // Nothing came since: it says so.
        let _ = rustix::io::read(&self.waiting, &mut count);
        self.change(|state| {
            state.bytes = 0;
            state.items.drain(..).collect()
        })
    }

    /// Readable when something waits.
    pub(super) fn waiting(&self) -> BorrowedFd<'_> {
        self.waiting.as_fd()
    }

    /// The write-ahead log has ended.
    pub(super) fn close(&self) {
        self.change(|state| state.closed = true);
        self.asked.notify_all();
    }

    /// Whether this is the first failure; nobody waits any more.
    pub(super) fn fail(&self, error: SealerError) -> bool {
        let first = self.change(|state| {
            let first = state.failed.is_none();
            if first {
                state.failed = Some(error);
            }
            first
        });
        self.asked.notify_all();
        first
    }

    pub(super) fn failure(&self) -> Option<SealerError> {
        self.state().failed.clone()
    }

    pub(super) fn sealed(&self) -> Lsn {
        self.state().sealed
    }

    pub(super) fn set_sealed(&self, sealed: Lsn) {
        self.change(|state| state.sealed = sealed);
    }

    /// Returns when everything before `position` is sealed.
    pub(super) fn wait_sealed(&self, position: Lsn) -> Result<(), SealerError> {
        self.wait(&self.progress, |state| (state.sealed >= position).then_some(()))
    }

    /// Asks for a backup; its number.
    pub(super) fn request_backup(&self) -> u64 {
        let number = {
            let mut state = self.state();
            state.requested += 1;
            state.requested
        };
        self.asked.notify_all();
        number
    }

    /// Whether one is asked for, or being made.
    pub(super) fn backup_pending(&self) -> bool {
        let state = self.state();
        state.requested > state.completed
    }

    /// Waits until a backup is asked for: the number of the last that was.
    pub(super) fn wait_requested(&self) -> Result<u64, SealerError> {
        self.wait(&self.asked, |state| {
            let requested = (state.requested > state.completed).then_some(Ok(state.requested));
            if state.closed { Some(Err(SealerError::Ended)) } else { requested }
        })?
    }

    /// The backup is sealed, and the log cut before it.
    pub(super) fn backup_sealed(&self) {
        self.change(|state| state.backup_sealed = true);
    }

    /// Waits until it is.
    pub(super) fn wait_backup_sealed(&self) -> Result<(), SealerError> {
        self.wait(&self.progress, |state| std::mem::take(&mut state.backup_sealed).then_some(()))
    }

    /// All that was asked for up to `number` is done.
    pub(super) fn backup_completed(&self, number: u64) {
        self.change(|state| state.completed = number);
    }

    /// Waits until the backup `number` is done.
    pub(super) fn wait_completed(&self, number: u64) -> Result<(), SealerError> {
        self.wait(&self.progress, |state| (state.completed >= number).then_some(()))
    }
}
