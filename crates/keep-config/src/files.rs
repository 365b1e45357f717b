//! `[[files]]`: the descriptors of a preview 1 workload, as Enarx numbers them.

use crate::network::{Connect, Listen};

/// One open descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// Reads nothing, swallows what is written.
    Null {
        /// In `FD_NAMES`.
        name: String,
    },
    /// The caller's input.
    Stdin {
        /// In `FD_NAMES`.
        name: String,
    },
    /// The caller's output.
    Stdout {
        /// In `FD_NAMES`.
        name: String,
    },
    /// The caller's error stream.
    Stderr {
        /// In `FD_NAMES`.
        name: String,
    },
    /// A listener, open when the workload starts.
    Listen {
        /// In `FD_NAMES`.
        name: String,
        /// Where, and how it is protected.
        listen: Listen,
    },
    /// A connection, made before the workload starts: when it fails, the workload does not start.
    Connect {
        /// In `FD_NAMES`.
        name: String,
        /// To whom, and how it is protected.
        connect: Connect,
    },
}

impl File {
    /// What `FD_NAMES` calls it.
    pub fn name(&self) -> &str {
        match self {
            Self::Null { name }
            | Self::Stdin { name }
            | Self::Stdout { name }
            | Self::Stderr { name }
            | Self::Listen { name, .. }
            | Self::Connect { name, .. } => name,
        }
    }
}
