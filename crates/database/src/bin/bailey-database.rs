//! `bailey-database`: a SQL database that several parties govern, inside its TEE. Arguments are the host's hints and
//! decide nothing; what is fixed is in the measured launch configuration.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use attested_tls::{clock, launch::DatabaseConfiguration};
use clap::Parser;
use database::service::{HostHints, Listeners, ServiceError, serve};
use tokio::{net::TcpListener, signal::unix};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "bailey-database", about = "A confidential SQL database", version)]
struct Hints {
    /// Where the sealed log, its sealed key and shares of it lie
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The first manifest, which the launch configuration names by its digest; needed once
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Where SQL clients connect
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5432")]
    sql_address: SocketAddr,
    /// Where the HTTPS API listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8443")]
    api_address: SocketAddr,
    /// PostgreSQL's programs; the newest of Debian's packages unless given
    #[arg(long, value_name = "DIR")]
    postgres: Option<PathBuf>,
    /// A folder in memory for PostgreSQL's files
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    memory: PathBuf,
    /// The TPM that the launch configuration requires as anchor: /dev/tpmrm0, or unix:PATH or tcp:HOST:PORT of an emulator
    #[arg(long, value_name = "TPM")]
    tpm: Option<tpm_anchor::Address>,
    /// Where the coordinator's mesh API is, if the launch configuration makes this database a Marble
    #[arg(long, value_name = "HOST:PORT")]
    coordinator: Option<String>,
}

fn main() -> ExitCode {
    let filter = EnvFilter::new("info,tokio_postgres=warn");
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let hints = Hints::parse();
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no threads could be had")
        .and_then(|runtime| runtime.block_on(run(hints)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.downcast_ref::<ServiceError>().map_or("START_FAILED", ServiceError::code);
            let reason = format!("{error:#}");
            tracing::error!(code, reason, "the database ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(hints: Hints) -> Result<()> {
    let tee: Arc<dyn attester::Tee> = Arc::from(attester::detect()?);
    let configuration = DatabaseConfiguration::from_json(tee.launch_configuration())?;
    let listeners =
        Listeners { sql: listen(hints.sql_address).await?, api: listen(hints.api_address).await? };
    tracing::info!(sql = %listeners.sql.local_addr()?, api = %listeners.api.local_addr()?, "listening");
    let shutdown = CancellationToken::new();
    let trigger = shutdown.clone();
    tokio::spawn(async move {
        terminated().await;
        trigger.cancel();
    });
    let hints = HostHints {
        state: hints.state,
        manifest: hints.manifest,
        memory: hints.memory,
        binaries: hints.postgres,
        tpm: hints.tpm,
        coordinator: hints.coordinator,
    };
    Ok(serve(tee, configuration, hints, listeners, clock::system(), shutdown).await?)
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn terminated() {
    let Ok(mut terminate) = unix::signal(unix::SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
