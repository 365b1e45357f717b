//! `bailey database`: a SQL database that several parties govern together.

mod audit;
mod call;
mod import;
mod receipt;
mod recover;
mod remote;
mod rules;
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
    /// Check a manifest without any database
    Check(rules::Check),
    /// Say in words what a manifest means, or what another one would change, and who must agree
    Plan(rules::PlanOf),
    /// Print the manifest in force
    Manifest(rules::Get),
    /// Propose another manifest, with the migration that leads to it; or to bring back rows as they were
    Propose(rules::Propose),
    /// Agree to a proposal
    Approve(rules::Decide),
    /// Speak against a proposal
    Reject(rules::Decide),
    /// List proposals, or show one in full
    Proposals(rules::Proposals),
    /// Translate a manifest of EdgelessDB, or a dump of PostgreSQL or MySQL
    #[command(subcommand)]
    Import(import::Command),
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
            Self::Check(check) => check.run(),
            Self::Plan(plan) => plan.run(),
            Self::Manifest(get) => get.run().await,
            Self::Propose(propose) => propose.run().await,
            Self::Approve(decide) => decide.run("approve").await,
            Self::Reject(decide) => decide.run("reject").await,
            Self::Proposals(proposals) => proposals.run().await,
            Self::Import(command) => command.run(),
        }
    }
}
