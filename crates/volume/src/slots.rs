//! Places in the data file. A place that the last acknowledged commit refers to is not written to.

use std::{collections::BTreeSet, mem};

use crate::error::Error;

/// Which places of the data file are in use.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    free: BTreeSet<u32>,
    /// All places from here on are free.
    end: u32,
    /// Taken since the last record: no record refers to them.
    fresh: BTreeSet<u32>,
    /// Given back since the last record: an acknowledged record refers to them.
    pending: Vec<u32>,
    /// Given back before the last record, which is not acknowledged yet.
    releasing: Vec<u32>,
}

impl Slots {
    /// With these in use; `None` if one is used twice.
    pub(crate) fn with(used: impl Iterator<Item = u32>) -> Option<Self> {
        let mut taken = BTreeSet::new();
        for slot in used {
            if !taken.insert(slot) {
                return None;
            }
        }
        let end = taken.last().map_or(0, |last| last.saturating_add(1));
        let free = (0..end).filter(|slot| !taken.contains(slot)).collect();
        Some(Self { free, end, ..Self::default() })
    }

    pub(crate) fn take(&mut self) -> Result<u32, Error> {
        let slot = match self.free.pop_first() {
            Some(slot) => slot,
            None => {
                let slot = self.end;
                self.end = self.end.checked_add(1).ok_or(Error::NoSpace)?;
                slot
            }
        };
        self.fresh.insert(slot);
        Ok(slot)
    }

    pub(crate) fn give_back(&mut self, slot: u32) {
        if self.fresh.remove(&slot) {
            self.free.insert(slot);
        } else {
            self.pending.push(slot);
        }
    }

    /// A record is written that refers to what is in use now.
    pub(crate) fn recorded(&mut self) {
        self.fresh.clear();
        self.releasing.append(&mut self.pending);
    }

    /// The last record is acknowledged.
    pub(crate) fn acknowledged(&mut self) {
        self.free.extend(mem::take(&mut self.releasing));
    }

    /// How many wait for the next commit.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len() + self.releasing.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_commit_refers_to_is_not_written_to_until_the_next_is_acknowledged() {
        let mut slots = Slots::with([0, 2].into_iter()).unwrap();
        slots.give_back(0);
        assert_eq!((slots.take(), slots.take()), (Ok(1), Ok(3)));
        slots.recorded();
        assert_eq!(slots.take(), Ok(4), "0 is in the commit before, which a crash would bring back");
        slots.acknowledged();
        assert_eq!(slots.take(), Ok(0));
    }

    #[test]
    fn a_slot_that_no_record_refers_to_is_free_at_once() {
        let mut slots = Slots::default();
        let slot = slots.take().unwrap();
        slots.give_back(slot);
        assert_eq!(slots.take(), Ok(slot));
        slots.recorded();
        slots.give_back(slot);
        assert_ne!(slots.take(), Ok(slot));
    }

    #[test]
    fn one_slot_for_two_chunks_is_refused() {
        assert!(Slots::with([1, 2, 1].into_iter()).is_none());
    }
}
