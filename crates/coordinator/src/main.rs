//! `bailey-coordinator`: the coordinator's program inside its TEE. Arguments are the host's hints and decide
//! nothing; what is fixed is in the measured launch configuration.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use attested_tls::{clock, launch::CoordinatorConfiguration};
use clap::Parser;
use coordinator::service::{
    Coordinator, DecisionSink, Destination, EtcdHints, HostHints, Listeners, TelemetryHints,
};
use etcd::{Member, Tls};
use tokio::{net::TcpListener, signal::unix};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "bailey-coordinator", about = "The control plane of a confidential mesh", version)]
struct Hints {
    /// Where the sealed state lies
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Where the client API listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4433")]
    client_address: SocketAddr,
    /// Where the mesh API listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:2001")]
    mesh_address: SocketAddr,
    /// Where native programs join by MarbleRun's protocol; nowhere unless given
    #[arg(long, value_name = "IP:PORT")]
    marble_address: Option<SocketAddr>,
    /// Where Prometheus finds metrics, in the clear; nowhere unless given
    #[arg(long, value_name = "IP:PORT")]
    metrics_address: Option<SocketAddr>,
    /// Where guests that are no Marbles find the key broker; nowhere unless given
    #[arg(long, value_name = "IP:PORT")]
    broker_address: Option<SocketAddr>,
    /// Files or folders of Endorsements for native programs (collateral, certificates, revocation lists)
    #[arg(long, value_name = "PATH")]
    endorsements: Vec<PathBuf>,
    /// Where every decision is told, as JSON: `file:PATH`, or the URL of a webhook; nowhere unless given
    #[arg(long, value_name = "file:PATH|URL")]
    decisions: Option<DecisionSink>,
    /// The OpenTelemetry collector for traces and metrics (OTLP over HTTP), as http://127.0.0.1:4318; none unless given
    #[arg(long, value_name = "URL")]
    otlp: Option<Destination>,
    /// A member of etcd, as https://etcd-1:2379, where several coordinators share the sealed state; may be given several
    /// times. The state is in a file unless given
    #[arg(long, value_name = "URL")]
    etcd: Vec<Member>,
    /// PEM of the roots of etcd's certificates
    #[arg(long, value_name = "FILE", requires = "etcd")]
    etcd_ca: Option<PathBuf>,
    /// PEM of the certificate that etcd knows this coordinator by, and of those above it
    #[arg(long, value_name = "FILE", requires = "etcd_ca", requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,
    /// PEM of its key
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// Where other coordinators reach the mesh API of this one; where it listens, unless given
    #[arg(long, value_name = "HOST:PORT", requires = "etcd")]
    replica_address: Option<String>,
    /// PEM of the roots that webhook and collector are known by; those of the web unless given
    #[arg(long, value_name = "FILE")]
    telemetry_roots: Option<PathBuf>,
    /// The library for secret stores of PKCS #11; loaded if it is the one that the manifest names
    #[arg(long, value_name = "FILE")]
    pkcs11_library: Option<PathBuf>,
    /// The TPM that the launch configuration requires as anchor: /dev/tpmrm0, or unix:PATH or tcp:HOST:PORT of an emulator
    #[arg(long, value_name = "TPM")]
    tpm: Option<tpm_anchor::Address>,
}

fn main() -> ExitCode {
    let filter = EnvFilter::new("info");
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
            let reason = format!("{error:#}");
            tracing::error!(reason, "the coordinator ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(hints: Hints) -> Result<()> {
    let tee: Arc<dyn attester::Tee> = Arc::from(attester::detect()?);
    let configuration = CoordinatorConfiguration::from_json(tee.launch_configuration())?;
    let etcd = etcd(&hints)?;
    let state = HostHints {
        etcd,
        state: hints.state,
        endorsements: hints.endorsements,
        telemetry: TelemetryHints {
            decisions: hints.decisions,
            otlp: hints.otlp,
            roots: hints.telemetry_roots,
        },
        pkcs11_library: hints.pkcs11_library,
        tpm: hints.tpm,
    };
    let coordinator = Coordinator::open(tee, configuration, &state, clock::system())?;
    let listeners = Listeners {
        client: listen(hints.client_address).await?,
        mesh: listen(hints.mesh_address).await?,
        marbles: listen_if(hints.marble_address).await?,
        metrics: listen_if(hints.metrics_address).await?,
        broker: listen_if(hints.broker_address).await?,
    };
    let (client, mesh) = (listeners.client.local_addr()?, listeners.mesh.local_addr()?);
    let marbles = listeners.marbles.as_ref().and_then(|listener| listener.local_addr().ok());
    let metrics = listeners.metrics.as_ref().and_then(|listener| listener.local_addr().ok());
    let broker = listeners.broker.as_ref().and_then(|listener| listener.local_addr().ok());
    tracing::info!(
        client = %client, mesh = %mesh, marbles = marbles.map(|it| it.to_string()),
        metrics = metrics.map(|it| it.to_string()), broker = broker.map(|it| it.to_string()), "serving"
    );

    let shutdown = CancellationToken::new();
    let trigger = shutdown.clone();
    tokio::spawn(async move {
        terminated().await;
        trigger.cancel();
    });
    coordinator.serve(listeners, shutdown).await?;
    Ok(())
}

/// Where etcd is, if it was said.
fn etcd(hints: &Hints) -> Result<Option<EtcdHints>> {
    if hints.etcd.is_empty() {
        return Ok(None);
    }
    let read =
        |path: &PathBuf| std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()));
    let (chain, key) =
        (hints.etcd_cert.as_ref().map(read).transpose()?, hints.etcd_key.as_ref().map(read).transpose()?);
    let own = chain.as_deref().zip(key.as_deref());
    let roots = hints.etcd_ca.as_ref().map(read).transpose()?;
    let tls = roots.map(|roots| Tls::from_pem(&roots, own)).transpose()?;
    if hints.replica_address.is_none() && hints.mesh_address.ip().is_unspecified() {
        anyhow::bail!("--replica-address is needed: other coordinators cannot reach {}", hints.mesh_address);
    }
    Ok(Some(EtcdHints { members: hints.etcd.clone(), tls, address: hints.replica_address.clone() }))
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn listen_if(address: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    match address {
        Some(address) => listen(address).await.map(Some),
        None => Ok(None),
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
