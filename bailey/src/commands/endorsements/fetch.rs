//! `bailey endorsements fetch`.

use std::path::PathBuf;

use appraisal::{UnixTime, needs};
use clap::Args;
use endorsements::{FetchError, Fetched, Source};
use evidence::Endorsements;
use evidence::describe::Description;
use serde::Serialize;

use super::contents::{describe, window};
use super::service::{Service, fetch};
use crate::commands::evidence::{When, examination};
use crate::commands::print_json;
use crate::failure::{Failure, Outcome};

/// Fetch what Evidence needs from Intel and AMD.
#[derive(Args)]
pub struct Fetch {
    /// The Evidence
    evidence: PathBuf,
    #[command(flatten)]
    service: Service,
    #[command(flatten)]
    when: When,
    /// Write what was fetched here, for `--endorsements`
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
}

/// What was fetched for one piece of Evidence.
#[derive(Serialize)]
struct Piece {
    #[serde(skip_serializing_if = "String::is_empty")]
    label: String,
    subject: String,
    parts: Vec<Part>,
    warnings: Vec<String>,
    window: Description,
    endorsements: Description,
}

#[derive(Serialize)]
struct Part {
    part: String,
    source: &'static str,
    address: String,
}

impl Fetch {
    pub async fn run(self) -> Outcome {
        let (examination, now) = (examination(&self.evidence)?, self.when.now()?);
        let client = self.service.client()?;
        let mut whole = Endorsements::default();
        let mut pieces = Vec::new();
        for ((label, evidence), given) in examination.conveyed().evidence.iter().zip(examination.fitted(now))
        {
            let subject = match needs(evidence) {
                Ok(Some(needs)) => needs.to_string(),
                Ok(None) => {
                    eprintln!("{}: this Evidence carries all that its vendor gives out", evidence.platform());
                    continue;
                }
                Err(error) => return Err(Failure::refused(&error).hint(error.remedy())),
            };
            let fetched = fetch(&client, evidence, given, now).await.map_err(refused)?;
            merge(&mut whole, &fetched.endorsements)?;
            pieces.push(Piece::new(label.clone(), subject, fetched, now));
        }
        if let Some(path) = self.output.as_ref().filter(|_| !pieces.is_empty()) {
            std::fs::write(path, whole.to_bytes()).map_err(|error| {
                anyhow::Error::from(error).context(format!("{} cannot be written", path.display()))
            })?;
        }
        for warning in pieces.iter().flat_map(|piece| &piece.warnings) {
            eprintln!("warning: {warning}");
        }
        if self.json {
            return print_json(&pieces);
        }
        pieces.iter().for_each(Piece::print);
        if let Some(path) = self.output.filter(|_| !pieces.is_empty()) {
            crate::say!("written to {}", path.display());
        }
        Ok(())
    }
}

/// Each part that could not be had is a line of its own.
pub fn refused(error: FetchError) -> Failure {
    let lines: Vec<_> = error.failures.iter().map(|failure| format!("\n  {failure}")).collect();
    Failure::refused(format!("{} parts could not be fetched:{}", lines.len(), lines.concat()))
}

/// One file holds Endorsements of one platform of each vendor.
fn merge(whole: &mut Endorsements, one: &Endorsements) -> Outcome {
    let differs = |taken: bool, same: bool| taken && !same;
    if differs(whole.intel.is_some() && one.intel.is_some(), whole.intel == one.intel)
        || differs(whole.amd.is_some() && one.amd.is_some(), whole.amd == one.amd)
    {
        let sentence = "the pieces of this Evidence are of different platforms of one vendor";
        return Err(Failure::refused(sentence).hint("fetch for each piece by itself"));
    }
    if let Some(intel) = &one.intel {
        whole.intel = Some(intel.clone());
    }
    if let Some(amd) = &one.amd {
        whole.amd = Some(amd.clone());
    }
    Ok(())
}

impl Piece {
    fn new(label: String, subject: String, fetched: Fetched, now: UnixTime) -> Self {
        let source = |source| match source {
            Source::Vendor => "service",
            Source::Cache => "cache",
        };
        let part = |part: endorsements::PartSource| Part {
            part: part.part,
            source: source(part.source),
            address: part.address,
        };
        Self {
            label,
            subject,
            warnings: fetched.warnings.iter().map(ToString::to_string).collect(),
            window: Description(window(&fetched.endorsements, now)),
            endorsements: describe(&fetched.endorsements),
            parts: fetched.parts.into_iter().map(part).collect(),
        }
    }

    fn print(&self) {
        let label = if self.label.is_empty() { String::new() } else { format!("{}: ", self.label) };
        crate::say!("{label}{}", self.subject);
        for Part { part, source, address } in &self.parts {
            crate::say!(
                "  {part}: from {}{address}",
                if *source == "cache" { "the cache, first from " } else { "" }
            );
        }
        crate::output::write(format_args!("{}{}", self.endorsements.render(), self.window.render()));
    }
}
