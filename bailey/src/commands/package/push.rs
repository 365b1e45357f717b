//! `bailey package push`.

use std::path::PathBuf;

use clap::Args;
use image_keys::{Kek, KeyName};
use indicatif::{ProgressBar, ProgressStyle};
use keep_config::KeepConfig;
use package::{ArtefactError, Build, Built, Reference, Repository, Version, Wasm};
use registry::encrypt;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Access, refused};
use crate::{
    commands::print_json,
    failure::{Failure, Input, Outcome},
};

/// The key provider's name in the package.
const PROVIDER: &str = "bailey";

/// The same workload, name, version and configuration always give the same package. Its digest is printed: a tag can come
/// to mean other code, a digest cannot.
#[derive(Args)]
pub struct Push {
    /// The workload: a WebAssembly module or component
    workload: PathBuf,
    /// Where it goes: REGISTRY/REPOSITORY:TAG
    reference: Reference,
    /// Its version, such as 1.2.0; the tag, if it is one and nothing else is said
    #[arg(long)]
    version: Option<Version>,
    /// Which package it says that it is, where REGISTRY/REPOSITORY is a copy
    #[arg(long, value_name = "REGISTRY/REPOSITORY")]
    name: Option<Repository>,
    /// Its Keep.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Encrypt it by a key that guests know under this name, kbs:///REPOSITORY/TYPE/TAG
    #[arg(long, value_name = "KEY", requires = "key_file")]
    encryption_key: Option<KeyName>,
    /// The file that holds this key: 32 bytes
    #[arg(long, value_name = "FILE", requires = "encryption_key")]
    key_file: Option<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

impl Push {
    pub(super) async fn run(self) -> Outcome {
        let built = self.built()?;
        let client = self.access.client(&self.reference)?;
        let total = built.blobs.iter().map(|(descriptor, _)| descriptor.size).sum();
        let bar = ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template("{bytes:>10} of {total_bytes}  {wide_bar}") {
            bar.set_style(style);
        }
        let pushed = registry::push(&client, &self.reference, &built, |size| bar.inc(size)).await;
        bar.finish_and_clear();
        let digest = pushed.map_err(|error| refused(error, &self.reference))?;
        let reference = format!("{}@{digest}", self.reference.repository);
        if self.json {
            let version = self.version()?.to_string();
            return print_json(
                &json!({ "package": reference, "digest": digest.to_string(), "version": version }),
            );
        }
        crate::say!("{reference}");
        Ok(())
    }

    fn built(&self) -> Outcome<Built> {
        let path = self.workload.display();
        let workload = std::fs::read(&self.workload).malformed(format!("{path} cannot be read"))?;
        let config = match &self.config {
            None => None,
            Some(file) => {
                let what = format!("{} cannot be used", file.display());
                let text = std::fs::read_to_string(file).malformed(&what)?;
                KeepConfig::parse(&text).malformed(&what)?;
                Some(text)
            }
        };
        let name = self.name.clone().unwrap_or_else(|| self.reference.repository.clone());
        let build = Build { name, version: self.version()?, config };
        let not_packed = || format!("{path} cannot be packed");
        let (Some(key), Some(file)) = (&self.encryption_key, &self.key_file) else {
            return build.of(&workload).malformed(not_packed());
        };
        let kind = Wasm::of(&workload).ok_or(ArtefactError::NotWasm).malformed(not_packed())?;
        let what = format!("{} cannot be used", file.display());
        let kek = Kek::new(&Zeroizing::new(std::fs::read(file).malformed(&what)?)).malformed(&what)?;
        let sealed = encrypt(&workload).map_err(anyhow::Error::from)?;
        let packet = kek.wrap_bound(key, None, &sealed.options).map_err(anyhow::Error::from)?.to_json();
        build.of_encrypted(kind, sealed.ciphertext, sealed.hmac, (PROVIDER, &packet)).malformed(not_packed())
    }

    fn version(&self) -> Outcome<Version> {
        let tag = self.reference.tag.as_ref().and_then(|tag| tag.to_string().parse().ok());
        self.version.clone().or(tag).ok_or_else(|| {
            Failure::malformed("a package has a version, and neither --version nor the tag is one")
                .hint("write --version 1.2.0, or the tag :1.2.0")
        })
    }
}
