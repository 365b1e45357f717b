//! The agent: its processes by name, the actions on them, and those who watch.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use emulator::socket::{PrivateListener, SocketError};

use crate::Shutdown;
use crate::action::{Action, ActionError, Reply};
use crate::backends::Backends;
use crate::backoff::BackoffPolicy;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::launcher::{Launcher, Life};
use crate::logs::LogLine;
use crate::names::ProcessName;
use crate::process::Process;
use crate::status::{State, Status};
use crate::supervisor::Supervisor;
use crate::surface;

/// How many notices may wait for a slow watcher; what comes then is lost to that watcher.
const WATCH_BUFFER: usize = 4096;

/// Something that happened, for those who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A process printed a line.
    Output(LogLine),
    /// A process does something else now.
    State(Status),
}

/// Receives [`Notice`]s until it is dropped or the agent ends.
pub type Watch = Receiver<Notice>;

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The socket cannot be had: perhaps another agent runs in the directory.
    #[error("the host agent cannot listen")]
    Socket(#[from] SocketError),
    /// A directory cannot be made.
    #[error("the directory {path} cannot be made")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system refused something else.
    #[error("the host agent cannot be started")]
    System(#[from] io::Error),
    /// One of the first processes cannot be taken care of.
    #[error("a process of the configuration cannot be started")]
    Process(#[from] ActionError),
}

/// What all supervisors share.
pub(crate) struct Surroundings {
    pub(crate) backends: Backends,
    /// Where the sites of processes are.
    pub(crate) sites: PathBuf,
    pub(crate) life: Life,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) backoff: BackoffPolicy,
    pub(crate) logs: PathBuf,
    pub(crate) log_limit: u64,
    pub(crate) watchers: Watchers,
}

#[derive(Default)]
pub(crate) struct Watchers(Mutex<Vec<SyncSender<Notice>>>);

impl Watchers {
    pub(crate) fn tell(&self, notice: &Notice) {
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| {
            !matches!(watcher.try_send(notice.clone()), Err(TrySendError::Disconnected(_)))
        });
    }

    fn add(&self) -> Watch {
        let (sender, receiver) = mpsc::sync_channel(WATCH_BUFFER);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }
}

/// Runs the agent until `shutdown` is requested, by its holder or over the socket; nothing is left behind.
///
/// # Errors
/// When it cannot be started.
pub fn run(config: Config, shutdown: &Shutdown) -> Result<(), HostError> {
    let agent = Agent::start(config, shutdown)?;
    shutdown.wait()?;
    agent.stop();
    Ok(())
}

/// A running agent. Dropping it stops it.
pub struct Agent {
    office: Arc<Office>,
    listening: Option<JoinHandle<()>>,
}

/// The agent as its socket and its owner share it.
pub(crate) struct Office {
    around: Arc<Surroundings>,
    /// `None` once the agent is shutting down.
    processes: Mutex<Option<BTreeMap<ProcessName, Supervisor>>>,
    shutdown: Shutdown,
}

impl Agent {
    /// Starts an agent with the back ends of `config`.
    ///
    /// # Errors
    /// When its directory or its socket cannot be had. That a process cannot be launched is no error: it is
    /// tried again.
    pub fn start(config: Config, shutdown: &Shutdown) -> Result<Self, HostError> {
        let backends = Backends::of(&config);
        Self::begin(config, shutdown, backends, Arc::new(SystemClock))
    }

    /// Starts an agent with other back ends and another clock.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_with(
        config: Config,
        shutdown: &Shutdown,
        launchers: Vec<Arc<dyn Launcher>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HostError> {
        Self::begin(config, shutdown, Backends::new(launchers), clock)
    }

    fn begin(
        config: Config,
        shutdown: &Shutdown,
        backends: Backends,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HostError> {
        let (logs, sites) = (config.directory.join("logs"), config.directory.join("sites"));
        make_private(&logs)?;
        make_private(&sites)?;
        let listener = PrivateListener::open(&config.directory, surface::SOCKET_NAME)?;
        let Config { backoff, log_limit, processes, life, .. } = config;
        let watchers = Watchers::default();
        let around = Surroundings { backends, sites, life, clock, backoff, logs, log_limit, watchers };
        let office = Arc::new(Office {
            around: Arc::new(around),
            processes: Mutex::new(Some(BTreeMap::new())),
            shutdown: shutdown.clone(),
        });
        let mut agent = Self { office: Arc::clone(&office), listening: None };
        let serve = move || surface::serve(&listener, &office);
        agent.listening = Some(std::thread::Builder::new().name("host-socket".into()).spawn(serve)?);
        for process in processes {
            agent.launch(process)?;
        }
        Ok(agent)
    }

    /// Takes care of another process.
    ///
    /// # Errors
    /// When its name is in use, or the agent is shutting down.
    pub fn launch(&self, process: Process) -> Result<(), ActionError> {
        self.office.launch(process)
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// When it is not done.
    pub fn act(&self, action: Action) -> Result<Reply, ActionError> {
        self.office.act(action)
    }

    /// What each process does, by name.
    pub fn status(&self) -> Vec<Status> {
        self.office.status()
    }

    /// What happens from now on. A watcher that does not keep up loses notices, and holds up nobody.
    pub fn watch(&self) -> Watch {
        self.office.around.watchers.add()
    }

    /// Ends all processes and the agent; returns when they are gone.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.office.shutdown.request();
        let Some(processes) = self.office.processes().take() else { return };
        // All at once, so that the slowest alone determines how long it takes.
        processes.values().for_each(Supervisor::dismiss);
        processes.into_values().for_each(Supervisor::join);
        if let Some(listening) = self.listening.take()
            && listening.join().is_err()
        {
            tracing::error!("the thread of the host socket panicked");
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

impl Office {
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    pub(crate) fn act(&self, action: Action) -> Result<Reply, ActionError> {
        match action {
            Action::Status {} => return Ok(Reply::Processes { processes: self.status() }),
            Action::Launch { process } => {
                let mut faults = Vec::new();
                let process = process.resolve(Path::new(""), "process.", &mut faults).ok_or_else(|| {
                    ActionError::InvalidProcess(
                        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                    )
                })?;
                self.launch(process)?;
            }
            Action::Stop { name } => self.find(name, Supervisor::stop)?.wait(),
            Action::Restart { name } => self.find(name, Supervisor::restart)?,
            Action::Shutdown {} => self.shutdown.request(),
        }
        Ok(Reply::Done {})
    }

    fn status(&self) -> Vec<Status> {
        self.processes().iter().flat_map(BTreeMap::values).map(Supervisor::status).collect()
    }

    fn launch(&self, process: Process) -> Result<(), ActionError> {
        let mut guard = self.processes();
        let processes = guard.as_mut().ok_or(ActionError::ShuttingDown)?;
        let name = process.name.clone();
        match processes.remove(&name) {
            Some(stopped) if stopped.status().state == State::Stopped => {
                stopped.dismiss();
                stopped.join();
            }
            Some(other) => {
                processes.insert(name.clone(), other);
                return Err(ActionError::NameInUse(name));
            }
            None => {}
        }
        let supervisor = Supervisor::start(process, Arc::clone(&self.around))
            .map_err(|error| ActionError::System(error.to_string()))?;
        processes.insert(name, supervisor);
        Ok(())
    }

    fn find<T>(&self, name: ProcessName, then: impl FnOnce(&Supervisor) -> T) -> Result<T, ActionError> {
        let guard = self.processes();
        let processes = guard.as_ref().ok_or(ActionError::ShuttingDown)?;
        processes.get(&name).map(then).ok_or(ActionError::NoSuchProcess(name))
    }

    fn processes(&self) -> MutexGuard<'_, Option<BTreeMap<ProcessName, Supervisor>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_private(directory: &Path) -> Result<(), HostError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| HostError::Directory { path: directory.to_owned(), source })
}
