//! `bailey broker resource`: what guests are given that is no secret of the manifest.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::{Args, Subcommand};
use manifest::{RepositoryName, ResourcePath};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::list;
use crate::{
    commands::{
        instances::text,
        print_json,
        remote::{Person, Remote},
    },
    failure::{Failure, Input, Outcome},
    output::PrivateFile,
};

/// As much as the coordinator takes, and a byte more to see that it is too much.
const LONGEST: u64 = 512 * 1024 + 1;

#[derive(Subcommand)]
pub enum Command {
    /// Upload a resource, or a new version of it
    Put(Put),
    /// Download a resource
    Get(Get),
    /// List the resources of the repositories that you may list
    List(List),
    /// Delete a resource with all its versions
    Delete(Delete),
}

/// Values come from files or standard input, never from arguments, which other processes could read.
#[derive(Args)]
pub struct Put {
    /// repository/kind/tag, or kbs:///repository/kind/tag
    #[arg(value_parser = path)]
    path: ResourcePath,
    /// The file that holds the value; `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Only if this version is the newest now; 0 if there is to be none yet
    #[arg(long, value_name = "VERSION")]
    follows: Option<u64>,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// Each download is told in the transparency log.
#[derive(Args)]
pub struct Get {
    /// repository/kind/tag, or kbs:///repository/kind/tag
    #[arg(value_parser = path)]
    path: ResourcePath,
    /// Where to write it, mode 0600; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// An older version than the newest
    #[arg(long)]
    version: Option<u64>,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// All but values.
#[derive(Args)]
pub struct List {
    /// Of this repository alone
    repository: Option<RepositoryName>,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// Guests get it no more, also those that have attested.
#[derive(Args)]
pub struct Delete {
    /// repository/kind/tag, or kbs:///repository/kind/tag
    #[arg(value_parser = path)]
    path: ResourcePath,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

pub(super) fn path(text: &str) -> Result<ResourcePath, String> {
    text.parse().map_err(|error: manifest::InvalidResourcePath| error.to_string())
}

fn place(path: &ResourcePath) -> String {
    format!("/api/v3/broker/resources/{path}")
}

impl Command {
    pub async fn run(self) -> Outcome {
        match self {
            Self::Put(put) => put.run().await,
            Self::Get(get) => get.run().await,
            Self::List(list) => list.run().await,
            Self::Delete(delete) => delete.run().await,
        }
    }
}

/// A file, or standard input.
pub(super) fn read(path: &Path) -> Outcome<Zeroizing<Vec<u8>>> {
    let mut value = Zeroizing::new(Vec::new());
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(LONGEST)
            .read_to_end(&mut value)
            .malformed("standard input cannot be read")?;
    } else {
        let file = std::fs::File::open(path).malformed(format!("{} cannot be read", path.display()))?;
        file.take(LONGEST).read_to_end(&mut value).malformed(format!("{} cannot be read", path.display()))?;
    }
    if value.len() as u64 == LONGEST {
        return Err(Failure::malformed("this is larger than 512 KiB, which is more than the broker takes"));
    }
    Ok(value)
}

impl Put {
    async fn run(self) -> Outcome {
        let mut body = json!({ "value": BASE64.encode(&*read(&self.file)?) });
        if let Some(follows) = self.follows {
            body["follows"] = json!(follows);
        }
        let data = self.remote.client(Some(&self.person))?.put(&place(&self.path), &body).await?;
        crate::say!("{} is version {} now", text(&data, "uri"), data["version"]);
        Ok(())
    }
}

impl Get {
    async fn run(self) -> Outcome {
        let client = self.remote.client(Some(&self.person))?;
        let to_file = self.output != Path::new("-");
        let file = to_file.then(|| PrivateFile::create(&self.output)).transpose()?;
        let query = self.version.map(|version| format!("?version={version}")).unwrap_or_default();
        let data = client.get(&format!("{}{query}", place(&self.path))).await?;
        let value = BASE64.decode(text(&data, "value")).map(Zeroizing::new);
        let value = value.malformed("the coordinator's answer is not base64")?;
        match file {
            Some(file) => file.fill(&value)?,
            None => std::io::stdout().write_all(&value).context("the value cannot be written")?,
        }
        Ok(())
    }
}

impl List {
    async fn run(self) -> Outcome {
        let query = self.repository.map(|name| format!("?repository={name}")).unwrap_or_default();
        let data = self.remote.client(Some(&self.person))?;
        let data = data.get(&format!("/api/v3/broker/resources{query}")).await?;
        if self.json {
            return print_json(&data["resources"]);
        }
        list(&data["resources"]).for_each(|line| crate::say!("{}", described(line)));
        Ok(())
    }
}

/// A line for people, and one for each version.
fn described(line: &Value) -> String {
    let unwraps = if line["use"] == "unwrap" { ", unwraps only" } else { "" };
    let what = match line["secret"].as_str() {
        Some(secret) => format!("secret {secret}{unwraps}"),
        None => "uploaded".to_owned(),
    };
    let mut lines = vec![format!("{}  {what}, by policy {}", text(line, "path"), text(line, "policy"))];
    lines.extend(list(&line["versions"]).rev().map(|version| {
        let (number, bytes) = (&version["version"], &version["bytes"]);
        format!("    version {number}  {bytes} bytes, {} by {}", text(version, "at"), text(version, "user"))
    }));
    lines.join("\n")
}

impl Delete {
    async fn run(self) -> Outcome {
        self.remote.client(Some(&self.person))?.delete(&place(&self.path)).await?;
        crate::say!("{} is deleted", self.path.uri());
        Ok(())
    }
}
