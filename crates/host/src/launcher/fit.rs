//! Whether a back end can launch a process as it is described: told when the configuration is read, and before each launch,
//! since processes are launched over the socket, too. What the Keep says of its arguments itself is not repeated here; a
//! machine would boot first.

use std::net::{Ipv4Addr, SocketAddr};

use crate::config::{BackendSettings, VmBackend};
use crate::process::Process;

/// The host's loopback address, as a machine has it.
const HOST: &str = "10.0.2.2";

/// What keeps a back end from launching a process, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Unfit {
    /// The field of the process.
    pub field: &'static str,
    /// Why, and what mends it.
    pub problem: String,
}

fn unfit(field: &'static str, problem: String) -> Unfit {
    Unfit { field, problem }
}

impl BackendSettings {
    /// All that keeps a back end with these settings from launching `process`.
    pub(crate) fn unfit(&self, process: &Process) -> Vec<Unfit> {
        match self {
            Self::Process(_) => outside(process),
            Self::Vm(settings) => settings.unfit(process),
        }
    }
}

/// Of a process that is in no machine.
pub(super) fn outside(process: &Process) -> Vec<Unfit> {
    if process.ports.is_empty() {
        return Vec::new();
    }
    let problem = "these lead into virtual machines, and this back end has none: its processes listen at addresses of this \
                   host themselves; remove them"
        .to_owned();
    vec![unfit("ports", problem)]
}

impl VmBackend {
    /// All that keeps a machine of this back end from being launched with `process` in it.
    pub(crate) fn unfit(&self, process: &Process) -> Vec<Unfit> {
        let mut found = Vec::new();
        let mut connects = false;
        for (option, value) in options(&process.arguments) {
            match option {
                "--coordinator" => {
                    connects = true;
                    found.extend(elsewhere(option, value));
                }
                "--peer" => {
                    found.extend(elsewhere(option, value.split_once('=').map_or(value, |(_, at)| at)));
                }
                "--package" if process.workload.is_some() => {
                    let problem = format!("{option} {value} names another one: keep one of both");
                    found.push(unfit("workload", problem));
                }
                "--listen" => found.extend(listening(value, process)),
                "--workload" | "--volumes" | "--storage" => {
                    let field = if option == "--workload" { "workload" } else { "volumes" };
                    let problem = format!(
                        "{option}: a machine shares no files with this host; name them in the process's field `{field}`"
                    );
                    found.push(unfit("arguments", problem));
                }
                _ => {}
            }
        }
        if connects && !self.outgoing {
            let problem =
                "its Keep connects to a coordinator, and machines of this back end connect to nobody: set \
                           `outgoing` of the back end to true; docs/vm-guest.md says what they reach then"
                    .to_owned();
            found.push(unfit("backend", problem));
        }
        found
    }
}

/// Options with their values, in both ways to write them.
fn options(arguments: &[String]) -> impl Iterator<Item = (&str, &str)> {
    arguments.iter().enumerate().filter(|(_, argument)| argument.starts_with("--")).map(
        |(index, argument)| {
            let next = || arguments.get(index + 1).map_or("", String::as_str);
            argument.split_once('=').unwrap_or_else(|| (argument, next()))
        },
    )
}

/// Where the Keep is to connect to must not be the machine itself.
fn elsewhere(option: &str, address: &str) -> Option<Unfit> {
    let (name, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let own =
        name == "localhost" || name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()) || name == "[::1]";
    own.then(|| {
        let problem = format!(
            "{option} {address}: that is the machine itself; this host's loopback address is {HOST} there: {HOST}:{port}"
        );
        unfit("arguments", problem)
    })
}

/// What the Keep listens at must be reached.
fn listening(address: &str, process: &Process) -> Option<Unfit> {
    // What is no address, the Keep says.
    let address: SocketAddr = address.parse().ok()?;
    let port = address.port();
    if address.ip().is_loopback() {
        let problem =
            format!("--listen {address}: nobody outside of the machine reaches that: 0.0.0.0:{port}");
        return Some(unfit("arguments", problem));
    }
    let leads = process.ports.iter().any(|forward| forward.guest == port);
    (!leads).then(|| {
        let problem = format!(
            "its Keep listens at port {port} of the machine, and no port of this host leads there: add \
             {{\"host\": \"IP:PORT\", \"guest\": {port}}}"
        );
        unfit("ports", problem)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;
    use crate::launcher::{EmulatorLauncher, LaunchError, Launcher, Life, Site, VmLauncher};

    /// Also what comes over the socket, which no configuration was checked with.
    #[test]
    fn nothing_is_launched_as_it_could_not_run() {
        let text = r#"{"directory": "d", "backends": [{"vm": {"name": "vm"}}, {"process": {"name": "p", "platform": "p"}}],
            "processes": [{"name": "shop", "platform": "tpm", "executable": "x"}]}"#;
        let config = Config::parse(text.as_bytes(), Path::new("/nowhere")).unwrap();
        let [machines, processes] = &config.backends[..] else { panic!("two") };
        let BackendSettings::Vm(settings) = machines.settings.clone() else { panic!("machines") };
        let in_machines = VmLauncher::new(machines.name.clone(), settings);
        let BackendSettings::Process(settings) = processes.settings.clone() else { panic!("processes") };
        let outside = EmulatorLauncher::new(processes.name.clone(), settings, Path::new("/nowhere"));
        let site = Site::new("/nowhere/site".into(), Life::WithAgent);
        let mut process = config.processes[0].clone();
        process.arguments = vec!["--coordinator".into(), "mesh:4433".into()];
        let refused = in_machines.launch(&process, &site).err();
        assert!(matches!(refused, Some(LaunchError::Unfit(Unfit { field: "backend", .. }))), "{refused:?}");
        process.ports = vec![vm::Forward { host: "127.0.0.1:1".parse().unwrap(), guest: 1 }];
        let refused = outside.launch(&process, &site).err();
        assert!(matches!(refused, Some(LaunchError::Unfit(Unfit { field: "ports", .. }))), "{refused:?}");
        process.arguments.clear();
        process.workload = Some("/nowhere/shop.wasm".into());
        let refused = in_machines.launch(&process, &site).err();
        assert!(matches!(refused, Some(LaunchError::Workload { .. })), "{refused:?}");
    }
}
