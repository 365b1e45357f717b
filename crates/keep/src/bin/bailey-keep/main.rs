//! `bailey-keep`: the program inside a Keep. What it was launched for, a Marble of a mesh or one direct deployment, is
//! in its measured launch configuration. Arguments are the host's hints (addresses and paths) and decide nothing.

use std::{os::unix::net::UnixListener, process::ExitCode, sync::Arc};

use ::marble::MeshError;
use anyhow::Result;
use attested_tls::launch::Purpose;
use clap::Parser;
use keep::{activation::ActivationError, packages::NotLoaded, runtime::LoadError, volumes::VolumesError};
use tracing_subscriber::EnvFilter;

mod direct;
mod hints;
mod marble;

use hints::Hints;

fn main() -> ExitCode {
    let inherited = direct::inherited();
    let filter = EnvFilter::new("info");
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let hints = Hints::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no threads could be had");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(hints, inherited)) {
        Ok(code) => code,
        Err(error) => {
            let codes = codes(&error);
            let verdict = verdict(&error);
            let reason = format!("{error:#}");
            tracing::error!(codes = codes.join(","), reason, verdict, "the Keep ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(hints: Hints, inherited: Option<UnixListener>) -> Result<ExitCode> {
    let tee: Arc<dyn attester::Tee> = Arc::from(attester::detect()?);
    match Purpose::from_json(tee.launch_configuration())? {
        Purpose::Marble(configuration) => marble::run(hints, tee, &configuration).await,
        Purpose::Direct(configuration) => {
            direct::run(hints, tee, configuration, inherited).await.map(|()| ExitCode::SUCCESS)
        }
    }
}

/// Stable codes of the cause.
fn codes(error: &anyhow::Error) -> Vec<String> {
    let of_activation = error.downcast_ref::<ActivationError>().map(ActivationError::codes);
    let of_package = || error.downcast_ref::<NotLoaded>().map(NotLoaded::codes);
    let of_volumes = || error.downcast_ref::<VolumesError>().map(VolumesError::codes);
    let of_workload = || error.downcast_ref::<LoadError>().map(|error| vec![error.code().to_owned()]);
    of_activation.or_else(of_package).or_else(of_volumes).or_else(of_workload).unwrap_or_default()
}

/// The verdict tree, where one side's Evidence was refused by this side.
fn verdict(error: &anyhow::Error) -> Option<String> {
    let activation = error.downcast_ref::<ActivationError>();
    let activation = activation.or_else(|| match error.downcast_ref::<NotLoaded>()? {
        NotLoaded::Activation(error) => Some(error),
        _ => None,
    });
    match activation {
        Some(ActivationError::Mesh(MeshError::Channel(channel))) => {
            channel.refused().map(|refused| refused.verdict().render(false))
        }
        _ => None,
    }
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
