//! Reading and writing content.

use std::collections::BTreeMap;

use super::{CHUNK, ChangedChunks, Content, Plaintext};
use crate::{
    anchor::{Anchor, Head},
    cipher::{SessionKey, SessionSalt, VERSION, VolumeId},
    error::Error,
    host::{Host, HostFile, Lock},
    log::{Log, Sealer},
    pages::Pages,
    record::Chunk,
    slots::Slots,
    tree::{NodeId, Time, Tree},
};

/// No file is larger: its chunks are numbered with 32 bits.
const MAX_FILE: u64 = (CHUNK as u64) << 32;

/// What an open volume has, behind its lock.
pub(crate) struct Inner {
    pub(crate) host: Box<dyn Host>,
    pub(crate) anchor: Box<dyn Anchor>,
    pub(crate) data: Box<dyn HostFile>,
    /// What is written to; `None`: nothing is.
    pub(crate) log: Option<(Log, Sealer)>,
    pub(crate) id: VolumeId,
    pub(crate) tree: Tree<Content>,
    pub(crate) changed: ChangedChunks,
    pub(crate) sessions: BTreeMap<u32, SessionSalt>,
    pub(crate) keys: BTreeMap<u32, SessionKey>,
    /// Ours, and the counter of its next chunk.
    pub(crate) session: u32,
    pub(crate) counter: u64,
    pub(crate) slots: Slots,
    pub(crate) pages: Pages,
    pub(crate) scratch: Vec<u8>,
    pub(crate) used: u64,
    pub(crate) max: u64,
    pub(crate) head: Head,
    /// A record that is written, and of which the anchor may not know.
    pub(crate) doubt: Option<Head>,
    /// Whether the data file has bytes that were not synced.
    pub(crate) unsynced: bool,
    /// Why nothing is written any more.
    pub(crate) stopped: Option<Error>,
    pub(crate) _lock: Box<dyn Lock>,
}

fn data_aad(id: &VolumeId, node: NodeId, index: u32, length: u32) -> [u8; 36] {
    let mut aad = [0; 36];
    aad[..16].copy_from_slice(id);
    aad[16..20].copy_from_slice(&VERSION.to_le_bytes());
    aad[20..28].copy_from_slice(&node.0.to_le_bytes());
    aad[28..32].copy_from_slice(&index.to_le_bytes());
    aad[32..].copy_from_slice(&length.to_le_bytes());
    aad
}

/// The parts of chunks that `length` bytes at `offset` are in: chunk, where in it, how many.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u32, usize, usize)> {
    let chunk = CHUNK as u64;
    let end = offset + length as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let within = at % chunk;
        let part = (chunk - within).min(end - at);
        let index = u32::try_from(at / chunk).ok()?;
        at += part;
        Some((index, usize::try_from(within).ok()?, usize::try_from(part).ok()?))
    })
}

impl Inner {
    pub(crate) fn read(&mut self, id: NodeId, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let size = self.tree.file(id)?.size;
        let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let mut rest = &mut buffer[..length];
        for (index, from, part) in parts(offset, length) {
            let (target, after) = rest.split_at_mut(part);
            rest = after;
            self.read_part(id, index, from, target)?;
        }
        Ok(length)
    }

    fn read_part(&mut self, id: NodeId, index: u32, from: usize, target: &mut [u8]) -> Result<(), Error> {
        let chunk = self.tree.file(id)?.chunks.get(&index).copied();
        match chunk {
            Some(chunk)
                if from == 0
                    && target.len() >= chunk.length as usize
                    && self.pages.length((id, index)).is_none() =>
            {
                let (content, zeros) = target.split_at_mut(chunk.length as usize);
                self.load(id, index, chunk, content)?;
                zeros.fill(0);
            }
            _ => {
                self.page(id, index)?;
                let bytes = self.pages.get((id, index)).map_or(&[][..], |page| &page.bytes);
                let here = bytes.get(from..).unwrap_or_default();
                let length = here.len().min(target.len());
                let (content, zeros) = target.split_at_mut(length);
                content.copy_from_slice(&here[..length]);
                zeros.fill(0);
            }
        }
        Ok(())
    }

    /// Reads and opens a whole chunk.
    fn load(&mut self, id: NodeId, index: u32, chunk: Chunk, target: &mut [u8]) -> Result<(), Error> {
        let key = self.keys.get(&chunk.session).ok_or(Error::Tampered("data"))?;
        let scratch = &mut self.scratch[..chunk.length as usize];
        if self.data.read_at(u64::from(chunk.slot) * CHUNK as u64, scratch)? < scratch.len() {
            return Err(Error::Truncated("data"));
        }
        let aad = data_aad(&self.id, id, index, chunk.length);
        let opened = key.open(chunk.counter, &aad, scratch, &chunk.tag, target);
        opened.map_err(|_| Error::Tampered("data"))
    }

    /// Brings a chunk to memory, empty if there is none.
    fn page(&mut self, id: NodeId, index: u32) -> Result<(), Error> {
        if self.pages.get((id, index)).is_some() {
            return Ok(());
        }
        let mut bytes = Plaintext::default();
        if let Some(chunk) = self.tree.file(id)?.chunks.get(&index).copied() {
            bytes.resize(chunk.length as usize, 0);
            self.load(id, index, chunk, &mut bytes)?;
        }
        self.make_room()?;
        self.pages.insert((id, index), bytes);
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), Error> {
        while let Some(key) = self.pages.oldest_if_full() {
            self.flush(key)?;
            self.pages.remove(key);
        }
        Ok(())
    }

    /// How long a chunk is now.
    fn length(&self, id: NodeId, index: u32) -> Result<usize, Error> {
        let stored = self.tree.file(id)?.chunks.get(&index).map_or(0, |chunk| chunk.length as usize);
        Ok(self.pages.length((id, index)).unwrap_or(stored))
    }

    pub(crate) fn write(&mut self, id: NodeId, offset: u64, bytes: &[u8], now: Time) -> Result<(), Error> {
        let size = self.tree.file(id)?.size;
        if bytes.is_empty() {
            return Ok(());
        }
        let end =
            offset.checked_add(bytes.len() as u64).filter(|end| *end <= MAX_FILE).ok_or(Error::TooLarge)?;
        let mut growth = 0;
        for (index, from, part) in parts(offset, bytes.len()) {
            growth += (from + part).saturating_sub(self.length(id, index)?) as u64;
        }
        if growth > 0 && self.used + growth > self.max {
            return Err(Error::NoSpace);
        }
        let mut rest = bytes;
        for (index, from, part) in parts(offset, bytes.len()) {
            let (piece, after) = rest.split_at(part);
            rest = after;
            let old = self.length(id, index)?;
            if from == 0 && part >= old && self.pages.length((id, index)).is_none() {
                // All of what is there is replaced: no need to read it.
                self.make_room()?;
                self.pages.insert((id, index), Plaintext::default());
                self.used -= old as u64;
            } else {
                self.page(id, index)?;
                self.used -= old as u64;
            }
            let new = old.max(from + part);
            if let Some(page) = self.pages.get((id, index)) {
                page.bytes.resize(new, 0);
                page.bytes[from..from + part].copy_from_slice(piece);
                page.dirty = true;
            }
            self.used += new as u64;
        }
        self.tree.file_mut(id, Some(now))?.size = size.max(end);
        Ok(())
    }

    pub(crate) fn set_size(&mut self, id: NodeId, size: u64, now: Time) -> Result<(), Error> {
        if size > MAX_FILE {
            return Err(Error::TooLarge);
        }
        let old = self.tree.file(id)?.size;
        if size < old {
            let keep = usize::try_from(size % CHUNK as u64).unwrap_or(0);
            let last = u32::try_from(size / CHUNK as u64).map_err(|_| Error::TooLarge)?;
            let length = self.length(id, last)?;
            let first_gone = if keep == 0 { last } else { last.saturating_add(1) };
            if keep > 0 && length > keep {
                self.page(id, last)?;
                if let Some(page) = self.pages.get((id, last)) {
                    page.bytes.truncate(keep);
                    page.dirty = true;
                }
                self.used -= (length - keep) as u64;
            }
            let gone: Vec<u32> =
                self.tree.file(id)?.chunks.range(first_gone..).map(|(index, _)| *index).collect();
            for index in gone.into_iter().chain(self.pages.of(id, first_gone)) {
                self.drop_chunk(id, index)?;
            }
        }
        self.tree.file_mut(id, Some(now))?.size = size;
        Ok(())
    }

    fn drop_chunk(&mut self, id: NodeId, index: u32) -> Result<(), Error> {
        self.used -= self.length(id, index)? as u64;
        self.pages.remove((id, index));
        if let Some(chunk) = self.tree.file_mut(id, None)?.chunks.remove(&index) {
            self.slots.give_back(chunk.slot);
            self.changed.insert((id, index));
        }
        Ok(())
    }

    /// Frees what a file had that is no more.
    pub(crate) fn discard(&mut self, id: NodeId, content: &Content) {
        let mut pages = BTreeMap::new();
        for index in self.pages.of(id, 0) {
            if let Some(page) = self.pages.remove((id, index)) {
                pages.insert(index, page.bytes.len() as u64);
            }
        }
        for (index, chunk) in &content.chunks {
            pages.entry(*index).or_insert(u64::from(chunk.length));
            self.slots.give_back(chunk.slot);
        }
        self.used -= pages.values().sum::<u64>();
    }

    /// Writes a page to a new place, if it is not on the disk as it is.
    pub(crate) fn flush(&mut self, key: (NodeId, u32)) -> Result<(), Error> {
        let (id, index) = key;
        let Some(page) = self.pages.get(key).filter(|page| page.dirty) else { return Ok(()) };
        let mut bytes = page.bytes.clone();
        let length = u32::try_from(bytes.len()).map_err(|_| Error::TooLarge)?;
        let session = self.session;
        let sealing = self.keys.get(&session).ok_or(Error::ReadOnly)?;
        let slot = self.slots.take()?;
        // Never again, even if this chunk is not written.
        let counter = self.counter;
        self.counter += 1;
        let tag = sealing.seal(counter, &data_aad(&self.id, id, index, length), &mut bytes);
        if let Err(error) = self.data.write_at(u64::from(slot) * CHUNK as u64, &bytes) {
            self.slots.give_back(slot);
            return Err(error.into());
        }
        self.unsynced = true;
        if let Some(page) = self.pages.get(key) {
            page.dirty = false;
        }
        let chunk = Chunk { slot, length, session, counter, tag };
        if let Some(old) = self.tree.file_mut(id, None)?.chunks.insert(index, chunk) {
            self.slots.give_back(old.slot);
        }
        self.changed.insert(key);
        Ok(())
    }
}
