//! `bailey-database`: a SQL database that several parties govern, inside its TEE. Arguments are the host's hints and
//! decide nothing; what is fixed is in the measured launch configuration.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use attested_tls::{clock, launch::DatabaseConfiguration};
use clap::Parser;
use database::service::{HostHints, Listeners, Promotion, ServiceError, serve};
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
    /// Follow the log of the instance that writes it, and run queries for it, until SIGUSR1 has this one take over
    #[arg(long, value_name = "IP:PORT")]
    follow: Option<SocketAddr>,
    /// Where an instance that follows runs queries for this one; may be given several times
    #[arg(long = "replica", value_name = "HOST:PORT")]
    replicas: Vec<String>,
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
    let reads = match hints.follow {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let (sql, api) = (listen(hints.sql_address).await?, listen(hints.api_address).await?);
    let listeners = Listeners { sql, api, reads };
    tracing::info!(sql = %listeners.sql.local_addr()?, api = %listeners.api.local_addr()?, "listening");
    let shutdown = CancellationToken::new();
    let trigger = shutdown.clone();
    tokio::spawn(async move {
        terminated().await;
        trigger.cancel();
    });
    let promotion = Promotion::default();
    tokio::spawn(told(promotion.clone()));
    let hints = HostHints {
        state: hints.state,
        manifest: hints.manifest,
        memory: hints.memory,
        binaries: hints.postgres,
        tpm: hints.tpm,
        coordinator: hints.coordinator,
        replicas: hints.replicas,
        promotion,
    };
    Ok(serve(tee, configuration, hints, listeners, clock::system(), shutdown).await?)
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Each SIGUSR1 has a replica take the database over; to another instance it means nothing.
async fn told(promotion: Promotion) {
    let Ok(mut signals) = unix::signal(unix::SignalKind::user_defined1()) else { return };
    while signals.recv().await.is_some() {
        match promotion.ask().await {
            Some(Ok(())) => {
                tracing::info!(code = "PROMOTED", "this instance alone has the database from now on")
            }
            Some(Err(error)) => {
                let code = error.code().to_owned();
                let reason = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(code, reason, "the database is not taken over");
            }
            None => tracing::warn!(code = "NO_REPLICA", "there is nothing to take over here"),
        }
    }
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
