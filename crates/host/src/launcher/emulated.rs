//! The back end `process`: processes on the emulated platform.

use emulator::control::{self, ControlError, Launch};
use evidence::Measurement;

use super::{About, BackendKind, Event, LaunchError, Launcher, Reach, Running, Site, Stopper};
use crate::config::ProcessBackend;
use crate::names::BackendName;
use crate::process::Process;

/// Launches on an emulated platform.
#[derive(Clone, Debug)]
pub struct EmulatorLauncher {
    name: BackendName,
    settings: ProcessBackend,
}

impl EmulatorLauncher {
    /// With these settings.
    pub fn new(name: BackendName, settings: ProcessBackend) -> Self {
        Self { name, settings }
    }
}

impl Launcher for EmulatorLauncher {
    fn about(&self) -> About {
        About {
            name: self.name.clone(),
            kind: BackendKind::Process,
            platforms: self.settings.tees.clone(),
            capacity: self.settings.capacity,
        }
    }

    fn launch(&self, process: &Process, _site: &Site) -> Result<Box<dyn Running>, LaunchError> {
        let launch = Launch {
            platform: process.platform,
            executable: process.executable.clone(),
            configuration: process.configuration.clone(),
            arguments: process.arguments.clone(),
        };
        Ok(Box::new(control::launch(&self.settings.socket, &launch)?))
    }

    fn adopt(&self, _process: &Process, _site: &Site) -> Result<Box<dyn Running>, LaunchError> {
        Err(LaunchError::NothingToAdopt)
    }
}

impl Running for control::Running {
    fn pid(&self) -> u32 {
        self.pid()
    }

    fn measurement(&self) -> Measurement {
        self.measurement().clone()
    }

    fn reach(&self) -> Option<Reach> {
        None
    }

    fn walls(&self) -> Vec<String> {
        Vec::new()
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

    fn release(&self) {
        self.stop();
    }
}
