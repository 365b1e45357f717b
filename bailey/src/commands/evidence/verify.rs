//! `bailey evidence verify`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::against::{Against, policy, read, rego};
use super::ear::EarOutput;
use crate::{
    commands::{colour, endorsements::Fetching, print_json},
    failure::{Failure, Outcome},
};

/// Appraise Evidence.
#[derive(Args)]
pub struct Verify {
    /// Evidence: a quote, report, document or token, or several in a CMW collection
    file: PathBuf,
    /// The appraisal policy, JSON, or one of the words `production` and `genuine` (authenticity, validity and TCB
    /// only)
    #[arg(long, value_name = "FILE", default_value = "genuine")]
    policy: String,
    /// A policy in Rego that is asked about what the other accepts, and can only narrow (docs/policy-rego.md)
    #[arg(long, value_name = "FILE")]
    rego: Option<PathBuf>,
    #[command(flatten)]
    against: Against,
    #[command(flatten)]
    fetching: Fetching,
    #[command(flatten)]
    ear: EarOutput,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub async fn run(self) -> Outcome {
        if self.json && self.ear.takes_standard_output() {
            return Err(Failure::malformed(
                "either the verdict as JSON or the EAR can go to standard output",
            )
            .hint("write the EAR to a file"));
        }
        let now = self.against.now()?;
        let mut policy = policy(&self.policy)?;
        let mut examination = self.against.examination(&self.file)?;
        self.fetching.complete(&mut examination, now).await?;
        let remembered = self.fetching.remembered()?;
        remembered.apply(&mut policy, &examination, now)?;
        examination.hold_against(policy);
        if let Some(path) = &self.rego {
            examination.narrow_by(Arc::new(rego(path)?));
        }
        let examined = examination.assess(now, &crypto_aws_lc::AwsLc);
        if examined.is_accepted() {
            remembered.raise(&examination, now)?;
        }
        let policy = examination.policy();
        self.ear.write(&examined, &read(&self.file)?, &policy, now)?;
        if self.json {
            print_json(&examined)?;
        } else if self.ear.takes_standard_output() {
            eprint!("{}", examined.render(false));
        } else {
            crate::output::write(format_args!("{}", examined.render(colour())));
        }
        if examined.is_accepted() {
            return Ok(());
        }
        let codes: Vec<_> = examined.reasons().iter().map(|reason| reason.code.to_string()).collect();
        Err(Failure::refused(format!("{} is refused: {}", self.file.display(), codes.join(", "))))
    }
}
