//! A log's head, by C2SP tlog-checkpoint: origin, size and root hash, each on its line, as a note's text.

use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;

use crate::{
    note::{Ed25519Verify, Note, NoteError, NoteKey},
    proof::{ProofError, verify_consistency},
    tree::{Hash, Head},
};

/// Origin and head of a log. Who signed it is the note's matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Size and root.
    pub head: Head,
}

/// The text is no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a checkpoint: {0}")]
pub struct CheckpointError(&'static str);

/// Why a checkpoint is not what a log's key signed, or the log was not append-only.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeadError {
    /// The note's form or signature.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text's form.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It is of another log.
    #[error("the checkpoint is of the log {seen}, and {expected} is expected")]
    Origin {
        /// The key's name.
        expected: String,
        /// The checkpoint's origin.
        seen: String,
    },
    /// It does not continue the other.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl Checkpoint {
    /// Reads a note's text. Our logs write no extension lines, and none are read.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let text = text.strip_suffix('\n').ok_or(CheckpointError("no newline at its end"))?;
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError("not three lines"));
        };
        if origin.is_empty() {
            return Err(CheckpointError("no origin"));
        }
        let number = decimal(size).ok_or(CheckpointError("the size is no canonical number"))?;
        let root = hash(root).ok_or(CheckpointError("the root is not the Base64 of 32 bytes"))?;
        Ok(Self { origin: origin.to_owned(), head: Head { size: number, root } })
    }

    /// The text to sign.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.head.size, STANDARD.encode(self.head.root))
    }

    /// Whether the log that `newer` is of begins with this one: the same log, never shorter, nothing rewritten.
    pub fn is_prefix_of(&self, newer: &Self, proof: &[Hash]) -> Result<(), HeadError> {
        if self.origin != newer.origin {
            return Err(HeadError::Origin { expected: self.origin.clone(), seen: newer.origin.clone() });
        }
        Ok(verify_consistency(&self.head, &newer.head, proof)?)
    }
}

/// The checkpoint that `key` signed in `note`. The log's name is the key's.
pub fn signed_checkpoint(
    note: &[u8],
    key: &NoteKey,
    ed25519: Ed25519Verify<'_>,
) -> Result<Checkpoint, HeadError> {
    let note = Note::parse(note)?;
    note.verify(key, ed25519)?;
    let checkpoint = Checkpoint::parse(&note.text)?;
    if checkpoint.origin != key.name() {
        return Err(HeadError::Origin { expected: key.name().to_owned(), seen: checkpoint.origin });
    }
    Ok(checkpoint)
}

/// A decimal number in its only spelling.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// A hash in Base64.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}
