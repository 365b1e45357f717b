//! `bailey log audit`.

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use anyhow::Context;
use attested_tls::clock;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use transparency::{
    Attested, AuditError, Audited, Checkpoint, Digest, Entry, Head, Note, NoteKey, Signer, signed_checkpoint,
};

use super::{Remembered, ed25519, refused, words};
use crate::{
    client::{Client, Verified},
    commands::{
        print_json,
        remote::endpoint,
        verify::{Required, sha256},
    },
    failure::{Failure, Outcome},
};

/// Appraise a coordinator and replay its whole log: every entry against the signed head, the head against the Evidence
/// and against the one that was remembered, and the rules that entries keep.
#[derive(Args)]
pub struct Audit {
    /// The coordinator, such as https://localhost:4433
    url: String,
    #[command(flatten)]
    required: Required,
    /// Where the log's newest head is remembered: compared with if the file is there, and replaced after success
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Require that this witness cosigned the newest checkpoint that has a quorum: a C2SP verifier key
    #[arg(long, value_name = "KEY")]
    witness: Vec<String>,
    /// Show so many of the newest entries
    #[arg(long, value_name = "N", default_value_t = 1000)]
    last: usize,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) async fn run(self) -> Outcome {
        let known = self.from.as_deref().filter(|path| path.exists()).map(Remembered::load).transpose()?;
        let verified = self.required.appraised(&self.url, None).await?;
        let attested = attested(&verified)?;
        let root = CertificateDer::from(verified.claims.root.to_vec());
        let client = Client::new(endpoint(&self.url)?, &root, None, &clock::system())?;
        let note = client.bytes("/api/v3/log/checkpoint").await?;
        let key = attested.key.clone();
        let mut remembered: Vec<_> = known.map(|(_, checkpoint, _)| checkpoint).into_iter().collect();
        remembered.extend(self.witnessed(&client, &key).await?);
        let mut audit = transparency::Audit::begin(attested, &note, remembered, &ed25519).map_err(failed)?;
        let mut newest = VecDeque::new();
        let bar = bar(audit.bundles().count());
        for bundle in audit.bundles() {
            let path = format!("/api/v3/log/tile/{bundle}");
            let bytes = client.bytes(&path).await.with_context(|| format!("the log has no {path}"))?;
            let entries = audit.take(&bundle, &bytes).map_err(failed)?;
            for numbered in (bundle.positions().start..).zip(entries) {
                newest.push_back(numbered);
                if newest.len() > self.last {
                    newest.pop_front();
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let audited = audit.finish().map_err(failed)?;
        agrees(&verified, &audited)?;
        if let Some(path) = &self.from {
            let checkpoint = String::from_utf8_lossy(&note).into_owned();
            Remembered { key: key.to_string(), checkpoint }.keep(path)?;
        }
        self.tell(&key, &audited, newest)
    }

    /// The newest checkpoint that has a quorum, where witnesses were named: each of them has cosigned it.
    async fn witnessed(&self, client: &Client, key: &NoteKey) -> Outcome<Option<Checkpoint>> {
        if self.witness.is_empty() {
            return Ok(None);
        }
        let bytes = client.bytes("/api/v3/log/checkpoint/witnessed").await?;
        let checkpoint =
            signed_checkpoint(&bytes, key, &ed25519).map_err(|it| refused("LOG_SIGNATURE", it))?;
        let note = Note::parse(&bytes).map_err(|error| refused("LOG_SIGNATURE", error))?;
        for text in &self.witness {
            let witness = NoteKey::parse(text)
                .ok()
                .filter(|key| key.signer() == Signer::Witness)
                .ok_or_else(|| Failure::malformed(format!("{text:?} is no witness's verifier key")))?;
            note.verify(&witness, &ed25519).map_err(|error| refused("LOG_UNWITNESSED", error))?;
        }
        Ok(Some(checkpoint))
    }

    fn tell(&self, key: &NoteKey, audited: &Audited, newest: VecDeque<(u64, Option<Entry>)>) -> Outcome {
        let head = &audited.checkpoint.head;
        let newest: Vec<_> = newest.into_iter().filter_map(|(index, entry)| Some((index, entry?))).collect();
        if self.json {
            let entries: Vec<_> =
                newest.iter().map(|(index, entry)| json!({ "index": index, "entry": entry })).collect();
            return print_json(&json!({
                "origin": audited.checkpoint.origin,
                "key": key.to_string(),
                "size": head.size,
                "root": hex::encode(head.root),
                "epoch": audited.history.epoch,
                "manifest": audited.history.manifest,
                "entries": entries,
            }));
        }
        if newest.len() as u64 != head.size {
            crate::say!("… {} earlier entries", head.size - newest.len() as u64);
        }
        for (index, entry) in &newest {
            crate::say!("{}", words::line(*index, entry));
        }
        crate::say!("\n{} entries, root {}", head.size, hex::encode(head.root));
        crate::say!("log {}", audited.checkpoint.origin);
        crate::say!("key {key}");
        match &self.from {
            Some(path) => {
                crate::say!("each entry is in the signed and attested head, remembered in {}", path.display())
            }
            None => crate::say!(
                "each entry is in the signed and attested head; --from FILE remembers it for the next time"
            ),
        }
        Ok(())
    }
}

/// What the Evidence says of the log.
fn attested(verified: &Verified) -> Outcome<Attested> {
    let Some(claims) = &verified.claims.transparency else {
        return Err(Failure::refused("the coordinator waits for recovery: its log is sealed with its state"));
    };
    let key = NoteKey::new(&claims.origin, Signer::Log, *claims.key).map_err(anyhow::Error::from)?;
    Ok(Attested { key, head: Head { size: claims.size, root: *claims.root } })
}

/// The entries that the Evidence covers come to what it says beside.
fn agrees(verified: &Verified, audited: &Audited) -> Outcome {
    let (claims, said) = (&verified.claims, &audited.covered);
    let manifest = claims.manifest.as_ref().map(|digest| Digest(**digest));
    let agrees = said.epoch == claims.epoch
        && said.manifest == manifest
        && said.root == Some(Digest(sha256(&claims.root)));
    if agrees {
        return Ok(());
    }
    let sentence =
        anyhow::anyhow!("the entries come to another root, epoch or manifest than the Evidence says");
    Err(refused("LOG_EVIDENCE", sentence))
}

fn failed(error: AuditError) -> Failure {
    let hint = match &error {
        AuditError::RolledBack { .. } | AuditError::Forked { .. } => Some(
            "keep the remembered file: it is signed, and proves that the coordinator said otherwise before",
        ),
        AuditError::OtherLog { .. } => Some("the remembered file is of another mesh: --from another FILE"),
        _ => None,
    };
    let failure = refused(error.code(), error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// On a terminal, as far as it is.
fn bar(bundles: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("replaying {bar:32} {pos}/{len} bundles of entries, {eta} left");
    let bar = ProgressBar::new(bundles as u64);
    bar.enable_steady_tick(Duration::from_millis(200));
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
