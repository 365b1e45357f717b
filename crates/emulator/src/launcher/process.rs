//! A launched process and its end. While a value of this type exists its process has not been reaped, so
//! that its id (and that of its process group) cannot have become another's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

use attester::emulated::CHANNEL_DESCRIPTOR;
use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::image::Image;
use crate::control::{Exit, Launch};

/// A process that runs, or has ended and waits to be reaped.
pub(super) struct Process {
    child: Child,
    pid: Pid,
    descriptor: OwnedFd,
}

/// The platform's ends of what a process was given.
pub(super) struct Ends {
    pub(super) stdout: File,
    pub(super) stderr: File,
    pub(super) channel: UnixStream,
}

/// Executes the image with an empty environment and descriptors 0 to 3 only.
pub(super) fn launch(image: &Image, launch: &Launch) -> io::Result<(Process, Ends)> {
    let (channel, inside) = UnixStream::pair()?;
    let mut command = Command::new(image.path());
    command
        .arg0(launch.executable.file_name().unwrap_or(launch.executable.as_os_str()))
        .args(&launch.arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C on the emulator's terminal is for the emulator, which then ends its processes in order.
        .process_group(0)
        .fd_mappings(vec![FdMapping { parent_fd: inside.into(), child_fd: CHANNEL_DESCRIPTOR }])
        .map_err(io::Error::other)?;
    die_with_the_emulator(&mut command);
    let mut process = Process::new(command.spawn()?)?;
    // The command holds the process's end of the channel, whose closing must be seen.
    drop(command);
    let ends = Ends {
        stdout: non_blocking(process.child.stdout.take())?,
        stderr: non_blocking(process.child.stderr.take())?,
        channel,
    };
    Ok((process, ends))
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
            Ok((pid, descriptor)) => Ok(Self { child, pid, descriptor }),
            Err(error) => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(error)
            }
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
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
