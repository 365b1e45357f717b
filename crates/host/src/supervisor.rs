//! One process and the thread that keeps it running. The thread does everything in order (launch, listen,
//! wait, launch again); others only change what is wanted of it and wake it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use emulator::control::Stream;

use crate::agent::{Notice, Surroundings};
use crate::backoff::Backoff;
use crate::launcher::{Event, LaunchError, Running, Site, Stopper};
use crate::logs::{Lines, LogFile, LogLine};
use crate::process::{LogDestination, Process, Restart};
use crate::status::{Ending, LastExit, State, Status};

/// A process that is taken care of.
pub(crate) struct Supervisor {
    desk: Arc<Desk>,
    thread: JoinHandle<()>,
}

/// Where the thread and its callers meet.
struct Desk {
    papers: Mutex<Papers>,
    changed: Condvar,
}

struct Papers {
    status: Status,
    wanted: Wanted,
    /// Launch again at once, whatever else holds.
    hurry: bool,
    /// There while the process runs.
    stopper: Option<Box<dyn Stopper>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Running,
    Stopped,
    /// Stopped, and the thread ended.
    Gone,
    /// The thread ended; the process goes on, if it outlives its agent.
    Released,
}

impl Wanted {
    /// Nothing else is wanted ever after.
    fn is_final(self) -> bool {
        matches!(self, Self::Gone | Self::Released)
    }
}

/// How a process comes to be taken care of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// It is launched.
    Launch,
    /// It may run since before this agent; otherwise it is launched.
    AdoptOrLaunch,
    /// It runs since before this agent; otherwise it is over.
    Adopt,
}

impl Supervisor {
    /// Starts to take care of `process`.
    pub(crate) fn start(
        process: Process,
        beginning: Beginning,
        around: Arc<Surroundings>,
    ) -> std::io::Result<Self> {
        let status = Status {
            name: process.name.clone(),
            platform: process.platform,
            backend: None,
            state: State::Starting,
            restarts: 0,
            measurement: None,
            walls: Vec::new(),
            reach: None,
            last_exit: None,
        };
        let papers = Papers { status, wanted: Wanted::Running, hurry: false, stopper: None };
        let desk = Arc::new(Desk { papers: Mutex::new(papers), changed: Condvar::new() });
        let backoff = Backoff::new(around.backoff);
        let log = open_log(&process, &around);
        let worker = Worker { log, desk: Arc::clone(&desk), process, beginning, around };
        let name = format!("keep-{}", worker.process.name);
        let thread = std::thread::Builder::new().name(name).spawn(move || worker.work(backoff))?;
        Ok(Self { desk, thread })
    }

    pub(crate) fn status(&self) -> Status {
        self.desk.papers().status.clone()
    }

    /// Ends the process and leaves it ended; returns when it is gone.
    pub(crate) fn stop(&self) -> StopWait {
        self.desk.want(Wanted::Stopped);
        StopWait(Arc::clone(&self.desk))
    }

    /// Begins to end the process, and leaves it ended.
    pub(crate) fn want_stopped(&self) {
        self.desk.want(Wanted::Stopped);
    }

    /// Waits until it is seen whether the process runs.
    pub(crate) fn settling(&self) -> Settling {
        Settling(Arc::clone(&self.desk))
    }

    /// Launches the process anew, at once.
    pub(crate) fn restart(&self) {
        let mut papers = self.desk.papers();
        if !papers.wanted.is_final() {
            papers.wanted = Wanted::Running;
            papers.hurry = true;
            if let Some(stopper) = &papers.stopper {
                stopper.stop();
            }
        }
        self.desk.changed.notify_all();
    }

    /// Begins to end the process for good; [`Supervisor::join`] waits for it.
    pub(crate) fn dismiss(&self) {
        self.desk.want(Wanted::Gone);
    }

    /// Lets the process go on without this agent; [`Supervisor::join`] waits until it is let go.
    pub(crate) fn release(&self) {
        let mut papers = self.desk.papers();
        if !papers.wanted.is_final() {
            papers.wanted = Wanted::Released;
        }
        if let Some(stopper) = &papers.stopper {
            stopper.release();
        }
        self.desk.changed.notify_all();
    }

    /// Waits until the thread of a dismissed or released supervisor has ended.
    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("a supervising thread panicked");
        }
    }
}

/// Waits for a process to be stopped, without holding its supervisor.
pub(crate) struct StopWait(Arc<Desk>);

impl StopWait {
    pub(crate) fn wait(self) {
        let mut papers = self.0.papers();
        // Another caller may want it running again meanwhile: then there is nothing to wait for.
        while papers.wanted == Wanted::Stopped && papers.status.state != State::Stopped {
            papers = self.0.changed.wait(papers).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Waits until a process with a channel can be reached or does not run, without holding its supervisor.
pub(crate) struct Settling(Arc<Desk>);

impl Settling {
    pub(crate) fn wait(self, within: Duration) -> Status {
        let papers = self.0.papers();
        let starting = |papers: &mut Papers| match papers.status.state {
            State::Starting => true,
            State::Running { .. } => papers.status.reach.is_none(),
            _ => false,
        };
        let waited = self.0.changed.wait_timeout_while(papers, within, starting);
        waited.unwrap_or_else(PoisonError::into_inner).0.status.clone()
    }
}

impl Desk {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        // Every change to the papers is complete in itself, so a panic elsewhere leaves them sound.
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want(&self, wanted: Wanted) {
        let mut papers = self.papers();
        if !papers.wanted.is_final() {
            papers.wanted = wanted;
        }
        papers.hurry = false;
        if let Some(stopper) = &papers.stopper {
            stopper.stop();
        }
        self.changed.notify_all();
    }
}

/// A process that runs, what ends it, and how it came to be: launched, or adopted.
type Begun = (Box<dyn Running>, Box<dyn Stopper>, &'static str);

/// What the thread has.
struct Worker {
    desk: Arc<Desk>,
    process: Process,
    beginning: Beginning,
    around: Arc<Surroundings>,
    log: Option<LogFile>,
}

impl Worker {
    fn work(mut self, mut backoff: Backoff) {
        let mut launches = 0;
        while self.is_to_run() {
            self.update(|status| {
                status.state = State::Starting;
                status.restarts = launches;
            });
            launches += 1;
            let began = self.around.clock.monotonic();
            let ending = self.run();
            if self.desk.papers().wanted == Wanted::Released {
                self.note("goes on without this agent");
                return;
            }
            let ran_for = self.around.clock.monotonic().saturating_sub(began);
            self.note(&format!("ended: {ending}"));
            tracing::info!(process = %self.process.name, %ending, "ended");
            let at_ms = self.around.clock.unix_ms();
            self.update(|status| status.last_exit = Some(LastExit { ending: ending.clone(), at_ms }));
            if self.is_to_run_again(&ending) {
                self.back_off(backoff.after(ran_for), &ending);
            }
        }
        self.leave_nothing();
        self.update(|status| status.state = State::Stopped);
    }

    /// Removes what is left of a process that is gone.
    fn leave_nothing(&self) {
        let site = Site::new(self.around.sites.join(self.process.name.as_str()), self.around.life);
        if let Err(error) = site.clear() {
            tracing::warn!(process = %self.process.name, %error, "a site stays behind");
        }
    }

    /// Waits until the process is to run; false when it never is again.
    fn is_to_run(&mut self) -> bool {
        if self.desk.papers().wanted == Wanted::Stopped {
            self.update(|status| status.state = State::Stopped);
        }
        let mut papers = self.desk.papers();
        while papers.wanted == Wanted::Stopped {
            papers = self.desk.changed.wait(papers).unwrap_or_else(PoisonError::into_inner);
        }
        papers.wanted == Wanted::Running
    }

    /// One life of the process, or what is left of it.
    fn run(&mut self) -> Ending {
        match self.begin() {
            Ok((running, stopper, how)) => {
                self.announce(&*running, stopper, how);
                let ending = self.follow(running);
                self.desk.papers().stopper = None;
                ending
            }
            Err(error) => Ending::NotLaunched { reason: chain(&error) },
        }
    }

    fn begin(&mut self) -> Result<Begun, LaunchError> {
        let around = Arc::clone(&self.around);
        let site = Site::new(around.sites.join(self.process.name.as_str()), around.life);
        let launcher = around.backends.launcher(&self.process)?;
        let beginning = std::mem::replace(&mut self.beginning, Beginning::Launch);
        self.desk.papers().status.backend = Some(launcher.about().name);
        if beginning != Beginning::Launch {
            match launcher.adopt(&self.process, &site) {
                Ok(running) => {
                    let stopper = running.stopper()?;
                    return Ok((running, stopper, "adopted"));
                }
                Err(LaunchError::NothingToAdopt) if beginning == Beginning::AdoptOrLaunch => {}
                Err(error) => return Err(error),
            }
        }
        site.prepare()?;
        let running = launcher.launch(&self.process, &site)?;
        let stopper = running.stopper()?;
        Ok((running, stopper, "launched"))
    }

    fn announce(&mut self, running: &dyn Running, stopper: Box<dyn Stopper>, how: &str) {
        let (pid, measurement, walls) = (running.pid(), running.measurement(), running.walls());
        self.note(&format!("{how} as process {pid}, measurement {measurement}"));
        tracing::info!(process = %self.process.name, pid, %measurement, walls = walls.join(" "), "{how}");
        let since_ms = self.around.clock.unix_ms();
        {
            let mut papers = self.desk.papers();
            match papers.wanted {
                Wanted::Running => {}
                Wanted::Released => stopper.release(),
                Wanted::Stopped | Wanted::Gone => stopper.stop(),
            }
            papers.stopper = Some(stopper);
            papers.hurry = false;
        }
        let reach = running.reach();
        self.update(|status| {
            status.state = State::Running { pid, since_ms };
            status.measurement = Some(measurement);
            status.walls = walls;
            status.reach = reach;
        });
    }

    /// Gathers what the process prints until it ends.
    fn follow(&mut self, mut running: Box<dyn Running>) -> Ending {
        let mut out = Lines::default();
        let mut err = Lines::default();
        let ending = loop {
            match running.next_event() {
                Ok(Event::Output { stream, bytes }) => {
                    let lines = if stream == Stream::Stdout { &mut out } else { &mut err };
                    for line in lines.push(&bytes) {
                        self.line(stream, line);
                    }
                }
                Ok(Event::Reachable) => {
                    let reach = running.reach();
                    self.update(|status| status.reach = reach);
                }
                Ok(Event::Exited(exit)) => break Ending::Exited(exit),
                Err(error) => break Ending::Lost { reason: chain(&error) },
            }
        };
        for (stream, mut lines) in [(Stream::Stdout, out), (Stream::Stderr, err)] {
            if let Some(line) = lines.finish() {
                self.line(stream, line);
            }
        }
        ending
    }

    /// Whether the rules, or a person, want the process again; if not, it is stopped from here on.
    fn is_to_run_again(&self, ending: &Ending) -> bool {
        let again = match self.process.restart {
            Restart::Always => true,
            Restart::OnFailure => !ending.is_success(),
            Restart::Never => false,
        };
        let mut papers = self.desk.papers();
        if !again && !papers.hurry && papers.wanted == Wanted::Running {
            papers.wanted = Wanted::Stopped;
        }
        papers.wanted == Wanted::Running
    }

    /// Waits, unless something else is wanted meanwhile.
    fn back_off(&mut self, delay: Duration, ending: &Ending) {
        if !std::mem::take(&mut self.desk.papers().hurry) {
            let until = self.around.clock.monotonic() + delay;
            let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            let until_ms = self.around.clock.unix_ms().saturating_add(delay_ms);
            self.update(|status| status.state = State::BackOff { until_ms, reason: ending.to_string() });
            let mut papers = self.desk.papers();
            while papers.wanted == Wanted::Running && !std::mem::take(&mut papers.hurry) {
                let left = until.saturating_sub(self.around.clock.monotonic());
                if left.is_zero() {
                    break;
                }
                papers =
                    self.desk.changed.wait_timeout(papers, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    fn update(&self, change: impl FnOnce(&mut Status)) {
        let mut papers = self.desk.papers();
        change(&mut papers.status);
        let status = papers.status.clone();
        self.desk.changed.notify_all();
        // Still holding the papers: watchers hear of states in the order in which they were.
        self.around.watchers.tell(&Notice::State(Box::new(status)));
        drop(papers);
        // When it rings already, that will do.
        let _ = self.around.bell.try_send(());
    }

    fn line(&mut self, stream: Stream, text: String) {
        self.write(&text);
        let line = LogLine { process: self.process.name.clone(), stream, text };
        self.around.watchers.tell(&Notice::Output(line));
    }

    /// A line of our own in the log of the process.
    fn note(&mut self, text: &str) {
        self.write(&format!("bailey host: {text}"));
    }

    /// A log that cannot be written (a full disk) is given up; the process is worth more.
    fn write(&mut self, line: &str) {
        if let Some(log) = &mut self.log
            && let Err(error) = log.write(line)
        {
            tracing::warn!(process = %self.process.name, %error, "the log cannot be written, and is given up");
            self.log = None;
        }
    }
}

fn open_log(process: &Process, around: &Surroundings) -> Option<LogFile> {
    if process.log == LogDestination::Discard {
        return None;
    }
    match LogFile::open(&around.logs, &process.name, around.log_limit) {
        Ok(log) => Some(log),
        Err(error) => {
            tracing::warn!(process = %process.name, %error, "the log cannot be opened");
            None
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &LaunchError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
