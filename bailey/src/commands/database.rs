//! `bailey database`: a SQL database that several parties govern together.

mod audit;
mod call;
mod receipt;
mod recover;
mod remote;
mod up;
mod verify;

use clap::Subcommand;

use crate::failure::Outcome;

/// See `bailey database --help`.
#[derive(Subcommand)]
pub enum Command {
    /// Start a whole example on this machine, on an emulated TEE: CAs, certificates, manifest, database
    Up(up::Up),
    /// The audit log: get it, check it, read it
    #[command(subcommand)]
    Audit(audit::Audits),
    /// Give a database that waits for recovery the share of a holder
    Recover(recover::Recover),
    /// Appraise a database, pin its root, and say how to connect to it
    Verify(verify::Verify),
    /// Call an algorithm over HTTPS
    Call(call::Call),
    /// Receipts of answers, for who is shown one
    #[command(subcommand)]
    Receipt(receipt::Receipts),
}

impl Command {
    pub(super) async fn run(self) -> Outcome {
        match self {
            Self::Up(up) => up.run().await,
            Self::Audit(audits) => audits.run().await,
            Self::Recover(recover) => recover.run().await,
            Self::Verify(verify) => verify.run().await,
            Self::Call(call) => call.run().await,
            Self::Receipt(receipts) => receipts.run(),
        }
    }
}
