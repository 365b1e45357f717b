//! `bailey secret`: upload and download.

use std::{io::Write, path::PathBuf};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::Subcommand;
use serde_json::json;

use crate::{
    client::Client,
    commands::remote::{Person, Remote},
    failure::{Failure, Input, Outcome},
};

/// Upload or download secrets of the manifest.
#[derive(Subcommand)]
pub enum Command {
    /// Upload a secret that the manifest lets users define
    Set {
        /// Its name
        name: String,
        /// The file that holds the value; never an argument, which other processes could read
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Which coordinator
        #[command(flatten)]
        remote: Remote,
        /// Who asks
        #[command(flatten)]
        person: Person,
    },
    /// Print a secret's value
    Get {
        /// Its name
        name: String,
        /// Which coordinator
        #[command(flatten)]
        remote: Remote,
        /// Who asks
        #[command(flatten)]
        person: Person,
    },
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Set { name, file, remote, person } => {
                let value = std::fs::read(&file).malformed(format!("{} cannot be read", file.display()))?;
                set(&remote.client(Some(&person))?, &name, &value).await?;
                crate::say!("{name} is set");
                Ok(())
            }
            Self::Get { name, remote, person } => {
                let path = format!("/api/v2/secrets?s={}", encode(&name));
                let data = remote.client(Some(&person))?.get(&path).await?;
                let Some(value) = data["secrets"][&name]["Private"].as_str() else {
                    return Err(Failure::refused(format!("secret {name:?} is not set yet")));
                };
                let value = BASE64.decode(value).malformed("the coordinator's answer is not base64")?;
                std::io::stdout().write_all(&value).context("the value cannot be written")?;
                Ok(())
            }
        }
    }
}

/// Uploads one secret.
pub async fn set(client: &Client, name: &str, value: &[u8]) -> Outcome {
    let body = json!({ "secrets": { name: { "Key": BASE64.encode(value) } } });
    client.post("/api/v2/secrets", &body).await?;
    Ok(())
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_encoded_for_queries() {
        assert_eq!(super::encode("a b&c=ä"), "a%20b%26c%3D%C3%A4");
    }
}
