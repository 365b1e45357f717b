//! Storage, secrets, limits, and who reads the workload's output.

use std::time::Duration;

/// Encrypted storage on the host, which outlives the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name: 1 to 63 of `a`–`z`, `0`–`9` and `-`.
    pub name: String,
    /// Where the workload finds it: an absolute path.
    pub path: String,
    /// Most bytes of content.
    pub size: u64,
    /// Whether the workload may only read.
    pub read_only: bool,
}

/// Storage in the Keep's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where the workload finds it: an absolute path.
    pub path: String,
    /// Most bytes of content.
    pub size: u64,
}

/// A secret for the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Which: a name that the deployment or the manifest gives it.
    pub name: String,
    /// Where the workload finds it.
    pub place: SecretPlace,
}

/// Where the workload finds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// In this environment variable.
    Env(String),
    /// In this file, which only exists in the Keep's memory: an absolute path.
    File(String),
}

/// What a workload may use. Exceeding one ends the workload (a command) or the request (HTTP), with a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, in bytes.
    pub memory: u64,
    /// Processor time of one run, or of one request; `None`: no bound for commands, the Keep's default for requests.
    pub cpu: Option<Duration>,
    /// Time from start to end of one run, or of one request; `None`: the same.
    pub wall: Option<Duration>,
    /// Files, directories and streams open at a time.
    pub open_files: u32,
    /// Connections at a time, in both directions.
    pub connections: u32,
    /// Bytes that a command may print, over both streams; `None`: no bound.
    pub output: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 128 << 20, cpu: None, wall: None, open_files: 1024, connections: 1024, output: None }
    }
}

/// Who may read what the workload prints, besides the caller of a direct deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Log {
    /// Nobody.
    #[default]
    Nobody,
    /// The host.
    Host,
    /// Whoever holds the private half of this key: an X25519 public key, 32 bytes. Lines reach the host encrypted to it.
    Owner([u8; 32]),
}
