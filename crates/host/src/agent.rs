//! The agent: its processes by name, the actions on them, and those who watch.

mod office;
mod take_over;

use std::fs::DirBuilder;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use emulator::socket::{PrivateListener, SocketError};

pub(crate) use self::office::Office;
use self::office::Way;
use crate::Shutdown;
use crate::action::{Action, ActionError, Handed, Reply};
use crate::api::{self, ApiError};
use crate::backends::{Backends, USERS};
use crate::backoff::BackoffPolicy;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::keeps::RECORDS;
use crate::launcher::{Launcher, Life};
use crate::logs::LogLine;
use crate::process::Process;
use crate::status::Status;
use crate::surface::{self, AskError};

/// How many notices may wait for a slow watcher; what comes then is lost to that watcher.
const WATCH_BUFFER: usize = 4096;

/// Something that happened, for those who watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A process printed a line.
    Output(LogLine),
    /// A process does something else now.
    State(Box<Status>),
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
    /// The API cannot be served.
    #[error("the API cannot be served")]
    Api(#[from] ApiError),
    /// The agent that is to be replaced does not give way.
    #[error("the running agent does not hand over")]
    TakeOver(#[from] AskError),
    /// It refuses to.
    #[error("the running agent refuses to hand over: {reason} [{code}]")]
    NotHandedOver {
        /// Its code.
        code: String,
        /// Its reason.
        reason: String,
    },
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
    /// Rung when a process does something else.
    pub(crate) bell: SyncSender<()>,
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

/// How an agent comes to its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is the only one; processes that outlived the last one are adopted.
    Alone,
    /// If another one runs there, it hands over its sockets and processes, and ends.
    TakeOver,
}

/// Runs the agent until `shutdown` is requested, by its holder or over the socket. Processes that live with their
/// agent are ended then; those that do not go on, unless the socket said otherwise.
///
/// # Errors
/// When it cannot be started.
pub fn run(config: Config, arrival: Arrival, shutdown: &Shutdown) -> Result<(), HostError> {
    let agent = Agent::arrive(config, arrival, shutdown)?;
    shutdown.wait()?;
    drop(agent);
    Ok(())
}

/// A running agent. Dropping it ends it as [`run`] does.
pub struct Agent {
    office: Arc<Office>,
    /// The thread gives the socket back, by which nobody else has the directory.
    listening: Option<JoinHandle<PrivateListener>>,
    working: Option<JoinHandle<()>>,
    api: Option<api::Server>,
}

impl Agent {
    /// Starts an agent with the back ends of `config`.
    ///
    /// # Errors
    /// When its directory or its sockets cannot be had. That a process cannot be launched is no error: it is
    /// tried again.
    pub fn start(config: Config, shutdown: &Shutdown) -> Result<Self, HostError> {
        Self::arrive(config, Arrival::Alone, shutdown)
    }

    /// Starts an agent, perhaps in the place of another.
    ///
    /// # Errors
    /// As [`Agent::start`], and when another agent does not give way.
    pub fn arrive(config: Config, arrival: Arrival, shutdown: &Shutdown) -> Result<Self, HostError> {
        let backends = Backends::of(&config);
        Self::begin(config, arrival, shutdown, backends, Arc::new(SystemClock))
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
        Self::begin(config, Arrival::Alone, shutdown, Backends::new(launchers), clock)
    }

    fn begin(
        config: Config,
        arrival: Arrival,
        shutdown: &Shutdown,
        backends: Backends,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HostError> {
        let directory = config.directory.clone();
        let [logs, sites] = ["logs", "sites"].map(|name| directory.join(name));
        for path in
            [&logs, &sites, &directory.join(USERS), &directory.join(RECORDS), &directory.join(office::SPECS)]
        {
            make_private(path)?;
        }
        let (listener, handed) = match arrival {
            Arrival::Alone => (PrivateListener::open(&directory, surface::SOCKET_NAME)?, Vec::new()),
            Arrival::TakeOver => take_over::take_over(&directory)?,
        };
        let about = backends.about();
        let Config { backoff, log_limit, life, .. } = config;
        let (watchers, (bell, rung)) = (Watchers::default(), mpsc::sync_channel(1));
        let around =
            Arc::new(Surroundings { backends, sites, life, clock, backoff, logs, log_limit, watchers, bell });
        let sockets = Sockets::open(&config, handed)?;
        let office = Office::new(&config, around, &about, sockets.as_ref(), shutdown)?;
        let mut agent = Self { office: Arc::clone(&office), listening: None, working: None, api: None };
        office.adopt_all(&config.processes)?;
        if let Some(keeps) = office.keeps() {
            let work = move || keeps.work(&rung);
            agent.working = Some(std::thread::Builder::new().name("host-keeps".into()).spawn(work)?);
        }
        if let (Some(api), Some(sockets)) = (&config.api, sockets) {
            agent.api = Some(api::Server::start(api, &directory, sockets, Arc::clone(&office))?);
        }
        let serve = move || {
            surface::serve(&listener, &office);
            listener
        };
        agent.listening = Some(std::thread::Builder::new().name("host-socket".into()).spawn(serve)?);
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

    /// Where the API listens.
    pub fn api_address(&self) -> Option<std::net::SocketAddr> {
        self.api.as_ref().map(api::Server::address)
    }

    /// Where the metrics are.
    pub fn metrics_address(&self) -> Option<std::net::SocketAddr> {
        self.api.as_ref().and_then(api::Server::metrics_address)
    }

    /// What happens from now on. A watcher that does not keep up loses notices, and holds up nobody.
    pub fn watch(&self) -> Watch {
        self.office.around().watchers.add()
    }

    /// Ends all processes and the agent; returns when they are gone.
    pub fn stop(self) {
        self.office.go(Way::EndAll);
    }

    /// Ends the agent; processes that outlive it go on.
    pub fn leave(self) {
        self.office.go(Way::Leave);
    }

    fn end(&mut self) {
        let way = self.office.go(Way::ByLife);
        self.office.close(way);
        if way == Way::HandOver {
            // The next agent waits for the directory; this one has connections that may last.
            self.leave_directory();
        }
        if let Some(api) = self.api.take() {
            api.stop(way == Way::HandOver);
        }
        if self.working.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread of the agent panicked");
        }
        // Last: who sees the socket gone finds everything else gone, too.
        self.leave_directory();
    }

    fn leave_directory(&mut self) {
        if self.listening.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread of the agent panicked");
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

/// The sockets of the API.
pub(crate) struct Sockets {
    pub(crate) api: TcpListener,
    pub(crate) metrics: Option<TcpListener>,
}

impl Sockets {
    /// Those that were handed over, if they are where they should be; others are opened.
    fn open(config: &Config, handed: Vec<(Handed, TcpListener)>) -> io::Result<Option<Self>> {
        let Some(api) = &config.api else { return Ok(None) };
        let mut handed: Vec<_> = handed.into_iter().collect();
        let mut take = |wanted: Handed, address: std::net::SocketAddr| -> io::Result<TcpListener> {
            let fits = |(kind, listener): &(Handed, TcpListener)| {
                let same = |at: std::net::SocketAddr| {
                    at.ip() == address.ip() && (address.port() == 0 || at.port() == address.port())
                };
                *kind == wanted && listener.local_addr().is_ok_and(same)
            };
            match handed.iter().position(fits) {
                Some(index) => Ok(handed.swap_remove(index).1),
                None => TcpListener::bind(address),
            }
        };
        let metrics = api.metrics.map(|address| take(Handed::Metrics, address)).transpose()?;
        let api = take(Handed::Api, api.listen)?;
        for listener in std::iter::once(&api).chain(&metrics) {
            listener.set_nonblocking(true)?;
        }
        Ok(Some(Self { api, metrics }))
    }

    fn copies(&self) -> io::Result<Vec<(Handed, TcpListener)>> {
        let mut copies = vec![(Handed::Api, self.api.try_clone()?)];
        if let Some(metrics) = &self.metrics {
            copies.push((Handed::Metrics, metrics.try_clone()?));
        }
        Ok(copies)
    }
}

fn make_private(directory: &Path) -> Result<(), HostError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| HostError::Directory { path: directory.to_owned(), source })
}
