//! `bailey evidence`: looking at Evidence, appraising it, and trying policies on it.

mod against;
mod ear;
mod explain;
mod result;
mod show;
mod verify;
mod wrap;

use clap::Subcommand;

use crate::failure::Outcome;
pub use against::{
    Against, Nonce, When, emulated_root, endorse, examination, nonce, open_bundle, policy, read,
};

/// Look at Evidence, or appraise it.
#[derive(Subcommand)]
pub enum Command {
    /// Print what Evidence says, believing nothing
    Show(show::Show),
    /// Appraise Evidence
    Verify(Box<verify::Verify>),
    /// Say what another policy would change for recorded Evidence
    Explain(explain::Explain),
    /// Put Evidence into a conceptual message wrapper (CMW)
    Wrap(wrap::Wrap),
    /// Look at an attestation result (EAR), or check it
    #[command(subcommand)]
    Result(result::Command),
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Show(show) => show.run(),
            Self::Verify(verify) => verify.run().await,
            Self::Explain(explain) => explain.run(),
            Self::Wrap(wrap) => wrap.run(),
            Self::Result(command) => command.run(),
        }
    }
}
