//! Chunks in memory, in plaintext: those that were written and are not on the disk yet, and a few that were read.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::tree::NodeId;

/// How many; 4 MiB of content.
pub(crate) const MAX_PAGES: usize = 64;

/// Which chunk of which file.
pub(crate) type Key = (NodeId, u32);

/// One chunk.
pub(crate) struct Page {
    /// As long as the chunk is.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// Whether it differs from what is on the disk.
    pub(crate) dirty: bool,
    used: u64,
}

/// The chunks in memory.
#[derive(Default)]
pub(crate) struct Pages {
    pages: BTreeMap<Key, Page>,
    clock: u64,
}

impl Pages {
    pub(crate) fn get(&mut self, key: Key) -> Option<&mut Page> {
        self.clock += 1;
        let page = self.pages.get_mut(&key)?;
        page.used = self.clock;
        Some(page)
    }

    /// How long a chunk is, if it is here.
    pub(crate) fn length(&self, key: Key) -> Option<usize> {
        self.pages.get(&key).map(|page| page.bytes.len())
    }

    pub(crate) fn insert(&mut self, key: Key, bytes: Zeroizing<Vec<u8>>) -> &mut Page {
        self.clock += 1;
        let page = Page { bytes, dirty: false, used: self.clock };
        self.pages.insert(key, page);
        match self.pages.get_mut(&key) {
            Some(page) => page,
            None => unreachable!("it was inserted"),
        }
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<Page> {
        self.pages.remove(&key)
    }

    /// Those of a file from `first` on.
    pub(crate) fn of(&self, node: NodeId, first: u32) -> Vec<u32> {
        self.pages.range((node, first)..=(node, u32::MAX)).map(|((_, index), _)| *index).collect()
    }

    pub(crate) fn dirty(&self) -> Vec<Key> {
        self.pages.iter().filter(|(_, page)| page.dirty).map(|(key, _)| *key).collect()
    }

    /// The one to give up, when there is no room for another.
    pub(crate) fn oldest_if_full(&self) -> Option<Key> {
        if self.pages.len() < MAX_PAGES {
            return None;
        }
        self.pages.iter().min_by_key(|(_, page)| page.used).map(|(key, _)| *key)
    }
}
