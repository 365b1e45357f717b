//! What a witness is asked, by C2SP tlog-witness: `add-checkpoint`, with the size that it saw last, the proof from
//! there, and the checkpoint.

use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;

use crate::{
    checkpoint::{decimal, hash},
    note::MAX_NOTE,
    tree::Hash,
};

/// No proof is longer.
const LONGEST: usize = 63;

/// The body of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// What the witness cosigned last; 0 for nothing.
    pub old: u64,
    /// From there to the checkpoint; empty from 0.
    pub proof: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: Vec<u8>,
}

/// Not the body of such a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a request to a witness")]
pub struct AddCheckpointError;

impl AddCheckpoint {
    /// Reads a body. Nothing of it is verified.
    pub fn parse(body: &[u8]) -> Result<Self, AddCheckpointError> {
        if body.len() > 64 * 64 + MAX_NOTE {
            return Err(AddCheckpointError);
        }
        let text = std::str::from_utf8(body).map_err(|_| AddCheckpointError)?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(AddCheckpointError)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let old = old.ok_or(AddCheckpointError)?;
        let proof =
            lines.take(LONGEST + 1).map(hash).collect::<Option<Vec<_>>>().ok_or(AddCheckpointError)?;
        if proof.len() > LONGEST {
            return Err(AddCheckpointError);
        }
        Ok(Self { old, proof, checkpoint: checkpoint.into() })
    }

    /// The body.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            text.push_str(&STANDARD.encode(hash));
            text.push('\n');
        }
        text.push('\n');
        [text.as_bytes(), &self.checkpoint].concat()
    }
}
