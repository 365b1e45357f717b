//! The walls around a launched process, built by the process itself before it becomes the program: the emulator
//! starts itself again as `bailey-emulator jail`, alone in its process and with one thread, so that ordinary code
//! can do what must not be done between fork and exec.
//!
//! ```text
//!  cgroup ─▶ namespaces ─▶ a root of its own ─▶ limits ─▶ user ─▶ no new privileges ─▶ system calls ─▶ program
//! ```
//!
//! Each step only takes away. What cannot be built is reported, and is a reason to end if all walls are required.

mod filter;
mod root;
mod sys;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use attester::emulated::CHANNEL_DESCRIPTOR;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, Signal};
use serde::{Deserialize, Serialize};

use crate::control::{Isolation, Network};

/// Where the jail finds the sealed program.
pub(crate) const IMAGE_DESCRIPTOR: i32 = 5;
/// Where it reports to; closed by becoming the program.
pub(crate) const REPORT_DESCRIPTOR: i32 = 6;

/// Open files, of which a workload may have as many as its Keep allows.
const MAX_FILES: u64 = 16_384;
/// Threads and processes of one user.
const MAX_TASKS: u64 = 1024;

/// What the emulator tells its jail.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub(crate) isolation: Isolation,
    /// Directories of the cgroups to join.
    pub(crate) cgroups: Vec<PathBuf>,
    /// What the cgroups limit.
    pub(crate) limited: Vec<String>,
    /// Why there is no process namespace, if there is none.
    pub(crate) no_pid_namespace: Option<String>,
}

/// What the jail tells the emulator: one line of JSON; a second one when the program cannot be executed.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) walls: Vec<String>,
    /// Walls that cannot be built here, and why.
    pub(crate) missing: Vec<String>,
    /// The end, and why.
    pub(crate) failed: Option<String>,
}

impl Report {
    fn wall(&mut self, name: &str, built: io::Result<()>) -> bool {
        match &built {
            Ok(()) => self.walls.push(name.to_owned()),
            Err(error) => self.missing.push(format!("{name} ({error})")),
        }
        built.is_ok()
    }
}

/// Builds the walls and becomes the program; returns when that fails.
pub fn enter(profile: &str, arguments: &[String]) -> io::Error {
    #[expect(unsafe_code, reason = "what the emulator hands over is known by its number")]
    // SAFETY: the emulator started this process with exactly this descriptor, and nothing else here owns it.
    let mut pipe = File::from(unsafe { OwnedFd::from_raw_fd(REPORT_DESCRIPTOR) });
    let mut report = Report::default();
    let Err(error) = build(profile, &mut report).and_then(|()| {
        say(&mut pipe, &report)?;
        Err::<(), _>(sys::execute(IMAGE_DESCRIPTOR, &program_arguments(arguments)?))
    }) else {
        return io::Error::other("a program was executed and is not running");
    };
    report.failed = Some(error.to_string());
    // Nobody is left to be told when the emulator does not listen.
    let _ = say(&mut pipe, &report);
    error
}

/// Lets the children of this thread be in a process namespace of their own. For the emulator, before it starts a
/// jail.
pub(crate) fn own_process_namespace() -> io::Result<()> {
    sys::unshare(libc::CLONE_NEWPID)
}

fn say(pipe: &mut File, report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    pipe.write_all(&line)
}

fn program_arguments(arguments: &[String]) -> io::Result<Vec<CString>> {
    arguments.iter().map(|argument| Ok(CString::new(argument.as_str())?)).collect()
}

fn build(profile: &str, report: &mut Report) -> io::Result<()> {
    let profile: Profile = serde_json::from_str(profile)?;
    let isolation = &profile.isolation;
    // The directories of the new root are for the program's user.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    for descriptor in [IMAGE_DESCRIPTOR, REPORT_DESCRIPTOR] {
        sys::close_on_exec(descriptor)?;
    }
    join_cgroups(&profile, report)?;
    separate(&profile, report);
    rustix::process::umask(mask);
    limit(&profile, report)?;
    change_user(isolation, report)?;
    rustix::thread::set_no_new_privs(true)?;
    // After the change of user, which disarms it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if emulator_is_gone()? {
        return Err(io::Error::other("the emulator has ended"));
    }
    let filtered = filter::apply().map_err(io::Error::other);
    report.wall("seccomp", filtered);
    if isolation.required && !report.missing.is_empty() {
        return Err(io::Error::other(format!("not all walls can be built: {}", report.missing.join(", "))));
    }
    Ok(())
}

fn join_cgroups(profile: &Profile, report: &mut Report) -> io::Result<()> {
    for directory in &profile.cgroups {
        // A process that is not in its group would be without limits.
        std::fs::write(directory.join("cgroup.procs"), "0")?;
    }
    let wanted = [
        ("memory", profile.isolation.memory_mib.is_some()),
        ("cpu", profile.isolation.cpu_milli.is_some()),
        ("pids", true),
    ];
    for (controller, _) in wanted.iter().filter(|(_, wanted)| *wanted) {
        let limited = profile.limited.iter().any(|name| name == controller);
        let result = if limited { Ok(()) } else { Err(io::Error::other("no such controller here")) };
        report.wall(&format!("cgroup-{controller}"), result);
    }
    Ok(())
}

/// Namespaces, and what can only be done within them.
fn separate(profile: &Profile, report: &mut Report) {
    let root = rustix::process::geteuid().is_root();
    if !root && !report.wall("user-namespace", sys::own_user_namespace()) {
        return;
    }
    match &profile.no_pid_namespace {
        None => report.walls.push("pid".to_owned()),
        Some(why) => report.missing.push(format!("pid ({why})")),
    }
    report.wall("ipc", sys::unshare(libc::CLONE_NEWIPC));
    report.wall("uts", sys::unshare(libc::CLONE_NEWUTS));
    if profile.isolation.network == Network::None {
        report.wall("network", sys::unshare(libc::CLONE_NEWNET));
    }
    let own_root = sys::unshare(libc::CLONE_NEWNS).and_then(|()| root::enter(&profile.isolation.writable));
    report.wall("root", own_root);
}

fn limit(profile: &Profile, report: &mut Report) -> io::Result<()> {
    let set = |resource, most: u64| {
        // Never above what holds already.
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |now| now.min(most));
        rustix::process::setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    set(Resource::Core, 0)?;
    set(Resource::Nofile, MAX_FILES)?;
    set(Resource::Msgqueue, 0)?;
    set(Resource::Memlock, 0)?;
    set(Resource::Nice, 0)?;
    set(Resource::Rtprio, 0)?;
    if profile.isolation.user.is_some() {
        set(Resource::Nproc, MAX_TASKS)?;
    }
    if let Some(memory) = profile.isolation.memory_mib
        && !profile.limited.iter().any(|name| name == "memory")
    {
        set(Resource::Data, memory << 20)?;
    }
    report.walls.push("limits".to_owned());
    Ok(())
}

fn change_user(isolation: &Isolation, report: &mut Report) -> io::Result<()> {
    match (isolation.user, rustix::process::geteuid().is_root()) {
        (Some(user), true) => {
            sys::become_user(user)?;
            report.walls.push(format!("user-{user}"));
        }
        (Some(_), false) => report.missing.push("user (only root can give users)".to_owned()),
        // As root it could undo most of the other walls.
        (None, true) => {
            return Err(io::Error::other("a platform that runs as root needs a user for each process"));
        }
        (None, false) => {}
    }
    Ok(())
}

/// It may have ended before its death could be told of; then the other end of the channel is closed.
fn emulator_is_gone() -> io::Result<bool> {
    #[expect(unsafe_code, reason = "what the emulator hands over is known by its number")]
    // SAFETY: the emulator started this process with this descriptor, and nothing closes it here.
    let channel = unsafe { std::os::fd::BorrowedFd::borrow_raw(CHANNEL_DESCRIPTOR) };
    let mut watched = [PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::empty())];
    poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(watched[0].revents().contains(PollFlags::HUP))
}
