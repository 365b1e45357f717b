//! `bailey evidence verify`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::against::{Against, policy, rego};
use crate::{
    commands::{colour, print_json},
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
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub fn run(self) -> Outcome {
        let mut examination = self.against.examination(&self.file)?;
        examination.hold_against(policy(&self.policy)?);
        if let Some(path) = &self.rego {
            examination.narrow_by(Arc::new(rego(path)?));
        }
        let examined = examination.assess(self.against.now()?, &crypto_aws_lc::AwsLc);
        if self.json {
            print_json(&examined)?;
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
