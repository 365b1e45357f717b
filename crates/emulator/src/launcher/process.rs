//! A launched process and its end. While a value of this type exists its process has not been reaped, so
//! that its id (and that of its process group) cannot have become another's.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use attester::emulated::CHANNEL_DESCRIPTOR;
use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::cgroup::Cgroups;
use super::image::Image;
use crate::control::{Exit, Isolation, LISTENER_DESCRIPTOR, Launch, Refusal, RefusalCode};
use crate::jail::{self, Profile, Report};

/// The longest report of a jail that is read, in bytes.
const MAX_REPORT: u64 = 64 * 1024;

/// A process that runs, or has ended and waits to be reaped.
pub(super) struct Process {
    child: Child,
    pid: Pid,
    descriptor: OwnedFd,
    walls: Vec<String>,
    /// Dropped after the process: the thread that the kernel takes for its parent, and what it was limited by.
    _parent: Option<mpsc::Sender<()>>,
    _cgroups: Option<Cgroups>,
}

/// The platform's ends of what a process was given.
pub(super) struct Ends {
    pub(super) stdout: File,
    pub(super) stderr: File,
    pub(super) channel: UnixStream,
}

/// Executes the image with an empty environment and descriptors 0 to 3 only, and 4 if it is to listen.
pub(super) fn launch(image: &Image, launch: &Launch) -> Result<(Process, Ends), Refusal> {
    let failed = |error: io::Error| {
        let reason = format!("{} cannot be executed: {error}", launch.executable.display());
        Refusal::new(RefusalCode::ExecutableInvalid, reason)
    };
    let (channel, inside) = UnixStream::pair().map_err(failed)?;
    let mut given = vec![FdMapping { parent_fd: inside.into(), child_fd: CHANNEL_DESCRIPTOR }];
    if let Some(path) = &launch.listener {
        let listener = UnixListener::bind(path).map_err(|error| {
            let reason = format!("{} cannot be listened on: {error}", path.display());
            Refusal::new(RefusalCode::InvalidArguments, reason)
        })?;
        given.push(FdMapping { parent_fd: listener.into(), child_fd: LISTENER_DESCRIPTOR });
    }
    let mut process = match &launch.isolation {
        None => Process::new(open_air(image, launch, given).map_err(failed)?).map_err(failed)?,
        Some(isolation) => jailed(image, launch, isolation, given, failed)?,
    };
    let ends = Ends {
        stdout: non_blocking(process.child.stdout.take()).map_err(failed)?,
        stderr: non_blocking(process.child.stderr.take()).map_err(failed)?,
        channel,
    };
    Ok((process, ends))
}

/// What holds for every launched process.
fn prepared(program: impl AsRef<OsStr>, given: Vec<FdMapping>) -> io::Result<Command> {
    let mut command = Command::new(program);
    command
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C on the emulator's terminal is for the emulator, which then ends its processes in order.
        .process_group(0)
        .fd_mappings(given)
        .map_err(io::Error::other)?;
    Ok(command)
}

fn own_name(launch: &Launch) -> &OsStr {
    launch.executable.file_name().unwrap_or(launch.executable.as_os_str())
}

/// Without walls.
fn open_air(image: &Image, launch: &Launch, given: Vec<FdMapping>) -> io::Result<Child> {
    let mut command = prepared(image.path(), given)?;
    command.arg0(own_name(launch)).args(&launch.arguments);
    die_with_the_emulator(&mut command);
    // The command holds the process's end of the channel, whose closing must be seen; it goes with this function.
    command.spawn()
}

/// Within walls that it builds itself before it becomes the program.
fn jailed(
    image: &Image,
    launch: &Launch,
    isolation: &Isolation,
    mut given: Vec<FdMapping>,
    failed: impl Fn(io::Error) -> Refusal,
) -> Result<Process, Refusal> {
    let (mut report, inside) = io::pipe().map_err(&failed)?;
    let image = image.descriptor().map_err(&failed)?;
    given.push(FdMapping { parent_fd: image, child_fd: jail::IMAGE_DESCRIPTOR });
    given.push(FdMapping { parent_fd: inside.into(), child_fd: jail::REPORT_DESCRIPTOR });
    let cgroups = Cgroups::make(&unique_name(), isolation);
    let profile = Profile {
        isolation: isolation.clone(),
        cgroups: cgroups.directories.clone(),
        limited: cgroups.limited.clone(),
        no_pid_namespace: None,
    };
    let arguments: Vec<_> =
        std::iter::once(own_name(launch).to_owned()).chain(launch.arguments.iter().map(Into::into)).collect();
    let (child, parent) = spawn_in_its_own_thread(profile, arguments, given).map_err(&failed)?;
    let mut process = Process::new(child).map_err(&failed)?;
    process._parent = Some(parent);
    process._cgroups = Some(cgroups);
    let mut said = Vec::new();
    report.by_ref().take(MAX_REPORT).read_to_end(&mut said).map_err(&failed)?;
    let report = said
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .filter_map(|line| serde_json::from_slice::<Report>(line).ok())
        .next_back()
        .unwrap_or_else(|| Report { failed: Some("its jail ended".to_owned()), ..Report::default() });
    for missing in &report.missing {
        tracing::warn!(wall = missing, pid = process.id(), "a wall is missing");
    }
    match report.failed {
        None => {
            process.walls = report.walls;
            Ok(process)
        }
        Some(why) if isolation.required && !report.missing.is_empty() => {
            Err(Refusal::new(RefusalCode::IsolationUnavailable, why))
        }
        Some(why) => Err(failed(io::Error::other(why))),
    }
}

/// Starts the jail from a thread of its own, which leaves our process namespace first, if it may: only children
/// of that thread are then in the new one. The thread stays as long as the process, since the kernel takes it for
/// the parent whose death is told.
fn spawn_in_its_own_thread(
    mut profile: Profile,
    arguments: Vec<OsString>,
    given: Vec<FdMapping>,
) -> io::Result<(Child, mpsc::Sender<()>)> {
    let (tell, told) = mpsc::channel();
    let (stay, until) = mpsc::channel::<()>();
    std::thread::Builder::new().name("parent".into()).spawn(move || {
        let root = rustix::process::geteuid().is_root();
        let own = if root { jail::own_process_namespace() } else { Err(io::Error::other("not root")) };
        profile.no_pid_namespace = own.err().map(|error| error.to_string());
        let spawned = serde_json::to_string(&profile).map_err(io::Error::other).and_then(|profile| {
            let mut command = prepared("/proc/self/exe", given)?;
            command.arg("jail").arg(profile).arg("--").args(arguments).spawn()
        });
        if tell.send(spawned).is_ok() {
            // Ends when the other end is dropped.
            let _ = until.recv();
        }
    })?;
    let child = told.recv().map_err(io::Error::other)??;
    Ok((child, stay))
}

/// A name for control groups: this emulator's, and a number.
fn unique_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Lets the kernel kill the process when the emulator ends in whatever way. This is what a power switch
/// does to a TEE, and it covers programs that do not watch their channel.
fn die_with_the_emulator(command: &mut Command) {
    let emulator = rustix::process::getpid();
    let arm = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The emulator may have ended just before: then there is no death left to be told of.
        if rustix::process::getppid() == Some(emulator) {
            Ok(())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    };
    #[expect(unsafe_code, reason = "the parent-death signal can only be armed by the process itself")]
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes two direct
    // system calls (prctl, getppid), compares numbers, and neither allocates, nor locks, nor panics.
    unsafe {
        command.pre_exec(arm);
    }
}

impl Process {
    fn new(mut child: Child) -> io::Result<Self> {
        let opened = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::other("the process has no id"))
            .and_then(|pid| Ok((pid, rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?)));
        match opened {
            Ok((pid, descriptor)) => {
                Ok(Self { child, pid, descriptor, walls: Vec::new(), _parent: None, _cgroups: None })
            }
            Err(error) => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(error)
            }
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The walls around it.
    pub(super) fn walls(&self) -> &[String] {
        &self.walls
    }

    /// Becomes readable when the process ends.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        // It may have ended, which is as well.
        let _ = rustix::process::kill_process(self.pid, Signal::TERM);
    }

    /// Ends it and the children that it kept in its process group.
    pub(super) fn kill(&self) {
        let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
    }

    /// Reaps it. To be called when it has ended.
    pub(super) fn reap(mut self) -> io::Result<Exit> {
        self.kill();
        let status = self.child.wait()?;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After `reap` there is nothing to do; on every other way out nothing may be left behind.
        if let Ok(None) = self.child.try_wait() {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

fn non_blocking(pipe: Option<impl Into<OwnedFd>>) -> io::Result<File> {
    let pipe: OwnedFd = pipe.ok_or_else(|| io::Error::other("a pipe was not opened"))?.into();
    rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
    Ok(pipe.into())
}
