//! `bailey endorsements bundle`.

use std::path::PathBuf;

use anyhow::Context;
use appraisal::needs;
use clap::Args;
use endorsements::{Bundle, BundleSigner};

use super::contents::window;
use super::fetch::refused;
use super::service::{Service, fetch};
use crate::commands::evidence::{When, endorse, examination};
use crate::failure::{Failure, Input, Outcome};
use crate::key;

/// Make a signed bundle of all that Evidence of a platform needs.
#[derive(Args)]
pub struct MakeBundle {
    /// Evidence of the platform
    evidence: PathBuf,
    /// The private key to sign with, PEM; made, with its public key in FILE.pub, when there is none
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Take these Endorsements, and ask nobody
    #[arg(long, value_name = "PATH")]
    endorsements: Vec<PathBuf>,
    #[command(flatten)]
    service: Service,
    #[command(flatten)]
    when: When,
    /// Where to write it; without one, named for its platform and digest, here
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl MakeBundle {
    pub async fn run(self) -> Outcome {
        let (mut examination, now) = (examination(&self.evidence)?, self.when.now()?);
        let [(_, evidence)] = examination.conveyed().evidence.as_slice() else {
            let sentence = "a bundle is for one platform, and this file holds several pieces of Evidence";
            return Err(Failure::refused(sentence).hint("make one for each piece"));
        };
        let evidence = evidence.clone();
        let needs = match needs(&evidence) {
            Ok(Some(needs)) => needs,
            Ok(None) => {
                let sentence =
                    format!("{} Evidence carries all that its vendor gives out", evidence.platform());
                return Err(Failure::refused(sentence).hint("no bundle is needed"));
            }
            Err(error) => return Err(Failure::refused(&error).hint(error.remedy())),
        };
        for path in &self.endorsements {
            endorse(&mut examination, path, None)?;
        }
        let mut given = examination.fitted(now).pop().unwrap_or_default();
        if self.endorsements.is_empty() {
            let fetched = fetch(&self.service.client()?, &evidence, given, now).await.map_err(refused)?;
            fetched.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            given = fetched.endorsements;
        }
        let file = key::signing_key(&self.key)?;
        let signer = BundleSigner::from_pkcs8(&file.pkcs8)
            .malformed(format!("{} cannot sign bundles", self.key.display()))?;
        let bundle = Bundle::make(given, &needs, now, &signer).context("no bundle can be made")?;
        let output = self.output.unwrap_or_else(|| bundle.file_name().into());
        std::fs::write(&output, bundle.bytes())
            .with_context(|| format!("{} cannot be written", output.display()))?;
        if let Some(public) = file.made {
            crate::say!("made the key {}, and {} for whoever checks", self.key.display(), public.display());
        }
        crate::say!("{}", output.display());
        crate::say!("subject  {}", bundle.subject());
        crate::say!("digest   sha256:{}", hex::encode(bundle.digest()));
        crate::say!("signer   {}", hex::encode(bundle.signer()));
        let description = evidence::describe::Description(window(bundle.endorsements(), now));
        crate::output::write(format_args!("{}", description.render()));
        examination.endorse_first(bundle.endorsements().clone());
        let examined = examination.assess(now, &crypto_aws_lc::AwsLc);
        if !examined.is_accepted() {
            let codes: Vec<_> = examined.reasons().iter().map(|reason| reason.code.as_str()).collect();
            eprintln!("warning: with this bundle, this Evidence is refused today: {}", codes.join(", "));
        }
        Ok(())
    }
}
