//! Commits: data, then the record of it, then the anchor, then the answer.

use std::{collections::BTreeMap, mem};

use super::content::Inner;
use crate::{
    anchor::{AnchorError, Head},
    cipher::SessionSalt,
    error::Error,
    log::{self, AppendError, Log},
    record::{Item, Plain},
    tree::{Changes, Kind, Node, NodeId},
    volume::Content,
};

/// How many places may wait for a commit (64 MiB), and how many chunks may have moved, before one is made unasked.
const MUCH: usize = 1024;

fn plain(node: &Node<Content>) -> Plain {
    let (directory, size) = match &node.kind {
        Kind::Directory(_) => (true, 0),
        Kind::File(content) => (false, content.size),
    };
    Plain { directory, size, times: node.times }
}

impl Inner {
    pub(crate) fn commit_if_much(&mut self) -> Result<(), Error> {
        if self.slots.waiting() < MUCH && self.changed.len() < MUCH {
            return Ok(());
        }
        self.commit()
    }

    pub(crate) fn commit(&mut self) -> Result<(), Error> {
        if let Some(error) = &self.stopped {
            return Err(error.clone());
        }
        self.settle()?;
        for key in self.pages.dirty() {
            self.flush(key)?;
        }
        if self.unsynced {
            self.data.sync()?;
            self.unsynced = false;
        }
        if !self.is_changed() {
            return Ok(());
        }
        let head = self.record()?;
        self.changed.clear();
        self.tree.changes = Some(Changes::default());
        self.slots.recorded();
        self.doubt = Some(head);
        self.settle()
    }

    fn is_changed(&self) -> bool {
        let names = self.tree.changes.as_ref();
        !self.changed.is_empty()
            || names.is_some_and(|changes| !changes.nodes.is_empty() || !changes.entries.is_empty())
    }

    fn record(&mut self) -> Result<Head, Error> {
        let is_long = self.log.as_ref().is_some_and(|(log, _)| log.is_long());
        let record = if is_long { self.everything() } else { self.changes() };
        let (log, sealer) = self.log.as_mut().ok_or(Error::ReadOnly)?;
        if !is_long {
            return log.append(sealer, self.head, record).map_err(|error| match error {
                AppendError::Nothing(error) => error,
                AppendError::Unknown(error) => {
                    self.stopped = Some(error.clone());
                    error
                }
            });
        }
        match Log::begin(&*self.host, sealer, self.head, record) {
            Ok((new, head)) => {
                *log = new;
                Ok(head)
            }
            Err(error) => {
                // Two records after one head must not both be there.
                let name = log::name(self.head.sequence + 1);
                if self.host.remove(&name).and_then(|()| self.host.sync_names()).is_err() {
                    self.stopped = Some(error.clone());
                }
                Err(error)
            }
        }
    }

    /// Has the anchor know of the last record.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        let Some(to) = self.doubt else { return Ok(()) };
        match self.anchor.advance(Some(self.head), to) {
            Ok(()) => {}
            // The answer to an earlier attempt may have been lost.
            Err(AnchorError::Moved) if self.anchor.current()? == Some(to) => {}
            Err(AnchorError::Moved) => {
                self.stopped = Some(Error::Superseded);
                return Err(Error::Superseded);
            }
            Err(AnchorError::Unreachable(reason)) => return Err(Error::AnchorUnreachable(reason)),
        }
        self.head = to;
        self.doubt = None;
        self.slots.acknowledged();
        self.remove_old_logs();
        Ok(())
    }

    /// What is left of logs before the one in use. A failure leaves a file that the next opening removes.
    pub(crate) fn remove_old_logs(&self) {
        if !self.log.as_ref().is_some_and(|(log, _)| log.is_new(self.head)) {
            return;
        }
        let current = log::name(self.head.sequence);
        for name in self.host.list().unwrap_or_default() {
            if log::is_log(&name) && name != current {
                let _ = self.host.remove(&name);
            }
        }
    }

    /// What is different since the last record.
    fn changes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let linked = |id: NodeId| self.tree.node(id).ok().filter(|node| node.is_linked());
        if let Some(changes) = &self.tree.changes {
            for id in &changes.nodes {
                match linked(*id) {
                    Some(node) => Item::Node(*id, plain(node)).write(&mut out),
                    None => Item::NodeGone(*id).write(&mut out),
                }
            }
            for (directory, name) in &changes.entries {
                if linked(*directory).is_some() {
                    match self.tree.lookup(*directory, name) {
                        Ok(id) => Item::Name(*directory, name.clone(), id).write(&mut out),
                        Err(_) => Item::NameGone(*directory, name.clone()).write(&mut out),
                    }
                }
            }
        }
        for (id, index) in &self.changed {
            if linked(*id).is_some() {
                let chunk = self.tree.file(*id).ok().and_then(|content| content.chunks.get(index));
                match chunk {
                    Some(chunk) => Item::Chunk(*id, *index, *chunk).write(&mut out),
                    None => Item::ChunkGone(*id, *index).write(&mut out),
                }
            }
        }
        Item::Next(self.tree.next()).write(&mut out);
        out
    }

    /// All there is. Sessions that no chunk is of are left out.
    pub(crate) fn everything(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sessions: BTreeMap<u32, SessionSalt> = BTreeMap::new();
        let all = mem::take(&mut self.sessions);
        let ours = all.get(&self.session).map(|salt| (self.session, *salt));
        sessions.extend(ours);
        for (id, node) in self.tree.nodes().filter(|(_, node)| node.is_linked()) {
            Item::Node(id, plain(node)).write(&mut out);
            match &node.kind {
                Kind::Directory(entries) => {
                    for (name, child) in entries {
                        Item::Name(id, name.clone(), *child).write(&mut out);
                    }
                }
                Kind::File(content) => {
                    for (index, chunk) in &content.chunks {
                        Item::Chunk(id, *index, *chunk).write(&mut out);
                        sessions.extend(all.get(&chunk.session).map(|salt| (chunk.session, *salt)));
                    }
                }
            }
        }
        for (number, salt) in &sessions {
            Item::Session(*number, *salt).write(&mut out);
        }
        Item::Next(self.tree.next()).write(&mut out);
        self.sessions = all;
        out
    }
}
