//! `bailey database`: a SQL database that several parties govern together.

use clap::Subcommand;

use crate::failure::Outcome;

/// See `bailey database --help`.
#[derive(Subcommand)]
pub enum Command {}

impl Command {
    pub(super) async fn run(self) -> Outcome {
        match self {}
    }
}
