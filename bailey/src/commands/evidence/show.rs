//! `bailey evidence show`.

use std::path::PathBuf;

use clap::Args;
use evidence::describe::{Field, Value};
use evidence::eventlog::{EventDescription, EventLog};
use evidence::ra_tls::Claims;
use serde::Serialize;

use super::against::{examination, read};
use crate::{
    commands::print_json,
    failure::{Input, Outcome},
};

/// Print what Evidence says, believing nothing.
#[derive(Args)]
pub struct Show {
    /// Evidence of any kind that this version knows, or an event log
    file: PathBuf,
    /// For a program
    #[arg(long)]
    json: bool,
}

/// One piece, in JSON.
#[derive(Serialize)]
struct Piece<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    label: &'a str,
    #[serde(flatten)]
    description: evidence::describe::Description,
}

/// What a certificate says about its key.
fn ra_tls(claims: &Claims) -> Field {
    let text = |name: &str, value: String| Field { name: name.to_owned(), value: Value::Text(value) };
    let mut fields = vec![
        text("pubkey_hash_algorithm", format!("{:?}", claims.algorithm).to_lowercase()),
        text("pubkey_hash", hex::encode(&claims.key_hash)),
    ];
    fields.extend(claims.nonce.as_ref().map(|nonce| text("nonce", hex::encode(nonce))));
    let custom = claims.custom.iter();
    fields.extend(custom.map(|(name, value)| text(&format!("claim {name:?}"), hex::encode(value))));
    Field { name: "ra_tls".into(), value: Value::Fields(fields) }
}

impl Show {
    pub fn run(self) -> Outcome {
        let bytes = read(&self.file)?;
        if EventLog::recognises(&bytes) {
            return self.event_log(&bytes);
        }
        let examination = examination(&self.file)?;
        let conveyed = examination.conveyed();
        let mut pieces: Vec<_> = conveyed
            .evidence
            .iter()
            .map(|(label, evidence)| Piece { label, description: evidence.describe() })
            .collect();
        if let (Some(certificate), Some(piece)) = (&conveyed.certificate, pieces.first_mut()) {
            piece.description.0.push(ra_tls(&certificate.claims));
        }
        if self.json {
            return match pieces.as_slice() {
                [one] => print_json(one),
                all => print_json(&serde_json::json!({ "platform": "composite", "pieces": all })),
            };
        }
        crate::say!("{} (parsed, not verified: `bailey evidence verify` does that)", self.file.display());
        for piece in &pieces {
            if !piece.label.is_empty() {
                crate::say!("\n{}:", piece.label);
            }
            crate::output::write(format_args!("{}", piece.description.render()));
        }
        if !conveyed.stapled.is_empty() {
            crate::say!("{} Endorsements are stapled to it", conveyed.stapled.len());
        }
        Ok(())
    }

    fn event_log(&self, bytes: &[u8]) -> Outcome {
        let log = EventLog::parse(bytes).malformed(format!("{} is no event log", self.file.display()))?;
        let events = log.describe();
        if self.json {
            return print_json(&serde_json::json!({ "platform": "eventlog", "events": events }));
        }
        crate::say!(
            "{}: an event log of {} events (parsed, not replayed)",
            self.file.display(),
            events.len()
        );
        for EventDescription { index, register, kind, digest, description } in &events {
            let digest: String = digest.chars().take(16).collect();
            crate::say!("{index:>4}  register {register:>2}  {kind:<36} {digest:<16}  {description}");
        }
        Ok(())
    }
}
