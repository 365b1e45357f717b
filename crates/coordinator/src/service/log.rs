//! The transparency log at work: tiles and entries of the published state, from beside its records.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use transparency::{Bundle, Resource, TILE_WIDTH, leaf_hash};

use super::{Coordinator, Snapshot};
use crate::core::Refusal;

/// So many bundles are kept, since entries never change and many read the same ones: whoever reads does not keep the
/// store from those who write.
const KEPT: usize = 16;

/// Entries of bundles by their index, of the last one as many as there were; those that were read last at the end.
#[derive(Default)]
pub(super) struct Bundles(Mutex<VecDeque<(u64, Entries)>>);

type Entries = Arc<Vec<Vec<u8>>>;

impl Bundles {
    fn kept(&self, index: u64, wanted: usize) -> Option<Entries> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = |(known, entries): &&(u64, Entries)| *known == index && entries.len() >= wanted;
        kept.iter().find(enough).map(|(_, entries)| Arc::clone(entries))
    }

    fn keep(&self, index: u64, entries: &Entries) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, _)| *known != index);
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
        if let Some(kept) = self.bundles.kept(index, wanted) {
            return Ok(some(&kept));
        }
        let committer = self.committer.get().ok_or_else(|| self.recovering())?;
        let log = snapshot.state.log();
        let records = log.records_of(index).ok_or_else(|| failed(&"no such tile"))?;
        let stored = committer.read(|store| store.entries(records)).map_err(|error| failed(&error))?;
        let entries: Entries = log.entries_of(index, &stored).map_err(|error| failed(&error))?.into();
        self.bundles.keep(index, &entries);
        Ok(some(&entries))
    }
}
