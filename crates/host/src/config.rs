//! The agent's configuration: a JSON file, read whole and checked whole before anything is started.

mod api;
mod backends;
mod machines;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::backoff::BackoffPolicy;
use crate::launcher::Life;
use crate::process::{self, Process, ProcessSpec};

pub(crate) use api::OPEN;
pub use api::{Api, Keeps, Quota, Tenant};
pub use backends::{Backend, BackendSettings, Isolation, KeepProgram, Network, ProcessBackend, Users, Walls};
pub use machines::VmBackend;

/// The largest configuration file, in bytes.
const MAX_FILE: usize = 4 << 20;

/// What the agent does from the start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The agent's directory: its socket and its logs. Made (mode 0700) if it does not exist.
    pub directory: PathBuf,
    /// What launches.
    pub backends: Vec<Backend>,
    /// What to launch.
    pub processes: Vec<Process>,
    /// How to wait between launches.
    pub backoff: BackoffPolicy,
    /// The size in bytes at which a log file is set aside.
    pub log_limit: u64,
    /// Whether processes go on when the agent does not.
    pub life: Life,
    /// The HTTPS API, if there is one.
    pub api: Option<Api>,
    /// Where clients' Keeps keep volumes: a folder for each tenant.
    pub volumes: PathBuf,
}

/// The folder of volumes in the agent's own.
const VOLUMES: &str = "volumes";

/// The size at which a log file is set aside if nothing else is said: 8 MiB.
pub(crate) const DEFAULT_LOG_LIMIT: u64 = 8 << 20;

/// The file: paths are relative to its own directory.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    directory: PathBuf,
    /// The directory of the emulated platform: short for one back end without isolation.
    platform: Option<PathBuf>,
    #[serde(default)]
    backends: Vec<backends::Wire>,
    #[serde(default)]
    processes: Vec<ProcessSpec>,
    #[serde(default)]
    backoff: BackoffPolicy,
    #[serde(default = "default_log_limit")]
    log_limit: u64,
    /// With an API: beyond the agent, if nothing else is said.
    life: Option<Life>,
    api: Option<api::Wire>,
    /// In the agent's own directory, if nothing else is said.
    volumes: Option<PathBuf>,
    #[serde(default)]
    tenants: Vec<api::WireTenant>,
    #[serde(default)]
    keeps: Keeps,
}

fn default_log_limit() -> u64 {
    DEFAULT_LOG_LIMIT
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// It is no configuration.
    #[error("not a host configuration: {0}")]
    Malformed(String),
    /// All that is wrong in it.
    #[error("the host configuration has {} fault(s):{}", .0.len(), list(.0))]
    Faults(Vec<Fault>),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: `processes[0].executable`.
    pub path: String,
    /// What.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

impl Config {
    /// An agent in `directory` that launches on the platform behind `platform_socket`, and nothing yet.
    pub fn new(directory: &Path, platform_socket: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            backends: vec![Backend::emulated(platform_socket)],
            processes: Vec::new(),
            backoff: BackoffPolicy::default(),
            log_limit: DEFAULT_LOG_LIMIT,
            life: Life::WithAgent,
            api: None,
            volumes: directory.join(VOLUMES),
        }
    }

    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// When it cannot be read, or with every fault in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let path = std::path::absolute(path).map_err(unreadable)?;
        let bytes = process::read_regular(&path, MAX_FILE).map_err(unreadable)?;
        Self::parse(&bytes, path.parent().unwrap_or(&path))
    }

    /// Checks a configuration; its paths are relative to `base`.
    ///
    /// # Errors
    /// With every fault in it.
    pub fn parse(bytes: &[u8], base: &Path) -> Result<Self, ConfigError> {
        let wire: Wire =
            serde_json::from_slice(bytes).map_err(|error| ConfigError::Malformed(error.to_string()))?;
        let mut faults = Vec::new();
        let mut names = BTreeSet::new();
        let mut processes = Vec::new();
        for (index, spec) in wire.processes.into_iter().enumerate() {
            let path = format!("processes[{index}].");
            if !names.insert(spec.name.clone()) {
                let problem = format!("there is a process {} already", spec.name);
                faults.push(Fault { path: format!("{path}name"), problem });
            }
            processes.extend(spec.resolve(base, &path, &mut faults));
        }
        let socket = wire.platform.map(|platform| emulator::control::socket_path(&base.join(platform)));
        let mut backends: Vec<Backend> = socket.iter().map(|socket| Backend::emulated(socket)).collect();
        for (index, wire) in wire.backends.into_iter().enumerate() {
            let path = format!("backends[{index}]");
            let Some(backend) = wire.resolve(base, &path, &mut faults) else { continue };
            if backends.iter().any(|other| other.name == backend.name) {
                let problem = format!("there is a back end {} already", backend.name);
                faults.push(Fault { path, problem });
            }
            backends.push(backend);
        }
        if backends.is_empty() {
            let problem = "there is no back end, and no platform".to_owned();
            faults.push(Fault { path: "backends".to_owned(), problem });
        }
        for (index, process) in processes.iter().enumerate() {
            let known = |name: &crate::names::BackendName| {
                backends.iter().any(|backend: &Backend| backend.name == *name)
            };
            if let Some(name) = process.backend.as_ref().filter(|name| !known(name)) {
                let path = format!("processes[{index}].backend");
                faults.push(Fault { path, problem: format!("there is no back end {name}") });
            }
            let launching =
                backends.iter().find(|backend| process.is_for(&backend.name, backend.platforms()));
            let unfit = launching.map(|backend| backend.settings.unfit(process)).unwrap_or_default();
            faults.extend(unfit.into_iter().map(|unfit| {
                let path = format!("processes[{index}].{}", unfit.field);
                Fault { path, problem: unfit.problem }
            }));
        }
        doubled(&processes, &mut faults);
        let (tenants, keeps) = (wire.tenants, wire.keeps);
        let api = wire.api.map(|api| api.resolve(base, tenants, keeps, &mut faults));
        if api.is_some() && backends.iter().all(|backend| backend.keep.is_none()) {
            let problem = "the API has no back end that launches Keeps: give one a `keep`".to_owned();
            faults.push(Fault { path: "api".to_owned(), problem });
        }
        if !faults.is_empty() {
            return Err(ConfigError::Faults(faults));
        }
        let life = wire.life.unwrap_or(if api.is_some() { Life::BeyondAgent } else { Life::WithAgent });
        let directory = base.join(wire.directory);
        Ok(Self {
            volumes: wire.volumes.map_or_else(|| directory.join(VOLUMES), |path| base.join(path)),
            directory,
            backends,
            processes,
            backoff: wire.backoff,
            log_limit: wire.log_limit,
            life,
            api,
        })
    }
}

/// A port of this host leads to one machine only.
fn doubled(processes: &[Process], faults: &mut Vec<Fault>) {
    let mut taken = std::collections::BTreeMap::new();
    for (index, process) in processes.iter().enumerate() {
        for (port, forward) in process.ports.iter().enumerate() {
            let path = format!("processes[{index}].ports[{port}].host");
            if let Some(first) = taken.insert(forward.host, path.clone()) {
                faults.push(Fault { path, problem: format!("{} is that of {first} already", forward.host) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{LogDestination, Restart};

    fn parse(json: &str) -> Result<Config, ConfigError> {
        Config::parse(json.as_bytes(), Path::new("/base"))
    }

    #[test]
    fn a_configuration_is_resolved_against_its_own_directory() {
        let config = parse(
            r#"{"directory": "host", "platform": "/platform", "processes": [
                {"name": "tally", "platform": "snp", "executable": "bin/keep",
                 "configuration": {"hex": "00ff"}, "arguments": ["--listen"], "restart": "never",
                 "volumes": "data", "workload": "tally.wasm"}]}"#,
        )
        .unwrap();
        assert_eq!(config.directory, Path::new("/base/host"));
        let BackendSettings::Process(backend) = &config.backends[0].settings else { panic!("processes") };
        assert_eq!(backend.socket, Path::new("/platform/control.sock"));
        let tally = &config.processes[0];
        assert_eq!(tally.executable, Path::new("/base/bin/keep"));
        assert_eq!(tally.configuration, [0, 0xff]);
        assert_eq!(
            tally.arguments(),
            ["--listen", "--workload", "/base/tally.wasm", "--volumes", "/base/data"]
        );
        assert_eq!(config.volumes, Path::new("/base/host/volumes"));
        assert_eq!((tally.log, tally.restart), (LogDestination::File, Restart::Never));
        assert_eq!((config.backoff, config.log_limit), (BackoffPolicy::default(), DEFAULT_LOG_LIMIT));
    }

    #[test]
    fn all_faults_are_told_with_their_path() {
        let Err(ConfigError::Faults(faults)) = parse(
            r#"{"directory": "host", "platform": "p", "processes": [
                {"name": "a", "platform": "snp", "executable": "x", "configuration": {"hex": "0"}},
                {"name": "a", "platform": "tdx", "executable": "x", "configuration": {"file": "/nowhere"}}]}"#,
        ) else {
            panic!("accepted")
        };
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["processes[0].configuration", "processes[1].name", "processes[1].configuration"]);
    }

    #[test]
    fn machines_are_back_ends_with_a_platform_of_their_own() {
        let config = parse(
            r#"{"directory": "host", "backends": [
                {"vm": {"name": "vm", "keep": {"executable": "keep.image"}}}, {"snp": {"name": "snp"}},
                {"tdx": {"name": "tdx", "processors": 4, "capacity": 9, "outgoing": true}}], "processes": []}"#,
        )
        .unwrap();
        let machines: Vec<_> = config
            .backends
            .iter()
            .map(|backend| match &backend.settings {
                BackendSettings::Vm(machines) => machines.clone(),
                BackendSettings::Process(_) => panic!("machines"),
            })
            .collect();
        use evidence::Platform;
        let platforms: Vec<_> = machines.iter().map(|machine| machine.platform).collect();
        assert_eq!(platforms, [Platform::Tpm, Platform::Snp, Platform::Tdx]);
        assert_eq!(machines[0].authority, Path::new("/base/tpm-authority"));
        assert_eq!((machines[0].outgoing, machines[0].capacity, machines[0].processors), (false, 4, 1));
        assert_eq!((machines[2].outgoing, machines[2].capacity, machines[2].processors), (true, 9, 4));
        let keep = config.backends[0].keep.as_ref().unwrap();
        assert_eq!(keep.executable, Path::new("/base/keep.image"));
        let none = r#"{"directory": "d", "backends": [{"vm": {"name": "a", "capacity": 0, "processors": 0}}], "processes": []}"#;
        let Err(ConfigError::Faults(faults)) = parse(none) else { panic!("accepted") };
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["backends[0].vm.capacity", "backends[0].vm.processors"]);
    }

    /// A back end of machines, which reach others or not, and one process in a machine, with these fields.
    fn in_a_machine(outgoing: bool, fields: &str) -> Result<Config, ConfigError> {
        parse(&format!(
            r#"{{"directory": "host", "backends": [{{"vm": {{"name": "vm", "outgoing": {outgoing}}}}}],
                "processes": [{{"name": "shop", "platform": "tpm", "executable": "keep.image"{fields}}}]}}"#
        ))
    }

    #[test]
    fn a_marble_in_a_machine_is_described_whole() {
        let fields = r#", "workload": "shop.wasm", "volumes": "data",
            "arguments": ["--coordinator", "10.0.2.2:4433", "--listen=0.0.0.0:8443", "--peer", "tally=10.0.2.2:1"],
            "ports": [{"host": "0.0.0.0:443", "guest": 8443}, {"host": "127.0.0.1:9000", "guest": 9000}]"#;
        let config = in_a_machine(true, fields).unwrap();
        let shop = &config.processes[0];
        assert_eq!(shop.workload.as_deref(), Some(Path::new("/base/shop.wasm")));
        assert_eq!(shop.volumes.as_deref(), Some(Path::new("/base/data")));
        let ports: Vec<_> = shop.ports.iter().map(|port| (port.host.to_string(), port.guest)).collect();
        assert_eq!(ports, [("0.0.0.0:443".to_owned(), 8443), ("127.0.0.1:9000".to_owned(), 9000)]);
        // The next agent has it by its description.
        let again = shop.spec().resolve(Path::new("/"), "", &mut Vec::new()).unwrap();
        assert_eq!(again, *shop);
    }

    #[test]
    fn what_keeps_a_marble_from_its_machine_is_told_with_what_mends_it() {
        let fault = |outgoing, fields: &str| {
            let Err(ConfigError::Faults(faults)) = in_a_machine(outgoing, fields) else { panic!("{fields}") };
            assert_eq!(faults.len(), 1, "{faults:?}");
            faults[0].to_string()
        };
        for (outgoing, fields, path, mend) in [
            (
                false,
                r#""arguments": ["--coordinator", "mesh:1"]"#,
                "backend",
                "`outgoing` of the back end to true",
            ),
            (true, r#""arguments": ["--coordinator=127.0.0.1:4433"]"#, "arguments", "10.0.2.2:4433"),
            (true, r#""arguments": ["--peer", "a=localhost:7"]"#, "arguments", "10.0.2.2:7"),
            (true, r#""arguments": ["--listen", "0.0.0.0:8443"]"#, "ports", r#""guest": 8443}"#),
            (true, r#""arguments": ["--listen", "127.0.0.1:8443"]"#, "arguments", "0.0.0.0:8443"),
            (true, r#""arguments": ["--workload", "x"]"#, "arguments", "the process's field `workload`"),
            (true, r#""arguments": ["--volumes", "x"]"#, "arguments", "the process's field `volumes`"),
            (
                true,
                r#""workload": "x", "arguments": ["--package", "r/x@sha256:0"]"#,
                "workload",
                "one of both",
            ),
            (true, r#""ports": [{"host": "127.0.0.1:0", "guest": 1}]"#, "ports[0].host", "1 to 65535"),
            (true, r#""ports": [{"host": "127.0.0.1:1", "guest": 0}]"#, "ports[0].guest", "1 to 65535"),
            (
                true,
                r#""ports": [{"host": "127.0.0.1:1", "guest": 1}, {"host": "127.0.0.1:1", "guest": 2}]"#,
                "ports[1].host",
                "that of processes[0].ports[0].host already",
            ),
        ] {
            let said = fault(outgoing, &format!(", {fields}"));
            assert!(said.starts_with(&format!("processes[0].{path}: ")) && said.contains(mend), "{said}");
        }
        let outside = r#"{"directory": "d", "platform": "p", "processes": [{"name": "a", "platform": "snp",
            "executable": "x", "ports": [{"host": "127.0.0.1:1", "guest": 1}]}]}"#;
        let Err(ConfigError::Faults(faults)) = parse(outside) else { panic!("accepted") };
        assert_eq!(faults[0].path, "processes[0].ports");
    }

    #[test]
    fn unknown_fields_are_refused() {
        for json in [
            r#"{"directory": "d", "platform": "p", "processes": [], "debug": true}"#,
            r#"{"directory": "d", "platform": "p", "processes": [
                {"name": "a", "platform": "snp", "executable": "x", "environment": {}}]}"#,
            r#"{"directory": "d", "platform": "p", "processes": [
                {"name": "../a", "platform": "snp", "executable": "x"}]}"#,
            r#"{"directory": "d", "platform": "p", "processes": [
                {"name": "a", "platform": "snp", "executable": "x", "ports": [{"host": "[::1]:1", "guest": 1}]}]}"#,
            r#"{"directory": "d", "platform": "p", "processes": [], "backoff": {"first_ms": 1}}"#,
            r#"{"directory": "d", "backends": [{"process": {"name": "p", "platform": "p", "debug": 1}}]}"#,
            r#"{"directory": "d", "backends": [{"vm": {"name": "p", "debug": 1}}]}"#,
            r#"{"directory": "d", "platform": "p", "api": {"listen": "127.0.0.1:1", "trust": "all"}}"#,
            r#"{"directory": "d", "platform": "p", "keeps": {"warmth": 1}}"#,
        ] {
            assert!(matches!(parse(json), Err(ConfigError::Malformed(_))), "{json}");
        }
    }
}
