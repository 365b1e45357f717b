//! `bailey recover`: bring back a coordinator's state with holders' recovery secrets, or rehearse it.
//!
//! Whoever uploads a recovery secret gives it to whoever answers: appraise the coordinator first with
//! `bailey verify --pin`. While it waits for recovery it has a root of the moment, so pin it again after a restart.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    client::{Client, Declined},
    commands::{print_json, remote::Remote, verify::read},
    failure::{Failure, Input, Outcome},
    output::{PrivateFile, public_file},
    recovery::{self, HolderKey},
};

/// Bring back a coordinator's state with a recovery secret, or rehearse it.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Recover {
    #[command(subcommand)]
    step: Option<Step>,
    /// The recovery secrets, as `bailey manifest set --recovery-secrets` wrote them
    #[arg(required = true)]
    secrets: Option<PathBuf>,
    /// Whose recovery secret, as the manifest names the holder
    #[arg(long, value_name = "NAME")]
    holder: Option<String>,
    /// The holder's RSA private key, PEM
    #[arg(long, value_name = "FILE", required = true)]
    key: Option<PathBuf>,
    /// Prove to a running coordinator that the recovery secrets would work, and change nothing
    #[arg(long)]
    rehearse: bool,
    /// Go on with an older state: accept that nothing is left but its first so many records, as `bailey status` names them
    #[arg(long, value_name = "RECORDS", conflicts_with = "rehearse")]
    accept_loss: Option<u64>,
    /// The coordinator, such as https://localhost:4433
    #[arg(long, value_name = "URL", required = true)]
    coordinator: Option<String>,
    /// The coordinator's root certificate, as `bailey verify --pin` wrote it
    #[arg(long, value_name = "FILE", required = true)]
    root: Option<PathBuf>,
}

/// One step at a time, for keys on machines without a network.
#[derive(Subcommand)]
enum Step {
    /// Get the key to which the coordinator wants recovery secrets encrypted
    PublicKey(PublicKey),
    /// Sign a recovery secret with the holder's key; needs no network
    Sign(Sign),
    /// Encrypt a recovery secret to the coordinator's key; needs no network
    Encrypt(Encrypt),
    /// Upload an encrypted recovery secret with its signature
    Upload(Upload),
    /// Show how many recovery secrets are missing
    Progress(Progress),
}

#[derive(Args)]
struct Purpose {
    /// Prove to a running coordinator that the recovery secrets would work, and change nothing
    #[arg(long)]
    rehearse: bool,
    /// Go on with an older state: accept that nothing is left but its first so many records, as `bailey status` names them
    #[arg(long, value_name = "RECORDS", conflicts_with = "rehearse")]
    accept_loss: Option<u64>,
}

#[derive(Args)]
struct PublicKey {
    /// Where to write it, PEM
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    purpose: Purpose,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
struct Share {
    /// The recovery secrets, as `bailey manifest set --recovery-secrets` wrote them
    secrets: PathBuf,
    /// Whose recovery secret, as the manifest names the holder
    #[arg(long, value_name = "NAME")]
    holder: Option<String>,
    /// The holder's RSA private key, PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

#[derive(Args)]
struct Sign {
    #[command(flatten)]
    share: Share,
    /// Where to write the signature
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args)]
struct Encrypt {
    #[command(flatten)]
    share: Share,
    /// The coordinator's key, as `bailey recover public-key` wrote it
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
    /// Where to write the encrypted recovery secret
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args)]
struct Upload {
    /// The recovery secret, as `bailey recover encrypt` wrote it
    secret: PathBuf,
    /// Its signature, as `bailey recover sign` wrote it
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    #[command(flatten)]
    purpose: Purpose,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Args)]
struct Progress {
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Recover {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self.step {
            Some(Step::PublicKey(step)) => step.run().await,
            Some(Step::Sign(step)) => step.run(),
            Some(Step::Encrypt(step)) => step.run(),
            Some(Step::Upload(step)) => step.run().await,
            Some(Step::Progress(step)) => step.run().await,
            None => self.all_steps().await,
        }
    }

    /// Decrypts, signs, encrypts to the coordinator, uploads.
    async fn all_steps(self) -> Outcome {
        // Required unless there is a step: clap has seen to it.
        let (Some(secrets), Some(key), Some(coordinator), Some(root)) =
            (self.secrets, self.key, self.coordinator, self.root)
        else {
            return Err(Failure::malformed("say which recovery secrets, whose key and which coordinator"));
        };
        let (key, share) = decrypted(&secrets, self.holder.as_deref(), &key)?;
        let signature = key.sign(&share)?;
        let client = Remote { coordinator, root }.client(None)?;
        let purpose = Purpose { rehearse: self.rehearse, accept_loss: self.accept_loss };
        let encrypted = recovery::encrypt(&purpose.public_key(&client).await?, &share)?;
        purpose.upload(&client, &encrypted, &signature).await
    }
}

impl Purpose {
    fn path(&self) -> &'static str {
        if self.rehearse { "/api/v3/recovery/rehearsal" } else { "/api/v2/recover" }
    }

    async fn public_key(&self, client: &Client) -> Outcome<Vec<u8>> {
        let answer = client.get(&format!("{}/public-key", self.path())).await.map_err(with_hint)?;
        BASE64
            .decode(answer["ephemeralPublicKey"].as_str().unwrap_or_default())
            .malformed("the coordinator's answer has no key")
    }

    async fn upload(&self, client: &Client, share: &[u8], signature: &[u8]) -> Outcome {
        let mut body = json!({
            "recoverySecret": BASE64.encode(share), "recoverySecretSignature": BASE64.encode(signature),
        });
        if let Some(records) = self.accept_loss {
            body["acceptLoss"] = json!(records);
        }
        let answer = client.post(self.path(), &body).await.map_err(with_hint)?;
        crate::say!("{}", answer["message"].as_str().unwrap_or("the recovery secret was taken"));
        if !self.rehearse && answer["remaining"] == 0 {
            crate::say!("the coordinator has a new root now: appraise it again with `bailey verify --pin`");
        }
        Ok(())
    }
}

fn with_hint(error: anyhow::Error) -> Failure {
    let hint = match error.downcast_ref::<Declined>().map(|declined| declined.code.as_str()) {
        Some("RECOVERY_NOT_PENDING") => "to try the recovery secrets on a running coordinator: --rehearse",
        Some("RECOVERY_PENDING") => "this coordinator waits for a recovery: leave out --rehearse",
        _ => return error.into(),
    };
    Failure::from(error).hint(hint)
}

fn decrypted(secrets: &Path, holder: Option<&str>, key: &Path) -> Outcome<(HolderKey, Zeroizing<Vec<u8>>)> {
    let encrypted = recovery::encrypted(secrets, holder)?;
    let key = HolderKey::load(key)?;
    let share = key.open(&encrypted).malformed("the recovery secret cannot be decrypted with this key")?;
    Ok((key, share))
}

impl PublicKey {
    async fn run(self) -> Outcome {
        let key = self.purpose.public_key(&self.remote.client(None)?).await?;
        public_file(&self.output, recovery::pem("PUBLIC KEY", &key).as_bytes())
    }
}

impl Share {
    fn decrypted(&self) -> Outcome<(HolderKey, Zeroizing<Vec<u8>>)> {
        decrypted(&self.secrets, self.holder.as_deref(), &self.key)
    }
}

impl Sign {
    fn run(self) -> Outcome {
        let (key, share) = self.share.decrypted()?;
        Ok(PrivateFile::create(&self.output)?.fill(&key.sign(&share)?)?)
    }
}

impl Encrypt {
    fn run(self) -> Outcome {
        let (_, share) = self.share.decrypted()?;
        let encrypted = recovery::encrypt(&recovery::public_key(&self.public_key)?, &share)?;
        Ok(PrivateFile::create(&self.output)?.fill(&encrypted)?)
    }
}

impl Upload {
    async fn run(self) -> Outcome {
        let (share, signature) = (read(&self.secret)?, read(&self.signature)?);
        self.purpose.upload(&self.remote.client(None)?, &share, &signature).await
    }
}

impl Progress {
    async fn run(self) -> Outcome {
        let client = self.remote.client(None)?;
        let mut answer = client.get("/api/v2/status").await?;
        if answer["code"] == 3 {
            answer = client.get("/api/v3/recovery/rehearsal").await?;
        }
        if self.json {
            return print_json(&answer);
        }
        crate::say!("{}", answer["message"].as_str().unwrap_or("no message"));
        if let Some(given) = answer["given"].as_array() {
            let names: Vec<_> = given.iter().filter_map(Value::as_str).collect();
            crate::say!(
                "rehearsed so far: {}",
                if names.is_empty() { "none".into() } else { names.join(", ") }
            );
        }
        Ok(())
    }
}
