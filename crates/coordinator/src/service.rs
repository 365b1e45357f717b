//! The service around the core: one log, one published snapshot, two listeners. Deciding happens in
//! [`crate::core`]; here an event is made durable, then applied, then answered.

mod anchor;
mod broker_api;
mod certificate;
mod client_api;
mod collateral;
mod commit;
mod connections;
mod decision;
mod envelope;
mod https;
mod log;
mod making;
mod marble_api;
mod mesh_api;
mod metrics;
mod outward;
mod recorded;
mod recovery;
mod rehearsal;
mod replica;
mod revocation;
mod rollback;
mod standing;
mod starting;
mod stores;
mod telemetry;
mod witness;

pub use decision::stream::{DecisionSink, NotASink};
pub use outward::{Destination, NotADestination, OutwardError};
pub use replica::EtcdHints;
pub use starting::StartError;

use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use appraisal::Verifier;

use attested_tls::{
    claims::{CoordinatorClaims, CoordinatorMode, TransparencyHead},
    clock::Clock,
    key::TeeKey,
    launch::CoordinatorConfiguration,
};
use attester::Tee;
use serde_bytes::{ByteArray, ByteBuf};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
};
use tokio_util::sync::CancellationToken;

use self::{
    collateral::Collateral,
    commit::{Committer, SNAPSHOT_EVERY},
    decision::stream::Stream,
    metrics::Metrics,
    outward::Outward,
    recorded::Recordings,
    replica::Replicas,
    standing::Standing,
    starting::{Begun, Resumed},
    stores::Stores,
    telemetry::Telemetry,
};
use crate::{
    authority::Authority,
    core::{self, Event, Refusal, State, recovery::Descriptor},
    store::Head,
};

const BETWEEN_LAPSES: Duration = Duration::from_secs(30);
/// How often something is tried that other decisions come before.
const ATTEMPTS: usize = 4;

/// What the host chooses; none of it decides anything.
#[derive(Debug, Clone, Default)]
pub struct HostHints {
    /// Where the sealed state lies.
    pub state: PathBuf,
    /// Files and folders of Endorsements for native programs; all of them signed by vendors.
    pub endorsements: Vec<PathBuf>,
    /// Where it wants to hear what happens.
    pub telemetry: TelemetryHints,
    /// Where etcd is, if several coordinators share the state there.
    pub etcd: Option<EtcdHints>,
    /// Where the library for PKCS #11 lies; the manifest says which one it is.
    pub pkcs11_library: Option<PathBuf>,
    /// Where the TPM is, if the launch configuration requires one.
    pub tpm: Option<tpm_anchor::Address>,
}

/// Where the host wants to hear what happens; nowhere unless it says so.
#[derive(Debug, Clone, Default)]
pub struct TelemetryHints {
    /// Every decision, as JSON.
    pub decisions: Option<DecisionSink>,
    /// Traces and metrics, as OTLP over HTTP: the URL before `/v1/traces` and `/v1/metrics`.
    pub otlp: Option<Destination>,
    /// PEM of the roots that these servers are known by; those of the web, where there is none.
    pub roots: Option<PathBuf>,
}

/// A state and its place in the log.
#[derive(Clone)]
struct Snapshot {
    state: Arc<State>,
    head: Head,
    length: u64,
}

/// What the coordinator can do now.
#[derive(Clone)]
enum Mode {
    /// The state is open.
    Open(Snapshot),
    /// The state is sealed to another TEE. Until shares open it, this coordinator has a root of its own, which signs
    /// nothing but the client API's certificate.
    Locked { root: Arc<Authority> },
    /// The state is open, and not the newest. It is served to nobody until holders of recovery keys accept the loss.
    Unfit(Arc<anchor::Unserved>),
}

/// A running coordinator.
pub struct Coordinator {
    tee: Arc<dyn Tee>,
    clock: Clock,
    configuration: CoordinatorConfiguration,
    collateral: Collateral,
    /// Absent while the state is locked.
    committer: OnceLock<Committer>,
    bundles: log::Bundles,
    cosigned: witness::Cosigned,
    locked: Mutex<Option<recovery::Locked>>,
    rehearsal: Mutex<Option<rehearsal::Rehearsal>>,
    accepting: Mutex<Option<anchor::Accepting>>,
    heads: Mutex<core::anchor::Heads>,
    tpm: Option<tpm_anchor::Address>,
    mode: RwLock<Mode>,
    /// Told when the root changes.
    root_changed: Notify,
    /// A fleet comes again and again with the same Endorsements.
    verifier: Arc<Verifier>,
    /// What the running instances presented.
    recorded: Recordings,
    metrics: Metrics,
    decisions: Option<Stream>,
    telemetry: Option<Telemetry>,
    /// Absent where the state is in a file.
    replicas: Option<Replicas>,
    client_key: TeeKey,
    mesh_key: Arc<TeeKey>,
    /// How often anyone was evicted or came back; told to whoever serves Keeps.
    evictions: watch::Sender<u64>,
    standing: Standing,
    stores: Stores,
    /// Sessions of guests.
    broker: broker_api::Broker,
}

/// What was decided: events, new shares if the recovery keys changed, and the answer.
struct Decided<T> {
    events: Vec<Event>,
    shares: Option<Descriptor>,
    answer: T,
}

impl<T> Decided<T> {
    /// Nothing is to be changed.
    fn none(answer: T) -> Self {
        Self { events: Vec::new(), shares: None, answer }
    }

    fn one(event: Event, answer: T) -> Self {
        Self { events: vec![event], shares: None, answer }
    }
}

impl Coordinator {
    /// Unseals the state below `hints.state`, or founds a mesh where there is none. A state that is sealed to another
    /// TEE waits for recovery. Must be called on a runtime of tokio if the host wants telemetry.
    pub fn open(
        tee: Arc<dyn Tee>,
        configuration: CoordinatorConfiguration,
        hints: &HostHints,
        clock: Clock,
    ) -> Result<Arc<Self>, StartError> {
        if configuration.tpm.is_some() && hints.etcd.is_some() {
            return Err(StartError::TpmShared);
        }
        std::fs::create_dir_all(&hints.state).map_err(StartError::Directory)?;
        let replicas = hints.etcd.as_ref().map(|etcd| Replicas::new(etcd, &hints.state)).transpose()?;
        let begun = starting::begin(replicas.as_ref(), tee.as_ref(), &configuration, hints, &clock)?;
        let (committer, locked, mode) = match begun {
            Begun::Open(resumed) => {
                let Resumed { store, snapshot, tether, unfit } = *resumed;
                let committer = Committer::new(store, snapshot.clone(), SNAPSHOT_EVERY);
                committer.tie(tether);
                let mode = match unfit {
                    None => Mode::Open(snapshot),
                    Some(why) => {
                        tracing::error!(code = why.code(), reason = %why, "nothing is served");
                        let root = Arc::new(Authority::root(tee.emulated(), clock())?);
                        Mode::Unfit(Arc::new(anchor::Unserved { root, snapshot, why }))
                    }
                };
                (OnceLock::from(committer), None, mode)
            }
            Begun::Locked(locked) => {
                tracing::warn!(
                    code = "RECOVERY_PENDING",
                    "the state is sealed to another TEE and waits for recovery"
                );
                let root = Arc::new(Authority::root(tee.emulated(), clock())?);
                (OnceLock::new(), Some(recovery::Locked::new(locked)), Mode::Locked { root })
            }
        };
        let (decisions, telemetry) = listeners_of(&hints.telemetry)?;
        let stores = Stores::new(clock.clone(), hints.pkcs11_library.clone());
        let mut heads = heads_of(replicas.as_ref());
        if let Mode::Open(snapshot) = &mode {
            heads.push(snapshot.position());
        }
        let coordinator = Arc::new(Self {
            tee,
            clock,
            configuration,
            collateral: Collateral::new(hints.endorsements.clone()),
            committer,
            bundles: log::Bundles::default(),
            cosigned: witness::Cosigned::default(),
            locked: Mutex::new(locked),
            rehearsal: Mutex::default(),
            accepting: Mutex::default(),
            heads: Mutex::new(heads),
            tpm: hints.tpm.clone(),
            mode: RwLock::new(mode),
            root_changed: Notify::new(),
            verifier: Arc::new(attested_tls::statement::verifier()),
            recorded: Recordings::default(),
            metrics: Metrics::default(),
            decisions,
            telemetry,
            replicas,
            client_key: TeeKey::generate()?,
            mesh_key: Arc::new(TeeKey::generate()?),
            evictions: watch::Sender::new(0),
            standing: Standing::default(),
            stores,
            broker: broker_api::Broker::default(),
        });
        if let Some(telemetry) = &coordinator.telemetry {
            telemetry.observe(&coordinator);
        }
        Ok(coordinator)
    }

    /// Serves all interfaces until `shutdown`.
    pub async fn serve(
        self: Arc<Self>,
        listeners: Listeners,
        shutdown: CancellationToken,
    ) -> Result<(), StartError> {
        let (sender, tls) = watch::channel(certificate::issue(&self)?);
        let address = listeners.mesh.local_addr().map_err(StartError::Listener)?;
        let stay = self.clone().stay(address.to_string(), shutdown.clone());
        let renewal = certificate::keep_fresh(self.clone(), sender, shutdown.clone());
        let client_api = client_api::serve(self.clone(), listeners.client, tls.clone(), shutdown.clone());
        let mesh_api = mesh_api::serve(self.clone(), listeners.mesh, shutdown.clone());
        let guests = tls.clone();
        let broker_api = async {
            match listeners.broker {
                Some(listener) => broker_api::serve(self.clone(), listener, guests, shutdown.clone()).await,
                None => Ok(()),
            }
        };
        let marble_api = async {
            match listeners.marbles {
                Some(listener) => marble_api::serve(self.clone(), listener, tls, shutdown.clone()).await,
                None => Ok(()),
            }
        };
        let metrics = async {
            match listeners.metrics {
                Some(listener) => metrics::serve(self.clone(), listener, shutdown.clone()).await,
                None => Ok(()),
            }
        };
        let lapses = self.clone().cancel_lapsed_updates(shutdown.clone());
        let anchored = self.clone().watch_anchor(shutdown.clone());
        let told = self.clone().tell(shutdown.clone());
        let kept = self.clone().keep_stores(shutdown.clone());
        tokio::try_join!(
            renewal, client_api, mesh_api, marble_api, metrics, lapses, anchored, told, kept, stay,
            broker_api
        )
        .map(|_| ())
    }

    /// Brings decisions to where the host wants them, and at the end what the collector has not heard yet.
    async fn tell(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), StartError> {
        match &self.decisions {
            Some(stream) => stream.write(shutdown).await,
            None => shutdown.cancelled().await,
        }
        let _ = tokio::task::spawn_blocking(move || self.telemetry.as_ref().map(Telemetry::end)).await;
        Ok(())
    }

    /// A proposed manifest that nobody agreed to in time is taken away, whether anyone asks or not; so are values of
    /// secrets that are too old; and an update after which Marbles do not run again is rolled back.
    async fn cancel_lapsed_updates(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), StartError> {
        while tokio::time::timeout(BETWEEN_LAPSES, shutdown.cancelled()).await.is_err() {
            let coordinator = self.clone();
            let lapse = tokio::task::spawn_blocking(move || {
                let now = (coordinator.clock)();
                coordinator.roll_back_when_due()?;
                let ended = |state: &State| -> Vec<Event> {
                    core::lapse(state, now).into_iter().chain(core::expire(state, now)).collect()
                };
                let due = |snapshot: &Snapshot| !ended(&snapshot.state).is_empty();
                if !coordinator.snapshot().is_ok_and(|snapshot| due(&snapshot)) {
                    return Ok(());
                }
                coordinator.commit(|state| Ok(Decided { events: ended(state), shares: None, answer: () }))
            });
            if let Ok(Err(refusal)) = lapse.await {
                tracing::warn!(
                    code = refusal.code(),
                    "what has ended, an update or a secret, could not be taken away or rolled back"
                );
            }
        }
        Ok(())
    }

    /// MarbleRun's code and words for the state.
    fn status(&self) -> (u64, Cow<'static, str>) {
        match self.mode() {
            Mode::Locked { .. } => {
                let words =
                    "Coordinator is in recovery mode. Upload the recovery secrets to unseal the saved state.";
                (1, words.into())
            }
            Mode::Unfit(unserved) => (1, unserved.why.to_string().into()),
            Mode::Open(snapshot) if snapshot.state.mesh().is_none() => {
                (2, "Coordinator is ready to accept a manifest.".into())
            }
            Mode::Open(_) => (3, "Coordinator is running correctly and ready to accept marbles.".into()),
        }
    }

    fn mode(&self) -> Mode {
        self.mode.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn snapshot(&self) -> Result<Snapshot, Refusal> {
        match self.mode() {
            Mode::Open(snapshot) => Ok(snapshot),
            Mode::Locked { .. } => Err(self.recovering()),
            Mode::Unfit(unserved) => Err(unserved.why.clone().into()),
        }
    }

    /// While the state is locked: how many recovery secrets are missing; `None` where nobody has any.
    fn missing_shares(&self) -> Option<usize> {
        if let Some(unserved) = self.unserved() {
            return self.missing_acceptances(&unserved);
        }
        let locked = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
        locked.as_ref().and_then(recovery::Locked::remaining)
    }

    fn recovering(&self) -> Refusal {
        match self.missing_shares() {
            Some(remaining) => Refusal::Recovering { remaining },
            None => Refusal::Unrecoverable,
        }
    }

    /// The root that the client API's certificate is below.
    fn root(&self) -> Arc<Authority> {
        match self.mode() {
            Mode::Open(snapshot) => snapshot.state.root().clone(),
            Mode::Locked { root } => root,
            Mode::Unfit(unserved) => unserved.root.clone(),
        }
    }

    /// Decides on the newest state, makes the events durable, publishes the new state, and returns what
    /// `decide` had to say. One after the other; blocks for a disk write, which many share.
    fn commit<T>(&self, decide: impl Fn(&State) -> Result<Decided<T>, Refusal>) -> Result<T, Refusal> {
        let committer = self.committer.get().ok_or_else(|| self.recovering())?;
        self.snapshot()?;
        let answer = committer.commit(decide, |snapshot| self.publish(snapshot.clone()));
        if committer.failure().is_some() {
            self.check_anchor();
        }
        answer
    }

    /// Does what `attempt` prepares and commits, again where something else was committed between.
    fn unless_overtaken<T>(attempt: impl Fn() -> Result<T, Refusal>) -> Result<T, Refusal> {
        for _ in 1..ATTEMPTS {
            match attempt() {
                Err(Refusal::Overtaken { .. }) => {}
                other => return other,
            }
        }
        attempt()
    }

    fn publish(&self, snapshot: Snapshot) {
        // Whoever signs a head knows it as its own.
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).push(snapshot.position());
        let changes = snapshot.state.mesh().map_or(0, |mesh| mesh.revocations().changes());
        let mut mode = self.mode.write().unwrap_or_else(PoisonError::into_inner);
        let Mode::Open(published) = &mut *mode else { return };
        let another = published.state.root().certificate() != snapshot.state.root().certificate();
        *published = snapshot;
        drop(mode);
        // Whoever hears of a change reads the state after it.
        self.evictions.send_if_modified(|known| std::mem::replace(known, changes) != changes);
        if another {
            self.root_changed.notify_one();
        }
    }

    /// The state is served from now on, below a root that nobody knows yet.
    fn begin_serving(&self, snapshot: Snapshot) {
        *self.heads.lock().unwrap_or_else(PoisonError::into_inner) = heads_of(self.replicas.as_ref());
        *self.mode.write().unwrap_or_else(PoisonError::into_inner) = Mode::Open(snapshot.clone());
        self.publish(snapshot);
        self.root_changed.notify_one();
    }

    /// What this coordinator says of itself in its Evidence.
    fn claims(&self) -> CoordinatorClaims {
        let owner = ByteArray::new(self.configuration.owner.0);
        match self.mode() {
            Mode::Locked { root } => CoordinatorClaims {
                root: ByteBuf::from(root.certificate().to_vec()),
                owner,
                mode: CoordinatorMode::Recovering,
                epoch: 0,
                manifest: None,
                log_head: ByteArray::new([0; 32]),
                log_length: 0,
                intermediate: None,
                transparency: None,
                log_signature: ByteBuf::new(),
                anchors: Vec::new(),
            },
            Mode::Unfit(unserved) => CoordinatorClaims {
                root: ByteBuf::from(unserved.root.certificate().to_vec()),
                owner,
                mode: CoordinatorMode::RolledBack,
                epoch: 0,
                manifest: None,
                log_head: ByteArray::new(unserved.snapshot.head),
                log_length: unserved.snapshot.length,
                intermediate: None,
                transparency: None,
                log_signature: ByteBuf::new(),
                anchors: Vec::new(),
            },
            Mode::Open(snapshot) => {
                let mesh = snapshot.state.mesh();
                CoordinatorClaims {
                    root: ByteBuf::from(snapshot.state.root().certificate().to_vec()),
                    owner,
                    mode: mesh.map_or(CoordinatorMode::AcceptingManifest, |_| CoordinatorMode::Running),
                    epoch: mesh.map_or(0, core::Mesh::epoch),
                    manifest: mesh.map(|mesh| ByteArray::new(mesh.manifest_digest())),
                    log_head: ByteArray::new(snapshot.head),
                    log_length: snapshot.length,
                    intermediate: mesh.map(|mesh| ByteBuf::from(mesh.intermediate().certificate().to_vec())),
                    transparency: Some(transparency(snapshot.state.log())),
                    log_signature: ByteBuf::from(self.signed_position(&snapshot)),
                    anchors: self.anchors(),
                }
            }
        }
    }
}

/// The head of the transparency log, in the Evidence's words.
fn transparency(log: &core::Log) -> TransparencyHead {
    let head = log.head();
    TransparencyHead {
        origin: log.origin().to_owned(),
        key: ByteArray::new(*log.key()),
        size: head.size,
        root: ByteArray::new(head.root),
    }
}

/// What the host wants to hear through.
fn listeners_of(hints: &TelemetryHints) -> Result<(Option<Stream>, Option<Telemetry>), StartError> {
    if hints.decisions.is_none() && hints.otlp.is_none() {
        return Ok((None, None));
    }
    let outward = Outward::new(hints.roots.as_deref())?;
    let decisions = hints.decisions.as_ref().map(|sink| Stream::open(sink, &outward));
    let telemetry = hints.otlp.as_ref().map(|collector| Telemetry::start(collector, &outward));
    let telemetry = telemetry.transpose().map_err(|_| StartError::Telemetry)?;
    Ok((decisions.transpose().map_err(StartError::Decisions)?, telemetry))
}

/// The heads that this coordinator will know as its own.
fn heads_of(replicas: Option<&Replicas>) -> core::anchor::Heads {
    replicas.map_or_else(core::anchor::Heads::default, |_| core::anchor::Heads::among_replicas())
}

/// Where the coordinator listens.
pub struct Listeners {
    /// The client API.
    pub client: TcpListener,
    /// The mesh API, for Keeps.
    pub mesh: TcpListener,
    /// MarbleRun's Marble API, for native programs.
    pub marbles: Option<TcpListener>,
    /// Metrics, in the clear.
    pub metrics: Option<TcpListener>,
    /// The key broker, for guests that are no Marbles.
    pub broker: Option<TcpListener>,
}
