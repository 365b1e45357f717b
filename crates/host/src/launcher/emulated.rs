//! The back end `process`: processes on the emulated platform.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use emulator::control::{self, ControlError, Handle, Lasting, Launch, Refusal, RefusalCode};
use evidence::Measurement;

use super::fit;
use super::users::{Taken, UserIds};
use super::{
    About, BackendKind, Event, LaunchError, Launcher, Life, Reach, Running, Site, SiteError, Stopper, Storage,
};
use crate::config::{Network, ProcessBackend, Walls};
use crate::names::BackendName;
use crate::process::{Channel, Process};

/// By what the platform finds a process again.
const HANDLE: &str = "handle";
/// The user id of a process.
const USER: &str = "user";
/// The socket on which a process takes connections. Short: paths of sockets have 107 bytes at most.
const SOCKET: &str = "s";

/// How long a process goes on without an agent, in seconds: long enough for any upgrade, and a machine whose
/// operator has left does not serve for ever.
const UNATTENDED_S: u32 = 24 * 3600;

/// Launches on an emulated platform.
#[derive(Clone, Debug)]
pub struct EmulatorLauncher {
    name: BackendName,
    settings: ProcessBackend,
    users: Option<UserIds>,
}

impl EmulatorLauncher {
    /// With these settings; `users` is a directory of the agent's in which it notes which user ids are taken.
    pub fn new(name: BackendName, settings: ProcessBackend, users: &Path) -> Self {
        let users = settings.isolation.users.map(|range| UserIds::new(users, range));
        Self { name, settings, users }
    }

    fn isolation(&self, process: &Process, user: Option<u32>) -> Option<control::Isolation> {
        let isolation = &self.settings.isolation;
        (isolation.walls != Walls::None).then(|| control::Isolation {
            cpu_milli: process.limits.cpu_milli,
            memory_mib: process.limits.memory_mib,
            network: match isolation.network {
                Network::Host => control::Network::Host,
                Network::None => control::Network::None,
            },
            required: isolation.walls == Walls::Required,
            user,
            writable: process.volumes.iter().cloned().collect(),
        })
    }
}

fn reach(process: &Process, site: &Site) -> Option<Reach> {
    (process.channel == Channel::Relayed).then(|| Reach::Unix(site.path(SOCKET)))
}

impl Launcher for EmulatorLauncher {
    fn about(&self) -> About {
        About {
            name: self.name.clone(),
            kind: BackendKind::Process,
            platforms: self.settings.tees.clone(),
            emulated: true,
            capacity: self.settings.capacity,
            storage: Storage::AtLaunch,
        }
    }

    fn launch(&self, process: &Process, site: &Site) -> Result<Box<dyn Running>, LaunchError> {
        if let Some(unfit) = fit::outside(process).into_iter().next() {
            return Err(unfit.into());
        }
        process.make_volumes()?;
        let walled = self.settings.isolation.walls != Walls::None;
        let user = match self.users.as_ref().filter(|_| walled) {
            Some(users) => {
                let user = users.take()?;
                site.write(USER, user.id().to_string().as_bytes())?;
                Some(user)
            }
            None => None,
        };
        let lasting = match site.life() {
            Life::WithAgent => None,
            Life::BeyondAgent => {
                let handle = Handle::generate()?;
                site.write(HANDLE, handle.as_bytes())?;
                Some(Lasting { handle, unattended_s: UNATTENDED_S })
            }
        };
        let reach = reach(process, site);
        let listener = reach.as_ref().map(|_| site.path(SOCKET));
        let launch = Launch {
            platform: process.platform,
            executable: process.executable.clone(),
            configuration: process.configuration.clone(),
            arguments: process.arguments(),
            listener,
            lasting,
            isolation: self.isolation(process, user.as_ref().map(Taken::id)),
        };
        let process = control::launch(&self.settings.socket, &launch)?;
        Ok(Box::new(Emulated { process, reach, user }))
    }

    fn adopt(&self, process: &Process, site: &Site) -> Result<Box<dyn Running>, LaunchError> {
        // Whatever comes of it, the id of a process that is gone is given back.
        let user = read_user(site)?.zip(self.users.as_ref()).map(|(id, users)| users.taken(id));
        let handle = site.read(HANDLE)?.and_then(|bytes| Handle::from_bytes(&bytes));
        let handle = handle.ok_or(LaunchError::NothingToAdopt)?;
        match control::attach(&self.settings.socket, &handle) {
            Ok(running) => Ok(Box::new(Emulated { process: running, reach: reach(process, site), user })),
            // Its processes end with a platform.
            Err(
                ControlError::Refused(Refusal { code: RefusalCode::NoSuchProcess, .. })
                | ControlError::Unreachable { .. },
            ) => Err(LaunchError::NothingToAdopt),
            Err(error) => {
                if let Some(user) = user {
                    user.keep().store(true, Ordering::Release);
                }
                Err(error.into())
            }
        }
    }
}

fn read_user(site: &Site) -> Result<Option<u32>, SiteError> {
    Ok(site.read(USER)?.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok()))
}

/// A process on the emulated platform.
struct Emulated {
    process: control::Running,
    reach: Option<Reach>,
    /// Given back when the process has ended.
    user: Option<Taken>,
}

struct EmulatedStopper {
    stopper: control::Stopper,
    keep_user: Option<Arc<AtomicBool>>,
}

impl Running for Emulated {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn measurement(&self) -> Measurement {
        self.process.measurement().clone()
    }

    fn reach(&self) -> Option<Reach> {
        self.reach.clone()
    }

    fn walls(&self) -> Vec<String> {
        self.process.walls().to_vec()
    }

    fn next_event(&mut self) -> Result<Event, LaunchError> {
        match self.process.next_event()? {
            control::Event::Output { stream, bytes } => Ok(Event::Output { stream, bytes }),
            control::Event::Exited(exit) => Ok(Event::Exited(exit)),
            control::Event::Refused(refusal) => Err(ControlError::Refused(refusal).into()),
            control::Event::Launched { .. } => Err(ControlError::UnexpectedEvent.into()),
        }
    }

    fn stopper(&self) -> Result<Box<dyn Stopper>, LaunchError> {
        let keep_user = self.user.as_ref().map(Taken::keep);
        Ok(Box::new(EmulatedStopper { stopper: self.process.stopper()?, keep_user }))
    }
}

impl Stopper for EmulatedStopper {
    fn stop(&self) {
        self.stopper.stop();
    }

    fn release(&self) {
        if let Some(keep) = &self.keep_user {
            keep.store(true, Ordering::Release);
        }
        self.stopper.release();
    }
}
