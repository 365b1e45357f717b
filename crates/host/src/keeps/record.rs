//! What is written down of a client's Keep, for the agent that comes after this one. The machine's end is the end
//! of its Keeps, too, so that nothing has to be on the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keep_protocol::host::Tee;
use serde::{Deserialize, Serialize};

use super::id::KeepId;
use super::ledger::{Contact, Keep, Lease, Order, Since};
use crate::names::{BackendName, TenantName};
use crate::process::read_regular;

const MAX_RECORD: usize = 64 * 1024;
/// As many as there can be at the most, in all back ends.
const MAX_RECORDS: usize = 16 * 1024;

/// The records, in a directory of the agent's.
pub(super) struct Records(PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    backend: BackendName,
    tee: Tee,
    memory_mib: u64,
    /// Whose storage it has; none, of an older agent.
    #[serde(default)]
    volumes: Option<TenantName>,
    born_ms: u64,
    /// Of the program that was launched: a Keep of an older one is not given to anybody.
    pub(super) program: String,
    lease: Option<LeaseRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseRecord {
    tenant: TenantName,
    label: String,
    lifetime_s: u64,
    since_ms: u64,
    met: bool,
}

/// The two clocks, read together: one to measure with, one to write down.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) monotonic: Duration,
    pub(super) unix_ms: u64,
}

impl Now {
    fn written(self, since: Since) -> u64 {
        self.unix_ms.saturating_sub(super::ledger::millis(since.elapsed(self.monotonic)))
    }

    /// A clock that was set back makes it now.
    fn read(self, unix_ms: u64) -> Since {
        Since { before: Duration::from_millis(self.unix_ms.saturating_sub(unix_ms)), at: self.monotonic }
    }
}

impl Record {
    pub(super) fn of(keep: &Keep, program: String, now: Now) -> Self {
        let lease = keep.lease.as_ref().map(|lease| LeaseRecord {
            tenant: lease.tenant.clone(),
            label: lease.label.clone(),
            lifetime_s: lease.lifetime.as_secs(),
            since_ms: now.written(lease.since),
            met: lease.contact != Contact::Awaited,
        });
        let Order { backend, tee, memory_mib, volumes } = keep.order.clone();
        Self { backend, tee, memory_mib, volumes, born_ms: now.written(keep.born), program, lease }
    }

    pub(super) fn into_keep(self, now: Now) -> (Order, Since, Option<Lease>) {
        let Self { backend, tee, memory_mib, volumes, born_ms, lease, .. } = self;
        let order = Order { backend, tee, memory_mib, volumes };
        let lease = lease.map(|lease| Lease {
            tenant: lease.tenant,
            label: lease.label,
            lifetime: Duration::from_secs(lease.lifetime_s),
            since: now.read(lease.since_ms),
            contact: if lease.met { Contact::Elsewhere } else { Contact::Awaited },
        });
        (order, now.read(born_ms), lease)
    }
}

impl Records {
    /// In a directory that exists.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    fn path(&self, id: KeepId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    pub(super) fn write(&self, id: KeepId, record: &Record) -> io::Result<()> {
        crate::launcher::write_whole(&self.path(id), &serde_json::to_vec(record)?)
    }

    pub(super) fn remove(&self, id: KeepId) {
        if let Err(error) = fs::remove_file(self.path(id))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the record of a Keep stays behind");
        }
    }

    /// All that can be read; what cannot is removed, and told.
    pub(super) fn read_all(&self) -> io::Result<Vec<(KeepId, Record)>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.0)?.take(MAX_RECORDS) {
            let path = entry?.path();
            match read(&path) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "no record of a Keep");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        Ok(records)
    }
}

fn read(path: &Path) -> io::Result<(KeepId, Record)> {
    let id = path
        .file_name()
        .and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok())
        .ok_or_else(|| io::Error::other("not named like one"))?;
    Ok((id, serde_json::from_slice(&read_regular(path, MAX_RECORD)?)?))
}
