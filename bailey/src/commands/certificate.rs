//! `bailey certificate`: keys for people.

use std::path::PathBuf;

use clap::Subcommand;

use crate::{failure::Outcome, identity};

/// Keys for people.
#[derive(Subcommand)]
pub enum Command {
    /// Make a key and a self-signed certificate: NAME.key and NAME.pem
    Create {
        /// Whose
        name: String,
        /// Where to write
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
}

impl Command {
    /// Runs the command.
    pub fn run(self) -> Outcome {
        let Self::Create { name, out } = self;
        let made = identity::create(&out, &name)?;
        crate::say!("{}", out.join(format!("{name}.pem")).display());
        crate::say!("{}", out.join(format!("{name}.key")).display());
        crate::say!("public key, as launch configurations name it: {}", identity::key_digest(&made)?);
        Ok(())
    }
}
