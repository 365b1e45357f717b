//! What the agent keeps running: the description of one process, as it is written ([`ProcessSpec`]) and as
//! it is used ([`Process`]), with nothing left to be checked.

use std::fs::{DirBuilder, Permissions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use emulator::control::MAX_CONFIGURATION;
use evidence::Platform;
use rustix::fs::{FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};
use vm::Forward;

use crate::config::Fault;
use crate::names::{BackendName, ProcessName};

/// A process that can be launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its name on this host.
    pub name: ProcessName,
    /// As what kind of TEE.
    pub platform: Platform,
    /// On which back end; the first that launches this kind of TEE, if none is named.
    pub backend: Option<BackendName>,
    /// The program, an absolute path, no symbolic link; or what else the back end launches, such as the folder
    /// of a guest image.
    pub executable: PathBuf,
    /// The measured launch configuration.
    pub configuration: Vec<u8>,
    /// Hints that are not measured.
    pub arguments: Vec<String>,
    /// Where its output goes, besides to those who watch.
    pub log: LogDestination,
    /// When it is launched again.
    pub restart: Restart,
    /// Whether clients are to be connected to it: then the back end says where ([`crate::Reach`]).
    pub channel: Channel,
    /// What it may use of this machine.
    pub limits: Limits,
    /// Where it keeps volumes: a folder of its own, which it is told by `--volumes`, and which is within its walls. For one
    /// in a machine the agent answers for its files.
    pub volumes: Option<PathBuf>,
    /// A Marble's workload: a file, which it is told by `--workload`. One in a machine has a copy, made at each launch.
    pub workload: Option<PathBuf>,
    /// Ports of this host that lead to its machine.
    pub ports: Vec<Forward>,
}

/// Whether a process listens for clients that the agent connects to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// It finds its clients, or they find it, without the agent.
    #[default]
    None,
    /// It listens where only the agent connects.
    Relayed,
}

/// What a process may use of this machine. What is not said is not limited; what the back end cannot enforce
/// is refused or reported by it, never passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory, in MiB.
    pub memory_mib: Option<u64>,
    /// Processor time, in thousandths of one processor.
    pub cpu_milli: Option<u32>,
}

/// Where the output of a process is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogDestination {
    /// In `logs/NAME.log`, and what was before that in `logs/NAME.log.1`.
    #[default]
    File,
    /// Nowhere.
    Discard,
}

/// When a process that has ended is launched again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// In any case: a service.
    #[default]
    Always,
    /// Unless it ended with exit code 0.
    OnFailure,
    /// Not at all: a task.
    Never,
}

/// A process as it is written in a file or a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// Its name.
    pub name: ProcessName,
    /// As what kind of TEE.
    pub platform: Platform,
    /// On which back end; the first that launches this kind of TEE, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendName>,
    /// Its program.
    pub executable: PathBuf,
    /// Its measured launch configuration; empty if missing.
    #[serde(default)]
    pub configuration: Configuration,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Where its output goes.
    #[serde(default)]
    pub log: LogDestination,
    /// When it is launched again.
    #[serde(default)]
    pub restart: Restart,
    /// What it may use of this machine.
    #[serde(default)]
    pub limits: Limits,
    /// Where it keeps volumes: a folder of its own, which it is told by `--volumes`, and which is within its walls. For one
    /// in a machine the agent answers for its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<PathBuf>,
    /// A Marble's workload: a file, which it is told by `--workload`. One in a machine has a copy, made at each launch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<PathBuf>,
    /// Ports of this host that lead to its machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Forward>,
}

/// Where the bytes of a launch configuration come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Configuration {
    /// This text, as UTF-8.
    Text(String),
    /// These bytes, in hexadecimal.
    Hex(String),
    /// The bytes of this file: no symbolic link.
    File(PathBuf),
}

impl Default for Configuration {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Process {
    /// The description that resolves to this.
    #[must_use]
    pub fn spec(&self) -> ProcessSpec {
        ProcessSpec {
            name: self.name.clone(),
            platform: self.platform,
            backend: self.backend.clone(),
            executable: self.executable.clone(),
            configuration: Configuration::Hex(hex::encode(&self.configuration)),
            arguments: self.arguments.clone(),
            log: self.log,
            restart: self.restart,
            limits: self.limits,
            volumes: self.volumes.clone(),
            workload: self.workload.clone(),
            ports: self.ports.clone(),
        }
    }

    /// What it is launched with beside this host's files: its own arguments, and where workload and volumes are.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let files = [("--workload", &self.workload), ("--volumes", &self.volumes)].into_iter();
        let files = files.filter_map(|(option, path)| Some((option, path.as_ref()?)));
        let files = files.flat_map(|(option, path)| [option.to_owned(), path.display().to_string()]);
        self.arguments.iter().cloned().chain(files).collect()
    }

    /// Whether it is to be launched by a back end of this name, which launches these kinds of TEE.
    pub(crate) fn is_for(&self, backend: &BackendName, platforms: &[Platform]) -> bool {
        self.backend.as_ref().is_none_or(|name| name == backend) && platforms.contains(&self.platform)
    }

    /// Makes the folder of its volumes, if it has one and it is not there. Each launch may have another user id, so what
    /// keeps others out is the folder above, which is this agent's alone.
    pub(crate) fn make_volumes(&self) -> std::io::Result<()> {
        self.volumes.as_deref().map_or(Ok(()), make_folder)
    }
}

/// Makes the folder of somebody's volumes. The one above it lets nobody else in.
pub(crate) fn make_folder(path: &Path) -> std::io::Result<()> {
    if let Some(above) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(above)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(0o777)),
    }
}

impl ProcessSpec {
    /// Resolves paths against `base` and reads the configuration. Faults are told below `path`.
    pub(crate) fn resolve(self, base: &Path, path: &str, faults: &mut Vec<Fault>) -> Option<Process> {
        let mut fault =
            |field: &str, problem: String| faults.push(Fault { path: format!("{path}{field}"), problem });
        for (index, Forward { host, guest }) in self.ports.iter().enumerate() {
            for (name, _) in [("host", host.port()), ("guest", *guest)].into_iter().filter(|it| it.1 == 0) {
                fault(&format!("ports[{index}].{name}"), "a port from 1 to 65535".to_owned());
            }
        }
        let executable = base.join(&self.executable);
        if !executable.is_absolute() {
            fault("executable", format!("{} is not an absolute path", executable.display()));
            return None;
        }
        match self.configuration.read(base) {
            Ok(configuration) => Some(Process {
                name: self.name,
                platform: self.platform,
                backend: self.backend,
                executable,
                configuration,
                arguments: self.arguments,
                log: self.log,
                restart: self.restart,
                channel: Channel::None,
                limits: self.limits,
                volumes: self.volumes.map(|path| base.join(path)),
                workload: self.workload.map(|path| base.join(path)),
                ports: self.ports,
            }),
            Err(problem) => {
                fault("configuration", problem);
                None
            }
        }
    }
}

impl Configuration {
    pub(crate) fn read(&self, base: &Path) -> Result<Vec<u8>, String> {
        let bytes = match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Hex(text) => hex::decode(text).map_err(|error| format!("no hexadecimal: {error}"))?,
            Self::File(path) => {
                let path = base.join(path);
                read_regular(&path, MAX_CONFIGURATION)
                    .map_err(|error| format!("{}: {error}", path.display()))?
            }
        };
        if bytes.len() > MAX_CONFIGURATION {
            return Err(format!("{} bytes, at most {MAX_CONFIGURATION} are allowed", bytes.len()));
        }
        Ok(bytes)
    }
}

/// Reads a regular file of at most `limit` bytes, following no symbolic link (S-27).
pub(crate) fn read_regular(path: &Path, limit: usize) -> std::io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let status = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(std::io::Error::other("is no regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(std::io::Error::other(format!("is larger than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s27_a_configuration_is_read_without_following_links() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "bytes").unwrap();
        std::os::unix::fs::symlink("file", directory.path().join("link")).unwrap();
        std::fs::write(directory.path().join("large"), vec![0; MAX_CONFIGURATION + 1]).unwrap();
        let read = |name: &str| Configuration::File(name.into()).read(directory.path());
        assert_eq!(read("file").unwrap(), b"bytes");
        for name in ["link", "large", ".", "missing"] {
            assert!(read(name).is_err(), "{name}");
        }
    }
}
