//! `bailey-demo`: what `cargo xtask demo` runs once everything is built.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use bailey::{
    failure::{Failure, Outcome},
    up::{Deployment, Programs},
};
use clap::Parser;

#[derive(Parser)]
#[command(name = "bailey-demo", about = "The story of a confidential mesh, on emulated TEEs")]
struct Arguments {
    /// The deployment, such as examples/poll
    folder: PathBuf,
    /// Stop when all checks are made, and fail if one failed
    #[arg(long)]
    check: bool,
    /// Where the screenshot goes
    #[arg(long, value_name = "FILE", default_value = "target/demo/poll.png")]
    screenshot: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads could be had")
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprint!("{}", failure.render());
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(arguments: Arguments) -> Outcome<ExitCode> {
    let deployment = Deployment::load(&arguments.folder)?;
    let folder = tempfile::Builder::new()
        .prefix("bailey-demo-")
        .tempdir()
        .context("a temporary folder for keys, state and logs cannot be made")?;
    let told = tokio::select! {
        told = demo::tell(&deployment, folder.path(), Programs::beside_this_one()?, &arguments.screenshot) => told?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("Ctrl-C cannot be waited for")?;
            return Ok(ExitCode::from(130));
        }
    };
    if !arguments.check {
        let page = told.up.keep("frontend").context("the deployment has no frontend")?.serving.address.port();
        let root = folder.path().join("coordinator-root.pem");
        bailey::say!("\n{}", bailey::commands::up::addresses(&told.up));
        bailey::say!("open   https://localhost:{page}/");
        bailey::say!(
            "trust  {} (the coordinator's root; import it into your browser to open the page without a warning)",
            root.display()
        );
        bailey::say!("stop   Ctrl-C");
        tokio::signal::ctrl_c().await.context("Ctrl-C cannot be waited for")?;
    }
    told.up.machine.shut_down()?;
    if told.checks.failed() > 0 {
        let kept = folder.keep();
        eprintln!("logs, keys and state are kept in {}", kept.display());
    }
    bailey::say!("demo: {} checks passed, {} failed", told.checks.passed(), told.checks.failed());
    Ok(if told.checks.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
