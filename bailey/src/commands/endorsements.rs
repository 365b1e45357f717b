//! `bailey endorsements`: getting what vendors sign about platforms, and carrying it to where there is no network.

mod bundle;
mod contents;
mod fetch;
mod remembered;
mod service;
mod show;

use clap::Subcommand;

use crate::failure::Outcome;
pub use remembered::{Fetching, Remembered};
pub use service::Service;

/// What vendors sign about platforms: fetch it, carry it, look at it.
#[derive(Subcommand)]
pub enum Command {
    /// Fetch what Evidence needs from Intel and AMD
    Fetch(fetch::Fetch),
    /// Make a signed bundle of all that Evidence of a platform needs
    Bundle(bundle::MakeBundle),
    /// Print what a bundle or other Endorsements hold, believing nothing
    Show(show::Show),
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Fetch(fetch) => fetch.run().await,
            Self::Bundle(bundle) => bundle.run().await,
            Self::Show(show) => show.run(),
        }
    }
}
