//! The agent's HTTPS API: where it listens, and who may use it for how much.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Fault;
use crate::names::TenantName;
use crate::process::{Limits, LogDestination};

/// The API as it is to be served.
#[derive(Clone, Debug)]
pub struct Api {
    /// Where.
    pub listen: SocketAddr,
    /// Certificate chain and key, PEM files; without them a key and a certificate of its own are made. No
    /// client needs to trust it: what matters is inside.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Where metrics are served, over plain HTTP: for the operator, not for tenants.
    pub metrics: Option<SocketAddr>,
    /// Who is let in without proof, if anybody: only on a loopback address.
    pub open: Option<Quota>,
    /// The most connections at a time.
    pub connections: usize,
    /// Who is let in.
    pub tenants: Vec<Tenant>,
    /// What holds for the Keeps that clients ask for.
    pub keeps: Keeps,
}

/// Somebody who may have Keeps here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The name.
    pub name: TenantName,
    /// SHA-256 of client certificates (DER).
    pub certificates: Vec<[u8; 32]>,
    /// SHA-256 of bearer tokens.
    pub tokens: Vec<[u8; 32]>,
    /// How much.
    pub quota: Quota,
}

/// How much a tenant may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Keeps at a time.
    pub keeps: u32,
    /// Memory of all of them, in MiB.
    pub memory_mib: u64,
    /// Processor time of all of them, in thousandths of one processor.
    pub cpu_milli: u32,
    /// How long a Keep may live, in seconds.
    pub lifetime_s: u64,
    /// What it may have in volumes, in MiB: looked at when it asks for a Keep with storage.
    pub storage_mib: u64,
    /// How many requests it may make in a minute.
    pub requests_per_minute: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            keeps: 4,
            memory_mib: 2048,
            cpu_milli: 4000,
            lifetime_s: 3600,
            storage_mib: 1024,
            requests_per_minute: 600,
        }
    }
}

/// What holds for the Keeps that clients ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keeps {
    /// How many are kept launched and idle, on each back end that launches them.
    pub warm: u32,
    /// What each may use, and takes of its tenant's quota.
    pub memory_mib: u64,
    /// The same of the processor, in thousandths of one.
    pub cpu_milli: u32,
    /// How long a Keep that has a tenant may be without a connection, in seconds.
    pub idle_s: u64,
    /// How long a client's connection to its Keep may be silent, in seconds.
    pub silence_s: u64,
    /// Where the output of Keeps goes. Nowhere unless somebody looks for a fault: it is the tenants' affair.
    pub log: LogDestination,
}

impl Default for Keeps {
    fn default() -> Self {
        Self {
            warm: 2,
            memory_mib: 512,
            cpu_milli: 1000,
            idle_s: 60,
            silence_s: 900,
            log: LogDestination::Discard,
        }
    }
}

impl Keeps {
    /// The limits of each.
    pub fn limits(&self) -> Limits {
        Limits { memory_mib: Some(self.memory_mib), cpu_milli: Some(self.cpu_milli) }
    }

    /// [`Keeps::idle_s`].
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_s)
    }
}

/// As it is written: `"api": {"listen": "0.0.0.0:7443", …}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wire {
    listen: SocketAddr,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    metrics: Option<SocketAddr>,
    open: Option<Quota>,
    #[serde(default = "default_connections")]
    connections: usize,
}

fn default_connections() -> usize {
    512
}

/// As it is written: `"tenants": [{"name": "acme", "tokens": ["<sha256>"], …}]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireTenant {
    name: TenantName,
    #[serde(default)]
    certificates: Vec<String>,
    #[serde(default)]
    tokens: Vec<String>,
    #[serde(default)]
    quota: Quota,
}

impl Wire {
    pub(super) fn resolve(
        self,
        base: &Path,
        tenants: Vec<WireTenant>,
        keeps: Keeps,
        faults: &mut Vec<Fault>,
    ) -> Api {
        let mut fault = |path: &str, problem: &str| {
            faults.push(Fault { path: path.to_owned(), problem: problem.to_owned() });
        };
        let certificate = match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Some((base.join(certificate), base.join(key))),
            (None, None) => None,
            _ => {
                fault("api.certificate", "a certificate and its key go together");
                None
            }
        };
        if self.open.is_some() && !super::backends::is_loopback(&self.listen) {
            fault("api.open", "everybody is let in only on a loopback address");
        }
        if self.open.is_none() && tenants.is_empty() {
            fault("tenants", "nobody is let in: name a tenant, or open the API on a loopback address");
        }
        if self.connections == 0 {
            fault("api.connections", "at least 1");
        }
        if keeps.memory_mib == 0 || keeps.cpu_milli == 0 || keeps.idle_s == 0 || keeps.silence_s == 0 {
            fault("keeps", "memory_mib, cpu_milli, idle_s and silence_s are at least 1");
        }
        let tenants = resolve_tenants(tenants, faults);
        let Self { listen, metrics, open, connections, .. } = self;
        Api { listen, certificate, metrics, open, connections, tenants, keeps }
    }
}

fn resolve_tenants(wires: Vec<WireTenant>, faults: &mut Vec<Fault>) -> Vec<Tenant> {
    let (mut names, mut proofs) = (BTreeSet::new(), BTreeSet::new());
    let mut tenants = Vec::new();
    for (index, wire) in wires.into_iter().enumerate() {
        let mut fault = |field: &str, problem: String| {
            faults.push(Fault { path: format!("tenants[{index}].{field}"), problem });
        };
        if !names.insert(wire.name.clone()) || wire.name.as_str() == OPEN {
            fault("name", format!("{} is taken", wire.name));
        }
        if wire.certificates.is_empty() && wire.tokens.is_empty() {
            fault("tokens", "a tenant has a client certificate or a token".to_owned());
        }
        let mut digests = |field: &str, texts: Vec<String>| -> Vec<[u8; 32]> {
            let mut digests = Vec::new();
            for text in texts {
                let mut digest = [0; 32];
                match hex::decode_to_slice(&text, &mut digest) {
                    Ok(()) if !proofs.insert(digest) => fault(field, "this one is named twice".to_owned()),
                    Ok(()) => digests.push(digest),
                    Err(_) => fault(field, "a SHA-256 in hexadecimal, 64 digits".to_owned()),
                }
            }
            digests
        };
        let certificates = digests("certificates", wire.certificates);
        let tokens = digests("tokens", wire.tokens);
        tenants.push(Tenant { name: wire.name, certificates, tokens, quota: wire.quota });
    }
    tenants
}

/// The name of the tenant that all are who are let in without proof.
pub(crate) const OPEN: &str = "open";
