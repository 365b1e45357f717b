//! `Keep.toml`: what a workload finds in its Keep. An `Enarx.toml` is a `Keep.toml` that uses none of our sections, and
//! means what it meant to Enarx 0.7; where Enarx ignored unknown keys, they are errors here.
//!
//! It is text that a client or a manifest gives and a Keep obeys; it decides nothing about who is trusted. Nothing is
//! opened, resolved or looked up here.
//!
//! ```
//! let config = keep_config::KeepConfig::parse(r#"
//!     args = ["--port", "8443"]
//!     [[files]]
//!     kind = "stdout"
//!     [[files]]
//!     kind = "listen"
//!     prot = "tls"
//!     port = 8443
//!     name = "web"
//! "#)?;
//! assert_eq!(config.fd_names(), "stdout:web");
//! # Ok::<(), keep_config::ConfigError>(())
//! ```

mod files;
mod network;
mod resources;
mod units;
mod wire;

pub use crate::{
    files::File,
    network::{Clients, Connect, Http, Listen, Protection, Roots},
    resources::{Limits, Log, Secret, SecretPlace, Tmpfs, Volume},
    wire::{ConfigError, Fault, MAX_CONFIG},
};

use std::collections::BTreeMap;

/// What counts where nobody wrote a configuration: the standard streams, and nothing else. A configuration without
/// `[[files]]` has not even these, as in Enarx.
pub const WITHOUT_A_FILE: &str = "\
[[files]]
kind = \"stdin\"
[[files]]
kind = \"stdout\"
[[files]]
kind = \"stderr\"
";

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepConfig {
    /// Where to have the TLS key certified before the workload runs (Enarx' Steward): an `https` URL.
    pub steward: Option<String>,
    /// Arguments after the workload's name, which is `main.wasm`.
    pub args: Vec<String>,
    /// Environment, beside `FD_COUNT` and `FD_NAMES`.
    pub env: BTreeMap<String, String>,
    /// What is open when a preview 1 workload starts: the index is the descriptor's number. Standard streams of
    /// components are the entries of that kind.
    pub files: Vec<File>,
    /// Where a component may listen by `wasi:sockets`, and how that is protected.
    pub listen: Vec<Listen>,
    /// What a component may connect to, by `wasi:sockets` and `wasi:http`, and how that is protected.
    pub connect: Vec<Connect>,
    /// Marbles that the workload may call: names of hosts in its own eyes.
    pub peers: Vec<String>,
    /// Where HTTP arrives for components that handle it.
    pub http: Http,
    /// Encrypted storage that stays.
    pub volumes: Vec<Volume>,
    /// Storage in memory, which ends with the workload.
    pub tmpfs: Vec<Tmpfs>,
    /// Secrets that came with the deployment, or are the manifest's, and where the workload finds them.
    pub secrets: Vec<Secret>,
    /// What the workload may use.
    pub limits: Limits,
    /// Trust roots by name, each one or more certificates in PEM.
    pub roots: BTreeMap<String, String>,
    /// Who may read what the workload prints.
    pub log: Log,
}

impl Default for KeepConfig {
    /// Without a configuration a workload has its standard streams and nothing else.
    fn default() -> Self {
        Self {
            steward: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            files: vec![
                File::Stdin { name: "stdin".into() },
                File::Stdout { name: "stdout".into() },
                File::Stderr { name: "stderr".into() },
            ],
            listen: Vec::new(),
            connect: Vec::new(),
            peers: Vec::new(),
            http: Http::default(),
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            secrets: Vec::new(),
            limits: Limits::default(),
            roots: BTreeMap::new(),
            log: Log::default(),
        }
    }
}

impl KeepConfig {
    /// Reads a `Keep.toml` or `Enarx.toml`.
    ///
    /// # Errors
    /// When it is no TOML, has keys that are not known or are missing, or with every fault of what it says.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        wire::parse(text)
    }

    /// What `FD_NAMES` is: the names of [`files`](Self::files), joined by colons.
    pub fn fd_names(&self) -> String {
        let names: Vec<&str> = self.files.iter().map(File::name).collect();
        names.join(":")
    }

    /// The whole environment, in order: `FD_COUNT` and `FD_NAMES` first, which [`env`](Self::env) does not replace.
    pub fn environment(&self) -> Vec<(String, String)> {
        let own =
            [("FD_COUNT".to_owned(), self.files.len().to_string()), ("FD_NAMES".to_owned(), self.fd_names())];
        own.into_iter().chain(self.env.iter().map(|(name, value)| (name.clone(), value.clone()))).collect()
    }
}
