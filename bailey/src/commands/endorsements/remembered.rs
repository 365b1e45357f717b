//! What `bailey evidence verify` does with the network and with what it saw before: fetching, only when told to, and
//! floors.

use std::path::PathBuf;

use anyhow::Context;
use appraisal::{
    CollateralSubject, Examination, Policy, ReferenceValue, ReferenceValues, UnixTime, appraise,
};
use clap::Args;
use endorsements::Floors;

use super::service::{Service, fetch};
use crate::failure::{Failure, Outcome};

/// Whether anything is fetched, and what is remembered.
#[derive(Args)]
pub struct Fetching {
    /// Fetch what the Evidence needs; without, nobody is asked
    #[arg(long)]
    fetch: bool,
    #[command(flatten)]
    service: Service,
    /// Remember the newest of vendors' statements here, and refuse older ones; with --fetch, without a file, in the
    /// cache directory
    #[arg(long, value_name = "FILE")]
    floors: Option<PathBuf>,
}

/// The floors of one verification.
pub struct Remembered(Option<Floors>);

impl Fetching {
    /// Adds what the vendors' services have for the Evidence. What could not be had is said; what that means, the
    /// verdict says.
    pub async fn complete(&self, examination: &mut Examination, now: UnixTime) -> Outcome {
        if !self.fetch {
            if self.service.is_given() {
                return Err(Failure::malformed(
                    "nothing is fetched without --fetch, so that no service is asked",
                )
                .hint("add --fetch, or leave out what is said of services and cache"));
            }
            return Ok(());
        }
        let client = self.service.client()?;
        let pieces = examination.conveyed().evidence.clone();
        for ((_, evidence), given) in pieces.iter().zip(examination.fitted(now)) {
            let endorsements = match fetch(&client, evidence, given, now).await {
                Ok(fetched) => {
                    fetched.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
                    fetched.endorsements
                }
                Err(error) => {
                    error.failures.iter().for_each(|failure| eprintln!("not fetched: {failure}"));
                    error.partial
                }
            };
            examination.endorse_first(endorsements);
        }
        Ok(())
    }

    /// What was seen before.
    pub fn remembered(&self) -> Outcome<Remembered> {
        let default = || self.service.directory().map(|cache| cache.join("floors.json"));
        let path = self.floors.clone().or_else(|| default().filter(|_| self.fetch));
        let floors = path
            .map(|path| Floors::open(&path).with_context(|| format!("{} cannot be used", path.display())));
        Ok(Remembered(floors.transpose()?))
    }
}

impl Remembered {
    /// Raises the floors of a policy to what was seen of this Evidence's platform.
    pub fn apply(&self, policy: &mut Policy, examination: &Examination, now: UnixTime) -> Outcome {
        let Self(Some(floors)) = self else { return Ok(()) };
        let fitted = examination.fitted(now);
        let pieces = examination.conveyed().evidence.iter().map(|(_, evidence)| evidence).zip(&fitted);
        let mut subject = None;
        for (evidence, endorsements) in pieces {
            let own = CollateralSubject::of(evidence, endorsements);
            if own.is_some() && subject.is_some() && own != subject {
                let sentence = "what was seen is remembered by platform, and these pieces are of several";
                return Err(Failure::refused(sentence).hint("verify each piece by itself"));
            }
            subject = subject.or(own);
            floors.apply(policy, evidence, endorsements).context("what was seen cannot be read")?;
        }
        Ok(())
    }

    /// Remembers what was accepted. The proof that floors ask for is of what vendors say only: each piece is appraised
    /// once more, with what it says itself as reference.
    pub fn raise(&self, examination: &Examination, now: UnixTime) -> Outcome {
        let Self(Some(floors)) = self else { return Ok(()) };
        let policy = examination.policy();
        let fitted = examination.fitted(now);
        for ((_, evidence), endorsements) in examination.conveyed().evidence.iter().zip(&fitted) {
            let Some(measurement) = evidence.measurement() else { continue };
            let own = ReferenceValue::program("itself", evidence.platform(), measurement);
            let reference = ReferenceValues { report_data: evidence.covered(), measurements: vec![own] };
            let crypto = &crypto_aws_lc::AwsLc;
            if let Ok(appraised) = appraise(evidence, endorsements, &reference, &policy, now, crypto) {
                floors.raise(&appraised).context("what was seen cannot be remembered")?;
            }
        }
        Ok(())
    }
}
