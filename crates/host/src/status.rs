//! What the agent tells of its processes.

use evidence::{Measurement, Platform};
use serde::{Deserialize, Serialize};

use crate::launcher::Reach;
use crate::names::{BackendName, ProcessName};
use emulator::control::Exit;

/// One process at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Its name.
    pub name: ProcessName,
    /// As what kind of TEE it is launched.
    pub platform: Platform,
    /// On which back end it was launched last.
    pub backend: Option<BackendName>,
    /// What it does.
    pub state: State,
    /// How often it was launched again.
    pub restarts: u64,
    /// What the platform measured at the last launch. A hint: only Evidence proves it.
    pub measurement: Option<Measurement>,
    /// Which walls stand around it.
    pub walls: Vec<String>,
    /// Where it takes the connections that the agent relays.
    pub reach: Option<Reach>,
    /// How it ended the last time.
    pub last_exit: Option<LastExit>,
}

impl Status {
    /// Its process id, if it runs.
    pub fn pid(&self) -> Option<u32> {
        match self.state {
            State::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }
}

/// What a process does. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum State {
    /// It is being launched.
    Starting,
    /// It runs.
    Running {
        /// Its process id.
        pid: u32,
        /// Since when.
        since_ms: u64,
    },
    /// It has ended, or could not be launched, and will be launched again.
    BackOff {
        /// When.
        until_ms: u64,
        /// Why it does not run.
        reason: String,
    },
    /// It does not run and will not be launched by itself.
    Stopped,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastExit {
    /// How.
    pub ending: Ending,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ending {
    /// The process ended.
    Exited(Exit),
    /// It was lost sight of: the platform went away, and the process with it.
    Lost {
        /// What was seen.
        reason: String,
    },
    /// It could not be launched.
    NotLaunched {
        /// Why.
        reason: String,
    },
}

impl Ending {
    /// Whether the process did what it was to do.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited(Exit::Code(0)))
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(exit) => exit.fmt(f),
            Self::Lost { reason } => write!(f, "lost: {reason}"),
            Self::NotLaunched { reason } => write!(f, "not launched: {reason}"),
        }
    }
}
