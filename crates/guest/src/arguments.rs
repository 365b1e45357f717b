//! What people write on the command line.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use rcar::ResourceUri;

use crate::{
    rest::Offer,
    run::VariableName,
    settings::BrokerUrl,
    source::{Source, SourceError},
};

/// Attests this guest to a key broker, and gets what it grants.
#[derive(Parser)]
#[command(name = "bailey-guest", version, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Print Evidence of the TEE that this runs in
    Evidence(EvidenceCommand),
    /// Print the broker's attestation result about this guest, a JWT
    Token(TokenCommand),
    /// Print a resource of the broker, or write it to a file
    Get(Get),
    /// Serve resources, tokens, Evidence and image keys to other processes of this guest, on loopback
    Serve(Serve),
    /// Print what is in a sealed secret of Confidential Containers, or write it to a file
    Unseal(Unseal),
    /// Run a command with secrets in files or in its environment
    Run(Run),
    /// Serve this guest's, or this Marble's, SPIFFE identity to other programs: the Workload API
    Spiffe(Spiffe),
}

/// Which broker, and how it is known.
#[derive(Args, Default)]
pub struct Connection {
    /// Where the broker is: https://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    pub broker: Option<BrokerUrl>,
    /// The root certificate by which it is known (PEM); no other is trusted
    #[arg(long, value_name = "FILE")]
    pub broker_root: Option<PathBuf>,
    /// A configuration file like the Confidential Data Hub's, with url and kbs_cert in [kbc]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The init-data that this guest was launched with, where the platform does not tell it; Evidence must show its digest
    #[arg(long, value_name = "FILE")]
    pub init_data: Option<PathBuf>,
    /// Show the token for each resource instead of the session's cookie
    #[arg(long)]
    pub passport: bool,
    /// Where keys that verify sealed secrets are, by file name; as trustworthy as the folder is
    #[arg(long, value_name = "FOLDER")]
    pub sealing_keys: Option<PathBuf>,
    /// Send a stand-in that proves nothing instead of Evidence: for trying out, with a broker that is itself emulated
    #[arg(long, conflicts_with = "init_data")]
    pub sample: bool,
}

/// `evidence`
#[derive(Args)]
pub struct EvidenceCommand {
    /// What it is to cover: at most 64 bytes in hexadecimal, with zeros behind them
    #[arg(long, value_name = "HEX", default_value = "")]
    pub report_data: HexBytes,
    /// The bytes as the platform gives them, instead of JSON for a broker
    #[arg(long)]
    pub raw: bool,
}

/// `token`
#[derive(Args)]
pub struct TokenCommand {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the command's help")]
    pub connection: Connection,
    /// With the key pair that it confirms, as the attestation agent's API has it: whoever reads it passes for this guest
    #[arg(long)]
    pub with_key: bool,
}

/// `get`
#[derive(Args)]
pub struct Get {
    /// The resource: kbs:///REPOSITORY/TYPE/TAG
    #[arg(value_name = "RESOURCE")]
    pub resource: ResourceUri,
    /// Write it here, of mode 0600
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the command's help")]
    pub connection: Connection,
}

/// `unseal`
#[derive(Args)]
pub struct Unseal {
    /// The sealed secret, or a file with it, or - for standard input
    #[arg(value_name = "SEALED|FILE")]
    pub sealed: String,
    /// Write it here, of mode 0600
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the command's help")]
    pub connection: Connection,
}

/// `serve`
#[derive(Args)]
pub struct Serve {
    /// Where the API listens: an address of loopback
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8006")]
    pub listen: SocketAddr,
    /// What of it is offered
    #[arg(long, value_enum, default_value = "resource")]
    pub offer: Offer,
    /// Where the ocicrypt key provider listens: an address of loopback; without it there is none
    #[arg(long, value_name = "IP:PORT")]
    pub key_provider: Option<SocketAddr>,
    /// Print the line that says it is ready as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the command's help")]
    pub connection: Connection,
}

/// `run`
#[derive(Args)]
pub struct Run {
    /// A secret in a file: its path is relative to the folder that the command finds in BAILEY_SECRETS, or absolute and
    /// in memory (tmpfs)
    #[arg(long = "file", value_name = "PATH=SECRET", value_parser = assigned_file)]
    pub files: Vec<(PathBuf, Source)>,
    /// A secret in a variable
    #[arg(long = "env", value_name = "NAME=SECRET", value_parser = assigned_variable)]
    pub variables: Vec<(VariableName, Source)>,
    /// A variable that the command gets as it is here; all others are taken away
    #[arg(long = "keep", value_name = "NAME")]
    pub kept: Vec<VariableName>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the command's help")]
    pub connection: Connection,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `spiffe`
#[derive(Args)]
pub struct Spiffe {
    /// Where the Workload API listens: a Unix socket
    #[arg(long, value_name = "FILE", required_unless_present = "listen")]
    pub socket: Option<PathBuf>,
    /// Let in programs of the socket's group, and not of this user alone
    #[arg(long, requires = "socket")]
    pub group: bool,
    /// Where it listens instead: an address of loopback, where every program of this machine is served
    #[arg(long, value_name = "IP:PORT", conflicts_with = "socket")]
    pub listen: Option<SocketAddr>,
    /// As a native Marble, with the certificate and key in its environment (MARBLE_PREDEFINED_…): where the coordinator's
    /// client API is
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["broker", "broker_root", "config", "init_data", "passport", "sealing_keys", "sample"])]
    pub marble: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the command's help")]
    pub connection: Connection,
}

/// Bytes in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HexBytes(pub Vec<u8>);

impl std::str::FromStr for HexBytes {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hex::decode(text).map(Self)
    }
}

/// Why `NAME=SECRET` is none.
#[derive(Debug, thiserror::Error)]
pub enum AssignmentError {
    /// There is no `=`.
    #[error("NAME=SECRET is expected")]
    Form,
    /// The name is none.
    #[error(transparent)]
    Name(#[from] crate::run::NameError),
    /// The secret is none.
    #[error(transparent)]
    Source(#[from] SourceError),
}

fn assigned_file(text: &str) -> Result<(PathBuf, Source), AssignmentError> {
    let (path, source) = text.split_once('=').ok_or(AssignmentError::Form)?;
    Ok((path.into(), source.parse()?))
}

fn assigned_variable(text: &str) -> Result<(VariableName, Source), AssignmentError> {
    let (name, source) = text.split_once('=').ok_or(AssignmentError::Form)?;
    Ok((name.parse()?, source.parse()?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn secrets_are_assigned_to_paths_and_names() {
        let parsed = Arguments::try_parse_from([
            "bailey-guest",
            "run",
            "--file",
            "db/key=kbs:///a/b/c",
            "--env",
            "DB=kbs:///a/b/d",
            "--keep",
            "LANG",
            "--",
            "/bin/true",
            "--env",
            "x",
        ])
        .unwrap_or_else(|error| panic!("{error}"));
        let Command::Run(run) = parsed.command else { panic!("run") };
        assert_eq!((run.files.len(), run.variables.len(), run.kept.len(), run.command.len()), (1, 1, 1, 3));
        for wrong in [
            ["--env", "LD_PRELOAD=kbs:///a/b/c"],
            ["--keep", "PATH"],
            ["--env", "DB=file:///etc/passwd"],
            ["--env", "DB"],
            ["--file", "a=kbs:///a/b"],
        ] {
            let arguments = [&["bailey-guest", "run"], &wrong[..], &["--", "/bin/true"]].concat();
            assert!(Arguments::try_parse_from(arguments).is_err(), "{wrong:?}");
        }
    }
}
