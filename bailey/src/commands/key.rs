//! `bailey key`: keys that are neither a person's nor a program's.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;

use crate::{commands::print_json, failure::Outcome, output::PrivateFile};

/// Make keys.
#[derive(Subcommand)]
pub enum Command {
    /// Make a key for a workload's log: the private half for you, the public one for [log] in Keep.toml
    Log {
        /// Where the private half goes; the file must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// For a program
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let Self::Log { out, json } = self;
        let file = PrivateFile::create(&out)?;
        let (private, public) = owner_log::generate().context("no key could be made")?;
        let text = zeroize::Zeroizing::new(format!("{}\n", hex::encode(*private)));
        file.fill(text.as_bytes())?;
        let public = hex::encode(public);
        if json {
            return print_json(&serde_json::json!({ "public": public, "private": out }));
        }
        crate::say!("[log]\nto = \"owner\"\nkey = \"{public}\"");
        Ok(())
    }
}
