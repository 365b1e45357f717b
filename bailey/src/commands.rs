//! The subcommands: what each takes, and what it does.

pub mod broker;
pub mod certificate;
pub mod coordinator;
pub mod database;
pub mod deploy;
pub mod endorsements;
pub mod evict;
pub mod evidence;
pub mod guest;
pub mod host;
pub mod image;
pub mod instances;
pub mod key;
pub mod log;
pub mod logs;
pub mod manifest;
pub mod measure;
pub mod package;
pub mod recover;
pub mod reference;
pub mod remote;
pub mod run;
pub mod secret;
pub mod status;
pub mod token;
pub mod up;
pub mod verify;

use std::io::IsTerminal;

use clap::{Parser, Subcommand};

use crate::failure::Outcome;

/// Confidential computing that anyone can check.
#[derive(Parser)]
#[command(name = "bailey", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a whole mesh on this machine, on emulated TEEs, and stop it on Ctrl-C
    Up(up::Up),
    /// Run a workload in a Keep on this machine
    Run(run::Run),
    /// Run a workload in a Keep of a host that is not trusted, verified from here
    Deploy(Box<deploy::Deploy>),
    /// Run a coordinator of your own
    #[command(subcommand)]
    Coordinator(coordinator::Command),
    /// Look at Evidence, or appraise it
    #[command(subcommand)]
    Evidence(evidence::Command),
    /// What vendors sign about platforms: fetch it, carry it, look at it
    #[command(subcommand)]
    Endorsements(endorsements::Command),
    /// Appraise a coordinator and pin its root
    Verify(verify::Verify),
    /// Compute reference values of a program
    Measure(measure::Measure),
    /// Compute reference values offline, sign them, and bring signed ones to a coordinator
    #[command(subcommand)]
    Reference(reference::Command),
    /// Check, set, get or change a coordinator's manifest
    #[command(subcommand)]
    Manifest(manifest::Command),
    /// Upload, download, list or rotate secrets of the manifest
    #[command(subcommand)]
    Secret(secret::Command),
    /// List the instances that run, or those that were sent away
    Instances(instances::Instances),
    /// Send a lost instance or machine away, and rotate what it could have read
    Evict(evict::Evict),
    /// What state a coordinator is in
    Status(status::Status),
    /// Make a key and certificate for an owner or user, or get a coordinator's
    #[command(subcommand)]
    Certificate(certificate::Command),
    /// Bring back a coordinator's state with a recovery secret, or rehearse it
    Recover(recover::Recover),
    /// Replay what a mesh did, and prove what it says of it
    #[command(subcommand)]
    Log(log::Command),
    /// What workloads printed, encrypted to their owner
    #[command(subcommand)]
    Logs(logs::Command),
    /// Make a key for a workload's log
    #[command(subcommand)]
    Key(key::Command),
    /// The key broker: resources, release policies, and sessions of guests
    #[command(subcommand)]
    Broker(broker::Command),
    /// Check tokens by which guests of a mesh's broker prove themselves
    #[command(subcommand)]
    Token(token::Command),
    /// The host agent, which launches Keeps and is trusted with nothing
    #[command(subcommand)]
    Host(host::Command),
    /// In a guest: attest to a key broker, and get what it grants (runs bailey-guest)
    #[command(disable_help_flag = true)]
    Guest(guest::Guest),
    /// Encrypt container images, for guests that attest
    #[command(subcommand)]
    Image(image::Command),
    /// Push, pull, inspect and sign workloads in OCI registries
    #[command(subcommand)]
    Package(package::Command),
    /// A SQL database that several parties govern together
    #[command(subcommand)]
    Database(database::Command),
}

/// Runs the command.
pub async fn run(arguments: Arguments) -> Outcome {
    match arguments.command {
        Command::Up(up) => up.run().await,
        Command::Run(run) => run.run().await,
        Command::Deploy(deploy) => deploy.run().await,
        Command::Coordinator(command) => command.run().await,
        Command::Evidence(command) => command.run().await,
        Command::Endorsements(command) => command.run().await,
        Command::Verify(verify) => verify.run().await,
        Command::Measure(measure) => measure.run(),
        Command::Reference(command) => command.run().await,
        Command::Manifest(command) => command.run().await,
        Command::Secret(command) => command.run().await,
        Command::Instances(instances) => instances.run().await,
        Command::Evict(evict) => evict.run().await,
        Command::Status(status) => status.run().await,
        Command::Certificate(command) => command.run().await,
        Command::Recover(recover) => recover.run().await,
        Command::Log(command) => command.run().await,
        Command::Logs(command) => command.run(),
        Command::Key(command) => command.run(),
        Command::Broker(command) => command.run().await,
        Command::Token(command) => command.run(),
        Command::Host(command) => command.run().await,
        Command::Guest(guest) => guest.run(),
        Command::Image(command) => command.run().await,
        Command::Package(command) => command.run().await,
        Command::Database(command) => command.run().await,
    }
}

/// Whether to colour what is printed.
fn colour() -> bool {
    #[expect(clippy::disallowed_methods, reason = "the convention of no-color.org")]
    let unwanted = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !unwanted
}

/// Prints JSON for a program.
fn print_json(value: &impl serde::Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?;
    crate::say!("{text}");
    Ok(())
}
