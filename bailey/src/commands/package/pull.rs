//! `bailey package pull`.

use std::path::PathBuf;

use async_trait::async_trait;
use attested_tls::clock;
use clap::Args;
use image_keys::{Kek, Packet};
use package::{Pinned, Reference, Repository, Version};
use registry::{Fetched, Opener, Sealed, Wanted, fetch};
use serde_json::json;
use zeroize::Zeroizing;

use super::{Access, not_accepted, refused, signers::Known};
use crate::{
    commands::print_json,
    failure::{Failure, Input, Outcome},
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
    /// No older version
    #[arg(long, value_name = "VERSION", default_value = "0.0.0")]
    minimum_version: Version,
    /// What it must be signed as, where REGISTRY/REPOSITORY is a copy
    #[arg(long, value_name = "REGISTRY/REPOSITORY")]
    name: Option<Repository>,
    /// The file that holds the key by which it is encrypted: 32 bytes
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    known: Known,
    #[command(flatten)]
    access: Access,
}

impl Pull {
    pub(super) async fn run(self) -> Outcome {
        let signers = self.known.signers()?;
        let wanted = match signers.is_empty() {
            true => Wanted::Exactly,
            false => Wanted::Signed {
                name: self.name.clone().unwrap_or_else(|| self.reference.repository.clone()),
                signers,
                minimum: self.minimum_version.clone(),
            },
        };
        let opener: Box<dyn Opener> = match &self.key_file {
            None => Box::new(Sealed),
            Some(file) => {
                let what = format!("{} cannot be used", file.display());
                let key = Zeroizing::new(std::fs::read(file).malformed(&what)?);
                Box::new(AtHand(Kek::new(&key).malformed(&what)?))
            }
        };
        let client = self.access.client(&self.reference)?;
        let digest =
            client.resolve(&self.reference).await.map_err(|error| refused(error, &self.reference))?;
        let package = Pinned { repository: self.reference.repository.clone(), digest };
        let fetched = fetch(&client, &wanted, &package, clock::system()(), &*opener).await;
        let fetched = fetched.map_err(|error| not_accepted(error, &self.reference))?;
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

/// A key in a file.
struct AtHand(Kek);

#[async_trait]
impl Opener for AtHand {
    async fn open(&self, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let packet = Packet::parse(packet).map_err(|error| error.to_string())?;
        self.0.unwrap(&packet).map_err(|error| error.to_string())
    }
}
