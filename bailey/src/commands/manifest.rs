//! `bailey manifest`: check, set, get.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::Subcommand;
use serde_json::json;

use crate::{
    client::{Client, Declined},
    commands::{
        print_json,
        remote::{Person, Remote},
    },
    failure::{Failure, Input, Kind, Outcome},
};

/// Check, set or get a manifest.
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
    Set {
        /// The manifest, JSON or YAML
        file: PathBuf,
        /// Which coordinator
        #[command(flatten)]
        remote: Remote,
        /// Who asks
        #[command(flatten)]
        person: Person,
    },
    /// Print the manifest in force
    Get {
        /// Which coordinator
        #[command(flatten)]
        remote: Remote,
    },
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Check { file, json } => check(&file, json),
            Self::Set { file, remote, person } => {
                let bytes = std::fs::read(&file).malformed(format!("{} cannot be read", file.display()))?;
                set(&remote.client(Some(&person))?, &bytes).await?;
                crate::say!("the manifest is in force");
                Ok(())
            }
            Self::Get { remote } => {
                let data = remote.client(None)?.get("/api/v2/manifest").await?;
                let bytes = BASE64
                    .decode(data["manifest"].as_str().unwrap_or_default())
                    .malformed("the coordinator's answer has no manifest")?;
                crate::output::write(format_args!("{}", String::from_utf8_lossy(&bytes)));
                Ok(())
            }
        }
    }
}

fn check(file: &std::path::Path, json: bool) -> Outcome {
    let bytes = std::fs::read(file).malformed(format!("{} cannot be read", file.display()))?;
    match manifest::Manifest::parse(&bytes) {
        Ok(manifest) if json => {
            print_json(&json!({ "accepted": true, "sha256": manifest.digest().to_string(), "faults": [] }))
        }
        Ok(manifest) => {
            crate::say!("{}: accepted, sha256 {}", file.display(), manifest.digest());
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

/// Checks a manifest's bytes before they are sent anywhere.
pub fn check_bytes(file: &std::path::Path, bytes: &[u8]) -> Outcome {
    match manifest::Manifest::parse(bytes) {
        Ok(_) => Ok(()),
        Err(faults) => Err(faulty(file, faults)),
    }
}

fn faulty(file: &std::path::Path, faults: manifest::Faults) -> Failure {
    let sentence = format!("{} is no manifest that can be set", file.display());
    Failure { kind: Kind::Malformed, error: anyhow::Error::new(faults).context(sentence), hint: None }
}

/// Sets the first manifest; the client's identity must be the owner's.
pub async fn set(client: &Client, bytes: &[u8]) -> Outcome {
    match client.post("/api/v2/manifest", &request(bytes)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(with_faults(error)),
    }
}

/// The body of the request that sets a manifest.
pub fn request(bytes: &[u8]) -> serde_json::Value {
    json!({ "manifest": BASE64.encode(bytes) })
}

/// A refusal of the coordinator, with the manifest's faults as causes.
fn with_faults(error: anyhow::Error) -> Failure {
    let Some(declined) = error.downcast_ref::<Declined>() else { return error.into() };
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
