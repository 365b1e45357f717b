//! What the agent keeps running: the description of one process, as it is written ([`ProcessSpec`]) and as
//! it is used ([`Process`]), with nothing left to be checked.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use emulator::control::MAX_CONFIGURATION;
use evidence::Platform;
use rustix::fs::{FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::config::Fault;

/// The name of a process on this host: 1 to 63 of `a`–`z`, `0`–`9` and `-`, a letter or digit first. It
/// becomes the name of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProcessName(String);

/// What is no [`ProcessName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no process name: 1 to 63 of a-z, 0-9 and '-', a letter or digit first")]
pub struct InvalidName(String);

impl ProcessName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ProcessName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let valid = (1..=63).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-');
        if valid { Ok(Self(name)) } else { Err(InvalidName(name)) }
    }
}

impl FromStr for ProcessName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        name.to_owned().try_into()
    }
}

impl From<ProcessName> for String {
    fn from(name: ProcessName) -> Self {
        name.0
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A process that can be launched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its name on this host.
    pub name: ProcessName,
    /// As what kind of TEE.
    pub platform: Platform,
    /// The program: an absolute path, no symbolic link.
    pub executable: PathBuf,
    /// The measured launch configuration.
    pub configuration: Vec<u8>,
    /// Hints that are not measured.
    pub arguments: Vec<String>,
    /// Where its output goes, besides to those who watch.
    pub log: LogDestination,
    /// When it is launched again.
    pub restart: Restart,
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
    /// `sgx`, `tdx` or `snp`.
    pub platform: Platform,
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

impl ProcessSpec {
    /// Resolves paths against `base` and reads the configuration. Faults are told below `path`.
    pub(crate) fn resolve(self, base: &Path, path: &str, faults: &mut Vec<Fault>) -> Option<Process> {
        let mut fault =
            |field: &str, problem: String| faults.push(Fault { path: format!("{path}{field}"), problem });
        let executable = base.join(&self.executable);
        if !executable.is_absolute() {
            fault("executable", format!("{} is not an absolute path", executable.display()));
            return None;
        }
        match self.configuration.read(base) {
            Ok(configuration) => Some(Process {
                name: self.name,
                platform: self.platform,
                executable,
                configuration,
                arguments: self.arguments,
                log: self.log,
                restart: self.restart,
            }),
            Err(problem) => {
                fault("configuration", problem);
                None
            }
        }
    }
}

impl Configuration {
    fn read(&self, base: &Path) -> Result<Vec<u8>, String> {
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
    fn s43_a_name_cannot_leave_its_directory() {
        for name in ["tally", "tally-2", "0", &"x".repeat(63)] {
            assert_eq!(name.parse::<ProcessName>().unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "a/b", "../x", "-x", "Tally", "a.log", "a\0", &"x".repeat(64)] {
            assert!(name.parse::<ProcessName>().is_err(), "{name:?}");
        }
    }

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
