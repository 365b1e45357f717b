//! A proof in a file, by C2SP tlog-proof: a header, the entry itself as extra data, its index, its path, and the
//! checkpoint that it leads to.

use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;

use crate::{
    checkpoint::{Checkpoint, HeadError, decimal, hash, signed_checkpoint},
    entry::MAX_ENTRY,
    note::{Ed25519Verify, MAX_NOTE, NoteKey},
    proof::verify_inclusion,
    tree::{Hash, leaf_hash},
};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// That an entry is in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// The entry's bytes; the file's extra data.
    pub entry: Vec<u8>,
    /// Where it stands.
    pub index: u64,
    /// From its sibling to the root.
    pub path: Vec<Hash>,
    /// The signed checkpoint, as it was served.
    pub checkpoint: Vec<u8>,
}

/// Why a file proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TlogProofError {
    /// Not the form of such a file.
    #[error("not a proof of an entry: {0}")]
    Malformed(&'static str),
    /// The checkpoint, or the path to it.
    #[error(transparent)]
    Head(#[from] HeadError),
}

impl TlogProof {
    /// Reads a file. Nothing of it is verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        let malformed = TlogProofError::Malformed;
        if bytes.len() > 2 * MAX_ENTRY + 64 * 64 + MAX_NOTE {
            return Err(malformed("too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("not UTF-8"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(malformed("no checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(malformed("it does not begin with c2sp.org/tlog-proof@v1"));
        }
        let entry = lines.next().and_then(|line| line.strip_prefix("extra "));
        let entry = entry.and_then(|entry| STANDARD.decode(entry).ok()).ok_or(malformed("no entry"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let index = index.ok_or(malformed("no index"))?;
        let path = lines.map(hash).take(65).collect::<Option<Vec<_>>>().ok_or(malformed("a hash"))?;
        if path.len() > 64 || entry.len() > MAX_ENTRY {
            return Err(malformed("too long"));
        }
        Ok(Self { entry, index, path, checkpoint: checkpoint.into() })
    }

    /// The file.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\nextra {}\nindex {}\n", STANDARD.encode(&self.entry), self.index);
        for hash in &self.path {
            text.push_str(&STANDARD.encode(hash));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&self.checkpoint));
        text
    }

    /// That the entry stands at its index in the tree whose checkpoint `key` signed.
    pub fn verify(&self, key: &NoteKey, ed25519: Ed25519Verify<'_>) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = signed_checkpoint(&self.checkpoint, key, ed25519)?;
        verify_inclusion(&leaf_hash(&self.entry), self.index, &self.path, &checkpoint.head)
            .map_err(HeadError::from)?;
        Ok(checkpoint)
    }
}
