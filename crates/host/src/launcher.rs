//! What launches processes, behind a trait: the emulated platform today, virtual machines later.

use emulator::control::{self, ControlError, Exit, Launch, Stream};
use evidence::Measurement;
use std::path::PathBuf;

use crate::process::Process;

/// A back end that launches measured code.
pub trait Launcher: Send + Sync {
    /// Launches a process, and waits until it runs.
    ///
    /// # Errors
    /// When it cannot be launched.
    fn launch(&self, process: &Process) -> Result<Box<dyn Running>, LaunchError>;
}

/// A process that runs. Dropping it ends the process.
pub trait Running: Send {
    /// Its process id on this host.
    fn pid(&self) -> u32;

    /// What the back end measured.
    fn measurement(&self) -> Measurement;

    /// Waits for the next thing that happens; [`Event::Exited`] is the last.
    ///
    /// # Errors
    /// When the process is lost sight of.
    fn next_event(&mut self) -> Result<Event, LaunchError>;

    /// A handle to end the process from another thread.
    ///
    /// # Errors
    /// When the host has no resources left for one.
    fn stopper(&self) -> Result<Box<dyn Stopper>, LaunchError>;
}

/// Ends a process.
pub trait Stopper: Send {
    /// Asks for the end, which then arrives as [`Event::Exited`].
    fn stop(&self);
}

/// What a process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It printed something.
    Output {
        /// Where to.
        stream: Stream,
        /// What: cut anywhere.
        bytes: Vec<u8>,
    },
    /// It ended.
    Exited(Exit),
}

/// Why a process cannot be launched or followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The emulated platform says so.
    #[error(transparent)]
    Emulator(#[from] ControlError),
    /// The operating system says so.
    #[error("the operating system refused")]
    System(#[from] std::io::Error),
}

/// Launches on an emulated platform.
#[derive(Clone, Debug)]
pub struct EmulatorLauncher {
    socket: PathBuf,
}

impl EmulatorLauncher {
    /// On the platform behind this control socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }
}

impl Launcher for EmulatorLauncher {
    fn launch(&self, process: &Process) -> Result<Box<dyn Running>, LaunchError> {
        let launch = Launch {
            platform: process.platform,
            executable: process.executable.clone(),
            configuration: process.configuration.clone(),
            arguments: process.arguments.clone(),
        };
        Ok(Box::new(control::launch(&self.socket, &launch)?))
    }
}

impl Running for control::Running {
    fn pid(&self) -> u32 {
        self.pid()
    }

    fn measurement(&self) -> Measurement {
        self.measurement().clone()
    }

    fn next_event(&mut self) -> Result<Event, LaunchError> {
        match self.next_event()? {
            control::Event::Output { stream, bytes } => Ok(Event::Output { stream, bytes }),
            control::Event::Exited(exit) => Ok(Event::Exited(exit)),
            control::Event::Refused(refusal) => Err(ControlError::Refused(refusal).into()),
            control::Event::Launched { .. } => Err(ControlError::UnexpectedEvent.into()),
        }
    }

    fn stopper(&self) -> Result<Box<dyn Stopper>, LaunchError> {
        Ok(Box::new(self.stopper()?))
    }
}

impl Stopper for control::Stopper {
    fn stop(&self) {
        self.stop();
    }
}
