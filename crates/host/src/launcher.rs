//! What launches processes, behind a trait: the emulated platform, virtual machines, and whatever else makes
//! TEEs on this machine. A back end knows nothing of tenants and leases; the agent knows nothing of how a
//! process comes to be.
//!
//! ```text
//!  agent ── launch(process, site) ──▶ back end ──▶ Running ── next_event()… ──▶ Exited
//!    │                                                │
//!    └─ dies, or is replaced                          └─ Stopper::release(): goes on without us
//!       later: adopt(process, site) ──▶ the same process
//! ```

mod emulated;
mod fit;
mod site;
mod users;
mod vm;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use emulator::control::{ControlError, Exit, Stream};
use evidence::{Measurement, Platform};
use serde::{Deserialize, Serialize};

pub use emulated::EmulatorLauncher;
pub use fit::Unfit;
pub(crate) use site::write_whole;
pub use site::{Life, Site, SiteError};
pub use vm::VmLauncher;

use crate::names::BackendName;
use crate::process::Process;

/// A back end that launches measured code.
pub trait Launcher: Send + Sync {
    /// What it is.
    fn about(&self) -> About;

    /// Launches a process, and waits until it runs; one with a [channel](crate::Channel::Relayed), until
    /// connections to its [reach](Running::reach) are taken or queued.
    ///
    /// Whatever is needed to find the process again is written below the directory of `site` before the
    /// process exists, so that no moment is left in which an agent could die and lose it.
    ///
    /// # Errors
    /// When it cannot be launched. Then nothing of it is left.
    fn launch(&self, process: &Process, site: &Site) -> Result<Box<dyn Running>, LaunchError>;

    /// Takes up a process again that was launched at this site and [outlives](Life::BeyondAgent) its agent.
    /// If another agent still follows the process, that one loses it.
    ///
    /// # Errors
    /// [`LaunchError::NothingToAdopt`] when no such process runs (any more); others when it cannot be found out.
    fn adopt(&self, process: &Process, site: &Site) -> Result<Box<dyn Running>, LaunchError>;

    /// Gives storage to a process that was launched at this site without: volumes are files below `folder`. Once, and for
    /// back ends that say that they do ([`Storage::Attached`]).
    ///
    /// # Errors
    /// When the process has gone, or the back end does not.
    fn attach(&self, folder: &Path, site: &Site) -> Result<(), LaunchError> {
        let _ = (folder, site);
        Err(LaunchError::NoBackend("gives storage to a process that runs".into()))
    }
}

/// A process that runs. Dropping it ends the process, unless it was [released](Stopper::release).
pub trait Running: Send {
    /// Its process id on this host: of the program, or of the virtual machine that it is in.
    fn pid(&self) -> u32;

    /// What the back end measured, or expects to have been measured. A hint: only Evidence proves it.
    fn measurement(&self) -> Measurement;

    /// Where it takes the connections that the agent relays to it, if it was launched with a channel, and as soon as it
    /// takes any: later than now, [`Event::Reachable`] says so.
    fn reach(&self) -> Option<Reach>;

    /// Which walls stand around it, for people to read: `user`, `pid`, `seccomp`, ….
    fn walls(&self) -> Vec<String>;

    /// Waits for the next thing that happens; [`Event::Exited`] is the last.
    ///
    /// # Errors
    /// When the process is lost sight of, or was released.
    fn next_event(&mut self) -> Result<Event, LaunchError>;

    /// A handle to end or release the process from another thread.
    ///
    /// # Errors
    /// When the host has no resources left for one.
    fn stopper(&self) -> Result<Box<dyn Stopper>, LaunchError>;
}

/// Ends a process, or lets it go.
pub trait Stopper: Send {
    /// Asks for the end, which then arrives as [`Event::Exited`].
    fn stop(&self);

    /// Lets a process that outlives its agent go on without this one: [`Running::next_event`] returns an
    /// error, and dropping [`Running`] ends nothing any more. One that lives with its agent ends.
    fn release(&self);
}

/// What a back end is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name on this host.
    pub name: BackendName,
    /// What it launches processes in.
    pub kind: BackendKind,
    /// The kinds of TEE that its processes can prove to be in.
    pub platforms: Vec<Platform>,
    /// Whether their Evidence ends in an emulated root. A hint: Evidence says so itself.
    pub emulated: bool,
    /// How many processes it runs at a time.
    pub capacity: u32,
    /// Whether its processes can have storage of this host for volumes.
    pub storage: Storage,
}

/// How a process gets storage of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// It does not.
    Never,
    /// With its launch: [`Process::volumes`] is within its walls.
    AtLaunch,
    /// While it runs, too: [`Launcher::attach`].
    Attached,
}

/// What processes are launched in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// Processes of this machine, on the emulated platform: no protection from this host.
    Process,
    /// Virtual machines with an emulated or real TPM.
    Vm,
    /// AMD SEV-SNP guests.
    Snp,
    /// Intel TDX guests.
    Tdx,
    /// Intel SGX enclaves.
    Sgx,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Vm => "vm",
            Self::Snp => "snp",
            Self::Tdx => "tdx",
            Self::Sgx => "sgx",
        })
    }
}

/// Where a process takes connections. Only the agent connects there; what passes is between client and Keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP port of this machine.
    Tcp(SocketAddr),
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
    /// It takes connections from now on.
    Reachable,
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
    /// Another back end says so.
    #[error("the back end refused")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operating system says so.
    #[error("the operating system refused")]
    System(#[from] std::io::Error),
    /// The site cannot be written or read.
    #[error("the process's directory cannot be used")]
    Site(#[from] SiteError),
    /// Nothing that was launched at this site runs any more.
    #[error("nothing that was launched here runs any more")]
    NothingToAdopt,
    /// As it is described, the back end never launches it.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The file of its workload cannot be used.
    #[error("the workload {path} cannot be used: name a file of at most 256 MiB, and no symbolic link")]
    Workload {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No back end of this host launches it.
    #[error("no back end of this host {0}")]
    NoBackend(String),
}
