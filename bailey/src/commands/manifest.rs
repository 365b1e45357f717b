//! `bailey manifest`: check, set, get, change.

mod change;
mod look;
mod plan;

use std::path::PathBuf;

use attested_tls::key::sha256;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::{
    client::{Client, Declined},
    commands::print_json,
    failure::{Failure, Input, Kind, Outcome},
};

/// Check, set, get or change a manifest.
#[derive(Subcommand)]
pub enum Command {
    /// Check a manifest without any coordinator
    Check {
        /// The manifest, JSON or YAML
        file: PathBuf,
        /// For a program
        #[arg(long)]
        json: bool,
    },
    /// Set the first manifest, as the owner
    Set(change::Set),
    /// Print the manifest in force
    Get(look::Get),
    /// Say in words what another manifest would change, and which running Marbles it would refuse
    Plan(plan::Plan),
    /// Propose another manifest, or raise security versions of packages
    Update(change::Update),
    /// Agree to the manifest that another user proposed
    Acknowledge(change::Acknowledge),
    /// Take the proposed manifest away
    Cancel(change::Cancel),
    /// Show which manifest is proposed, and whose agreement is missing
    Pending(change::Pending),
    /// Print what happened to manifest and secrets
    Log(look::Log),
    /// Print a manifest's SHA-256, by which Evidence names it
    Digest(look::Digest),
    /// Appraise a coordinator, and require that it enforces a manifest
    Verify(look::Verify),
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Check { file, json } => check(&file, json),
            Self::Set(set) => set.run().await,
            Self::Get(get) => get.run().await,
            Self::Plan(plan) => plan.run().await,
            Self::Update(update) => update.run().await,
            Self::Acknowledge(acknowledge) => acknowledge.run().await,
            Self::Cancel(cancel) => cancel.run().await,
            Self::Pending(pending) => pending.run().await,
            Self::Log(log) => log.run().await,
            Self::Digest(digest) => digest.run(),
            Self::Verify(verify) => verify.run().await,
        }
    }
}

/// The document of an answer, which must be the one whose digest it names.
fn document(answer: &Value) -> Outcome<Vec<u8>> {
    let bytes = BASE64
        .decode(answer["manifest"].as_str().unwrap_or_default())
        .malformed("the coordinator's answer has no manifest")?;
    if answer["manifestFingerprint"].as_str() != Some(hex::encode(sha256(&bytes)).as_str()) {
        return Err(Failure::malformed(
            "the coordinator's answer names another digest than its manifest has",
        ));
    }
    Ok(bytes)
}

fn check(file: &std::path::Path, json: bool) -> Outcome {
    let bytes = std::fs::read(file).malformed(format!("{} cannot be read", file.display()))?;
    match checked(&bytes) {
        Ok(manifest) if json => {
            let stored: Vec<_> = stored(&manifest)
                .map(|(name, at)| json!({ "secret": name, "store": at.store, "place": at.place.to_string() }))
                .collect();
            let digest = manifest.digest().to_string();
            print_json(&json!({ "accepted": true, "sha256": digest, "faults": [], "stored": stored }))
        }
        Ok(manifest) => {
            crate::say!("{}: accepted, sha256 {}", file.display(), manifest.digest());
            for (name, at) in stored(&manifest) {
                crate::say!("  {name} lies in {}: {}", at.store, at.place);
            }
            Ok(())
        }
        Err(faults) => {
            if json {
                let list: Vec<_> = faults
                    .all()
                    .iter()
                    .map(|fault| {
                        json!({
                            "path": fault.path, "line": fault.line, "code": fault.code.to_string(),
                            "message": fault.message, "hint": fault.hint,
                        })
                    })
                    .collect();
                print_json(&json!({ "accepted": false, "faults": list }))?;
            }
            Err(faulty(file, faults))
        }
    }
}

/// The secrets that lie in stores outside, and where.
fn stored(
    manifest: &manifest::Manifest,
) -> impl Iterator<Item = (&manifest::SecretName, &manifest::StoredAt)> {
    manifest.secrets().values().filter_map(|secret| match &secret.source {
        manifest::SecretSource::Stored(at) => Some((&secret.name, at.as_ref())),
        _ => None,
    })
}

/// As the coordinator will read it, with its policies in Rego.
fn checked(bytes: &[u8]) -> Result<manifest::Manifest, manifest::Faults> {
    manifest::Manifest::parse_checking(bytes, &policy_rego::Release::check)
}

/// Checks a manifest's bytes before they are sent anywhere.
pub fn check_bytes(file: &std::path::Path, bytes: &[u8]) -> Outcome {
    match checked(bytes) {
        Ok(_) => Ok(()),
        Err(faults) => Err(faulty(file, faults)),
    }
}

fn faulty(file: &std::path::Path, faults: manifest::Faults) -> Failure {
    let sentence = format!("{} is no manifest that can be set", file.display());
    Failure { kind: Kind::Malformed, error: anyhow::Error::new(faults).context(sentence), hint: None }
}

/// Sets the first manifest; the client's identity must be the owner's.
/// Gives the answer, whose recovery secrets are nowhere else.
pub async fn set(client: &Client, bytes: &[u8]) -> Outcome<Value> {
    client.post("/api/v2/manifest", &request(bytes)).await.map_err(with_faults)
}

/// Recovery secrets as the file that holders get, if there are any.
pub fn recovery_secrets(secrets: &Value) -> Outcome<Option<String>> {
    if secrets.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(None);
    }
    let text = serde_json::to_string_pretty(&json!({ "RecoverySecrets": secrets }));
    Ok(Some(text.map_err(anyhow::Error::from)?))
}

/// The body of the request that sets a manifest.
pub fn request(bytes: &[u8]) -> Value {
    json!({ "manifest": BASE64.encode(bytes) })
}

/// A refusal of the coordinator, with the manifest's faults as causes.
fn with_faults(error: anyhow::Error) -> Failure {
    let Some(declined) = error.downcast_ref::<Declined>() else { return error.into() };
    if declined.code == "SECURITY_VERSION_DOWNGRADE" {
        return Failure::from(error).hint("if that is meant: --allow-downgrade PACKAGE");
    }
    let faults: Vec<_> = declined
        .details
        .as_array()
        .into_iter()
        .flatten()
        .map(|fault| {
            format!("{}: {}", fault["path"].as_str().unwrap_or("?"), fault["message"].as_str().unwrap_or("?"))
        })
        .collect();
    if faults.is_empty() {
        return error.into();
    }
    let sentence = declined.to_string();
    Failure { kind: Kind::Refused, error: anyhow::anyhow!(faults.join("\n")).context(sentence), hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_the_one_whose_digest_is_named_or_refused() {
        let answer =
            |digest: &str| json!({ "manifest": BASE64.encode("abc"), "manifestFingerprint": digest });
        // FIPS 180-2, appendix B.1.
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(document(&answer(digest)).unwrap(), b"abc");
        for wrong in ["", "ba7816", &"0".repeat(64)] {
            assert_eq!(document(&answer(wrong)).unwrap_err().exit_code(), 2, "{wrong}");
        }
        assert!(document(&json!({})).is_err());
    }
}
