//! `bailey package sign`.

use std::path::PathBuf;

use clap::Args;
use package::{Artefact, MAX_BUNDLE, Reference, Repository, SignedStatement, Version};
use reference_statements::SigningKey;
use registry::attach;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Access, not_accepted, refused};
use crate::{
    commands::print_json,
    failure::{Failure, Input, Outcome},
};

/// The signature is over digest, name and version. It is a Sigstore bundle of a DSSE envelope, attached as a referrer:
/// `cosign sign --new-bundle-format` writes the same.
#[derive(Args)]
pub struct Sign {
    /// Which package: REGISTRY/REPOSITORY@sha256:…; a tag alone could come to mean another one meanwhile
    reference: Reference,
    /// Your key: PKCS #8, PEM, on P-256, P-384 or Ed25519
    #[arg(long, value_name = "FILE", required_unless_present = "bundle")]
    key: Option<PathBuf>,
    /// Attach this Sigstore bundle instead, as cosign wrote it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "name", "version"])]
    bundle: Option<PathBuf>,
    /// Which package it is, where it does not say so itself
    #[arg(long, value_name = "REGISTRY/REPOSITORY")]
    name: Option<Repository>,
    /// Which version, where it does not say so itself
    #[arg(long)]
    version: Option<Version>,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Sign {
    pub(super) async fn run(self) -> Outcome {
        let reference = &self.reference;
        let digest = reference.digest.ok_or_else(|| {
            Failure::malformed("what is signed is named by its digest: a tag can come to mean other code")
                .hint("`bailey package push` and `bailey package inspect` print the digest")
        })?;
        let client = self.access.client(reference)?;
        let manifest = client.manifest(&reference.repository, digest).await;
        let manifest = manifest.map_err(|error| refused(error, reference))?;
        let artefact = Artefact::read(&manifest).map_err(|error| not_accepted(error.into(), reference))?;
        let bundle = match (&self.bundle, &self.key) {
            (Some(file), _) => {
                let bundle = std::fs::read(file).malformed(format!("{} cannot be read", file.display()))?;
                if bundle.len() as u64 > MAX_BUNDLE {
                    return Err(Failure::malformed(format!(
                        "{} is no bundle: it is too long",
                        file.display()
                    )));
                }
                bundle
            }
            (None, Some(file)) => {
                let what = format!("{} cannot be used", file.display());
                let text = Zeroizing::new(std::fs::read_to_string(file).malformed(&what)?);
                let key = SigningKey::from_pem(&text).malformed(&what)?;
                let name = self.name.clone().or_else(|| artefact.name.clone());
                let version = self.version.clone().or_else(|| artefact.version.clone());
                let statement = SignedStatement { digest, name, version };
                statement.of(digest, &artefact).malformed("the package cannot be signed so")?;
                key.bundle(&statement.to_json()).map_err(anyhow::Error::from)?
            }
            (None, None) => return Err(Failure::malformed("--key or --bundle is needed")),
        };
        let attached = attach(&client, &reference.repository, digest, &bundle).await;
        let attached = attached.map_err(|error| refused(error, reference))?;
        if self.json {
            return print_json(&json!({ "package": digest.to_string(), "attached": attached.to_string() }));
        }
        crate::say!("{attached} signs {}@{digest}", reference.repository);
        Ok(())
    }
}
