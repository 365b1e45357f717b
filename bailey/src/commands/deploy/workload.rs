//! What to run.

use std::{
    collections::BTreeMap,
    io::Read,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use ::deploy::{Deployment, Workload};
use clap::Args;
use keep_config::KeepConfig;
use keep_protocol::keep::MAX_WORKLOAD;
use package::Reference;
use tokio::io::AsyncRead;
use zeroize::Zeroizing;

use crate::{
    commands::package::{AtHand, Source},
    failure::{Failure, Input, Outcome},
    volumes::VolumeArgs,
};

/// What WebAssembly begins with (Core Specification, §5.5.16, and components alike).
const MAGIC: &[u8] = b"\0asm";
/// No configuration and no secret is larger, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What to run, and with what.
#[derive(Args)]
pub struct WorkloadArgs {
    /// A WebAssembly module (WASI preview 1) or component (WASI 0.2 or 0.3): a file, or a package in a registry,
    /// REGISTRY/REPOSITORY@sha256:…, or by a tag if --signer says whose signature counts
    pub workload: PathBuf,
    /// Its configuration: Keep.toml, or an Enarx.toml as it is; without one, the one in the package
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its standard input; without one, this program's
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// A variable of its environment, beside the configuration's
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// A secret of the configuration, from a file
    #[arg(long, value_name = "NAME=FILE", value_parser = secret)]
    secret: Vec<(String, PathBuf)>,
    /// Its volumes
    #[command(flatten)]
    pub volumes: VolumeArgs,
    /// Tell the ten steps with their times, on standard error
    #[arg(long)]
    pub verbose: bool,
    /// For a program: one JSON object a line on standard output, the workload's output among them
    #[arg(long)]
    pub json: bool,
    /// Its arguments, in the place of the configuration's
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
    /// Fetch and verify the package here, and send it: for Keeps that have no network
    #[arg(long, help_heading = "Packages")]
    fetch_here: bool,
    #[command(flatten, next_help_heading = "Packages")]
    source: Source,
}

/// What was brought.
struct Brought {
    workload: Workload,
    /// The text of its package's Keep.toml, where the package was fetched here.
    config: Option<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn secret(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("expected NAME=FILE")?;
    Ok((name.to_owned(), path.into()))
}

impl WorkloadArgs {
    /// Reads and checks it all but its volumes, before any Keep is asked for.
    pub async fn load(&self) -> Outcome<Deployment> {
        let (brought, given) = (self.bring().await?, self.config.as_deref());
        let config = match given {
            Some(path) => Some(
                String::from_utf8(bounded(path, MAX_FILE)?)
                    .malformed(format!("{} is no text", path.display()))?,
            ),
            None => brought.config,
        };
        // Of a package that the Keep fetches, the Keep knows the configuration, and says what is missing.
        let of_package = config.is_none() && matches!(brought.workload, Workload::Package(_));
        if !of_package {
            let text = config.as_deref().unwrap_or(keep_config::WITHOUT_A_FILE);
            let parsed = KeepConfig::parse(text).malformed(match &self.config {
                Some(path) => format!("{} is no configuration of a Keep", path.display()),
                None => "the configuration in the package is refused".to_owned(),
            })?;
            self.volumes.check(&parsed)?;
        }
        let mut secrets = BTreeMap::new();
        for (name, path) in &self.secret {
            let value = Zeroizing::new(bounded(path, MAX_FILE)?);
            if secrets.insert(name.clone(), value).is_some() {
                return Err(Failure::malformed(format!("the secret {name:?} is given twice")));
            }
        }
        let mut env = BTreeMap::new();
        for (name, value) in &self.env {
            if env.insert(name.clone(), value.clone()).is_some() {
                return Err(Failure::malformed(format!("the variable {name:?} is given twice")));
            }
        }
        let deployment = Deployment {
            workload: brought.workload,
            config,
            args: if self.args.is_empty() { None } else { Some(self.args.clone()) },
            env,
            secrets,
            volumes: Vec::new(),
        };
        deployment.check().malformed(format!("{} cannot be deployed", self.workload.display()))?;
        Ok(deployment)
    }

    /// The file, or the package.
    async fn bring(&self) -> Outcome<Brought> {
        let text = self.workload.to_str().filter(|_| !self.workload.exists());
        let reference = text.and_then(|text| text.parse::<Reference>().ok());
        // With neither it is a file that is missing.
        let named = |reference: &Reference| reference.tag.is_some() || reference.digest.is_some();
        let Some(reference) = reference.filter(named) else {
            return Ok(Brought { workload: self.file()?.into(), config: None });
        };
        if !self.fetch_here {
            let order = self.source.order(&reference).await?;
            return Ok(Brought { workload: Workload::Package(order), config: None });
        }
        let (package, fetched) = self.source.fetch_to_run(&reference).await?;
        let release = fetched.release.as_ref();
        let signed = release.map_or("nobody's signature was asked for".to_owned(), |release| {
            format!("version {}, signed by {}", release.version, release.signer)
        });
        if self.json {
            crate::say!(
                "{}",
                serde_json::json!({
                    "event": "package", "package": package.to_string(), "fetched_by": "client",
                    "version": release.map(|release| release.version.to_string()),
                    "signer": release.map(|release| release.signer.clone()),
                })
            );
        } else {
            eprintln!("{package}: {signed}; fetched here, and sent to the Keep");
        }
        Ok(Brought { workload: fetched.workload.into(), config: fetched.artefact.config })
    }

    /// What opens an encrypted package.
    pub fn opener(&self) -> Outcome<Option<AtHand>> {
        self.source.opener()
    }

    fn file(&self) -> Outcome<Vec<u8>> {
        let workload = bounded(&self.workload, MAX_WORKLOAD)?;
        if !workload.starts_with(MAGIC) {
            let path = self.workload.display();
            let mend = "compile it to WebAssembly first; `wat2wasm` or `wasm-tools parse` does that for its text form";
            return Err(Failure::malformed(format!("{path} is no WebAssembly")).hint(mend));
        }
        Ok(workload)
    }

    /// The workload's input.
    pub async fn input(&self) -> Outcome<Box<dyn AsyncRead + Send + Unpin>> {
        match &self.input {
            Some(path) => {
                let file = tokio::fs::File::open(path).await;
                Ok(Box::new(file.malformed(format!("{} cannot be read", path.display()))?))
            }
            None => {
                let own = std::io::stdin().as_fd().try_clone_to_owned();
                let own = own.malformed("standard input cannot be read; --input FILE gives another")?;
                Ok(Box::new(tokio::fs::File::from_std(own.into())))
            }
        }
    }
}

fn bounded(path: &Path, max: u64) -> Outcome<Vec<u8>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let file = std::fs::File::open(path).malformed(unreadable())?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).malformed(unreadable())?;
    if bytes.len() as u64 > max {
        return Err(Failure::malformed(format!("{} has more than {max} bytes", path.display())));
    }
    Ok(bytes)
}
