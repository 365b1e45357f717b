//! The back ends of a configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evidence::Platform;
use serde::{Deserialize, Serialize};

use super::Fault;
use super::machines::{VmBackend, WireVm};
use crate::launcher::{EmulatorLauncher, Launcher, VmLauncher};
use crate::names::BackendName;
use crate::process::Configuration;

/// The most processes on a back end, if nothing else is said.
const DEFAULT_CAPACITY: u32 = 64;

/// A back end that can be used.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its name.
    pub name: BackendName,
    /// What it launches with.
    pub settings: BackendSettings,
    /// What it launches for those who ask for a Keep of their own; `None` when it does not.
    pub keep: Option<KeepProgram>,
}

/// What a back end launches with.
#[derive(Clone, Debug)]
pub enum BackendSettings {
    /// Processes on the emulated platform.
    Process(ProcessBackend),
    /// Virtual machines.
    Vm(VmBackend),
}

/// Processes on the emulated platform.
#[derive(Clone, Debug)]
pub struct ProcessBackend {
    /// The control socket of the platform.
    pub socket: PathBuf,
    /// As what kinds of TEE.
    pub tees: Vec<Platform>,
    /// How many at a time.
    pub capacity: u32,
    /// What stands between them and this host.
    pub isolation: Isolation,
}

/// What stands between a process and the rest of its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Isolation {
    /// Which walls.
    pub walls: Walls,
    /// The range of user ids that processes are given, one each. Without it, they have the platform's.
    pub users: Option<Users>,
    /// Whose network they see.
    pub network: Network,
}

/// How much isolation is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Walls {
    /// None: what `bailey up` does on a developer's machine.
    #[default]
    None,
    /// All that this machine can build; `inspect` shows which.
    Available,
    /// All; where one cannot be built, nothing is launched.
    Required,
}

/// A range of user ids (and group ids) that belong to nobody else on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// Whose network a process sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The host's: workloads can listen and connect. Firewalls tell Keeps apart by their user ids.
    #[default]
    Host,
    /// None: only the relayed channel.
    None,
}

/// What a back end launches when a client asks for a Keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepProgram {
    /// The program, or what else the back end launches.
    pub executable: PathBuf,
    /// The measured launch configuration.
    pub configuration: Vec<u8>,
    /// Hints that are not measured.
    pub arguments: Vec<String>,
}

/// As it is written: `{"process": {"name": "emulated", "platform": "platform", …}}`.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Wire {
    Process(WireProcess),
    Vm(WireVm),
    Snp(WireVm),
    Tdx(WireVm),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireProcess {
    name: BackendName,
    /// The directory of the emulated platform.
    platform: PathBuf,
    #[serde(default = "emulated_tees")]
    tees: Vec<Platform>,
    #[serde(default = "default_capacity")]
    capacity: u32,
    #[serde(default = "available")]
    isolation: Walls,
    users: Option<Users>,
    #[serde(default)]
    network: Network,
    keep: Option<WireKeep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireKeep {
    executable: PathBuf,
    #[serde(default = "direct")]
    configuration: Configuration,
    #[serde(default)]
    arguments: Vec<String>,
}

fn emulated_tees() -> Vec<Platform> {
    Platform::KEEPS.to_vec()
}

fn default_capacity() -> u32 {
    DEFAULT_CAPACITY
}

fn available() -> Walls {
    Walls::Available
}

/// The launch configuration of a Keep that takes one client and one deployment.
fn direct() -> Configuration {
    Configuration::Text(r#"{"direct":{"version":1}}"#.to_owned())
}

impl Wire {
    /// Resolves paths against `base`. Faults are told below `path`.
    pub(super) fn resolve(self, base: &Path, path: &str, faults: &mut Vec<Fault>) -> Option<Backend> {
        match self {
            Self::Process(wire) => wire.resolve(base, &format!("{path}.process."), faults),
            Self::Vm(wire) => wire.resolve(Platform::Tpm, base, &format!("{path}.vm."), faults),
            Self::Snp(wire) => wire.resolve(Platform::Snp, base, &format!("{path}.snp."), faults),
            Self::Tdx(wire) => wire.resolve(Platform::Tdx, base, &format!("{path}.tdx."), faults),
        }
    }
}

impl WireProcess {
    fn resolve(self, base: &Path, path: &str, faults: &mut Vec<Fault>) -> Option<Backend> {
        let mut fault =
            |field: &str, problem: String| faults.push(Fault { path: format!("{path}{field}"), problem });
        if self.tees.is_empty() || !self.tees.iter().all(|tee| Platform::KEEPS.contains(tee)) {
            fault("tees", "one or more of sgx, tdx, snp".to_owned());
        }
        if self.capacity == 0 {
            fault("capacity", "at least 1".to_owned());
        }
        if let Some(users) = self.users
            && (users.first < 1000 || users.count == 0 || users.first.checked_add(users.count).is_none())
        {
            fault("users", "a range of user ids from 1000 on".to_owned());
        }
        if self.users.is_some_and(|users| users.count < self.capacity) {
            fault("users", format!("fewer than the capacity of {}", self.capacity));
        }
        let keep = match self.keep.map(|keep| keep.resolve(base)) {
            None => None,
            Some(Ok(keep)) => Some(keep),
            Some(Err((field, problem))) => {
                fault(&format!("keep.{field}"), problem);
                None
            }
        };
        let settings = BackendSettings::Process(ProcessBackend {
            socket: emulator::control::socket_path(&base.join(self.platform)),
            tees: self.tees,
            capacity: self.capacity,
            isolation: Isolation { walls: self.isolation, users: self.users, network: self.network },
        });
        Some(Backend { name: self.name, settings, keep })
    }
}

impl WireKeep {
    pub(super) fn resolve(self, base: &Path) -> Result<KeepProgram, (&'static str, String)> {
        let configuration = self.configuration.read(base).map_err(|problem| ("configuration", problem))?;
        Ok(KeepProgram { executable: base.join(self.executable), configuration, arguments: self.arguments })
    }
}

impl Backend {
    /// The emulated platform behind a control socket, without isolation.
    pub(super) fn emulated(socket: &Path) -> Self {
        Self {
            name: "process".to_owned().try_into().unwrap_or_else(|_| unreachable!("a name")),
            settings: BackendSettings::Process(ProcessBackend {
                socket: socket.to_owned(),
                tees: emulated_tees(),
                capacity: 256,
                isolation: Isolation::default(),
            }),
            keep: None,
        }
    }

    /// As what kinds of TEE it launches.
    pub(super) fn platforms(&self) -> &[Platform] {
        match &self.settings {
            BackendSettings::Process(settings) => &settings.tees,
            BackendSettings::Vm(settings) => std::slice::from_ref(&settings.platform),
        }
    }

    /// Builds it. `users` is where it is noted which user ids are taken.
    pub(crate) fn launcher(&self, users: &Path) -> Arc<dyn Launcher> {
        match &self.settings {
            BackendSettings::Process(settings) => {
                Arc::new(EmulatorLauncher::new(self.name.clone(), settings.clone(), users))
            }
            BackendSettings::Vm(settings) => Arc::new(VmLauncher::new(self.name.clone(), settings.clone())),
        }
    }
}

/// The loopback addresses, where alone an unauthenticated API may listen.
pub(super) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().is_loopback()
}
