//! The transparency log at work: tiles and entries of the published state, from beside its records.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use transparency::{Bundle, Resource, TILE_WIDTH, leaf_hash};

use super::{Coordinator, Snapshot};
use crate::core::Refusal;

/// So many full bundles are kept, since they never change and many read the same ones.
const KEPT: usize = 16;

/// Entries of full bundles by their index, those that were read last at the end.
#[derive(Default)]
pub(super) struct Bundles(Mutex<VecDeque<(u64, Entries)>>);

type Entries = Arc<Vec<Vec<u8>>>;

impl Bundles {
    fn kept(&self, index: u64) -> Option<Entries> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| *known == index).map(|(_, entries)| Arc::clone(entries))
    }

    fn keep(&self, index: u64, entries: &Entries) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((index, Arc::clone(entries)));
    }
}

impl Coordinator {
    /// A tile or a bundle; `None` where the published log has not grown to it.
    pub(super) fn tile(&self, resource: &Resource) -> Result<Option<Vec<u8>>, Refusal> {
        self.tile_of(&self.snapshot()?, resource)
    }

    pub(super) fn tile_of(
        &self,
        snapshot: &Snapshot,
        resource: &Resource,
    ) -> Result<Option<Vec<u8>>, Refusal> {
        let log = snapshot.state.log();
        let size = log.head().size;
        match resource {
            Resource::Tile(tile) if tile.is_of(size) && tile.level == 0 => {
                let entries = self.entries(snapshot, tile.positions())?;
                Ok(Some(entries.iter().map(|entry| leaf_hash(entry)).collect::<Vec<_>>().concat()))
            }
            Resource::Tile(tile) => Ok(log.tile(tile).map(|hashes| hashes.concat())),
            Resource::Bundle(bundle) if bundle.is_of(size) => {
                let entries = self.entries(snapshot, bundle.positions())?;
                let bytes = Bundle::bytes(entries.iter().map(Vec::as_slice));
                bytes.map(Some).map_err(|error| Refusal::Internal(error.to_string()))
            }
            Resource::Bundle(_) => Ok(None),
        }
    }

    /// Entries of one tile, which the published log has.
    fn entries(&self, snapshot: &Snapshot, positions: Range<u64>) -> Result<Vec<Vec<u8>>, Refusal> {
        let failed = |error: &dyn std::fmt::Display| Refusal::Internal(error.to_string());
        let index = positions.start / TILE_WIDTH;
        let wanted = usize::try_from(positions.end - positions.start).unwrap_or(usize::MAX);
        let some = |entries: &[Vec<u8>]| entries.iter().take(wanted).cloned().collect();
        if let Some(kept) = self.bundles.kept(index) {
            return Ok(some(&kept));
        }
        let committer = self.committer.get().ok_or_else(|| self.recovering())?;
        let log = snapshot.state.log();
        let records = log.records_of(index).ok_or_else(|| failed(&"no such tile"))?;
        let stored = committer.read(|store| store.entries(records)).map_err(|error| failed(&error))?;
        let entries: Entries = log.entries_of(index, &stored).map_err(|error| failed(&error))?.into();
        if entries.len() as u64 == TILE_WIDTH {
            self.bundles.keep(index, &entries);
        }
        Ok(some(&entries))
    }
}
