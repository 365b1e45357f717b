//! `bailey up`: a whole mesh on this machine, until Ctrl-C.

use std::{io::IsTerminal, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;

use crate::{
    commands::{colour, print_json},
    failure::Outcome,
    up::{Deployment, Observer, Programs, Up as Running},
};

/// Start a whole mesh on this machine, on emulated TEEs, and stop it on Ctrl-C.
#[derive(Args)]
pub struct Up {
    /// A folder with a bailey.toml, such as examples/poll
    folder: PathBuf,
    /// Print the addresses as JSON when everything serves
    #[arg(long)]
    json: bool,
}

impl Up {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        let deployment = Deployment::load(&self.folder)?;
        let folder = tempfile::Builder::new()
            .prefix("bailey-")
            .tempdir()
            .context("a temporary folder for keys, state and logs cannot be made")?;
        let mut teller = Teller::new(self.json);
        let up = tokio::select! {
            up = Running::start(&deployment, folder.path(), Programs::beside_this_one()?, &mut teller) => up?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("Ctrl-C cannot be waited for")?;
                return Ok(());
            }
        };
        let root = folder.path().join("coordinator-root.pem");
        let pem = evidence::pem::encode(&evidence::CertificateDer(up.mesh.root().to_vec()));
        std::fs::write(&root, pem).context("the coordinator's root cannot be written")?;
        if self.json {
            print_json(&addresses_json(&up, &root))?;
        } else {
            crate::say!("\n{}\n", addresses(&up));
            crate::say!("coordinator's root certificate: {}", root.display());
            crate::say!("people's keys, logs:            {}", folder.path().display());
            crate::say!(
                "\nEmulated TEEs: this protects nothing from this machine. Ctrl-C stops and removes everything."
            );
        }
        wait_for_the_end().await?;
        up.machine.shut_down()?;
        folder.close().context("the temporary folder cannot be removed")?;
        if !self.json {
            crate::say!("\nstopped; nothing is left behind");
        }
        Ok(())
    }
}

/// Ctrl-C, or whoever started us asks us to end.
pub async fn wait_for_the_end() -> Outcome {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("the end cannot be waited for")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("Ctrl-C cannot be waited for")?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The addresses of everything that serves.
pub fn addresses(up: &Running) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(["what", "TEE (emulated)", "address"]);
    table.add_row([
        "coordinator".to_owned(),
        up.verified.verdict.platform().to_string(),
        up.mesh.endpoint().to_string(),
    ]);
    if let Some(broker) = up.broker {
        let address = format!("https://localhost:{}", broker.port());
        table.add_row(["its key broker".to_owned(), up.verified.verdict.platform().to_string(), address]);
    }
    for keep in &up.keeps {
        let address = format!("https://localhost:{}", keep.serving.address.port());
        table.add_row([format!("Marble {}", keep.marble), keep.platform.to_string(), address]);
    }
    table
}

fn addresses_json(up: &Running, root: &std::path::Path) -> serde_json::Value {
    let keeps: Vec<_> = up
        .keeps
        .iter()
        .map(|keep| {
            serde_json::json!({
                "name": keep.name, "marble": keep.marble, "platform": keep.platform,
                "address": keep.serving.address, "launch_ms": keep.serving.took.as_millis(),
            })
        })
        .collect();
    serde_json::json!({
        "emulated": true, "coordinator": up.mesh.endpoint().to_string(), "broker": up.broker, "root": root, "keeps": keeps,
        "folder": up.machine.folder(), "host_agent_pid": up.machine.agent_pid(),
    })
}

/// Tells a person what happens, one line a step.
pub struct Teller {
    quiet: bool,
    colour: bool,
    spinner: Option<ProgressBar>,
}

impl Teller {
    /// A teller that is silent when a program reads.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, colour: colour(), spinner: None }
    }
}

impl Teller {
    fn line(&mut self, sign: &str, title: &str, text: &str) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
        if self.quiet {
            return;
        }
        if self.colour {
            crate::say!("{sign} {:<12} {text}", title.bold());
        } else {
            crate::say!("{sign} {title:<12} {text}");
        }
    }

    /// Something was not done here.
    pub fn skipped(&mut self, title: &str, text: &str) {
        self.line("·", title, text);
    }

    /// Something did not come out as it must.
    pub fn failed(&mut self, title: &str, text: &str) {
        let sign = if self.colour { "✗".red().to_string() } else { "✗".to_owned() };
        self.line(&sign, title, text);
    }
}

impl Observer for Teller {
    fn begins(&mut self, title: &str) {
        if self.quiet || !std::io::stdout().is_terminal() {
            return;
        }
        let spinner = ProgressBar::new_spinner().with_message(title.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} …") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(80));
        self.spinner = Some(spinner);
    }

    fn done(&mut self, title: &str, proven: &str) {
        let sign = if self.colour { "✓".green().to_string() } else { "✓".to_owned() };
        self.line(&sign, title, proven);
    }
}
