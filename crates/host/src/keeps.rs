//! Keeps for clients: launched before somebody asks, leased to one tenant, connected once, ended in time. What is
//! decided is decided by the [ledger](ledger); here it is done.

mod id;
mod ledger;
mod record;
mod storage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use keep_protocol::host as protocol;
use keep_protocol::host::{HostError, HostErrorCode as Code, HostInfo, KeepSummary, Lease, NewKeep, Tee};

pub(crate) use self::id::KeepId;
use self::ledger::{Grant, Keep, Ledger, NOT_STARTED, Offer, Order};
use self::record::{Now, Record, Records};
use crate::agent::Office;
use crate::backoff::{Backoff, BackoffPolicy};
use crate::clock::Clock;
use crate::config::{Config, KeepProgram, Keeps as Settings, Quota};
use crate::launcher::{About, BackendKind, Reach};
use crate::names::{BackendName, TenantName};
use crate::overview::{KeepView, LaunchFailure, Places};
use crate::process::{Channel, Limits, Process, Restart};
use crate::status::State;
use crate::supervisor::Beginning;

/// The program and its version, as it is told.
pub(crate) const AGENT: &str = concat!("bailey-host/", env!("CARGO_PKG_VERSION"));

/// The directory of the records, in the agent's.
pub(crate) const RECORDS: &str = "keeps";

/// How long a client waits for a Keep that has to be launched: a virtual machine under an emulated processor takes
/// its time.
const LAUNCH_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked what has become of all Keeps, if nothing says so earlier.
const LOOK: Duration = Duration::from_millis(500);

/// The Keeps of clients.
pub(crate) struct Keeps {
    office: Weak<Office>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    programs: BTreeMap<BackendName, (KeepProgram, String)>,
    records: Records,
    /// A folder for each tenant, with what its Keeps store.
    storage: PathBuf,
    ledger: Mutex<Ledger>,
    /// Back ends whose idle Keeps end by themselves, and from when on more are launched there.
    pauses: Mutex<BTreeMap<BackendName, (Backoff, Duration)>>,
    /// Why a back end launched no Keep the last time, for the operator.
    failures: Mutex<BTreeMap<BackendName, String>>,
    backoff: BackoffPolicy,
    bell: SyncSender<()>,
}

/// Counts for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) starting: u64,
    pub(crate) warm: u64,
    pub(crate) leased: u64,
}

impl Keeps {
    /// Those of a configuration. Nothing happens before [`Keeps::work`].
    pub(crate) fn new(
        config: &Config,
        settings: Settings,
        office: Weak<Office>,
        about: &[About],
        clock: Arc<dyn Clock>,
        bell: SyncSender<()>,
    ) -> Self {
        let programs: BTreeMap<_, _> = config
            .backends
            .iter()
            .filter_map(|backend| Some((backend.name.clone(), backend.keep.clone()?)))
            .map(|(name, program)| (name, (program.clone(), fingerprint(&program))))
            .collect();
        let offers = about.iter().filter(|about| programs.contains_key(&about.name)).map(offer).collect();
        let ledger = Mutex::new(Ledger::new(offers, settings));
        let records = Records::new(config.directory.join(RECORDS));
        let storage = config.volumes.clone();
        let (pauses, failures, backoff) = (Mutex::default(), Mutex::default(), config.backoff);
        Self { office, clock, settings, programs, records, storage, ledger, pauses, failures, backoff, bell }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Takes up the Keeps of the agent before this one. To be done before any are launched.
    pub(crate) fn adopt(&self) -> std::io::Result<()> {
        let Some(office) = self.office.upgrade() else { return Ok(()) };
        let now = Now { monotonic: self.now(), unix_ms: self.clock.unix_ms() };
        for (id, record) in self.records.read_all()? {
            let program = record.program.clone();
            let (order, born, lease) = record.into_keep(now);
            let is_old = self.programs.get(&order.backend).is_none_or(|(_, current)| *current != program);
            let outdated = is_old && lease.is_none();
            let process = self.process(id, &order);
            let adopted = process.is_some_and(|process| {
                self.ledger().adopted(id, order, born, lease)
                    && office.begin(process, Beginning::Adopt).is_ok()
            });
            if !adopted {
                self.ledger().gone(id);
                self.records.remove(id);
            } else if outdated {
                self.end(id, "its program is an old one");
            }
        }
        Ok(())
    }

    /// Keeps everything as it should be, until the agent ends.
    pub(crate) fn work(&self, rung: &Receiver<()>) {
        while self.office.upgrade().is_some_and(|office| office.is_open()) {
            self.look();
            self.end_the_due();
            self.refill();
            match rung.recv_timeout(LOOK) {
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Ok(()) | Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Something has changed: look at once.
    pub(crate) fn ring(&self) {
        // When it rings already, that will do.
        let _ = self.bell.try_send(());
    }

    /// Which of those that were being launched run by now.
    fn see_launched(&self) {
        let Some(office) = self.office.upgrade() else { return };
        let mut ledger = self.ledger();
        let starting: Vec<KeepId> =
            ledger.keeps().filter(|(_, keep)| !keep.running).map(|(id, _)| id).collect();
        for id in starting {
            if office.status_of(&id.process()).is_some_and(|status| status.reach.is_some()) {
                self.launched(&mut ledger, id);
            }
        }
    }

    fn launched(&self, ledger: &mut Ledger, id: KeepId) {
        if let Some(keep) = ledger.keep(id).filter(|keep| !keep.running) {
            self.failures().remove(&keep.order.backend);
            ledger.launched(id);
        }
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<BackendName, String>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has become of each.
    fn look(&self) {
        let Some(office) = self.office.upgrade() else { return };
        let known: Vec<KeepId> = self.ledger().keeps().map(|(id, _)| id).collect();
        for id in known {
            let status = office.status_of(&id.process());
            match status.as_ref().map(|status| &status.state) {
                Some(State::Starting) => {}
                // A machine runs long before its Keep takes clients.
                Some(State::Running { .. }) if status.as_ref().is_some_and(|it| it.reach.is_some()) => {
                    self.launched(&mut self.ledger(), id);
                }
                Some(State::Running { .. }) => {}
                Some(State::Stopped | State::BackOff { .. }) => {
                    let last = status.and_then(|status| status.last_exit);
                    self.note_failure(id, last.map(|last| last.ending.to_string()));
                    office.dismiss(&id.process());
                    self.forget(id);
                }
                // Being begun by another thread, or the agent ends; a Keep that nobody takes care of is not there.
                None if office.is_open() && self.ledger().keep(id).is_some_and(|keep| keep.running) => {
                    self.forget(id);
                }
                None => {}
            }
        }
    }

    /// A Keep that nobody wanted to end has ended before it was anybody's, or never was any client's to have: its like are
    /// launched again after a pause, which grows.
    fn note_failure(&self, id: KeepId, reason: Option<String>) {
        let now = self.now();
        let (backend, ran_for) = match self.ledger().keep(id) {
            Some(keep) if keep.lease.is_none() && !keep.ending => {
                (keep.order.backend.clone(), keep.born.elapsed(now))
            }
            _ => return,
        };
        if let Some(reason) = reason {
            self.failures().insert(backend.clone(), reason);
        }
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let (backoff, until) = pauses.entry(backend).or_insert_with(|| (Backoff::new(self.backoff), now));
        // Several that end at once are one failure.
        if *until <= now {
            *until = now + backoff.after(ran_for);
        }
    }

    /// Whether a back end has had its pause.
    fn is_ready(&self, backend: &BackendName) -> bool {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.get(backend).is_none_or(|(_, until)| *until <= self.now())
    }

    /// A Keep has ended with the agent.
    pub(crate) fn ended(&self, id: KeepId) {
        self.forget(id);
    }

    fn forget(&self, id: KeepId) {
        self.ledger().gone(id);
        self.records.remove(id);
    }

    fn end_the_due(&self) {
        let due = self.ledger().due(self.now());
        for (id, why) in due {
            if why == NOT_STARTED {
                self.note_failure(id, Some(why.to_owned()));
            }
            self.end(id, why);
        }
    }

    /// Begins to end a Keep.
    fn end(&self, id: KeepId, why: &str) {
        tracing::info!(keep = %id, why, "ending");
        self.ledger().ending(id);
        if let Some(office) = self.office.upgrade() {
            office.want_stopped(&id.process());
        }
    }

    fn refill(&self) {
        let names = || KeepId::generate().ok();
        // Names first: without randomness there are no Keeps.
        let mut fresh: Vec<KeepId> =
            (0..self.settings.warm as usize * self.programs.len()).filter_map(|_| names()).collect();
        if fresh.len() < self.settings.warm as usize * self.programs.len() {
            return;
        }
        let name = || fresh.pop().unwrap_or_else(|| unreachable!("enough"));
        let orders = self.ledger().refill(self.now(), |backend| self.is_ready(backend), name);
        for (id, order) in orders {
            if let Err(error) = self.launch(id, &order) {
                tracing::warn!(%error, "a Keep cannot be launched");
                self.forget(id);
            }
        }
    }

    fn launch(&self, id: KeepId, order: &Order) -> Result<(), HostError> {
        let failed = |error: &dyn std::fmt::Display| HostError::new(Code::LaunchFailed, error.to_string());
        let office = self.office.upgrade().ok_or_else(|| failed(&"the agent is ending"))?;
        let process = self.process(id, order).ok_or_else(|| failed(&"the back end launches no Keeps"))?;
        self.write(id).map_err(|error| failed(&error))?;
        office.begin(process, Beginning::Launch).map_err(|error| failed(&error))
    }

    fn write(&self, id: KeepId) -> std::io::Result<()> {
        let now = Now { monotonic: self.now(), unix_ms: self.clock.unix_ms() };
        let record = self.ledger().keep(id).and_then(|keep| {
            let (_, program) = self.programs.get(&keep.order.backend)?;
            Some(Record::of(keep, program.clone(), now))
        });
        record.map_or(Ok(()), |record| self.records.write(id, &record))
    }

    fn process(&self, id: KeepId, order: &Order) -> Option<Process> {
        let (program, _) = self.programs.get(&order.backend)?;
        Some(Process {
            name: id.process(),
            platform: evidence_platform(order.tee.platform),
            backend: Some(order.backend.clone()),
            executable: program.executable.clone(),
            configuration: program.configuration.clone(),
            arguments: program.arguments.clone(),
            log: self.settings.log,
            restart: Restart::Never,
            channel: Channel::Relayed,
            limits: Limits { memory_mib: Some(order.memory_mib), cpu_milli: Some(self.settings.cpu_milli) },
            volumes: order.volumes.as_ref().map(|tenant| self.storage.join(tenant.as_str())),
            workload: None,
            ports: Vec::new(),
        })
    }

    /// A tenant asks for a Keep. Waits for one that has to be launched.
    pub(crate) fn lease(
        &self,
        tenant: &TenantName,
        quota: &Quota,
        wanted: &NewKeep,
    ) -> Result<Lease, HostError> {
        let internal = |error: std::io::Error| HostError::new(Code::Internal, error.to_string());
        let fresh = KeepId::generate().map_err(internal)?;
        if wanted.volumes {
            self.check_storage(tenant, quota)?;
        }
        self.see_launched();
        let grant = self.ledger().ask(tenant, quota, wanted, fresh, self.now())?;
        let (id, warm) = match &grant {
            Grant::Warm(id) => (*id, true),
            Grant::Launch(id, _) => (*id, false),
        };
        let done = match &grant {
            Grant::Warm(_) => self.attach(id).and_then(|()| self.write(id).map_err(internal)),
            Grant::Launch(_, order) => self.launch_for_a_client(id, order),
        };
        self.ring();
        if let Err(error) = done {
            if warm {
                self.end(id, "it cannot be written down")
            } else {
                self.forget(id)
            }
            return Err(error);
        }
        let ledger = self.ledger();
        let keep = ledger.own(tenant, id)?;
        Ok(Lease {
            id: id.to_string(),
            tee: keep.order.tee,
            kind: keep.kind,
            warm,
            ttl_ms: ledger::millis(self.settings.idle()),
        })
    }

    /// A Keep that was launched before it was known whose it would be gets its tenant's storage, if that was asked for.
    fn attach(&self, id: KeepId) -> Result<(), HostError> {
        let Some(tenant) = self.ledger().keep(id).and_then(|keep| keep.order.volumes.clone()) else {
            return Ok(());
        };
        let office = self.office.upgrade();
        let attached = office.map(|office| office.attach(&id.process(), &self.storage.join(tenant.as_str())));
        if let Some(Ok(())) = attached {
            return Ok(());
        }
        tracing::warn!(keep = %id, ?attached, "storage could not be given to a Keep");
        Err(HostError::new(Code::NoStorage, "this Keep could not be given storage"))
    }

    /// What a tenant has stored counts when it asks for a Keep that could store more.
    fn check_storage(&self, tenant: &TenantName, quota: &Quota) -> Result<(), HostError> {
        let internal = |error: std::io::Error| HostError::new(Code::Internal, error.to_string());
        let stored = storage::used(&self.storage.join(tenant.as_str())).map_err(internal)?;
        if stored.div_ceil(1 << 20) > quota.storage_mib {
            let message =
                format!("{tenant} may have {} MiB in volumes here, and has more", quota.storage_mib);
            return Err(HostError::new(Code::QuotaExceeded, message));
        }
        Ok(())
    }

    fn launch_for_a_client(&self, id: KeepId, order: &Order) -> Result<(), HostError> {
        // Capacity that idle Keeps hold is given up first.
        self.end_the_due();
        self.launch(id, order)?;
        let office = self.office.upgrade();
        let status = office.as_ref().and_then(|office| office.settled(&id.process(), LAUNCH_WITHIN));
        if status.as_ref().is_some_and(|status| status.reach.is_some()) {
            let (now, mut ledger) = (self.now(), self.ledger());
            self.launched(&mut ledger, id);
            ledger.begins(id, now);
            return Ok(());
        }
        if let Some(office) = office {
            office.dismiss(&id.process());
        }
        // Why is the operator's affair: it may name files of this machine.
        if let Some(last) = status.as_ref().and_then(|status| status.last_exit.as_ref()) {
            self.failures().insert(order.backend.clone(), last.ending.to_string());
        }
        tracing::warn!(keep = %id, ?status, "a Keep could not be launched for a client");
        Err(HostError::new(
            Code::LaunchFailed,
            "the Keep could not be launched; the host's operator knows why",
        ))
    }

    /// A tenant has done with a Keep.
    pub(crate) fn delete(&self, tenant: &TenantName, id: KeepId) -> Result<(), HostError> {
        self.ledger().own(tenant, id)?;
        self.end(id, "its tenant has ended it");
        self.ring();
        Ok(())
    }

    /// A client of the tenant wants to be connected.
    pub(crate) fn connect(&self, tenant: &TenantName, id: KeepId) -> Result<Reach, HostError> {
        self.ledger().connect(tenant, id)?;
        let status = self.office.upgrade().and_then(|office| office.status_of(&id.process()));
        if let Err(error) = self.write(id) {
            tracing::warn!(%error, "the record of a Keep cannot be written");
        }
        status.and_then(|status| status.reach).ok_or_else(|| {
            self.ledger().not_connected(id);
            HostError::new(Code::NoSuchKeep, "the Keep has ended")
        })
    }

    /// The client could not be connected.
    pub(crate) fn not_connected(&self, id: KeepId) {
        self.ledger().not_connected(id);
    }

    /// The client's connection has ended.
    pub(crate) fn disconnected(&self, id: KeepId) {
        let now = self.now();
        self.ledger().disconnected(id, now);
        self.ring();
    }

    /// The Keeps of a tenant, or all for the operator.
    pub(crate) fn list(&self, tenant: Option<&TenantName>) -> Vec<KeepSummary> {
        self.see_launched();
        self.ledger().list(tenant, self.now())
    }

    /// All Keeps, for the operator; oldest first.
    pub(crate) fn views(&self) -> Vec<KeepView> {
        self.see_launched();
        let (ledger, now) = (self.ledger(), self.now());
        let mut views: Vec<_> = ledger.keeps().map(|(id, keep)| view(id, keep, now)).collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.age_ms));
        views
    }

    /// One of them.
    pub(crate) fn view(&self, id: KeepId) -> Option<KeepView> {
        self.see_launched();
        let (ledger, now) = (self.ledger(), self.now());
        ledger.keep(id).map(|keep| view(id, keep, now))
    }

    /// The places of a back end, if it launches Keeps.
    pub(crate) fn places(&self, backend: &BackendName) -> Option<Places> {
        self.see_launched();
        self.ledger().places(backend)
    }

    /// Why a back end launched no Keep the last time, if none runs since.
    pub(crate) fn failure(&self, backend: &BackendName) -> Option<LaunchFailure> {
        let reason = self.failures().get(backend).cloned()?;
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let until = pauses.get(backend).map_or(Duration::ZERO, |(_, until)| *until);
        Some(LaunchFailure { reason, again_in_ms: ledger::millis(until.saturating_sub(self.now())) })
    }

    pub(crate) fn info(&self) -> HostInfo {
        self.see_launched();
        self.ledger().info()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.ledger().is_draining()
    }

    /// From now on there are no new Keeps. Those of tenants go on, or not.
    pub(crate) fn drain(&self, at_once: bool) {
        self.ledger().drain();
        if at_once {
            let all: Vec<KeepId> = self.ledger().keeps().map(|(id, _)| id).collect();
            all.into_iter().for_each(|id| self.end(id, "the host is drained at once"));
        }
        self.ring();
    }

    /// How many there are, by back end and tenant.
    pub(crate) fn counts(&self) -> (BTreeMap<BackendName, Count>, BTreeMap<TenantName, u64>) {
        self.see_launched();
        let (mut backends, mut tenants) = (BTreeMap::<_, Count>::new(), BTreeMap::new());
        for (_, keep) in self.ledger().keeps() {
            let count = backends.entry(keep.order.backend.clone()).or_default();
            match (&keep.lease, keep.running) {
                (_, false) => count.starting += 1,
                (None, true) => count.warm += 1,
                (Some(_), true) => count.leased += 1,
            }
            if let Some(lease) = &keep.lease {
                *tenants.entry(lease.tenant.clone()).or_default() += 1;
            }
        }
        (backends, tenants)
    }
}

fn view(id: KeepId, keep: &Keep, now: Duration) -> KeepView {
    let (lease, since) = (keep.lease.as_ref(), keep.lease.as_ref().map_or(keep.born, |lease| lease.since));
    KeepView {
        name: id.process(),
        platform: evidence_platform(keep.order.tee.platform),
        backend: keep.order.backend.clone(),
        tenant: lease.map(|lease| lease.tenant.clone()),
        label: lease.map_or_else(String::new, |lease| lease.label.clone()),
        state: keep.state(),
        age_ms: ledger::millis(since.elapsed(now)),
        left_ms: lease.map(|lease| ledger::millis(lease.lifetime.saturating_sub(lease.since.elapsed(now)))),
    }
}

fn offer(about: &About) -> Offer {
    let tee = |platform: &evidence::Platform| {
        Some(Tee { emulated: about.emulated, platform: protocol_platform(*platform)? })
    };
    Offer {
        backend: about.name.clone(),
        kind: match about.kind {
            BackendKind::Process => protocol::BackendKind::Process,
            BackendKind::Vm => protocol::BackendKind::Vm,
            BackendKind::Snp => protocol::BackendKind::Snp,
            BackendKind::Tdx => protocol::BackendKind::Tdx,
            BackendKind::Sgx => protocol::BackendKind::Sgx,
        },
        tees: about.platforms.iter().filter_map(tee).collect(),
        capacity: about.capacity,
        storage: about.storage,
    }
}

fn protocol_platform(platform: evidence::Platform) -> Option<protocol::Platform> {
    protocol::Platform::ALL.into_iter().find(|other| evidence_platform(*other) == platform)
}

fn evidence_platform(platform: protocol::Platform) -> evidence::Platform {
    match platform {
        protocol::Platform::Sgx => evidence::Platform::Sgx,
        protocol::Platform::Tdx => evidence::Platform::Tdx,
        protocol::Platform::Snp => evidence::Platform::Snp,
        protocol::Platform::Tpm => evidence::Platform::Tpm,
    }
}

/// By which it is seen that a program is not the one that was launched.
fn fingerprint(program: &KeepProgram) -> String {
    use std::os::unix::fs::MetadataExt;
    let file = |path: &Path| {
        let data = std::fs::metadata(path).ok()?;
        Some(format!("{}:{}:{}:{}.{}", data.dev(), data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
    };
    let text = format!(
        "{:?} {:?} {:?} {}",
        program.executable,
        program.configuration,
        program.arguments,
        file(&program.executable).unwrap_or_default()
    );
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()))
}
