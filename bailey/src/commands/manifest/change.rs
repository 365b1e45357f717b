//! Changing a manifest: the first one, updates, and the recovery secrets that they may give.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{check_bytes, recovery_secrets, request, set, with_faults};
use crate::{
    commands::{
        print_json,
        remote::{Person, Remote},
        verify::read,
    },
    failure::Outcome,
    output::{PrivateFile, public_file},
};

/// Set the first manifest.
#[derive(Args)]
pub struct Set {
    /// The manifest, JSON or YAML
    file: PathBuf,
    #[command(flatten)]
    recovery: RecoverySecrets,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// Propose another manifest, or raise security versions.
#[derive(Args)]
pub struct Update {
    /// The manifest, JSON or YAML; one that has nothing but `Packages` with `SecurityVersion` raises those at once
    file: PathBuf,
    /// Let the security version of this package fall: those who acknowledge the update see it
    #[arg(long, value_name = "PACKAGE")]
    allow_downgrade: Vec<String>,
    /// Propose it without showing its plan and asking
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    recovery: RecoverySecrets,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// Agree to the very manifest that another user proposed.
#[derive(Args)]
pub struct Acknowledge {
    /// The manifest, byte by byte the proposed one
    file: PathBuf,
    #[command(flatten)]
    recovery: RecoverySecrets,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// Take the proposed manifest away.
#[derive(Args)]
pub struct Cancel {
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// Show the proposed manifest.
#[derive(Args)]
pub struct Pending {
    /// Write the proposed manifest here, to read and to acknowledge it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
    /// Also say in words what it would change; needs no key
    #[arg(long)]
    plan: bool,
    #[command(flatten)]
    remote: Remote,
}

/// What to do with the recovery secrets.
#[derive(Args)]
struct RecoverySecrets {
    /// Write the recovery secrets here, each encrypted to its holder's key; mode 0600. They are given out once
    #[arg(long, short = 'r', value_name = "FILE")]
    recovery_secrets: Option<PathBuf>,
}

impl RecoverySecrets {
    /// Before anything is asked of the coordinator: what it gives it gives once.
    fn prepare(&self) -> Outcome<Option<PrivateFile>> {
        self.recovery_secrets.as_deref().map(PrivateFile::create).transpose()
    }
}

impl Set {
    pub(super) async fn run(self) -> Outcome {
        let bytes = read(&self.file)?;
        let client = self.remote.client(Some(&self.person))?;
        let place = self.recovery.prepare()?;
        let answer = set(&client, &bytes).await?;
        crate::say!("the manifest is in force");
        hand_out(&answer["RecoverySecrets"], place, self.recovery.recovery_secrets.as_deref())
    }
}

impl Update {
    pub(super) async fn run(self) -> Outcome {
        let bytes = read(&self.file)?;
        if !manifest::PackageUpdate::is_one(&bytes) {
            check_bytes(&self.file, &bytes)?;
        }
        let client = self.remote.client(Some(&self.person))?;
        super::plan::confirmed(&client, &bytes, self.yes).await?;
        let place = self.recovery.prepare()?;
        let mut body = request(&bytes);
        if !self.allow_downgrade.is_empty() {
            body["downgrades"] = json!(self.allow_downgrade);
        }
        let answer = client.post("/api/v2/update", &body).await.map_err(with_faults)?;
        progressed(&answer);
        hand_out(&answer["recoverySecrets"], place, self.recovery.recovery_secrets.as_deref())
    }
}

impl Acknowledge {
    pub(super) async fn run(self) -> Outcome {
        let bytes = read(&self.file)?;
        let client = self.remote.client(Some(&self.person))?;
        let place = self.recovery.prepare()?;
        let answer = client.post("/api/v2/update-manifest", &request(&bytes)).await.map_err(with_faults)?;
        progressed(&answer);
        hand_out(&answer["recoverySecrets"], place, self.recovery.recovery_secrets.as_deref())
    }
}

impl Cancel {
    pub(super) async fn run(self) -> Outcome {
        let client = self.remote.client(Some(&self.person))?;
        let answer = client.post("/api/v2/update-cancel", &json!({})).await?;
        crate::say!("{}", answer["message"].as_str().unwrap_or("cancelled"));
        Ok(())
    }
}

impl Pending {
    pub(super) async fn run(self) -> Outcome {
        let client = self.remote.client(None)?;
        let mut answer = client.get("/api/v2/update-manifest").await?;
        if self.plan {
            answer["plan"] = super::plan::of_pending(&client, &answer).await?;
        }
        if let Some(path) = &self.output {
            public_file(path, &super::document(&answer)?)?;
        }
        if self.json {
            return print_json(&answer);
        }
        let text = |field: &str| answer[field].as_str().unwrap_or("?").to_owned();
        crate::say!("proposed manifest, sha256:  {}", text("manifestFingerprint"));
        crate::say!("acknowledgements missing:   {}", answer["missingAcknowledgments"]);
        crate::say!("users who can give them:    {}", names(&answer["missingUsers"]));
        crate::say!("cancelled by itself after:  {}", text("deadline"));
        let downgrades = names(&answer["downgrades"]);
        crate::say!("security versions may fall: {downgrades}");
        if self.plan {
            crate::output::write(format_args!("{}", super::plan::words(&answer)));
        }
        if let Some(path) = &self.output {
            crate::say!("written to {}: read it before you acknowledge it", path.display());
        }
        Ok(())
    }
}

fn names(list: &Value) -> String {
    let names: Vec<_> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn progressed(answer: &Value) {
    crate::say!("{}", answer["message"].as_str().unwrap_or("done"));
    if answer["missingUsers"].as_array().is_some_and(|users| !users.is_empty()) {
        crate::say!("users who can acknowledge it: {}", names(&answer["missingUsers"]));
    }
}

/// Recovery secrets are in this answer and nowhere else.
fn hand_out(secrets: &Value, place: Option<PrivateFile>, path: Option<&Path>) -> Outcome {
    let Some(text) = recovery_secrets(secrets)? else { return Ok(()) };
    let count = secrets.as_object().map_or(0, serde_json::Map::len);
    let Some((place, path)) = place.zip(path) else {
        eprintln!(
            "warning: these are the recovery secrets of {count} holders, and no --recovery-secrets FILE was given. \
             KEEP THEM: they are given out this once, and without them the state cannot be recovered"
        );
        crate::say!("{text}");
        return Ok(());
    };
    if let Err(error) = place.fill(text.as_bytes()) {
        eprintln!(
            "warning: the recovery secrets could not be written. KEEP THEM from here: they are given out once"
        );
        crate::say!("{text}");
        return Err(error.into());
    }
    crate::say!(
        "recovery secrets of {count} holders, each encrypted to its holder's key: {}. There is no other copy",
        path.display()
    );
    Ok(())
}
