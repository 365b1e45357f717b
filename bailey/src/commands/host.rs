//! `bailey host`: the untrusted agent that launches Keeps on a machine.

use std::{io::Read, path::PathBuf};

use anyhow::{Context, anyhow};
use clap::Subcommand;
use comfy_table::{Table, presets};
use host::{Action, Config, Reply, Shutdown, State};

use crate::{
    commands::print_json,
    failure::{Failure, Input, Kind, Outcome},
};

/// The host agent.
#[derive(Subcommand)]
pub enum Command {
    /// Run the agent until it is told to stop
    Start {
        /// The agent's folder: its socket, its logs
        #[arg(long, value_name = "DIR", required_unless_present = "config")]
        directory: Option<PathBuf>,
        /// The emulated platform's folder
        #[arg(long, value_name = "DIR", required_unless_present = "config")]
        platform: Option<PathBuf>,
        /// A configuration file instead, with the processes to launch
        #[arg(long, value_name = "FILE", conflicts_with_all = ["directory", "platform"])]
        config: Option<PathBuf>,
        /// End when standard input does
        #[arg(long)]
        supervised: bool,
    },
    /// What the agent's processes do
    List {
        /// The agent's folder
        #[arg(long, value_name = "DIR")]
        directory: PathBuf,
        /// For a program
        #[arg(long)]
        json: bool,
    },
    /// End a process and leave it ended
    Stop {
        /// Which
        name: String,
        /// The agent's folder
        #[arg(long, value_name = "DIR")]
        directory: PathBuf,
    },
    /// End a process and launch it again
    Restart {
        /// Which
        name: String,
        /// The agent's folder
        #[arg(long, value_name = "DIR")]
        directory: PathBuf,
    },
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Start { directory, platform, config, supervised } => {
                let config = match (config, directory, platform) {
                    (Some(file), _, _) => {
                        Config::load(&file).malformed("the agent's configuration is refused")?
                    }
                    (None, Some(directory), Some(platform)) => {
                        Config::new(&directory, &emulator::control::socket_path(&platform))
                    }
                    _ => {
                        return Err(Failure::malformed(
                            "--config, or --directory and --platform, are needed",
                        ));
                    }
                };
                start(config, supervised).await
            }
            Self::List { directory, json } => list(&directory, json),
            Self::Stop { name, directory } => act(&directory, |name| Action::Stop { name }, &name),
            Self::Restart { name, directory } => act(&directory, |name| Action::Restart { name }, &name),
        }
    }
}

async fn start(config: Config, supervised: bool) -> Outcome {
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
    tokio::task::spawn_blocking(move || host::run(config, &shutdown))
        .await
        .context("the agent stopped unexpectedly")?
        .map_err(|error| Failure { kind: Kind::Refused, error: error.into(), hint: None })
}

fn list(directory: &std::path::Path, json: bool) -> Outcome {
    let Reply::Processes { processes } = ask(directory, &Action::Status {})? else {
        return Err(Failure::refused("the agent gave an unexpected answer"));
    };
    if json {
        return print_json(&processes);
    }
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_BORDERS_ONLY)
        .set_header(["process", "TEE", "state", "restarts", "last end"]);
    for process in processes {
        let state = match &process.state {
            State::Starting => "starting".to_owned(),
            State::Running { pid, .. } => format!("running, pid {pid}"),
            State::BackOff { reason, .. } => format!("waiting to restart: {reason}"),
            State::Stopped => "stopped".to_owned(),
        };
        let last = process.last_exit.map_or_else(String::new, |exit| exit.ending.to_string());
        let name = process.name.to_string();
        table.add_row([name, process.platform.to_string(), state, process.restarts.to_string(), last]);
    }
    crate::say!("{table}");
    Ok(())
}

fn act(directory: &std::path::Path, action: impl FnOnce(host::ProcessName) -> Action, name: &str) -> Outcome {
    let name = name.parse().malformed("the name of a process is malformed")?;
    match ask(directory, &action(name))? {
        Reply::Refused { code, reason } => Err(Failure::refused(format!("{reason} [{code}]"))),
        _ => Ok(()),
    }
}

fn ask(directory: &std::path::Path, action: &Action) -> Outcome<Reply> {
    Ok(host::ask(directory, action)
        .map_err(|error| anyhow!(error))
        .context("the host agent does not answer")?)
}
