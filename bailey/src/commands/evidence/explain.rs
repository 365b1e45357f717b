//! `bailey evidence explain`: a dry run of a policy over recorded Evidence.

use std::collections::BTreeSet;
use std::path::PathBuf;

use appraisal::{Examined, Reason, UnixTime};
use clap::Args;
use serde::Serialize;

use super::against::{Against, policy};
use crate::{commands::print_json, failure::Outcome};

/// Say what another policy would change for recorded Evidence.
#[derive(Args)]
pub struct Explain {
    /// Recorded Evidence
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The policy to try: JSON, or one of the words `production` and `genuine`
    #[arg(long, value_name = "FILE")]
    policy: String,
    /// The policy that holds now
    #[arg(long, value_name = "FILE", default_value = "genuine")]
    instead_of: String,
    #[command(flatten)]
    against: Against,
    /// For a program
    #[arg(long)]
    json: bool,
}

/// What would change for one file.
#[derive(Serialize)]
struct Change {
    file: String,
    before: &'static str,
    after: &'static str,
    /// Reasons for a refusal that the new policy has and the old one has not.
    new_reasons: Vec<Reason>,
    /// Those that it no longer has.
    gone_reasons: Vec<Reason>,
    new_warnings: Vec<Reason>,
    gone_warnings: Vec<Reason>,
}

impl Explain {
    pub fn run(self) -> Outcome {
        let (old, new, now) = (policy(&self.instead_of)?, policy(&self.policy)?, self.against.now()?);
        let mut changes = Vec::new();
        for file in &self.files {
            let mut examination = self.against.examination(file)?;
            let mut examined = |policy: &appraisal::Policy| {
                examination.hold_against(policy.clone());
                examination.assess(now, &crypto_aws_lc::AwsLc)
            };
            let (before, after) = (examined(&old), examined(&new));
            changes.push(Change::between(file.display().to_string(), &before, &after));
        }
        if self.json {
            return print_json(&changes);
        }
        for change in &changes {
            change.print(now);
        }
        let different = changes.iter().filter(|change| change.before != change.after).count();
        crate::say!("{different} of {} would be decided otherwise", changes.len());
        Ok(())
    }
}

fn word(examined: &Examined) -> &'static str {
    if examined.is_accepted() { "accepted" } else { "refused" }
}

fn warnings(examined: &Examined) -> Vec<Reason> {
    examined.verdicts().iter().flat_map(|verdict| verdict.warnings().iter().cloned()).collect()
}

/// Those of `these` whose code and place are not among `those`.
fn only_in(these: &[Reason], those: &[Reason]) -> Vec<Reason> {
    let known: BTreeSet<_> = those.iter().map(|reason| (reason.code, &reason.check)).collect();
    these.iter().filter(|reason| !known.contains(&(reason.code, &reason.check))).cloned().collect()
}

impl Change {
    fn between(file: String, before: &Examined, after: &Examined) -> Self {
        let (old, new) = (warnings(before), warnings(after));
        Self {
            file,
            before: word(before),
            after: word(after),
            new_reasons: only_in(after.reasons(), before.reasons()),
            gone_reasons: only_in(before.reasons(), after.reasons()),
            new_warnings: only_in(&new, &old),
            gone_warnings: only_in(&old, &new),
        }
    }

    fn print(&self, now: UnixTime) {
        let verdict = if self.before == self.after {
            format!("stays {}", self.after)
        } else {
            format!("{} → {}", self.before, self.after)
        };
        crate::say!("{}: {verdict}, at {now}", self.file);
        for (sign, what, reasons) in [
            ("+", "reason ", &self.new_reasons),
            ("-", "reason ", &self.gone_reasons),
            ("+", "warning", &self.new_warnings),
            ("-", "warning", &self.gone_warnings),
        ] {
            for reason in reasons {
                crate::say!("  {sign} {what} {}  {}: {}", reason.code, reason.check, reason.text);
                if let (Some(mend), "+") = (&reason.mend, sign) {
                    crate::say!("      mend: {mend}");
                }
            }
        }
    }
}
