//! `bailey reference corim`: a CoRIM as the JSON that we write.

use std::path::PathBuf;

use appraisal::{ReferenceFile, UnixTime};
use attested_tls::clock;
use clap::Args;

use crate::commands::print_json;
use crate::failure::{Input, Outcome};
use crate::reference::Corims;

/// The reference values of a CoRIM, as JSON that can be read and reviewed.
#[derive(Args)]
pub struct Corim {
    /// The CoRIM, signed or not
    file: PathBuf,
    #[command(flatten)]
    corims: Corims,
    /// The time that it must hold at, such as 2026-03-01T00:00:00Z; without one, now
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
}

impl Corim {
    pub fn run(self) -> Outcome {
        let now = match &self.at {
            Some(text) => text.parse::<UnixTime>().malformed(format!("{text:?} is no time in RFC 3339"))?,
            None => clock::system()(),
        };
        print_json(&ReferenceFile { reference_values: self.corims.load(&self.file, now)? })
    }
}
