//! `bailey package pull`.

use std::path::PathBuf;

use clap::Args;
use package::{Pinned, Reference};
use registry::Fetched;
use serde_json::json;

use super::source::Source;
use crate::{
    commands::print_json,
    failure::{Failure, Outcome},
    output::public_file,
};

/// Without --signer or --identity nobody's signature is asked for: then the digest is all that says what it is, and a tag
/// says nothing.
#[derive(Args)]
pub struct Pull {
    /// Which package: REGISTRY/REPOSITORY@sha256:…, or with a tag
    reference: Reference,
    /// Where its workload goes
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Where its Keep.toml goes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: Source,
}

impl Pull {
    pub(super) async fn run(self) -> Outcome {
        let (package, fetched) = self.source.fetch(&self.reference).await?;
        self.write(&package, &fetched)
    }

    fn write(&self, package: &Pinned, fetched: &Fetched) -> Outcome {
        if let Some(file) = &self.config {
            let text = fetched.artefact.config.as_ref();
            let text = text.ok_or_else(|| Failure::refused("the package has no Keep.toml"))?;
            public_file(file, text.as_bytes())?;
        }
        public_file(&self.output, &fetched.workload)?;
        let release = fetched.release.as_ref();
        if self.json {
            return print_json(&json!({
                "package": package.to_string(),
                "bytes": fetched.workload.len(),
                "version": release.map(|release| release.version.to_string()),
                "signer": release.map(|release| release.signer.clone()),
            }));
        }
        let signed = match release {
            Some(release) => format!("version {}, signed by {}", release.version, release.signer),
            None => "nobody's signature was asked for".to_owned(),
        };
        crate::say!("{package}: {} bytes, {signed}", fetched.workload.len());
        Ok(())
    }
}
