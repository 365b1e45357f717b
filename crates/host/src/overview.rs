//! What the agent tells its operator of the host as a whole: what it offers, and whose its Keeps are.

use evidence::Platform;
use keep_protocol::host::KeepState;
use serde::{Deserialize, Serialize};

use crate::launcher::BackendKind;
use crate::names::{BackendName, ProcessName, TenantName};

/// A host at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overview {
    /// The program and its version, such as `bailey-host/0.1.0`.
    pub agent: String,
    /// Whether clients are served at all.
    pub api: bool,
    /// Whether no new Keeps are taken.
    pub draining: bool,
    /// What launches, in the order of the configuration.
    pub backends: Vec<BackendView>,
    /// The Keeps of clients, oldest first.
    pub keeps: Vec<KeepView>,
}

/// One back end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendView {
    /// Its name.
    pub name: BackendName,
    /// What it launches processes in.
    pub kind: BackendKind,
    /// The kinds of TEE that its processes can prove to be in.
    pub tees: Vec<Platform>,
    /// Whether their Evidence ends in an emulated root.
    pub emulated: bool,
    /// Its places for clients' Keeps, if it launches any.
    pub places: Option<Places>,
    /// Why it launched no Keep the last time, until one runs again.
    pub failure: Option<LaunchFailure>,
}

/// Places for clients' Keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// How many there are.
    pub all: u32,
    /// How many a client could still have.
    pub free: u32,
    /// In how many of those a Keep waits already.
    pub warm: u32,
}

/// A Keep that could not be launched, or ended before it was anybody's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchFailure {
    /// Why.
    pub reason: String,
    /// When it is tried again, in milliseconds from now.
    pub again_in_ms: u64,
}

/// The Keep of a client, or one that waits for a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepView {
    /// The name of its process.
    pub name: ProcessName,
    /// As what kind of TEE it is launched.
    pub platform: Platform,
    /// By which back end.
    pub backend: BackendName,
    /// Whose it is, if it is somebody's.
    pub tenant: Option<TenantName>,
    /// What its owner calls it: their words.
    pub label: String,
    /// What it does.
    pub state: KeepState,
    /// How long ago it was leased or, while it is nobody's, launched; in milliseconds.
    pub age_ms: u64,
    /// When its lease is over, in milliseconds from now.
    pub left_ms: Option<u64>,
}
