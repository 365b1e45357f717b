//! Back ends of virtual machines in a configuration.

use std::path::{Path, PathBuf};

use evidence::Platform;
use serde::Deserialize;
use vm::Accelerator;

use super::Fault;
use super::backends::{Backend, BackendSettings, WireKeep};
use crate::names::BackendName;

/// Virtual machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmBackend {
    /// `tpm`, `snp` or `tdx`.
    pub platform: Platform,
    /// What executes machines with a TPM.
    pub accelerator: Accelerator,
    /// Virtual processors of each.
    pub processors: u32,
    /// Whether guests may connect to others by themselves. Then they reach this host's loopback services, too.
    pub outgoing: bool,
    /// How many at a time.
    pub capacity: u32,
    /// The folder of the CA that vouches for this host's TPMs.
    pub authority: PathBuf,
}

/// As it is written: `{"vm": {"name": "vm", "keep": {"executable": "keep.image"}}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WireVm {
    name: BackendName,
    #[serde(default)]
    kvm: bool,
    #[serde(default = "one")]
    processors: u32,
    #[serde(default)]
    outgoing: bool,
    #[serde(default = "capacity")]
    capacity: u32,
    #[serde(default = "authority")]
    authority: PathBuf,
    keep: Option<WireKeep>,
}

fn one() -> u32 {
    1
}

fn capacity() -> u32 {
    4
}

fn authority() -> PathBuf {
    "tpm-authority".into()
}

impl WireVm {
    /// Resolves paths against `base`. Faults are told below `path`.
    pub(super) fn resolve(
        self,
        platform: Platform,
        base: &Path,
        path: &str,
        faults: &mut Vec<Fault>,
    ) -> Option<Backend> {
        let mut fault =
            |field: &str, problem: String| faults.push(Fault { path: format!("{path}{field}"), problem });
        if self.capacity == 0 {
            fault("capacity", "at least 1".to_owned());
        }
        if !(1..=64).contains(&self.processors) {
            fault("processors", "1 to 64".to_owned());
        }
        let keep = match self.keep.map(|keep| keep.resolve(base)) {
            None => None,
            Some(Ok(keep)) => Some(keep),
            Some(Err((field, problem))) => {
                fault(&format!("keep.{field}"), problem);
                None
            }
        };
        let settings = BackendSettings::Vm(VmBackend {
            platform,
            accelerator: if self.kvm { Accelerator::Kvm } else { Accelerator::Tcg },
            processors: self.processors,
            outgoing: self.outgoing,
            capacity: self.capacity,
            authority: base.join(self.authority),
        });
        Some(Backend { name: self.name, settings, keep })
    }
}
