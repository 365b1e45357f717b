//! Looking at a manifest: the one in force, its digest, what became of it.

use std::{collections::BTreeMap, path::PathBuf};

use attested_tls::key::sha256;
use clap::Args;
use serde_json::Value;

use crate::{
    commands::{
        print_json,
        remote::Remote,
        verify::{Required, read},
    },
    failure::{Failure, Input, Outcome},
    output::public_file,
};

/// Print the manifest in force.
#[derive(Args)]
pub struct Get {
    /// Write it here instead
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// With its digest and the root key's signature, as JSON
    #[arg(long, short, conflicts_with = "raised")]
    signature: bool,
    /// As JSON, with the security versions that were raised since it was set; its digest is another then
    #[arg(long, short = 'u')]
    raised: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Print the update log.
#[derive(Args)]
pub struct Log {
    /// For a program: a list of objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Print the digest by which Evidence names a manifest.
#[derive(Args)]
pub struct Digest {
    /// The manifest, JSON or YAML
    file: PathBuf,
}

/// Appraise a coordinator, and require a manifest to be in force.
#[derive(Args)]
pub struct Verify {
    /// The manifest, or its SHA-256 as 64 hexadecimal digits
    manifest: String,
    /// The coordinator, such as https://localhost:4433
    url: String,
    #[command(flatten)]
    required: Required,
}

impl Get {
    pub(super) async fn run(self) -> Outcome {
        let data = self.remote.client(None)?.get("/api/v2/manifest").await?;
        let bytes = super::document(&data)?;
        let text = if self.signature {
            pretty(&data)?
        } else if self.raised {
            pretty(&raised(&bytes, &data["securityVersions"])?)?
        } else {
            bytes
        };
        match self.output {
            Some(path) => public_file(&path, &text),
            None => {
                crate::output::write(format_args!("{}", String::from_utf8_lossy(&text)));
                Ok(())
            }
        }
    }
}

fn pretty(value: &Value) -> Outcome<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(anyhow::Error::from)?;
    text.push(b'\n');
    Ok(text)
}

/// The document with the security versions in force.
fn raised(bytes: &[u8], versions: &Value) -> Outcome<Value> {
    let versions: BTreeMap<String, u16> = serde_json::from_value(versions.clone())
        .malformed("the coordinator's answer has no security versions")?;
    manifest::with_versions(bytes, &versions)
        .malformed("the manifest in force cannot be read by this version")
}

impl Log {
    pub(super) async fn run(self) -> Outcome {
        let data = self.remote.client(None)?.get("/api/v2/update").await?;
        let lines: Vec<Value> = data["updateLog"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .malformed("the coordinator's update log is not JSON")?;
        if self.json {
            return print_json(&lines);
        }
        for line in &lines {
            crate::say!("{}", readable(line));
        }
        Ok(())
    }
}

/// Time, what happened, and everything else as `name=value`.
fn readable(line: &Value) -> String {
    let text = |field: &str| line[field].as_str().unwrap_or("?");
    let mut out = format!("{}  {}", text("time"), text("update"));
    for (name, value) in line.as_object().into_iter().flatten() {
        if matches!(name.as_str(), "time" | "update") {
            continue;
        }
        match value {
            Value::String(value) => out.push_str(&format!("  {name}={value}")),
            other => out.push_str(&format!("  {name}={other}")),
        }
    }
    out
}

impl Digest {
    pub(super) fn run(self) -> Outcome {
        crate::say!("{}", manifest::ManifestDigest::of(&read(&self.file)?));
        Ok(())
    }
}

impl Verify {
    pub(super) async fn run(self) -> Outcome {
        let digest = self.digest()?;
        let verified = self.required.appraised(&self.url, Some(digest)).await?;
        crate::say!(
            "the coordinator was appraised, and it enforces manifest {} in epoch {}",
            hex::encode(digest),
            verified.claims.epoch
        );
        Ok(())
    }

    fn digest(&self) -> Outcome<[u8; 32]> {
        let mut digest = [0; 32];
        if hex::decode_to_slice(&self.manifest, &mut digest).is_ok() {
            return Ok(digest);
        }
        let path = PathBuf::from(&self.manifest);
        if !path.is_file() {
            let sentence = format!("{:?} is neither a file nor 64 hexadecimal digits", self.manifest);
            return Err(Failure::malformed(sentence));
        }
        Ok(sha256(&read(&path)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_line_of_the_log_is_one_line() {
        let line =
            json!({"time": "T", "update": "Secret set", "user": "u", "epoch": 2, "holders": ["a", "b"]});
        assert_eq!(super::readable(&line), "T  Secret set  epoch=2  holders=[\"a\",\"b\"]  user=u");
    }
}
