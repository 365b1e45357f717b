//! Between a log and its witnesses (C2SP tlog-witness), as files, so that any HTTP client may carry them.

use std::path::PathBuf;

use clap::Args;
use transparency::{AddCheckpoint, NoteSignature, Tiles, consistency, signed_checkpoint};

use super::{Remembered, ed25519, proofs, refused};
use crate::{
    commands::{remote::Remote, verify::read},
    failure::{Failure, Input, Outcome},
    output::public_file,
};

/// Write what a witness is asked with: the body of a POST to its add-checkpoint
#[derive(Args)]
pub struct Request {
    #[command(flatten)]
    remote: Remote,
    /// The log's key, as `bailey log audit --from FILE` left it
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// How many entries the witness saw last; where that is wrong it answers 409 with the right number
    #[arg(long, value_name = "SIZE", default_value_t = 0)]
    old: u64,
    /// Where to
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Bring a witness's answer to the coordinator, which serves it with the checkpoint from then on
#[derive(Args)]
pub struct Cosign {
    /// What the witness was asked with
    request: PathBuf,
    /// What it answered: signature lines
    answer: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

impl Request {
    pub(super) async fn run(self) -> Outcome {
        let (key, ..) = Remembered::load(&self.from)?;
        let client = self.remote.client(None)?;
        let checkpoint = client.bytes("/api/v3/log/checkpoint").await?.to_vec();
        let head = signed_checkpoint(&checkpoint, &key, &ed25519);
        let size = head.map_err(|error| refused("LOG_SIGNATURE", error))?.head.size;
        if self.old > size {
            return Err(refused(
                "LOG_ROLLED_BACK",
                anyhow::anyhow!("the log has {size} entries, not {}", self.old),
            ));
        }
        let tiles = proofs::fetch(&client, size, Tiles::for_consistency(self.old, size)).await?;
        let proof = consistency(self.old, size, |subtree| tiles.node(subtree));
        let proof = proof.ok_or_else(|| Failure::refused("the coordinator's tiles make no proof"))?;
        public_file(&self.out, &AddCheckpoint { old: self.old, proof, checkpoint }.to_bytes())?;
        crate::say!(
            "{} holds the checkpoint of {size} entries, and its proof from {} on",
            self.out.display(),
            self.old
        );
        Ok(())
    }
}

impl Cosign {
    pub(super) async fn run(self) -> Outcome {
        let what = |path: &PathBuf, what: &str| format!("{} is not {what}", path.display());
        let request = AddCheckpoint::parse(&read(&self.request)?)
            .malformed(what(&self.request, "what `bailey log request` writes"))?;
        let answer = read(&self.answer)?;
        let lines = String::from_utf8_lossy(&answer);
        NoteSignature::parse_lines(&lines).malformed(what(&self.answer, "a witness's answer"))?;
        let body = [request.checkpoint, answer].concat();
        let data = self.remote.client(None)?.post_text("/api/v3/log/cosignature", body).await?;
        crate::say!(
            "the checkpoint has {} cosignatures, and {} are a quorum",
            data["cosignatures"],
            data["quorum"]
        );
        Ok(())
    }
}
