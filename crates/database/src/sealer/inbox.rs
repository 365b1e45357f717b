//! What there is to seal: the write-ahead log as PostgreSQL streams it, and parts of a backup. The sealing thread reads the
//! stream itself: what comes while it syncs waits in the socket, and is sealed together, with no thread between them that
//! would have to be woken first.

use std::time::{Duration, Instant};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{
    error::SealerError,
    item::Item,
    queue::Queue,
    wire::{Event, Replication, Streamed},
};
use crate::lsn::Lsn;

/// Bytes of a record, so that what one more read brings still fits.
const BATCH: usize = 8 << 20;
/// Bytes from which on this is no single commit, and more is about to come.
const MUCH: usize = 64 << 10;
/// How long more is waited for then.
const MOMENT: Duration = Duration::from_micros(200);

/// What the sealing thread is to do.
pub(super) enum Work {
    Seal(Vec<Item>),
    /// Nothing came until the deadline.
    Idle,
    /// Nothing will come any more.
    Closed,
}

pub(super) struct Inbox {
    stream: Replication,
    timeline: u32,
    /// Where the log goes on.
    next: Lsn,
    /// PostgreSQL ended it, or is gone.
    closed: bool,
}

impl Inbox {
    pub(super) fn new(stream: Replication, timeline: u32, next: Lsn) -> Self {
        Self { stream, timeline, next, closed: false }
    }

    /// All that there is, as far as it fits into a record; waits for it until `deadline`.
    pub(super) fn take(&mut self, queue: &Queue, deadline: Option<Instant>) -> Result<Work, SealerError> {
        loop {
            if let Some(error) = queue.failure() {
                return Err(error);
            }
            let mut items = queue.take();
            self.receive(queue, &mut items)?;
            if !items.is_empty() {
                return Ok(Work::Seal(items));
            }
            if self.closed {
                queue.close();
                return Ok(Work::Closed);
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Work::Idle);
            }
            ready(
                &mut [watched(&self.stream), PollFd::from_borrowed_fd(queue.waiting(), PollFlags::IN)],
                left,
            )?;
        }
    }

    fn receive(&mut self, queue: &Queue, items: &mut Vec<Item>) -> Result<(), SealerError> {
        let mut bytes: usize = items.iter().map(Item::len).sum();
        while bytes < BATCH && !self.closed {
            match self.stream.received()? {
                Some(event) => bytes += self.event(queue, event, items)?,
                None => {
                    let moment = if bytes < MUCH { Duration::ZERO } else { MOMENT };
                    if !ready(&mut [watched(&self.stream)], Some(moment))? {
                        return Ok(());
                    }
                    match self.stream.receive() {
                        // It stopped, or was: what came until then is sealed, and then it is over.
                        Err(SealerError::EngineGone(_)) => self.closed = true,
                        other => other?,
                    }
                }
            }
        }
        Ok(())
    }

    /// How many bytes of log it brought.
    fn event(&mut self, queue: &Queue, event: Event, items: &mut Vec<Item>) -> Result<usize, SealerError> {
        let Event::Copy(message) = event else {
            self.closed = true;
            return Ok(0);
        };
        match Streamed::parse(message)? {
            Streamed::Wal { start, .. } if start != self.next => {
                Err(SealerError::Gap { expected: self.next, seen: start })
            }
            Streamed::Wal { start, bytes } => {
                let length = bytes.len();
                self.next.0 += length as u64;
                items.push(Item::Wal { timeline: self.timeline, start, bytes });
                Ok(length)
            }
            Streamed::Keepalive(wanted) => {
                if wanted {
                    self.confirm(queue.sealed())?;
                }
                Ok(0)
            }
        }
    }

    /// Tells PostgreSQL up to where the log is safe.
    pub(super) fn confirm(&mut self, sealed: Lsn) -> Result<(), SealerError> {
        match self.stream.confirm(sealed) {
            // It is gone: what it still sent is sealed all the same.
            Err(SealerError::EngineGone(_)) => Ok(()),
            other => other,
        }
    }
}

fn watched(stream: &Replication) -> PollFd<'_> {
    PollFd::from_borrowed_fd(stream.fd(), PollFlags::IN)
}

/// Whether one of them can be read, or has ended; `None`: waits until then.
fn ready(watched: &mut [PollFd<'_>], patience: Option<Duration>) -> Result<bool, SealerError> {
    let patience = patience.map(|it| Timespec {
        tv_sec: i64::try_from(it.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(it.subsec_nanos()),
    });
    match poll(watched, patience.as_ref()) {
        Ok(count) => Ok(count > 0),
        // Whoever waits looks again.
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(std::io::Error::from(error).into()),
    }
}
