//! `bailey host`: the untrusted agent that launches Keeps on a machine.

mod deploy;
mod list;
mod log;
mod show;

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use attested_tls::clock;
use clap::{Args, Subcommand};
use host::{Action, Arrival, Config, Reply, Shutdown};
use serde_json::json;

pub use deploy::Deploy;

use crate::{
    commands::print_json,
    failure::{Failure, Input, Kind, Outcome},
};

/// How often it is asked how many Keeps are left.
const LOOK: Duration = Duration::from_millis(200);

/// The host agent.
#[derive(Subcommand)]
pub enum Command {
    /// Run the agent until it is told to stop
    Start(Start),
    /// What a host offers, and what its Keeps and processes do
    List(list::List),
    /// All that the agent knows of a process or Keep
    Inspect {
        /// Which: a name of `bailey host list`
        name: String,
        /// Which agent
        #[command(flatten)]
        agent: Agent,
        /// For a program
        #[arg(long)]
        json: bool,
    },
    /// What a process has printed, where the agent keeps it
    Logs {
        /// Which
        name: String,
        /// Which agent
        #[command(flatten)]
        agent: Agent,
        /// How many of the last lines
        #[arg(long, value_name = "COUNT", default_value_t = 200)]
        lines: usize,
        /// Go on until Ctrl-C
        #[arg(long)]
        follow: bool,
        /// For a program: one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Take no new Keeps, and wait until those of tenants have ended
    Drain {
        /// Which agent
        #[command(flatten)]
        agent: Agent,
        /// End them at once
        #[arg(long)]
        now: bool,
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
        /// For a program
        #[arg(long)]
        json: bool,
    },
    /// End a process and leave it ended; without a name, end the agent with all its processes
    Stop {
        /// Which
        name: Option<String>,
        /// Which agent
        #[command(flatten)]
        agent: Agent,
        /// End the agent alone: its processes go on, and the next agent adopts them
        #[arg(long, conflicts_with = "name")]
        leave: bool,
    },
    /// End a process and launch it again
    Restart {
        /// Which
        name: String,
        /// Which agent
        #[command(flatten)]
        agent: Agent,
    },
    /// Run another version of a Marble's workload, if the manifest allows it
    Deploy(deploy::Deploy),
    /// Make a token for a tenant, and the hash by which the agent's configuration knows it
    Token,
}

/// Which agent.
#[derive(Args)]
pub struct Agent {
    /// The agent's folder
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
}

/// How an agent is started.
#[derive(Args)]
pub struct Start {
    /// The agent's folder: its socket, its logs
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    directory: Option<PathBuf>,
    /// The emulated platform's folder
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    platform: Option<PathBuf>,
    /// A configuration file instead: back ends, tenants, the API, processes to launch
    #[arg(long, value_name = "FILE", conflicts_with_all = ["directory", "platform"])]
    config: Option<PathBuf>,
    /// End when standard input does
    #[arg(long)]
    supervised: bool,
    /// If an agent runs in the folder, take its place: its Keeps go on, and no client is refused meanwhile
    #[arg(long)]
    take_over: bool,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Start(start) => start.run().await,
            Self::List(list) => list.run().await,
            Self::Inspect { name, agent, json } => inspect(&agent.directory, &name, json),
            Self::Logs { name, agent, lines, follow, json } => {
                log::log(&agent.directory, &parse(&name)?, lines, (follow, json)).await
            }
            Self::Drain { agent, now, no_wait, json } => drain(&agent.directory, now, !no_wait, json).await,
            Self::Stop { name: Some(name), agent, .. } => {
                act(&agent.directory, &Action::Stop { name: parse(&name)? })
            }
            Self::Stop { name: None, agent, leave } => {
                end(&agent.directory, if leave { Action::Leave {} } else { Action::Shutdown {} }).await
            }
            Self::Restart { name, agent } => act(&agent.directory, &Action::Restart { name: parse(&name)? }),
            Self::Deploy(deploy) => deploy.run().await,
            Self::Token => token(),
        }
    }
}

impl Start {
    async fn run(self) -> Outcome {
        let config = match (self.config, self.directory, self.platform) {
            (Some(file), _, _) => Config::load(&file).malformed("the agent's configuration is refused")?,
            (None, Some(directory), Some(platform)) => {
                Config::new(&directory, &emulator::control::socket_path(&platform))
            }
            _ => {
                return Err(Failure::malformed("--config, or --directory and --platform, are needed"));
            }
        };
        let arrival = if self.take_over { Arrival::TakeOver } else { Arrival::Alone };
        start(config, arrival, self.supervised).await
    }
}

async fn start(config: Config, arrival: Arrival, supervised: bool) -> Outcome {
    let filter = tracing_subscriber::EnvFilter::new("info");
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let shutdown = Shutdown::new().context("the agent cannot be started")?;
    let switch = shutdown.clone();
    if supervised {
        std::thread::spawn(move || {
            // Whatever is written there is thrown away; only the end matters.
            let mut scrap = [0; 64];
            while matches!(std::io::stdin().read(&mut scrap), Ok(count) if count > 0) {}
            switch.request();
        });
    } else {
        tokio::spawn(async move {
            let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
            if let Ok(mut terminate) = terminate {
                tokio::select! { _ = terminate.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
            }
            switch.request();
        });
    }
    tokio::task::spawn_blocking(move || host::run(config, arrival, &shutdown))
        .await
        .context("the agent stopped unexpectedly")?
        .map_err(|error| Failure { kind: Kind::Refused, error: error.into(), hint: None })
}

fn parse(name: &str) -> Outcome<host::ProcessName> {
    name.parse().malformed("the name of a process is malformed")
}

/// Ends the agent, and waits until another could be started in its folder.
async fn end(directory: &Path, action: Action) -> Outcome {
    act(directory, &action)?;
    while host::is_there(directory) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn inspect(directory: &Path, name: &str, json: bool) -> Outcome {
    let Reply::Process { process } = ask(directory, &Action::Inspect { name: parse(name)? })? else {
        return unexpected();
    };
    if json {
        return print_json(&process);
    }
    crate::output::write(format_args!("{}", show::inspection(&process, now_ms())));
    Ok(())
}

async fn drain(directory: &Path, now: bool, wait: bool, json: bool) -> Outcome {
    act(directory, &Action::Drain { now })?;
    let mut before = None;
    loop {
        let Reply::Drain { keeps, draining } = ask(directory, &Action::Draining {})? else {
            return unexpected();
        };
        if keeps == 0 || !wait {
            let left = json!({ "draining": draining, "keeps": keeps });
            match (json, wait) {
                (true, _) => print_json(&left)?,
                (false, true) => crate::say!("drained"),
                (false, false) => crate::say!("the host takes no new Keeps; {}", left_over(keeps)),
            }
            return Ok(());
        }
        if before.replace(keeps) != Some(keeps) && !json {
            eprintln!("{}", left_over(keeps));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Milliseconds since 1970, as the agent tells times.
fn now_ms() -> u64 {
    u64::try_from(clock::system()().0).unwrap_or(0).saturating_mul(1000)
}

fn left_over(keeps: u64) -> String {
    match keeps {
        0 => "none is left".to_owned(),
        1 => "1 Keep is left".to_owned(),
        keeps => format!("{keeps} Keeps are left"),
    }
}

fn token() -> Outcome {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow!("there is no randomness"))?;
    let token = hex::encode(bytes);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    crate::say!("token   {token}");
    crate::say!("sha256  {}", hex::encode(digest));
    eprintln!("The tenant keeps the token; the hash goes into \"tokens\" of the host's configuration.");
    Ok(())
}

fn act(directory: &Path, action: &Action) -> Outcome {
    match ask(directory, action)? {
        Reply::Done {} => Ok(()),
        _ => unexpected(),
    }
}

/// The agent's answer, unless it refuses.
fn ask(directory: &Path, action: &Action) -> Outcome<Reply> {
    let reply = host::ask(directory, action)
        .map_err(|error| anyhow!(error))
        .context("the host agent does not answer")
        .map_err(|error| {
            Failure::from(error)
                .hint("is it running? `bailey host start` starts one; --directory is its folder")
        })?;
    match reply {
        Reply::Refused { code, reason } => Err(Failure::refused(format!("{reason} [{code}]"))),
        reply => Ok(reply),
    }
}

fn unexpected<T>() -> Outcome<T> {
    Err(Failure::refused("the agent gave an unexpected answer; is it of another version?"))
}
