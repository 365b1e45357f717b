//! `bailey package inspect`.

use std::fmt::Write;

use attested_tls::clock;
use clap::Args;
use image_keys::Packet;
use package::{Artefact, Digest, Reference};
use registry::{Seen, signatures};
use serde_json::{Value, json};

use super::{Access, not_accepted, refused, signers::Known};
use crate::{
    commands::{deploy::printable, print_json},
    failure::Outcome,
};

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
        let told = lines(&described(digest, &artefact, &seen), self.known.asked());
        crate::output::write(format_args!("{told}"));
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

/// A line for each thing that is known. `asked` is whether anybody's signature was asked for.
fn lines(described: &Value, asked: bool) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => printable(text),
        Value::Null => "not said".to_owned(),
        other => other.to_string(),
    };
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<11}{value}");
    };
    line("package", &text(&described["digest"]));
    line("name", &text(&described["name"]));
    line("version", &text(&described["version"]));
    let layer = &described["layer"];
    line("workload", &format!("{} bytes, {}", layer["bytes"], text(&layer["mediaType"])));
    let encrypted = described["encryptedBy"].as_array();
    let keys = encrypted.map(|keys| keys.iter().map(text).collect::<Vec<_>>().join(", "));
    line("encrypted", &keys.map_or_else(|| "no".to_owned(), |keys| format!("by {keys}")));
    line("Keep.toml", if described["config"].is_string() { "in the package" } else { "none" });
    let signatures = described["signatures"].as_array().map(Vec::as_slice).unwrap_or_default();
    if signatures.is_empty() {
        line("signatures", "none");
    }
    for signature in signatures {
        if signature["counts"] == true {
            let version = text(&signature["version"]);
            line(
                "signature",
                &format!("by {}, as {} {version}", text(&signature["signer"]), text(&signature["name"])),
            );
        } else if asked {
            line(
                "signature",
                &format!("does not count: {} [{}]", text(&signature["reason"]), text(&signature["code"])),
            );
        } else {
            line("signature", "somebody's: --signer or --identity says whose counts");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_told_in_lines_that_fit_a_terminal() {
        let signature = |counts: bool| {
            json!({ "counts": counts, "signer": "release.pub", "name": "registry.example/team/app", "version": "1.2.0",
                    "code": "STATEMENT_SIGNER_UNKNOWN", "reason": "none of those named" })
        };
        let mut described = json!({
            "digest": format!("sha256:{}", "0".repeat(64)), "name": "registry.example/team/app", "version": null,
            "layer": { "bytes": 725_886, "mediaType": "application/wasm\u{1b}[2J" },
            "encryptedBy": null, "config": null, "signatures": [signature(true), signature(false)],
        });
        let told = lines(&described, true);
        assert_eq!(
            told,
            format!(
                "package    sha256:{}\nname       registry.example/team/app\nversion    not said\n\
                 workload   725886 bytes, application/wasm\u{fffd}[2J\nencrypted  no\nKeep.toml  none\n\
                 signature  by release.pub, as registry.example/team/app 1.2.0\n\
                 signature  does not count: none of those named [STATEMENT_SIGNER_UNKNOWN]\n",
                "0".repeat(64)
            )
        );
        described["signatures"] = json!([signature(false)]);
        let unasked = lines(&described, false);
        assert!(
            unasked.ends_with("signature  somebody's: --signer or --identity says whose counts\n"),
            "{unasked}"
        );
        for line in told.lines().chain(unasked.lines()) {
            assert!(line.chars().count() <= 82, "{line}");
        }
    }
}
