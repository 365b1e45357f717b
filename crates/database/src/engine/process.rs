//! The processes of PostgreSQL: started as its own user with nothing to gain, ended all at once.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use tokio::sync::watch;

use super::{EngineError, Settings, files::User, segment::Segment};

/// Of util-linux, which every Debian has.
const SETPRIV: &str = "/usr/bin/setpriv";
/// Bytes of what a starting server says that are kept.
const KEPT: usize = 4096;
/// After its end, for its last words.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Of a process that was killed, unless the kernel holds it.
const LONGEST_END: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// How it ended is nobody's concern.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended;

/// The first process, which starts all others.
#[derive(Clone)]
pub(super) struct Postmaster(Arc<Shared>);

struct Shared {
    pid: Pid,
    said: Mutex<String>,
    /// Disconnected when nothing more can be said.
    silent: Mutex<mpsc::Receiver<()>>,
    exited: watch::Receiver<Option<Ended>>,
    /// Its children, once they were killed.
    killed: Mutex<Vec<OwnedFd>>,
    /// The folder of its data.
    data: PathBuf,
    /// What it would leave in the kernel.
    segment: Mutex<Option<Segment>>,
}

/// A program of PostgreSQL, as its user, without our environment, privileges and descriptors; it dies when the thread
/// that starts it does.
pub(super) fn command(settings: &Settings, program: &str, user: User) -> Command {
    let mut command = Command::new(SETPRIV);
    command.args(["--no-new-privs", "--pdeathsig", "QUIT"]);
    if let User::Own { uid, gid } = user {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
    }
    command.arg("--").arg(settings.binaries.join(program));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").current_dir("/");
    command
}

impl Postmaster {
    /// Starts it, from a thread that lives as long as it does.
    pub(super) fn spawn(settings: &Settings) -> Result<Self, EngineError> {
        let mut command = command(settings, "postgres", User::choose()?);
        command.arg("-D").arg(&settings.data);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let (started, starting) = mpsc::sync_channel(1);
        let (ending, exited) = watch::channel(None);
        let data = settings.data.clone();
        thread::spawn(move || {
            let spawned = command.spawn();
            let child = match spawned {
                Ok(child) => child,
                Err(source) => {
                    let _ = started.send(Err(source));
                    return;
                }
            };
            let Some(pid) = Pid::from_raw(child.id().cast_signed()) else { return };
            let (speaks, silent) = mpsc::channel();
            let (said, silent, killed) = (Mutex::default(), Mutex::new(silent), Mutex::default());
            let segment = Mutex::default();
            let shared = Arc::new(Shared { pid, said, silent, exited, killed, data, segment });
            let _ = started.send(Ok(Self(Arc::clone(&shared))));
            wait(child, &shared, speaks, &ending);
        });
        let program = PathBuf::from(SETPRIV);
        match starting.recv() {
            Ok(Ok(postmaster)) => Ok(postmaster),
            Ok(Err(source)) => Err(EngineError::Program { program, source }),
            Err(_) => Err(EngineError::Program { program, source: std::io::ErrorKind::Other.into() }),
        }
    }

    /// What it said so far, the first of it. For when it failed: it waits for the last words, half a second at most.
    pub(super) fn said(&self) -> String {
        let _ = self.0.silent.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LAST_WORDS);
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner).trim().to_owned()
    }

    pub(super) fn exited(&self) -> watch::Receiver<Option<Ended>> {
        self.0.exited.clone()
    }

    /// It is ready, and has noted what it would leave in the kernel; its folder may go before it does.
    pub(super) fn note_segment(&self) {
        let _ = self.0.segment();
    }

    fn runs(&self) -> bool {
        self.0.exited.borrow().is_none()
    }

    /// Has it read its configuration again.
    pub(super) fn reload(&self) {
        if self.runs() {
            let _ = kill_process(self.0.pid, Signal::HUP);
        }
    }

    /// It is stopped first, so that it starts no other while its children are counted. A signal that it could act on
    /// would let backends end their waiting as they like.
    pub(super) fn kill(&self) {
        if !self.runs() {
            return;
        }
        let _ = kill_process(self.0.pid, Signal::STOP);
        self.note_segment();
        let children = children(self.0.pid);
        let handles = children.iter().filter_map(|child| pidfd_open(*child, PidfdFlags::empty()).ok());
        self.0.killed.lock().unwrap_or_else(PoisonError::into_inner).extend(handles);
        for child in children {
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = kill_process(self.0.pid, Signal::KILL);
    }
}

impl Shared {
    fn segment(&self) -> Option<Segment> {
        let mut known = self.segment.lock().unwrap_or_else(PoisonError::into_inner);
        *known = known.or_else(|| Segment::of(&self.data));
        *known
    }
}

/// Returns when a process that was killed is gone. Until then it holds memory, and PostgreSQL would not start on the same
/// folder.
fn gone(killed: &OwnedFd) {
    let _ = retry_on_intr(|| poll(&mut [PollFd::new(killed, PollFlags::IN)], Some(&LONGEST_END)));
}

/// Tells when it has ended, with the children that were killed before it; which does not wait for others that hold its
/// standard error.
fn wait(
    mut child: Child,
    shared: &Arc<Shared>,
    speaks: mpsc::Sender<()>,
    ending: &watch::Sender<Option<Ended>>,
) {
    if let Some(errors) = child.stderr.take() {
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            listen(BufReader::new(errors), &shared);
            drop(speaks);
        });
    }
    let _ = child.wait();
    std::mem::take(&mut *shared.killed.lock().unwrap_or_else(PoisonError::into_inner)).iter().for_each(gone);
    let segment = shared.segment();
    segment.inspect(|segment| segment.remove());
    let _ = ending.send(Some(Ended));
    segment.inspect(|segment| segment.remove_soon());
}

/// Keeps the first of what it says and throws away the rest.
fn listen(mut lines: impl BufRead, shared: &Shared) {
    let mut line = Vec::new();
    while matches!(lines.by_ref().take(KEPT as u64).read_until(b'\n', &mut line), Ok(1..)) {
        let mut said = shared.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() + line.len() <= KEPT {
            said.push_str(&String::from_utf8_lossy(&line));
        }
        line.clear();
    }
}

/// Processes whose parent it is.
fn children(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent.as_raw_nonzero().get()))
        .filter_map(Pid::from_raw)
        .collect()
}

/// The fourth field of `/proc/PID/stat` (proc_pid_stat(5)), after a name in parentheses that may hold anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_whitespace().nth(1)?.parse().ok()
}
