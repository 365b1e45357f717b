//! The host agent: launches Keeps and other measured processes on one machine, keeps them running, and
//! gathers what they print.
//!
//! It is not trusted. It knows nothing of appraisal, holds no key, and sees no secret: whatever it could do
//! to a process shows in the process's Evidence, or only keeps it from running.
//!
//! ```text
//!              launch            the process ends, or cannot be launched
//!  Starting ───────────▶ Running ─────────────────▶ BackOff ──(250 ms, 500 ms, … 30 s)──▶ Starting
//!     ▲                     │ stop                     │ stop
//!     └──(launch, restart)──┴───────────▶ Stopped ◀────┘
//! ```
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = host::Config::load("host.json".as_ref())?;
//! let shutdown = host::Shutdown::new()?;
//! host::run(config, host::Arrival::Alone, &shutdown)?;   // until `shutdown.request()`, or {"action":"shutdown"} on the socket
//! # Ok(()) }
//! ```
//!
//! Entry points: [`Agent`] (in-process), [`run`] with its socket, [`ask`] (the other end of the socket).

mod action;
mod agent;
mod api;
mod backends;
mod backoff;
mod clock;
mod config;
mod keeps;
mod launcher;
mod logs;
mod names;
mod overview;
mod process;
mod status;
mod supervisor;
mod surface;

pub use action::{Action, ActionError, Handed, Inspection, Reply};
pub use agent::{Agent, Arrival, HostError, Notice, Watch, run};
pub use api::ApiError;
pub use backoff::{Backoff, BackoffPolicy};
pub use clock::{Clock, SystemClock};
pub use config::{
    Api, Backend, BackendSettings, Config, ConfigError, Fault, Isolation, KeepProgram, Keeps, Network,
    ProcessBackend, Quota, Tenant, Users, VmBackend, Walls,
};
pub use emulator::control::{Exit, Stream};
pub use emulator::socket::Stop as Shutdown;
pub use launcher::{
    About, BackendKind, EmulatorLauncher, Event, LaunchError, Launcher, Life, Reach, Running, Site,
    SiteError, Stopper, Storage, Unfit, VmLauncher,
};
pub use logs::LogLine;
pub use names::{BackendName, InvalidName, ProcessName, TenantName};
pub use overview::{BackendView, KeepView, LaunchFailure, Overview, Places};
pub use process::{Channel, Configuration, Limits, LogDestination, Process, ProcessSpec, Restart};
pub use status::{Ending, LastExit, State, Status};
pub use surface::{AskError, SOCKET_NAME, ask, is_there};
pub use vm::Forward;
