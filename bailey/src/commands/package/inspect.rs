//! `bailey package inspect`.

use attested_tls::clock;
use clap::Args;
use comfy_table::{Table, presets};
use image_keys::Packet;
use package::{Artefact, Digest, Reference};
use registry::{Seen, signatures};
use serde_json::{Value, json};

use super::{Access, not_accepted, refused, signers::Known};
use crate::{commands::print_json, failure::Outcome};

/// What the package says of itself anybody may have written; a signature counts where it is by one of --signer or
/// --identity.
#[derive(Args)]
pub struct Inspect {
    /// Which package: REGISTRY/REPOSITORY@sha256:…, or with a tag
    reference: Reference,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    known: Known,
    #[command(flatten)]
    access: Access,
}

impl Inspect {
    pub(super) async fn run(self) -> Outcome {
        let (reference, signers) = (&self.reference, self.known.signers()?);
        let client = self.access.client(reference)?;
        let failed = |error| refused(error, reference);
        let digest = client.resolve(reference).await.map_err(failed)?;
        let manifest = client.manifest(&reference.repository, digest).await.map_err(failed)?;
        let artefact = Artefact::read(&manifest).map_err(|error| not_accepted(error.into(), reference))?;
        let now = clock::system()();
        let seen = signatures(&client, &reference.repository, (digest, &artefact), &signers, now).await;
        let seen = seen.map_err(failed)?;
        if self.json {
            return print_json(&described(digest, &artefact, &seen));
        }
        crate::say!("{}", table(&described(digest, &artefact, &seen)));
        Ok(())
    }
}

fn described(digest: Digest, artefact: &Artefact, seen: &[Seen]) -> Value {
    let layer = &artefact.layer;
    let key = |packet: &Vec<u8>| {
        Packet::parse(packet).map_or_else(|error| error.to_string(), |it| it.key.to_string())
    };
    let keys = layer.encryption.as_ref().map(|it| it.packets.iter().map(key).collect::<Vec<_>>());
    let signature = |seen: &Seen| match &seen.release {
        Ok(release) => json!({
            "attached": seen.attached.to_string(),
            "counts": true,
            "signer": release.signer,
            "name": release.name.to_string(),
            "version": release.version.to_string(),
        }),
        Err(reason) => json!({
            "attached": seen.attached.to_string(),
            "counts": false,
            "code": reason.code(),
            "reason": reason.to_string(),
        }),
    };
    json!({
        "digest": digest.to_string(),
        "name": artefact.name.as_ref().map(ToString::to_string),
        "version": artefact.version.as_ref().map(ToString::to_string),
        "layer": {
            "digest": layer.descriptor.digest.to_string(),
            "bytes": layer.descriptor.size,
            "mediaType": layer.descriptor.media_type,
        },
        "encryptedBy": keys,
        "config": artefact.config,
        "signatures": seen.iter().map(signature).collect::<Vec<_>>(),
    })
}

fn table(described: &Value) -> Table {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "not said".to_owned(),
        other => other.to_string(),
    };
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(["package", &text(&described["digest"])]);
    table.add_row(["name", &text(&described["name"])]);
    table.add_row(["version", &text(&described["version"])]);
    let layer = &described["layer"];
    table.add_row(["workload", &format!("{} bytes, {}", layer["bytes"], text(&layer["mediaType"]))]);
    let encrypted = described["encryptedBy"].as_array();
    let keys = encrypted.map(|keys| keys.iter().map(text).collect::<Vec<_>>().join(", "));
    table.add_row(["encrypted", &keys.map_or_else(|| "no".to_owned(), |keys| format!("by {keys}"))]);
    table.add_row(["Keep.toml", if described["config"].is_string() { "in the package" } else { "none" }]);
    let signatures = described["signatures"].as_array().map(Vec::as_slice).unwrap_or_default();
    if signatures.is_empty() {
        table.add_row(["signatures", "none"]);
    }
    for signature in signatures {
        let said = match signature["counts"] == true {
            true => {
                let version = text(&signature["version"]);
                format!("by {}: {} {version}", text(&signature["signer"]), text(&signature["name"]))
            }
            false => format!("{}: {}", text(&signature["code"]), text(&signature["reason"])),
        };
        table.add_row(["signature", &said]);
    }
    table
}
