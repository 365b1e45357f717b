//! A `bailey-emulator` that was started by another program (`bailey up`, a test): it is ready when the
//! value exists, and ends when the value is dropped, or when whoever holds it dies.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::control;

/// How long the platform may take to be ready; generating its keys the first time is most of it.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long the platform may take to end its processes: more than it gives them.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Why the emulator did not come up.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The binary cannot be executed.
    #[error("{binary} cannot be started")]
    Spawn {
        /// The binary.
        binary: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// It ended instead of getting ready; its standard error says why.
    #[error("bailey-emulator ended before it was ready ({0})")]
    Ended(ExitStatus),
    /// It took too long.
    #[error("bailey-emulator was not ready after {READY_WITHIN:?}")]
    NotReady,
    /// Waiting for it failed.
    #[error("bailey-emulator cannot be watched")]
    Watch(#[source] io::Error),
}

/// A running emulator that is ours.
pub struct Daemon {
    child: Child,
    directory: PathBuf,
}

impl Daemon {
    /// Starts `binary` on the platform in `directory` and waits until it is ready. Its logs go to `logs`.
    ///
    /// # Errors
    /// When it cannot be started, or ends, or is not ready in time.
    pub fn start(binary: &Path, directory: &Path, logs: Stdio) -> Result<Self, DaemonError> {
        let child = Command::new(binary)
            .args(["start", "--supervised", "--dir"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(logs)
            .spawn()
            .map_err(|source| DaemonError::Spawn { binary: binary.to_owned(), source })?;
        let mut daemon = Self { child, directory: directory.to_owned() };
        daemon.await_ready()?;
        Ok(daemon)
    }

    /// The platform's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        control::socket_path(&self.directory)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// When the operating system will not say.
    pub fn has_ended(&mut self) -> Result<Option<ExitStatus>, DaemonError> {
        self.child.try_wait().map_err(DaemonError::Watch)
    }

    /// Switches the platform off, and waits until all its processes are gone.
    ///
    /// # Errors
    /// When the operating system will not say how it ended.
    pub fn stop(mut self) -> Result<ExitStatus, DaemonError> {
        self.end();
        self.child.wait().map_err(DaemonError::Watch)
    }

    fn await_ready(&mut self) -> Result<(), DaemonError> {
        let Some(stdout) = self.child.stdout.take() else { return Err(DaemonError::NotReady) };
        let (sender, receiver) = mpsc::channel();
        // Reads on after the first line, so that the emulator never meets a closed pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        match receiver.recv_timeout(READY_WITHIN) {
            Ok(_) => Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(DaemonError::NotReady),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(DaemonError::Ended(self.child.wait().map_err(DaemonError::Watch)?))
            }
        }
    }

    fn end(&mut self) {
        let Ok(None) = self.child.try_wait() else { return };
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + END_WITHIN;
        while Instant::now() < deadline {
            let Ok(None) = self.child.try_wait() else { return };
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
