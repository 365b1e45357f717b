//! The back ends of this host, and which of them launches what.

use std::sync::Arc;

use crate::config::Config;
use crate::launcher::{About, LaunchError, Launcher};
use crate::process::Process;

/// The directory in which it is noted which user ids are taken.
pub(crate) const USERS: &str = "users";

/// The back ends, in the order of the configuration: the first that fits is taken.
#[derive(Clone)]
pub(crate) struct Backends(Vec<Arc<dyn Launcher>>);

impl Backends {
    pub(crate) fn new(launchers: Vec<Arc<dyn Launcher>>) -> Self {
        Self(launchers)
    }

    /// Those of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let users = config.directory.join(USERS);
        Self(config.backends.iter().map(|backend| backend.launcher(&users)).collect())
    }

    /// What they are.
    pub(crate) fn about(&self) -> Vec<About> {
        self.0.iter().map(|launcher| launcher.about()).collect()
    }

    /// Which one launches `process`.
    pub(crate) fn launcher(&self, process: &Process) -> Result<&dyn Launcher, LaunchError> {
        let fits = |about: About| process.is_for(&about.name, &about.platforms);
        self.0.iter().find(|launcher| fits(launcher.about())).map(|launcher| &**launcher).ok_or_else(|| {
            LaunchError::NoBackend(match &process.backend {
                Some(name) => format!("is named {name} and launches {}", process.platform),
                None => format!("launches {}", process.platform),
            })
        })
    }
}
