//! What the coordinator gives an admitted Keep for its workload: arguments, environment, files, peers and
//! limits. Everything here was decided by the manifest, except the peers' addresses, which are the host's
//! hints and prove nothing.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use keep_config::KeepConfig;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{runtime::Pool, volumes::Volumes};

/// The world of one workload.
#[derive(Clone, Default)]
pub struct Admission {
    /// The Marble that this Keep was admitted as.
    pub marble: String,
    /// The workload's arguments; the first is its name.
    pub args: Vec<String>,
    /// The workload's whole environment. May hold secrets.
    pub env: BTreeMap<String, String>,
    /// Absolute path in the workload's file system → content. May hold secrets.
    pub files: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Marble that the workload may reach as `http://NAME/` → `host:port` where the host says it listens.
    pub peers: BTreeMap<String, String>,
    /// What one request, and all of them together, may use.
    pub limits: Limits,
    /// Where the workload's standard output goes.
    pub log: LogPolicy,
    /// What else it finds; its secrets are among environment and files.
    pub config: Option<Arc<KeepConfig>>,
    /// Its volumes, opened.
    pub volumes: Volumes,
}

/// Names and numbers only: environment and files may be secret.
impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("marble", &self.marble)
            .field("args", &self.args.len())
            .field("env", &self.env.keys())
            .field("files", &self.files.keys())
            .field("peers", &self.peers)
            .field("limits", &self.limits)
            .field("log", &self.log)
            .field("volumes", &self.volumes.keys())
            .finish()
    }
}

/// What a workload may use. Exceeding one ends the request, never the Keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory of one instance (there is one for each request), in bytes.
    pub memory_bytes: u64,
    /// Processor time of one request, in milliseconds.
    pub cpu_ms_per_request: u64,
    /// Time from a request's arrival to its instance's end, in milliseconds.
    pub wall_ms_per_request: u64,
    /// Instances at a time; further requests wait a moment, and are then refused.
    pub max_concurrent_requests: u32,
    /// Connections at a time; further ones wait to be accepted.
    pub max_connections: u32,
    /// Body of one request, in bytes.
    pub max_body_bytes: u64,
    /// All keys and values of the key-value store, in bytes.
    pub keyvalue_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            cpu_ms_per_request: 2_000,
            wall_ms_per_request: 60_000,
            max_concurrent_requests: 64,
            max_connections: 1024,
            max_body_bytes: 8 << 20,
            keyvalue_bytes: 16 << 20,
        }
    }
}

impl Limits {
    /// What a configuration says, if it says anything, instead.
    pub(crate) fn take(&mut self, config: &keep_config::Limits) {
        if *config == keep_config::Limits::default() {
            return;
        }
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.memory_bytes = config.memory;
        self.cpu_ms_per_request = config.cpu.map_or(self.cpu_ms_per_request, ms);
        self.wall_ms_per_request = config.wall.map_or(self.wall_ms_per_request, ms);
        self.max_connections = config.connections;
    }

    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_millis(self.cpu_ms_per_request)
    }

    pub(crate) fn wall(&self) -> Duration {
        Duration::from_millis(self.wall_ms_per_request)
    }

    /// An engine for workloads with these limits.
    pub fn pool(&self) -> Pool {
        Pool { instances: self.max_concurrent_requests, memory: self.memory_bytes }
    }
}

/// Where the workload's standard output and error go. The host reads the Keep's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogPolicy {
    /// Counted, and thrown away.
    #[default]
    Discard,
    /// Written to the Keep's log, line by line, where the host can read it.
    Host,
    /// Written there encrypted to this X25519 public key.
    Owner([u8; 32]),
}

impl LogPolicy {
    /// What a configuration says.
    pub(crate) fn of(log: &keep_config::Log) -> Self {
        match log {
            keep_config::Log::Nobody => Self::Discard,
            keep_config::Log::Host => Self::Host,
            keep_config::Log::Owner(key) => Self::Owner(*key),
        }
    }
}
