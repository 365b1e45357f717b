//! A mesh's log that anyone can check, as pure functions: hashes and proofs (RFC 6962 §2.1), tiles (C2SP tlog-tiles),
//! checkpoints (C2SP tlog-checkpoint) in signed notes (C2SP signed-note), witnesses' cosignatures (C2SP
//! tlog-cosignature, tlog-witness), proofs in files (C2SP tlog-proof); what a coordinator's entries say ([`Entry`]),
//! and what must hold between them ([`History`]). It does no I/O and reads no clock; Ed25519 comes from the caller as
//! an [`Ed25519Verify`], so that it builds for a browser.
//!
//! ```
//! use transparency::{Frontier, Head, inclusion, leaf_hash, verify_inclusion};
//! let leaves = [leaf_hash(b"first"), leaf_hash(b"second")];
//! let mut tree = Frontier::default();
//! for leaf in leaves {
//!     tree.append(leaf);
//! }
//! let proof = inclusion(1, 2, |subtree| leaves.get(subtree.index as usize).copied()).unwrap();
//! verify_inclusion(&leaves[1], 1, &proof, &tree.head()).unwrap();
//! ```

mod audit;
mod checkpoint;
mod entry;
mod history;
mod note;
mod proof;
mod prove;
mod tile;
mod tlog_proof;
mod tree;
mod witness;

pub use audit::{Attested, Audit, AuditError, Audited};
pub use checkpoint::{Checkpoint, CheckpointError, HeadError, signed_checkpoint};
pub use entry::{
    Commitment, Digest, Entry, EntryError, Fact, MAX_ENTRY, Names, Opening, Release, SECRETS_PER_ENTRY,
    Versions,
};
pub use history::{Broken, History, Rule};
pub use note::{Ed25519Verify, MAX_NOTE, MAX_SIGNATURES, Note, NoteError, NoteKey, NoteSignature, Signer};
pub use proof::{ProofError, verify_consistency, verify_inclusion};
pub use prove::{Tiles, consistency, inclusion};
pub use tile::{Bundle, BundleError, Resource, TILE_WIDTH, Tile, TileError};
pub use tlog_proof::{TlogProof, TlogProofError};
pub use tree::{Frontier, Hash, Head, Node, Subtree, leaf_hash, node_hash};
pub use witness::{AddCheckpoint, AddCheckpointError};
