//! Proofs of entries and between heads, made of tiles.

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;
use serde_json::json;
use transparency::{Bundle, Entry, Tile, Tiles, TlogProof, consistency, inclusion, signed_checkpoint};

use super::{Remembered, ed25519, refused, words};
use crate::{
    client::Client,
    commands::{print_json, remote::Remote, verify::read},
    failure::{Failure, Input, Outcome},
    output::public_file,
};

/// Write the proof that an entry is in the log: a file by C2SP tlog-proof that holds without a network.
#[derive(Args)]
pub struct Prove {
    /// Which entry, counted from 0
    index: u64,
    #[command(flatten)]
    remote: Remote,
    /// The log's key and head, as `bailey log audit --from FILE` left them
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Where to
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Check a proof that `bailey log prove` wrote, without a network.
#[derive(Args)]
pub struct Check {
    /// The proof
    file: PathBuf,
    /// The log's key, as `bailey log audit --from FILE` left it
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// For a program
    #[arg(long)]
    json: bool,
}

/// Prove that one remembered head continues another: nothing was rewritten between them.
#[derive(Args)]
pub struct Consistency {
    /// The older head, as `bailey log audit --from FILE` left it
    old: PathBuf,
    /// The newer one
    new: PathBuf,
    #[command(flatten)]
    remote: Remote,
}

impl Prove {
    pub(super) async fn run(self) -> Outcome {
        let (key, ..) = Remembered::load(&self.from)?;
        let client = self.remote.client(None)?;
        let note = client.bytes("/api/v3/log/checkpoint").await?;
        let checkpoint = signed_checkpoint(&note, &key, &ed25519).map_err(|error| {
            refused("LOG_SIGNATURE", error).hint("after a recovery the log has a new key: audit it again")
        })?;
        let size = checkpoint.head.size;
        let absent =
            || Failure::refused(format!("the log has {size} entries, and none numbered {}", self.index));
        let bundle = Bundle::holding(self.index, size).ok_or_else(absent)?;
        let bytes = client.bytes(&format!("/api/v3/log/tile/{bundle}")).await?;
        let entries = bundle.entries(&bytes).map_err(|error| refused("LOG_ROOT", error))?;
        let at = usize::try_from(self.index - bundle.positions().start).unwrap_or(usize::MAX);
        let entry = entries.get(at).ok_or_else(absent)?.to_vec();
        let tiles = fetch(&client, size, Tiles::for_inclusion(self.index, size)).await?;
        let path = inclusion(self.index, size, |subtree| tiles.node(subtree)).ok_or_else(absent)?;
        let proof = TlogProof { entry, index: self.index, path, checkpoint: note.to_vec() };
        proof.verify(&key, &ed25519).map_err(|error| refused("LOG_ROOT", error))?;
        public_file(&self.out, proof.to_text().as_bytes())?;
        crate::say!("entry {} is proven in {}", self.index, self.out.display());
        Ok(())
    }
}

impl Check {
    pub(super) fn run(self) -> Outcome {
        let (key, ..) = Remembered::load(&self.from)?;
        let what = || format!("{} is no proof of an entry", self.file.display());
        let proof = TlogProof::parse(&read(&self.file)?).malformed(what())?;
        let checkpoint = proof.verify(&key, &ed25519).map_err(|error| refused("LOG_PROOF", error))?;
        let entry = Entry::from_bytes(&proof.entry).malformed(what())?;
        let head = &checkpoint.head;
        if self.json {
            return print_json(&json!({
                "origin": checkpoint.origin,
                "index": proof.index,
                "size": head.size,
                "root": hex::encode(head.root),
                "entry": entry,
            }));
        }
        crate::say!("{}", words::line(proof.index, &entry));
        crate::say!(
            "is in the log {}, of {} entries, root {}",
            checkpoint.origin,
            head.size,
            hex::encode(head.root)
        );
        Ok(())
    }
}

impl Consistency {
    pub(super) async fn run(self) -> Outcome {
        let (_, old, _) = Remembered::load(&self.old)?;
        let (_, new, _) = Remembered::load(&self.new)?;
        let (from, to) = (old.head.size, new.head.size);
        let client = self.remote.client(None)?;
        let tiles = fetch(&client, to, Tiles::for_consistency(from, to)).await?;
        let proof = consistency(from, to, |subtree| tiles.node(subtree)).unwrap_or_default();
        old.is_prefix_of(&new, &proof).map_err(|error| refused("LOG_FORKED", error))?;
        crate::say!("the head of {to} entries continues that of {from}: nothing was rewritten");
        Ok(())
    }
}

pub(super) async fn fetch(client: &Client, size: u64, wanted: BTreeSet<Tile>) -> Outcome<Tiles> {
    let mut tiles = Tiles::new(size);
    for tile in wanted {
        let bytes = client.bytes(&format!("/api/v3/log/tile/{tile}")).await?;
        tiles.insert(tile, tile.hashes(&bytes).map_err(|error| refused("LOG_ROOT", error))?);
    }
    Ok(tiles)
}
