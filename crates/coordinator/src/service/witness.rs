//! Witnesses' cosignatures of the log's checkpoints: whoever brings them (C2SP tlog-witness calls it a feeder), they
//! are of keys that the manifest names, and of this tree, or refused. They are in memory: a restart forgets them, and
//! they are brought again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use axum::http::StatusCode;
use manifest::Witnesses;
use transparency::{
    Checkpoint, Note, NoteError, NoteSignature, Resource, Tiles, consistency, verify_consistency,
};

use super::{Coordinator, Snapshot};
use crate::core::{Mesh, Refusal};

/// Checkpoints of so many sizes wait for a quorum.
const KEPT: usize = 8;

/// Cosignatures by the size of their checkpoint, and by the witness's name.
#[derive(Default)]
pub(super) struct Cosigned(Mutex<BTreeMap<u64, Kept>>);

struct Kept {
    checkpoint: Checkpoint,
    lines: BTreeMap<String, NoteSignature>,
}

/// Why cosignatures are refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum CosignatureRefused {
    /// Not a signed note with a checkpoint.
    #[error("the body is no checkpoint with cosignatures: {0}")]
    Malformed(String),
    /// Nobody watches.
    #[error("the manifest in force names no witnesses")]
    NoWitnesses,
    /// Cosignatures of others.
    #[error("no cosignature is of a witness that the manifest in force names")]
    Unknown,
    /// A witness's cosignature that is wrong.
    #[error("{0}")]
    Signature(NoteError),
    /// Another log, a fork, or a tree that has not grown to it.
    #[error("the checkpoint is not of this log: a fork, or one of its future")]
    OtherTree,
    /// It could not be looked at.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl CosignatureRefused {
    pub(super) fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "COSIGNATURE_MALFORMED"),
            Self::NoWitnesses => (StatusCode::CONFLICT, "WITNESSES_ABSENT"),
            Self::Unknown => (StatusCode::FORBIDDEN, "WITNESS_UNKNOWN"),
            Self::Signature(_) => (StatusCode::UNPROCESSABLE_ENTITY, "COSIGNATURE_WRONG"),
            Self::OtherTree => (StatusCode::UNPROCESSABLE_ENTITY, "CHECKPOINT_UNKNOWN"),
            Self::Refused(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
        }
    }
}

impl Cosigned {
    fn keep(&self, checkpoint: Checkpoint, lines: Vec<NoteSignature>, witnesses: &Witnesses) -> usize {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = checkpoint.head.size;
        let known = kept.entry(size).or_insert_with(|| Kept { checkpoint, lines: BTreeMap::new() });
        known.lines.extend(lines.into_iter().map(|line| (line.name.clone(), line)));
        let count = known.lines_of(witnesses).len();
        let witnessed = newest(&kept, witnesses);
        while kept.len() > KEPT {
            let oldest = kept.keys().copied().find(|size| Some(*size) != witnessed);
            oldest.and_then(|size| kept.remove(&size));
        }
        count
    }
}

impl Kept {
    fn lines_of(&self, witnesses: &Witnesses) -> Vec<NoteSignature> {
        let of = |line: &&NoteSignature| {
            witnesses.keys.iter().any(|key| key.name() == line.name && key.id() == line.key_id)
        };
        self.lines.values().filter(of).cloned().collect()
    }
}

/// The largest size whose checkpoint has a quorum.
fn newest(kept: &BTreeMap<u64, Kept>, witnesses: &Witnesses) -> Option<u64> {
    let enough = |kept: &Kept| witnesses.quorum > 0 && kept.lines_of(witnesses).len() >= witnesses.quorum;
    kept.iter().rev().find(|(_, kept)| enough(kept)).map(|(size, _)| *size)
}

fn ed25519(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

impl Coordinator {
    /// The head as a signed note, with the cosignatures that it has.
    pub(super) fn checkpoint(&self) -> Result<String, Refusal> {
        let snapshot = self.snapshot()?;
        let log = snapshot.state.log();
        let mut note = log.checkpoint()?;
        let witnesses = witnesses(&snapshot);
        let kept = self.cosigned.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.get(&log.head().size).filter(|known| known.checkpoint.text() == note.text);
        note.signatures.extend(known.map(|known| known.lines_of(&witnesses)).unwrap_or_default());
        Ok(note.to_text())
    }

    /// The newest checkpoint that a quorum of witnesses has cosigned; `None` where there is none.
    pub(super) fn witnessed(&self) -> Result<Option<String>, Refusal> {
        let snapshot = self.snapshot()?;
        let witnesses = witnesses(&snapshot);
        let kept = self.cosigned.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = newest(&kept, &witnesses).and_then(|size| kept.get(&size));
        let Some(known) = known else { return Ok(None) };
        let mut note = snapshot.state.log().sign(&known.checkpoint)?;
        note.signatures.extend(known.lines_of(&witnesses));
        Ok(Some(note.to_text()))
    }

    /// Takes cosignatures, below the checkpoint that they are of. Gives how many it has, and how many it takes.
    pub(super) fn cosign(&self, body: &[u8]) -> Result<(usize, usize), CosignatureRefused> {
        let malformed = |error: &dyn std::fmt::Display| CosignatureRefused::Malformed(error.to_string());
        let note = Note::parse(body).map_err(|error| malformed(&error))?;
        let checkpoint = Checkpoint::parse(&note.text).map_err(|error| malformed(&error))?;
        let snapshot = self.snapshot()?;
        let witnesses = witnesses(&snapshot);
        if witnesses.keys.is_empty() {
            return Err(CosignatureRefused::NoWitnesses);
        }
        let mut lines = Vec::new();
        for key in &witnesses.keys {
            match note.verify(key, &ed25519) {
                Ok(_) => {
                    let of = |line: &&NoteSignature| line.name == key.name() && line.key_id == key.id();
                    lines.extend(note.signatures.iter().find(of).cloned());
                }
                Err(NoteError::Unsigned(_)) => {}
                Err(error) => return Err(CosignatureRefused::Signature(error)),
            }
        }
        if lines.is_empty() {
            return Err(CosignatureRefused::Unknown);
        }
        if !self.is_of_the_log(&snapshot, &checkpoint)? {
            return Err(CosignatureRefused::OtherTree);
        }
        Ok((self.cosigned.keep(checkpoint, lines, &witnesses), witnesses.quorum))
    }

    /// Whether the log began with this checkpoint.
    fn is_of_the_log(&self, snapshot: &Snapshot, checkpoint: &Checkpoint) -> Result<bool, Refusal> {
        let log = snapshot.state.log();
        let (old, new) = (checkpoint.head, log.head());
        if checkpoint.origin != log.origin() || old.size == 0 || old.size > new.size {
            return Ok(false);
        }
        let mut tiles = Tiles::new(new.size);
        for tile in Tiles::for_consistency(old.size, new.size) {
            let Some(bytes) = self.tile_of(snapshot, &Resource::Tile(tile))? else { return Ok(false) };
            tiles.insert(tile, tile.hashes(&bytes).map_err(|error| Refusal::Internal(error.to_string()))?);
        }
        let proof = consistency(old.size, new.size, |subtree| tiles.node(subtree)).unwrap_or_default();
        Ok(verify_consistency(&old, &new, &proof).is_ok())
    }
}

fn witnesses(snapshot: &Snapshot) -> Witnesses {
    let settings = snapshot.state.mesh().map(Mesh::manifest);
    settings.map(|manifest| manifest.settings().witnesses.clone()).unwrap_or_default()
}
