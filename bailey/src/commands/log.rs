//! `bailey log`: the transparency log of a mesh, replayed and proven.

mod audit;
mod proofs;
mod witness;
mod words;

use std::path::Path;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use transparency::{Checkpoint, NoteKey, signed_checkpoint};

use crate::{
    commands::verify::read,
    failure::{Failure, Input, Kind, Outcome},
};

/// Replay what a mesh did, and prove what it says of it.
#[derive(Subcommand)]
pub enum Command {
    /// Appraise a coordinator and replay its whole log
    Audit(audit::Audit),
    /// Write the proof that an entry is in the log
    Prove(proofs::Prove),
    /// Check such a proof, without a network
    Check(proofs::Check),
    /// Prove that one remembered head continues another
    Consistency(proofs::Consistency),
    /// Write what a witness is asked with: the body of a POST to its add-checkpoint
    Request(witness::Request),
    /// Bring a witness's answer to the coordinator
    Cosign(witness::Cosign),
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Audit(audit) => audit.run().await,
            Self::Prove(prove) => prove.run().await,
            Self::Check(check) => check.run(),
            Self::Consistency(consistency) => consistency.run().await,
            Self::Request(request) => request.run().await,
            Self::Cosign(cosign) => cosign.run().await,
        }
    }
}

/// What an audit leaves behind: the log's key as the Evidence had it, and the newest checkpoint.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    /// As C2SP signed-note has it.
    key: String,
    /// The signed note.
    checkpoint: String,
}

impl Remembered {
    /// Reads a file, and checks the checkpoint in it against the key in it.
    fn load(path: &Path) -> Outcome<(NoteKey, Checkpoint, Self)> {
        let what = || format!("{} is not what `bailey log audit --from` leaves", path.display());
        let remembered: Self = serde_json::from_slice(&read(path)?).malformed(what())?;
        let key = NoteKey::parse(&remembered.key).malformed(what())?;
        let checkpoint = remembered.checkpoint.as_bytes();
        let checkpoint = signed_checkpoint(checkpoint, &key, &ed25519).malformed(what())?;
        Ok((key, checkpoint, remembered))
    }

    /// Replaces the file, whole or not at all.
    fn keep(&self, path: &Path) -> Outcome {
        let text = serde_json::to_vec_pretty(self).map_err(anyhow::Error::from)?;
        let draft = path.with_extension("draft");
        crate::output::public_file(&draft, &text)?;
        std::fs::rename(&draft, path)
            .map_err(|error| Failure::refused(format!("{} cannot be written: {error}", path.display())))
    }
}

fn ed25519(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

/// A refusal with a word for programs.
fn refused(code: &str, error: impl Into<anyhow::Error>) -> Failure {
    let error = error.into();
    Failure { kind: Kind::Refused, error: anyhow::anyhow!("{error} [{code}]"), hint: None }
}
