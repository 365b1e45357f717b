use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::Rule;

/// What a policy says of the boot that an event log tells. It is asked only where Evidence comes with a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BootPolicy {
    /// The registers (`rtmr0`, `pcr7`, …) that the log must replay to. None means each one that the log has events
    /// for, and those that firmware always extends. Registers left out may differ, with a warning; nothing is
    /// claimed from their events. A policy that names registers of TDs alone says nothing of those of TPMs, and the
    /// reverse.
    pub registers: Option<BTreeSet<String>>,
    /// Secure Boot is off, or the log does not tell.
    pub secure_boot: Rule,
    /// The command lines that the kernel may have been started with, without the image's name that boot loaders put
    /// before it, or with. The log must prove the line: by what the kernel measured itself, or in a TPM by what grub
    /// did. None means any.
    pub kernel_command_line: Option<BTreeSet<String>>,
}

impl Default for BootPolicy {
    fn default() -> Self {
        Self { registers: None, secure_boot: Rule::Warn, kernel_command_line: None }
    }
}
