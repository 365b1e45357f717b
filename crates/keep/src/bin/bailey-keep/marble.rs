//! A Keep that becomes a Marble, and serves its workload until it is told to stop.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use attested_tls::{
    clock::{self, Clock},
    launch::KeepConfiguration,
    marble::{Access, Credential, Revoked},
};
use attester::Tee;
use keep::{
    activation::{ActivationError, Candidate},
    command::{self, Ended},
    net::{Identity, Net},
    packages,
    runtime::{COMPILATION, Runtime},
    volumes,
};
use keep_config::KeepConfig;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
};

use crate::{
    hints::{Hints, required},
    terminated,
};

/// How long to wait before asking again which certificates are revoked.
const REVOCATIONS_RETRY: Duration = Duration::from_secs(5);
/// How long to wait before another attempt to renew a certificate.
const RENEWAL_RETRY: Duration = Duration::from_secs(60);

/// Becomes a Marble and serves its workload until it is told to stop, or sent away.
pub async fn run(hints: Hints, tee: Arc<dyn Tee>, configuration: &KeepConfiguration) -> Result<ExitCode> {
    let clock = clock::system();
    let (cache, storage) = (hints.cache(tee.as_ref())?, hints.storage());
    let coordinator = required(hints.coordinator, "coordinator")?;
    let candidate = Candidate::new(tee, configuration, coordinator, clock.clone())?;
    let (component, packaged, claim) = match hints.workload {
        Some(path) => (read_workload(&path)?, None, None),
        None => {
            let loaded = packages::load(&candidate, hints.package.as_ref()).await?;
            (loaded.workload, loaded.config, Some(loaded.claim))
        }
    };
    let candidate = candidate.with(keep::runtime::digest(&component), claim);
    let addresses: BTreeMap<_, _> = hints.peers.iter().cloned().collect();
    let mut activated = candidate.activate(&addresses).await?;
    tracing::info!(
        marble = activated.admission.marble,
        epoch = activated.credential.identity.epoch,
        "admitted"
    );

    let candidate = Arc::new(candidate);
    // The manifest's configuration counts, where it has one.
    if let (None, Some(text)) = (&activated.admission.config, packaged) {
        let config = KeepConfig::parse(&text).context("the Keep.toml of the package")?;
        if !config.volumes.is_empty() || !config.secrets.is_empty() {
            bail!(
                "the Keep.toml of the package names volumes or secrets: these are in the manifest's Workload.Config"
            );
        }
        activated.admission.config = Some(Arc::new(config));
    }
    if let Some(config) = &activated.admission.config {
        let opened = volumes::open(&candidate, &config.volumes, storage.as_ref()).await?;
        activated.admission.volumes = opened;
    }
    let engine = Runtime::new(activated.admission.limits.pool())?;
    let workload = engine.load_within(component, cache.map(Arc::new), COMPILATION).await?;

    let identity = Identity::marble(activated.credential.clone(), activated.access.clone());
    let (identities, identity) = watch::channel(Arc::new(identity));
    let config = activated.admission.config.as_deref().cloned().unwrap_or_default();
    if config.steward.is_some() {
        bail!("`steward` is for Keeps outside of a mesh: this one has the coordinator's certificate");
    }
    let limits = keep_config::Limits {
        connections: activated.admission.limits.max_connections.min(config.limits.connections),
        ..config.limits.clone()
    };
    let config = KeepConfig { limits, ..config };
    let net = Net::new(&config, activated.admission.peers.clone(), identity, clock.clone())?;
    let (revoked_sender, revoked) = watch::channel(Revoked::default());
    let (evicted_sender, evicted) = oneshot::channel();
    tokio::spawn(revocations(candidate.clone(), revoked_sender, evicted_sender));
    let renewal = Renewal {
        candidate,
        access: activated.access,
        clock,
        credential: activated.credential,
        identities,
        revoked,
    };
    tokio::spawn(renewal.run(activated.not_after));

    let (mut evicted, mut reason) = (evicted, None);
    let ended = async {
        tokio::select! {
            () = terminated() => {}
            Ok(error) = &mut evicted => reason = Some(error),
        }
    };
    let marble = activated.admission.marble.clone();
    let code = if workload.kind().is_command() {
        tracing::info!(code = "RUNNING", marble, "running");
        told(&marble, &command::run_admitted(&workload, activated.admission, net, ended).await?)
    } else {
        let listen = required(hints.listen, "listen")?;
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let listener = net.listen_on(listener, &config.http.listen.protection, keep::net::HTTP)?;
        tracing::info!(marble, address = %listener.local_addr(), "serving");
        keep::serve(workload, activated.admission, net, listener, ended).await?;
        ExitCode::SUCCESS
    };
    match reason {
        Some(error) => Err(error.into()),
        None => Ok(code),
    }
}

/// Tells how a command ended; its own exit code passes through.
fn told(marble: &str, ended: &Ended) -> ExitCode {
    match ended {
        Ended::Exit(code) => {
            tracing::info!(code = "WORKLOAD_ENDED", marble, exit = code, "the workload ended");
            ExitCode::from(*code)
        }
        ended => {
            tracing::error!(code = ended.code(), marble, reason = %ended, "the workload did not end by itself");
            ExitCode::FAILURE
        }
    }
}

/// Hears which certificates count no more, for as long as the Keep serves, or until it is itself sent away.
async fn revocations(
    candidate: Arc<Candidate>,
    revoked: watch::Sender<Revoked>,
    evicted: oneshot::Sender<ActivationError>,
) {
    loop {
        let error = match candidate.watch_revocations().await {
            Ok(mut lists) => loop {
                match lists.next().await {
                    Ok(list) => {
                        revoked.send_if_modified(|known| {
                            let new = *known != list;
                            *known = list;
                            new
                        });
                    }
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        if error.is_evicted() {
            let _ = evicted.send(error.into());
            return;
        }
        let reason = format!("{:#}", anyhow::Error::from(error));
        tracing::warn!(code = "REVOCATIONS_UNKNOWN", reason, "the list of revoked certificates may be old");
        tokio::time::sleep(REVOCATIONS_RETRY).await;
    }
}

/// The host's file, bounded before it is read: what it holds is checked by its digest.
fn read_workload(path: &std::path::Path) -> Result<Vec<u8>> {
    use std::io::Read;
    let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut bytes = Vec::new();
    let limit = keep::runtime::MAX_WORKLOAD as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(bytes)
}

/// Renews the certificate at half of its remaining life, for as long as the Keep serves. A certificate or a list of
/// revoked ones that is new ends the connections that were made before it.
struct Renewal {
    candidate: Arc<Candidate>,
    access: Access,
    clock: Clock,
    credential: Arc<Credential>,
    identities: watch::Sender<Arc<Identity>>,
    revoked: watch::Receiver<Revoked>,
}

impl Renewal {
    async fn run(mut self, mut not_after: i64) {
        let mut due = self.due(not_after);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {
                    match self.renew().await {
                        Ok(until) => {
                            not_after = until;
                            tracing::info!(not_after, "the certificate was renewed");
                        }
                        Err(error) => {
                            tracing::warn!(reason = %format!("{error:#}"), "the certificate was not renewed");
                        }
                    }
                    due = self.due(not_after);
                }
                Ok(()) = self.revoked.changed() => {
                    let credential = self.credential.clone();
                    self.replace(&credential);
                    tracing::info!(code = "PEERS_REVOKED", "certificates of peers were revoked");
                }
            }
        }
    }

    fn due(&self, not_after: i64) -> tokio::time::Instant {
        let left = u64::try_from(not_after.saturating_sub((self.clock)().0)).unwrap_or(0);
        tokio::time::Instant::now() + Duration::from_secs(left / 2).max(RENEWAL_RETRY)
    }

    async fn renew(&mut self) -> Result<i64> {
        let (credential, not_after) = self.candidate.renew().await?;
        self.replace(&credential);
        Ok(not_after)
    }

    /// From now on with this credential and the newest list.
    fn replace(&mut self, credential: &Credential) {
        let revoked = self.revoked.borrow_and_update().clone();
        let credential = Credential {
            chain: credential.chain.clone(),
            key: credential.key.clone_key(),
            root: credential.root.clone(),
            identity: credential.identity.clone(),
            revoked,
        };
        self.credential = Arc::new(credential);
        let identity = Identity::marble(self.credential.clone(), self.access.clone());
        self.identities.send_replace(Arc::new(identity));
    }
}
