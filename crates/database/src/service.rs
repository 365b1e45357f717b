//! The whole of it: from a TEE, a measured launch configuration and a folder of the host to a database that serves.
//!
//! ```text
//!  key? ──no, and no log──▶ founded: initdb, first manifest, base backup sealed, key sealed ─┐
//!    ├──sealed to this TEE──▶ log verified and unpacked, PostgreSQL recovers ────────────────┤
//!    ├──the coordinator's, of a Marble──▶ founded, or as above ──────────────────────────────┤
//!    ├──the coordinator's, of a replica──▶ follows another instance's log ──told to──▶ as above ┤
//!    └──sealed to another───▶ Evidence and shares alone ──enough──▶ as above, new root ──────┤
//!                                                                                            ▼
//!                          sealer ▸ audit ▸ rules ▸ algorithms ▸ gateway (SQL) and API (HTTPS)
//! ```
//!
//! Whatever ends ends all: the sealer's end kills PostgreSQL, PostgreSQL's end ends the service, and what was
//! acknowledged is in the sealed log.

mod capacity;
mod error;
mod following;
mod membership;
mod opening;
mod recovering;
mod rotating;
mod starting;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use attested_tls::{
    claims::DatabaseAnchor,
    clock::Clock,
    key::TeeKey,
    launch::{DatabaseConfiguration, RequiredTpm},
    service,
};
use attester::Tee;
use axum::{Json, Router, middleware::from_fn_with_state, response::IntoResponse, routing::get};
use database_manifest::Manifest;
use rustls::pki_types::CertificateDer;
use serde_bytes::ByteArray;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tpm_anchor::{Address, KeyDigest};

pub use self::{capacity::Full, error::ServiceError, following::Promotion};
use self::{
    membership::Membership,
    opening::{Anchoring, Opening, Place},
    rotating::Rotating,
};
use crate::{
    Rules,
    algorithms::{self, Algorithms},
    attestation::{self, Attestation, Standing, Version},
    audit::{self, Audit, Event},
    authority::{Authority, Current, LIFETIME},
    changes::{self, Changes},
    engine::{Engine, Settings, binaries},
    gateway::{Gateway, Limits},
    heads,
    https::{self, Identify},
    identity::{Anchors, NotAParty},
    keys::{Keys, KeysError, MasterKey},
    reads::{Peers, Replicas},
    restore::History,
    sealer::Sealer,
};

/// How long clients may take to hear that it ends.
const FAREWELL: Duration = Duration::from_secs(2);
const ANCHOR_CONTEXT: &str = "database/anchor/1";

/// What the host chooses; none of it decides anything.
#[derive(Debug, Clone)]
pub struct HostHints {
    /// Where key, shares and the sealed log lie.
    pub state: PathBuf,
    /// The first manifest, when a database is founded.
    pub manifest: Option<PathBuf>,
    /// A folder in memory.
    pub memory: PathBuf,
    /// The folder of PostgreSQL's programs; the newest of Debian's packages unless given.
    pub binaries: Option<PathBuf>,
    /// Where the TPM is, if the launch configuration requires one.
    pub tpm: Option<Address>,
    /// Where the coordinator's mesh API is, `host:port`, if the launch configuration makes this a Marble.
    pub coordinator: Option<String>,
    /// Where replicas of this database run queries, `host:port`.
    pub replicas: Vec<String>,
    /// Its word that a replica is to take the database over.
    pub promotion: Promotion,
}

/// Where it listens.
pub struct Listeners {
    /// PostgreSQL's protocol.
    pub sql: TcpListener,
    /// The HTTPS API.
    pub api: TcpListener,
    /// Queries for other instances of the same Marble. With it, this one is a replica until it takes over.
    pub reads: Option<TcpListener>,
}

/// What does not change while it runs.
struct Base {
    tee: Arc<dyn Tee>,
    configuration: DatabaseConfiguration,
    hints: HostHints,
    clock: Clock,
    attestation: Arc<Attestation>,
    current: Current,
    membership: Option<Membership>,
    shutdown: CancellationToken,
}

/// Founds, restores or recovers a database, and serves it until `shutdown`.
///
/// # Errors
/// Why it does not serve, or serves no more.
pub async fn serve(
    tee: Arc<dyn Tee>,
    configuration: DatabaseConfiguration,
    hints: HostHints,
    listeners: Listeners,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<(), ServiceError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ServiceError::File { path, source }
    };
    if configuration.marble.is_none() && (listeners.reads.is_some() || !hints.replicas.is_empty()) {
        return Err(ServiceError::ReplicaAlone);
    }
    std::fs::create_dir_all(&hints.state).map_err(failed(&hints.state))?;
    let binaries = hints.binaries.clone().map_or_else(binaries, Ok)?;
    let place = Place::take(&hints.memory, &hints.state)?;
    let version = Version::of(&binaries).map_err(failed(&binaries))?;
    let membership = Membership::join(&tee, &configuration, &hints, &version, &clock).await?;
    let opening = Arc::new(Opening {
        log: hints.state.join("log"),
        settings: Settings::within(binaries, place.folder(), ""),
        first: configuration.manifest,
        anchoring: anchoring(tee.as_ref(), &configuration, &hints, membership.as_ref())?,
    });

    // Of the moment, until there is one of the state.
    let authority = Authority::generate(tee.emulated(), clock())?;
    let key = TeeKey::generate().map_err(|_| ServiceError::Panicked)?;
    let certified = authority.certify(&key, &configuration.names, tee.emulated(), clock())?;
    let standing = Standing::Recovering { root: authority.certificate().clone() };
    let anchor = match (&membership, &configuration.tpm) {
        (Some(membership), _) => membership.anchor(),
        (None, Some(RequiredTpm { key })) => DatabaseAnchor::TpmNv { key: key.map(ByteArray::new) },
        (None, None) => DatabaseAnchor::Receipts,
    };
    let first = configuration.manifest;
    let attestation = Attestation::new(Arc::clone(&tee), key, first, version, anchor, standing);
    let current = Current::new(certified);
    let base = Base { tee, configuration, hints, clock, attestation, current, membership, shutdown };

    let served = async {
        let state = match &listeners.reads {
            Some(reads) => base.follow(&opening, &listeners, reads).await?,
            None => base.state(&opening, &listeners.api).await?,
        };
        let Some(state) = state else { return Ok(()) };
        let running = base.start(&opening, state).await?;
        base.run(running, listeners, place).await
    };
    served.await.map_err(|error| base.named(error))
}

/// Why all sessions end, for clients.
fn goodbye(ended: &Result<(), ServiceError>) -> String {
    match ended {
        Ok(()) => "the database is shutting down".to_owned(),
        Err(error @ ServiceError::Dismissed(_)) => {
            format!("this instance is the database no more ({}): connect to the one that is", error.code())
        }
        Err(error) => format!("the database ended ({})", error.code()),
    }
}

/// What the measured launch configuration wants.
fn anchoring(
    tee: &dyn Tee,
    configuration: &DatabaseConfiguration,
    hints: &HostHints,
    membership: Option<&Membership>,
) -> Result<Anchoring, ServiceError> {
    if let Some(membership) = membership {
        return Ok(Anchoring::Coordinator(membership.volume.clone()));
    }
    let Some(required) = &configuration.tpm else { return Ok(Anchoring::Receipts) };
    Ok(Anchoring::Tpm {
        address: hints.tpm.clone().ok_or(ServiceError::NoTpm)?,
        required: required.key.map(KeyDigest),
        folder: hints.state.clone(),
        key: tee.sealing_key(ANCHOR_CONTEXT).map_err(KeysError::from)?,
    })
}

/// A database that is ready to serve.
struct Running {
    engine: Arc<Engine>,
    sealer: Arc<Sealer>,
    audit: Audit,
    changes: Arc<Changes>,
    history: Arc<History>,
    algorithms: Algorithms,
    authority: Authority,
    master: MasterKey,
    full: Full,
}

impl Base {
    /// An error, or the coordinator's word that is behind it.
    fn named(&self, error: ServiceError) -> ServiceError {
        match &self.membership {
            Some(membership) => membership.name(error),
            None => error,
        }
    }

    fn keys(&self) -> Keys<'_> {
        Keys::new(self.tee.as_ref(), &self.hints.state)
    }

    fn tls(&self, protocols: &[&[u8]]) -> Result<Arc<rustls::ServerConfig>, ServiceError> {
        let certificate = Arc::new(self.current.clone());
        Ok(Arc::new(service::renewable_server(certificate, protocols, Arc::clone(&self.clock))?))
    }

    async fn run(&self, running: Running, listeners: Listeners, place: Place) -> Result<(), ServiceError> {
        self.hints.promotion.close().await;
        let rules = running.changes.rules();
        let mut master = running.master.clone();
        let manifest = Arc::clone(&rules.borrow().manifest);
        self.in_step(&manifest, &running, &mut master).await?;
        self.certify(&running.authority)?;
        self.attestation.stands(Standing::Running {
            root: running.authority.certificate().clone(),
            rules: rules.clone(),
            sealed: running.sealer.sealed(),
        });
        let started = {
            let rules = rules.borrow();
            let manifest = hex::encode(rules.manifest.digest);
            Event::Started { engine: self.attestation.claims().engine, manifest, epoch: rules.epoch }
        };
        running.audit.record(started).await.map_err(|_| ServiceError::EngineEnded)?;
        let identify = identify(rules.clone(), Arc::clone(&self.clock));
        let api = https::serve(
            self.routes(&running),
            &listeners.api,
            self.tls(&https::PROTOCOLS)?,
            identify,
            self.shutdown.clone(),
        );
        let (ending, told) = watch::channel(None);
        let sql = Gateway {
            rules: rules.clone(),
            socket: running.engine.socket().to_owned(),
            audit: running.audit.clone(),
            algorithms: Arc::new(running.algorithms.clone()),
            sealed: running.sealer.position(),
            certificate: Arc::new(self.current.clone()),
            clock: Arc::clone(&self.clock),
            limits: Limits { full: Some(running.full.clone()), ..Limits::default() },
        };
        let (mut sql, mut is_over) = (std::pin::pin!(sql.serve_until(listeners.sql, told)), false);
        tracing::info!(
            code = "SERVING",
            database = running.engine.database(),
            epoch = rules.borrow().epoch,
            "clients are served"
        );
        let ended = tokio::select! {
            () = api => Ok(()),
            ended = &mut sql => {
                is_over = true;
                ended.map_err(ServiceError::from)
            }
            () = self.shutdown.cancelled() => Ok(()),
            () = running.engine.exited() => Err(ServiceError::EngineEnded),
            renewed = self.keep_fresh(&running.authority) => renewed,
            kept = self.keep_in_step(rules, &running, &mut master) => kept,
            dismissed = self.dismissed() => Err(dismissed),
        };
        let ended = match (ended, running.sealer.failure()) {
            (Err(_), Some(failure)) => Err(failure.into()),
            (ended, _) => ended,
        };
        let ended = ended.map_err(|error| self.named(error));
        // What is acknowledged is sealed; what is not never was.
        running.engine.kill();
        ending.send_replace(Some(goodbye(&ended)));
        if !is_over {
            // Who does not take it in this time is not told.
            let _ = tokio::time::timeout(FAREWELL, sql).await;
        }
        running.engine.exited().await;
        drop(running);
        drop(place);
        ended
    }

    fn routes(&self, running: &Running) -> Router {
        let exports = audit::Exports {
            engine: Arc::clone(&running.engine),
            rules: running.changes.rules(),
            audit: running.audit.clone(),
            key: self.current.clone(),
            clock: Arc::clone(&self.clock),
        };
        let state = self.hints.state.clone();
        let recovery = move || {
            let shares = recovering::shares(&state).ok().flatten();
            let described = shares.map(|shares| recovering::described(&shares, None));
            async move {
                Json(described.unwrap_or_else(|| serde_json::json!({ "Recovering": false }))).into_response()
            }
        };
        attestation::routes(Arc::clone(&self.attestation))
            .merge(audit::routes(exports))
            .merge(changes::routes(Arc::clone(&running.changes)))
            .merge(heads::routes(Arc::clone(&running.history)))
            .merge(algorithms::api::routes(running.algorithms.clone()))
            .route("/v1/recovery", get(recovery))
            .layer(from_fn_with_state(running.audit.clone(), https::turned_away))
    }

    /// Where queries run beside here.
    fn replicas(&self) -> Replicas {
        let Some(membership) = &self.membership else { return Replicas::default() };
        let peers = Peers { credentials: membership.credentials(), clock: Arc::clone(&self.clock) };
        Replicas::new(self.hints.replicas.clone(), peers)
    }

    fn certify(&self, authority: &Authority) -> Result<(), ServiceError> {
        let names = &self.configuration.names;
        let key = self.attestation.key();
        self.current.replace(authority.certify(key, names, self.tee.emulated(), (self.clock)())?);
        Ok(())
    }

    /// Renews the servers' certificate at half of its life. Where that fails, the old one goes on until it ends.
    async fn keep_fresh(&self, authority: &Authority) -> Result<(), ServiceError> {
        let half = Duration::from_secs(LIFETIME.whole_seconds().unsigned_abs() / 2);
        loop {
            tokio::time::sleep(half).await;
            if let Err(error) = self.certify(authority) {
                tracing::error!(code = "CERTIFICATE_NOT_RENEWED", %error, "the certificate was not renewed");
            }
        }
    }

    /// Key and shares as a manifest wants them. A Marble's key is its mesh's to recover and to exchange, and nobody gets a
    /// share of it.
    async fn in_step(
        &self,
        manifest: &Manifest,
        running: &Running,
        master: &mut MasterKey,
    ) -> Result<(), ServiceError> {
        let recovery = manifest.recovery.as_ref();
        if self.membership.is_some() {
            if recovery.is_some() {
                tracing::warn!(
                    code = "RECOVERY_OF_MESH",
                    "a Marble's key is with its mesh: the holders of the manifest's `Recovery` get no shares"
                );
            }
            recovering::keep_shares(&self.hints.state, None, master)?;
            return Ok(());
        }
        let rotating = Rotating {
            keys: self.keys(),
            state: &self.hints.state,
            first: self.configuration.manifest,
            sealer: &running.sealer,
            audit: &running.audit,
            clock: &self.clock,
        };
        rotating.in_step(master, recovery).await
    }

    async fn dismissed(&self) -> ServiceError {
        match &self.membership {
            Some(membership) => membership.dismissed().await,
            None => std::future::pending().await,
        }
    }

    /// Deals shares anew whenever a manifest names other holders, and exchanges the key when some left.
    async fn keep_in_step(
        &self,
        mut rules: watch::Receiver<Arc<Rules>>,
        running: &Running,
        master: &mut MasterKey,
    ) -> Result<(), ServiceError> {
        while rules.changed().await.is_ok() {
            let manifest = Arc::clone(&rules.borrow_and_update().manifest);
            self.in_step(&manifest, running, master).await?;
        }
        std::future::pending().await
    }
}

/// Who calls, by the manifest in force at that moment.
fn identify(rules: watch::Receiver<Arc<Rules>>, clock: Clock) -> Identify {
    let known: Mutex<Option<(u64, Arc<Anchors>)>> = Mutex::default();
    Arc::new(move |chain: &[CertificateDer<'static>]| {
        let rules = Arc::clone(&rules.borrow());
        let anchors = {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            match &*known {
                Some((epoch, anchors)) if *epoch == rules.epoch => Arc::clone(anchors),
                _ => {
                    let anchors = Anchors::new(&rules.manifest).map_err(|_| NotAParty::UnknownIssuer)?;
                    let anchors = Arc::new(anchors);
                    *known = Some((rules.epoch, Arc::clone(&anchors)));
                    anchors
                }
            }
        };
        anchors.caller(chain, clock())
    })
}
