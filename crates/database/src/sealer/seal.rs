//! The thread that receives the write-ahead log and seals it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use sealed_log::{Entry, Error, Heads, Kind, Writer};
use tokio::sync::watch;

use super::{
    Options, SEGMENT, Sealed, Shared,
    error::SealerError,
    inbox::{Inbox, Work},
    item::Item,
};
use crate::lsn::Lsn;

/// A backup that is being sealed.
struct Begun {
    /// Where recovery from it begins.
    start: Lsn,
    /// The record that it begins with.
    record: u64,
    bytes: u64,
}

pub(super) struct Sealing {
    writer: Writer,
    /// Its history, for others to ask.
    heads: Arc<Mutex<Heads>>,
    shared: Arc<Shared>,
    inbox: Inbox,
    options: Options,
    position: watch::Sender<Lsn>,
    sealed: watch::Sender<Sealed>,
    /// Up to where the log is on disk.
    written: Lsn,
    /// Since when something on disk is not anchored.
    lagging: Option<Instant>,
    begun: Option<Begun>,
    /// The first record that is sealed with the key of now, while there is one before it.
    turned: Option<u64>,
    /// Bytes that the log grows by before the next backup.
    threshold: u64,
    arena: Vec<u8>,
}

impl Sealing {
    pub(super) fn new(
        (writer, heads): (Writer, Arc<Mutex<Heads>>),
        shared: Arc<Shared>,
        inbox: Inbox,
        options: Options,
        (position, sealed): (watch::Sender<Lsn>, watch::Sender<Sealed>),
    ) -> Self {
        let written = shared.queue.sealed();
        Self {
            writer,
            heads,
            shared,
            inbox,
            options,
            position,
            sealed,
            written,
            lagging: None,
            begun: None,
            turned: None,
            threshold: options.checkpoint_after,
            arena: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<(), SealerError> {
        loop {
            let deadline = self.lagging.map(|since| since + self.options.max_lag);
            match self.inbox.take(&self.shared.queue, deadline)? {
                Work::Seal(items) => {
                    self.turn()?;
                    self.seal(&items)?;
                }
                Work::Idle => self.anchor()?,
                Work::Closed => {
                    self.anchor()?;
                    return Err(SealerError::EngineGone(std::io::ErrorKind::UnexpectedEof));
                }
            }
        }
    }

    fn heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals with another key from now on, if one is there.
    fn turn(&mut self) -> Result<(), SealerError> {
        let next = self.shared.key.lock().unwrap_or_else(PoisonError::into_inner).next.take();
        if let Some(key) = next {
            self.turned = Some(self.writer.rekey(&key, self.written.0)?);
        }
        Ok(())
    }

    fn seal(&mut self, items: &[Item]) -> Result<(), SealerError> {
        self.append(items)?;
        let first = self.writer.anchored().is_none();
        let late = self.lagging.is_some_and(|since| since.elapsed() >= self.options.max_lag);
        if first || late {
            self.anchor()?;
        }
        self.publish()?;
        if let Some(Item::BackupEnd { .. }) = items.iter().find(|item| matches!(item, Item::BackupEnd { .. }))
        {
            self.cut()?;
        }
        let mark = self.written.0;
        if self.writer.is_full() {
            self.writer.rotate(mark)?;
        }
        if self.writer.grown() >= self.threshold && !self.shared.queue.backup_pending() {
            self.shared.queue.request_backup();
        }
        Ok(())
    }

    /// One record of all of them, on disk.
    fn append(&mut self, items: &[Item]) -> Result<(), SealerError> {
        let mut arena = std::mem::take(&mut self.arena);
        arena.clear();
        let mut ends: Vec<(Kind, usize)> = Vec::with_capacity(items.len());
        for item in items {
            let kind = item.encode(&mut arena);
            ends.push((kind, arena.len()));
        }
        let mut from = 0;
        let entries: Vec<Entry<'_>> = ends
            .iter()
            .map(|(kind, end)| {
                let entry = Entry { kind: *kind, bytes: &arena[from..*end] };
                from = *end;
                entry
            })
            .collect();
        let head = self.writer.append(&entries)?;
        self.heads().push(head);
        self.arena = arena;
        self.lagging.get_or_insert_with(Instant::now);
        for item in items {
            match item {
                Item::Wal { start, bytes, .. } => self.written = Lsn(start.0 + bytes.len() as u64),
                Item::Backup { start, .. } => {
                    self.begun = Some(Begun { start: *start, record: head.sequence, bytes: 0 });
                }
                Item::BackupData(bytes) => {
                    self.begun.iter_mut().for_each(|begun| begun.bytes += bytes.len() as u64);
                }
                Item::BackupEnd { .. } => {}
            }
        }
        Ok(())
    }

    /// Moves the anchor; one that does not answer is asked again for a while, in which nothing is acknowledged.
    fn anchor(&mut self) -> Result<(), SealerError> {
        let since = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let moved = self.writer.anchor();
            match moved {
                Ok(()) => break,
                Err(Error::AnchorUnreachable(reason)) if since.elapsed() < self.options.patience => {
                    tracing::warn!(code = "ANCHOR_UNREACHABLE", %reason, "commits wait for the anchor");
                    thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) => return Err(error.into()),
            }
            if let Some(error) = self.shared.queue.failure() {
                return Err(error);
            }
        }
        self.lagging = None;
        Ok(())
    }

    /// Tells PostgreSQL, which then answers whoever waits for a commit, and everybody else.
    fn publish(&mut self) -> Result<(), SealerError> {
        let (position, head) = (self.written, self.writer.head());
        self.shared.queue.set_sealed(position);
        self.position.send_replace(position);
        self.sealed.send_replace(Sealed { position, head });
        self.inbox.confirm(position)
    }

    /// The backup is whole: what is before it is not needed any more.
    fn cut(&mut self) -> Result<(), SealerError> {
        let Some(begun) = self.begun.take() else {
            return Err(SealerError::Protocol("a backup that ends and did not begin"));
        };
        self.anchor()?;
        let needed = begun.start.0 - begun.start.0 % SEGMENT;
        let mark = self.written.0;
        let heads = Arc::clone(&self.heads);
        self.writer.remember(
            needed,
            begun.record,
            &mut heads.lock().unwrap_or_else(PoisonError::into_inner),
        )?;
        self.anchor()?;
        let cut = self.writer.checkpoint(needed, begun.record, mark)?;
        self.heads().forget_before(self.writer.base());
        self.publish()?;
        if self.turned.is_some_and(|first| self.writer.base() >= first) {
            self.turned = None;
            self.shared.key.lock().unwrap_or_else(PoisonError::into_inner).alone();
        }
        self.threshold = self.options.checkpoint_after.max(2 * begun.bytes);
        tracing::info!(code = "LOG_CHECKPOINT", bytes = begun.bytes, cut, "a base backup is sealed");
        self.shared.queue.backup_sealed();
        Ok(())
    }
}
