//! The host's end of the control socket. Blocking; one value is one launched process.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use attester::emulated::{DecodeError, FrameError, frame};
use evidence::Measurement;

use super::{Event, Launch, Refusal, Request};

/// How long a launch may take: reading, copying and hashing the executable.
const LAUNCH_WITHIN: Duration = Duration::from_secs(120);

/// Why a process was not launched, or was lost.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody answers there.
    #[error("no emulated platform answers at {socket}; is `bailey-emulator start` running?")]
    Unreachable {
        /// The control socket.
        socket: PathBuf,
        /// What connecting said.
        source: io::Error,
    },
    /// The platform refused.
    #[error("the platform refused: {0}")]
    Refused(Refusal),
    /// The platform went away.
    #[error("the platform is gone")]
    PlatformGone,
    /// The platform sent something out of turn.
    #[error("the platform sent an event out of turn")]
    UnexpectedEvent,
    /// What the platform sent cannot be read.
    #[error("the platform's event is malformed")]
    Decode(#[from] DecodeError),
    /// The connection failed.
    #[error("the control connection failed")]
    Connection(#[from] FrameError),
}

/// A process that the platform runs for us. Dropping it ends the process.
pub struct Running {
    stream: UnixStream,
    pid: u32,
    measurement: Measurement,
}

/// Asks the platform behind `socket` to launch a process, and waits until it runs.
///
/// # Errors
/// When the platform cannot be reached, refuses, or goes away.
pub fn launch(socket: &Path, launch: &Launch) -> Result<Running, ControlError> {
    let unreachable = |source| ControlError::Unreachable { socket: socket.to_owned(), source };
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.set_read_timeout(Some(LAUNCH_WITHIN)).map_err(FrameError::Io)?;
    let request = frame::encode(&Request::Launch(launch.clone()))?;
    match frame::write(&mut stream, &request) {
        // The platform may refuse (too many processes, another user) without reading the request: what it
        // said is still there to be read.
        Err(FrameError::Io(error))
            if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
        result => result?,
    }
    match read_event(&mut stream)? {
        Event::Launched { pid, measurement } => {
            stream.set_read_timeout(None).map_err(FrameError::Io)?;
            Ok(Running { stream, pid, measurement })
        }
        Event::Refused(refusal) => Err(ControlError::Refused(refusal)),
        Event::Output { .. } | Event::Exited(_) => Err(ControlError::UnexpectedEvent),
    }
}

impl Running {
    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The measurement that the platform took of it.
    pub fn measurement(&self) -> &Measurement {
        &self.measurement
    }

    /// Waits for the next thing that happens. After [`Event::Exited`] there is nothing more.
    ///
    /// # Errors
    /// When the platform goes away or sends nonsense.
    pub fn next_event(&mut self) -> Result<Event, ControlError> {
        match read_event(&mut self.stream)? {
            Event::Launched { .. } => Err(ControlError::UnexpectedEvent),
            event => Ok(event),
        }
    }

    /// A handle that can stop the process while another thread waits for events.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn stopper(&self) -> io::Result<Stopper> {
        self.stream.try_clone().map(Stopper)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A `Stopper` may hold the connection open, so that dropping ours would not close it.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Stops a process.
pub struct Stopper(UnixStream);

impl Stopper {
    /// Asks the platform to end the process (SIGTERM, after 3 s SIGKILL). Its last output and its exit
    /// still arrive.
    pub fn stop(&self) {
        // An error means that the connection is closed already, which has the same effect.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

fn read_event(stream: &mut UnixStream) -> Result<Event, ControlError> {
    let payload = frame::read(stream).map_err(|error| match error {
        FrameError::Truncated => ControlError::PlatformGone,
        FrameError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => ControlError::PlatformGone,
        error => ControlError::Connection(error),
    })?;
    Ok(Event::decode(&payload.ok_or(ControlError::PlatformGone)?)?)
}
