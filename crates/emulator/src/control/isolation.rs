//! What stands between a launched process and the rest of its host. It is the host's affair: it protects the
//! host and other processes from this one, is not measured, and says nothing to anybody about the TEE.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Refusal, RefusalCode};

/// The most directories that a process may be given.
const MAX_WRITABLE: usize = 16;

/// The walls around a process. Besides what is chosen here, each has its own mount, IPC and UTS namespaces with a
/// root of its own, is in a process namespace of its own, cannot gain privileges, dump core, or make system calls
/// that a Keep has no use for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isolation {
    /// Processor time, in thousandths of one processor.
    pub cpu_milli: Option<u32>,
    /// Memory, in MiB.
    pub memory_mib: Option<u64>,
    /// Whose network it sees.
    pub network: Network,
    /// Whether the process is refused when a wall cannot be built.
    pub required: bool,
    /// Its user and group id, which nobody else has. None: the platform's own.
    pub user: Option<u32>,
    /// Directories that it may write to, besides a small `/tmp` in memory.
    pub writable: Vec<PathBuf>,
}

/// Whose network a process sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// None.
    None,
}

impl Isolation {
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let refuse = |reason: &str| Err(Refusal::new(RefusalCode::InvalidArguments, reason));
        if self.user.is_some_and(|user| user < 1000 || user > i32::MAX.cast_unsigned()) {
            return refuse("a process of its own user has a user id from 1000 on");
        }
        if self.memory_mib.is_some_and(|memory| memory == 0 || memory > 1 << 24) || self.cpu_milli == Some(0)
        {
            return refuse("limits of memory and processor are at least 1, and memory at most 16 TiB");
        }
        if self.writable.len() > MAX_WRITABLE || !self.writable.iter().all(|path| path.is_absolute()) {
            return refuse("at most 16 writable directories, with absolute paths");
        }
        Ok(())
    }
}
