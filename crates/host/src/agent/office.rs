//! The agent as its socket, its API and its owner share it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{HostError, Sockets, Surroundings};
use crate::Shutdown;
use crate::action::{Action, ActionError, Handed, Inspection, Reply};
use crate::config::Config;
use crate::keeps::{KeepId, Keeps};
use crate::launcher::{About, LaunchError, Life, Site, write_whole};
use crate::names::ProcessName;
use crate::overview::{BackendView, Overview};
use crate::process::{Channel, LogDestination, Process, ProcessSpec, read_regular};
use crate::status::{State, Status};
use crate::supervisor::{Beginning, Supervisor};

/// The directory of descriptions of processes that were launched over the socket, for the next agent.
pub(super) const SPECS: &str = "processes";
/// The largest of them, in bytes.
const MAX_SPEC: usize = 1 << 20;

/// How the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Its processes end, or go on, as the configuration says.
    ByLife,
    /// All processes end.
    EndAll,
    /// Processes that outlive the agent go on.
    Leave,
    /// The same, and another agent takes over.
    HandOver,
}

pub(crate) struct Office {
    around: Arc<Surroundings>,
    specs: PathBuf,
    /// `None` once the agent is ending.
    processes: Mutex<Option<BTreeMap<ProcessName, Entry>>>,
    keeps: Option<Arc<Keeps>>,
    /// To be handed over.
    sockets: Vec<(Handed, TcpListener)>,
    way: Mutex<Way>,
    /// True once the agent is ending: the API takes no more connections.
    closing: watch::Sender<bool>,
    shutdown: Shutdown,
}

struct Entry {
    process: Process,
    supervisor: Supervisor,
}

impl Office {
    pub(super) fn new(
        config: &Config,
        around: Arc<Surroundings>,
        about: &[About],
        sockets: Option<&Sockets>,
        shutdown: &Shutdown,
    ) -> Result<Arc<Self>, HostError> {
        let sockets = sockets.map(Sockets::copies).transpose()?.unwrap_or_default();
        Ok(Arc::new_cyclic(|office| {
            let keeps = config.api.as_ref().map(|api| {
                let (clock, bell) = (Arc::clone(&around.clock), around.bell.clone());
                Arc::new(Keeps::new(config, api.keeps, office.clone(), about, clock, bell))
            });
            Self {
                around,
                specs: config.directory.join(SPECS),
                processes: Mutex::new(Some(BTreeMap::new())),
                keeps,
                sockets,
                way: Mutex::new(Way::ByLife),
                closing: watch::Sender::new(false),
                shutdown: shutdown.clone(),
            }
        }))
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    pub(crate) fn around(&self) -> &Surroundings {
        &self.around
    }

    pub(crate) fn keeps(&self) -> Option<Arc<Keeps>> {
        self.keeps.clone()
    }

    /// Tells when the agent is ending.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Whether processes can still be launched.
    pub(crate) fn is_open(&self) -> bool {
        self.processes().is_some()
    }

    pub(crate) fn act(&self, action: Action) -> Result<Reply, ActionError> {
        match action {
            Action::Status {} => return Ok(Reply::Processes { processes: self.status() }),
            Action::Host {} => return Ok(Reply::Host { host: self.overview() }),
            Action::Inspect { name } => {
                return Ok(Reply::Process { process: Box::new(self.inspect(&name)?) });
            }
            Action::Launch { process } => {
                let mut faults = Vec::new();
                let process = process.resolve(Path::new(""), "process.", &mut faults).ok_or_else(|| {
                    ActionError::InvalidProcess(
                        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                    )
                })?;
                if KeepId::of(&process.name).is_some() {
                    return Err(ActionError::InvalidProcess("a name like a client's Keep".to_owned()));
                }
                self.launch(process)?;
            }
            Action::Stop { name } => {
                self.find(&name, Supervisor::stop)?.wait();
                self.forget_spec(&name);
            }
            Action::Restart { name } => self.find(&name, Supervisor::restart)?,
            Action::Drain { now } => self.keeps.as_ref().ok_or(ActionError::NoApi)?.drain(now),
            Action::Draining {} => {
                let keeps = self.keeps.as_ref().ok_or(ActionError::NoApi)?;
                let left = keeps.list(None).len() as u64;
                return Ok(Reply::Drain { draining: keeps.is_draining(), keeps: left });
            }
            Action::Shutdown {} => {
                self.go(Way::EndAll);
                self.shutdown.request();
            }
            Action::Leave {} => {
                self.must_outlive()?;
                self.go(Way::Leave);
                self.shutdown.request();
            }
            Action::HandOver {} => {
                self.must_outlive()?;
                self.go(Way::HandOver);
                self.close(Way::HandOver);
                let sockets = self.sockets.iter().map(|(kind, _)| *kind).collect();
                // The agent's directory is given up once this is answered.
                self.shutdown.request();
                return Ok(Reply::HandedOver { sockets });
            }
        }
        Ok(Reply::Done {})
    }

    fn must_outlive(&self) -> Result<(), ActionError> {
        match self.around.life {
            Life::BeyondAgent => Ok(()),
            Life::WithAgent => Err(ActionError::LivesWithAgent),
        }
    }

    /// The sockets that go with [`Reply::HandedOver`].
    pub(crate) fn handed(&self) -> &[(Handed, TcpListener)] {
        &self.sockets
    }

    /// How to end; what was said first holds.
    pub(super) fn go(&self, way: Way) -> Way {
        let mut current = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == Way::ByLife {
            *current = match (way, self.around.life) {
                (Way::ByLife, Life::BeyondAgent) => Way::Leave,
                (Way::ByLife, Life::WithAgent) => Way::EndAll,
                (way, _) => way,
            };
        }
        *current
    }

    /// Ends all processes, or lets them go; returns when they are gone, or let go.
    pub(super) fn close(&self, way: Way) {
        self.shutdown_supervisors(way);
        if way != Way::HandOver {
            self.shutdown.request();
        }
    }

    fn shutdown_supervisors(&self, way: Way) {
        self.closing.send_replace(true);
        let Some(processes) = self.processes().take() else { return };
        // All at once, so that the slowest alone determines how long it takes.
        for entry in processes.values() {
            match way {
                Way::EndAll | Way::ByLife => entry.supervisor.dismiss(),
                Way::Leave | Way::HandOver => entry.supervisor.release(),
            }
        }
        for (name, entry) in processes {
            entry.supervisor.join();
            if way == Way::EndAll
                && let (Some(keeps), Some(id)) = (&self.keeps, KeepId::of(&name))
            {
                keeps.ended(id);
            }
        }
        if let Some(keeps) = &self.keeps {
            keeps.ring();
        }
    }

    fn overview(&self) -> Overview {
        let backend = |about: About| {
            let (places, failure) = match &self.keeps {
                Some(keeps) => (keeps.places(&about.name), keeps.failure(&about.name)),
                None => (None, None),
            };
            let About { name, kind, platforms: tees, emulated, .. } = about;
            BackendView { name, kind, tees, emulated, places, failure }
        };
        Overview {
            agent: crate::keeps::AGENT.to_owned(),
            api: self.keeps.is_some(),
            draining: self.keeps.as_ref().is_some_and(|keeps| keeps.is_draining()),
            backends: self.around.backends.about().into_iter().map(backend).collect(),
            keeps: self.keeps.as_ref().map(|keeps| keeps.views()).unwrap_or_default(),
        }
    }

    pub(crate) fn status(&self) -> Vec<Status> {
        self.processes().iter().flat_map(BTreeMap::values).map(|entry| entry.supervisor.status()).collect()
    }

    pub(crate) fn status_of(&self, name: &ProcessName) -> Option<Status> {
        Some(self.processes().as_ref()?.get(name)?.supervisor.status())
    }

    /// Waits until the process runs, or does not.
    pub(crate) fn settled(&self, name: &ProcessName, within: Duration) -> Option<Status> {
        let settling = self.processes().as_ref()?.get(name)?.supervisor.settling();
        Some(settling.wait(within))
    }

    /// Gives storage below `folder` to a process that runs.
    pub(crate) fn attach(&self, name: &ProcessName, folder: &Path) -> Result<(), LaunchError> {
        let known = |processes: &BTreeMap<ProcessName, Entry>| Some(processes.get(name)?.process.clone());
        let process = self.processes().as_ref().and_then(known).ok_or(LaunchError::NothingToAdopt)?;
        let site = Site::new(self.around.sites.join(name.as_str()), self.around.life);
        self.around.backends.launcher(&process)?.attach(folder, &site)?;
        if let Some(entry) = self.processes().as_mut().and_then(|processes| processes.get_mut(name)) {
            entry.process.volumes = Some(folder.to_owned());
        }
        Ok(())
    }

    /// Begins to end a process.
    pub(crate) fn want_stopped(&self, name: &ProcessName) {
        if let Some(entry) = self.processes().as_ref().and_then(|processes| processes.get(name)) {
            entry.supervisor.want_stopped();
        }
    }

    /// Ends a process and forgets it.
    pub(crate) fn dismiss(&self, name: &ProcessName) {
        let entry = self.processes().as_mut().and_then(|processes| processes.remove(name));
        if let Some(entry) = entry {
            entry.supervisor.dismiss();
            entry.supervisor.join();
        }
    }

    fn inspect(&self, name: &ProcessName) -> Result<Inspection, ActionError> {
        // Before the processes are locked: the ledger of the Keeps comes first.
        let keep = self.keeps.as_ref().zip(KeepId::of(name)).and_then(|(keeps, id)| keeps.view(id));
        let guard = self.processes();
        let processes = guard.as_ref().ok_or(ActionError::ShuttingDown)?;
        let entry = processes.get(name).ok_or_else(|| ActionError::NoSuchProcess(name.clone()))?;
        let spec = entry.process.spec();
        let Process { executable, configuration, limits, restart, log, .. } = entry.process.clone();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &configuration);
        Ok(Inspection {
            status: entry.supervisor.status(),
            keep,
            executable,
            configuration_sha256: hex::encode(digest),
            limits,
            restart,
            log: (log == LogDestination::File).then(|| self.around.logs.join(format!("{name}.log"))),
            spec,
        })
    }

    /// Takes care of another process, which is remembered for the next agent if it outlives this one.
    pub(crate) fn launch(&self, process: Process) -> Result<(), ActionError> {
        let spec = (self.around.life == Life::BeyondAgent).then(|| process.clone());
        self.begin(process, Beginning::Launch)?;
        if let Some(process) = spec
            && let Err(error) = self.remember(&process)
        {
            tracing::warn!(process = %process.name, %error, "the next agent will not know of a process");
        }
        Ok(())
    }

    /// Takes care of a process.
    pub(crate) fn begin(&self, process: Process, beginning: Beginning) -> Result<(), ActionError> {
        let mut guard = self.processes();
        let processes = guard.as_mut().ok_or(ActionError::ShuttingDown)?;
        let name = process.name.clone();
        match processes.remove(&name) {
            Some(stopped) if stopped.supervisor.status().state == State::Stopped => {
                stopped.supervisor.dismiss();
                stopped.supervisor.join();
            }
            Some(other) => {
                processes.insert(name.clone(), other);
                return Err(ActionError::NameInUse(name));
            }
            None => {}
        }
        let supervisor = Supervisor::start(process.clone(), beginning, Arc::clone(&self.around))
            .map_err(|error| ActionError::System(error.to_string()))?;
        processes.insert(name, Entry { process, supervisor });
        Ok(())
    }

    /// Takes up what outlived the last agent, and launches what the configuration names.
    pub(super) fn adopt_all(&self, configured: &[Process]) -> Result<(), HostError> {
        for process in configured {
            self.begin(process.clone(), Beginning::AdoptOrLaunch)?;
        }
        for process in self.remembered() {
            if !configured.iter().any(|other| other.name == process.name) {
                self.begin(process, Beginning::AdoptOrLaunch)?;
            }
        }
        if let Some(keeps) = &self.keeps {
            keeps.adopt()?;
        }
        Ok(())
    }

    fn spec_path(&self, name: &ProcessName) -> PathBuf {
        self.specs.join(format!("{name}.json"))
    }

    fn remember(&self, process: &Process) -> std::io::Result<()> {
        let (path, spec) = (self.spec_path(&process.name), process.spec());
        write_whole(&path, &serde_json::to_vec(&spec)?)
    }

    fn forget_spec(&self, name: &ProcessName) {
        let _ = std::fs::remove_file(self.spec_path(name));
    }

    fn remembered(&self) -> Vec<Process> {
        if self.around.life == Life::WithAgent {
            return Vec::new();
        }
        let Ok(entries) = std::fs::read_dir(&self.specs) else { return Vec::new() };
        let read = |path: PathBuf| {
            let spec: ProcessSpec = serde_json::from_slice(&read_regular(&path, MAX_SPEC).ok()?).ok()?;
            let mut faults = Vec::new();
            spec.resolve(Path::new("/"), "", &mut faults)
        };
        entries
            .filter_map(|entry| read(entry.ok()?.path()))
            .filter(|it| it.channel == Channel::None)
            .collect()
    }

    fn find<T>(&self, name: &ProcessName, then: impl FnOnce(&Supervisor) -> T) -> Result<T, ActionError> {
        let guard = self.processes();
        let processes = guard.as_ref().ok_or(ActionError::ShuttingDown)?;
        let entry = processes.get(name).ok_or_else(|| ActionError::NoSuchProcess(name.clone()))?;
        Ok(then(&entry.supervisor))
    }

    fn processes(&self) -> MutexGuard<'_, Option<BTreeMap<ProcessName, Entry>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
