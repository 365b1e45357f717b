//! The host's end of the control socket. Blocking; one value is one launched process.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use attester::emulated::{DecodeError, FrameError, frame};
use evidence::Measurement;

use super::{Event, Handle, Launch, Refusal, Request};

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

/// A process that the platform runs for us. Dropping it ends the process, unless it was released.
pub struct Running {
    stream: UnixStream,
    pid: u32,
    measurement: Measurement,
    walls: Vec<String>,
    /// The connection is not its life; true until it is released.
    lasting: Option<Arc<AtomicBool>>,
}

/// Asks the platform behind `socket` to launch a process, and waits until it runs.
///
/// # Errors
/// When the platform cannot be reached, refuses, or goes away.
pub fn launch(socket: &Path, launch: &Launch) -> Result<Running, ControlError> {
    ask(socket, &Request::Launch(Box::new(launch.clone())), launch.lasting.is_some())
}

/// Asks the platform behind `socket` for a process that was launched to last. Another connection that it may have
/// is closed.
///
/// # Errors
/// As [`launch`]: [`RefusalCode::NoSuchProcess`](super::RefusalCode::NoSuchProcess) when it is gone.
pub fn attach(socket: &Path, handle: &Handle) -> Result<Running, ControlError> {
    ask(socket, &Request::Attach(handle.clone()), true)
}

fn ask(socket: &Path, request: &Request, lasting: bool) -> Result<Running, ControlError> {
    let unreachable = |source| ControlError::Unreachable { socket: socket.to_owned(), source };
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.set_read_timeout(Some(LAUNCH_WITHIN)).map_err(FrameError::Io)?;
    match frame::write(&mut stream, &frame::encode(request)?) {
        // The platform may refuse (too many processes, another user) without reading the request: what it
        // said is still there to be read.
        Err(FrameError::Io(error))
            if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
        result => result?,
    }
    match read_event(&mut stream)? {
        Event::Launched { pid, measurement, walls } => {
            stream.set_read_timeout(None).map_err(FrameError::Io)?;
            let lasting = lasting.then(|| Arc::new(AtomicBool::new(true)));
            Ok(Running { stream, pid, measurement, walls, lasting })
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

    /// Which walls stand around it.
    pub fn walls(&self) -> &[String] {
        &self.walls
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
        Ok(Stopper { stream: self.stream.try_clone()?, lasting: self.lasting.clone() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.lasting.as_ref().is_some_and(|held| held.load(Ordering::Acquire)) {
            ask_for_the_end(&self.stream);
        }
        // A `Stopper` may hold the connection open, so that dropping ours would not close it.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Stops a process.
pub struct Stopper {
    stream: UnixStream,
    lasting: Option<Arc<AtomicBool>>,
}

impl Stopper {
    /// Asks the platform to end the process (SIGTERM, after 3 s SIGKILL). Its last output and its exit
    /// still arrive.
    pub fn stop(&self) {
        if self.lasting.is_some() {
            ask_for_the_end(&self.stream);
        } else {
            // An error means that the connection is closed already, which has the same effect.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// Lets a lasting process go on without this connection; another one ends.
    pub fn release(&self) {
        if let Some(held) = &self.lasting {
            held.store(false, Ordering::Release);
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn ask_for_the_end(mut stream: &UnixStream) {
    // An error means that the connection is closed: then the process has ended, or has another host.
    let _ = frame::encode(&Request::Stop {})
        .map_err(io::Error::other)
        .and_then(|payload| frame::framed(&payload).map_err(io::Error::other))
        .and_then(|bytes| io::Write::write_all(&mut stream, &bytes));
}

fn read_event(stream: &mut UnixStream) -> Result<Event, ControlError> {
    let payload = frame::read(stream).map_err(|error| match error {
        FrameError::Truncated => ControlError::PlatformGone,
        FrameError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => ControlError::PlatformGone,
        error => ControlError::Connection(error),
    })?;
    Ok(Event::decode(&payload.ok_or(ControlError::PlatformGone)?)?)
}
