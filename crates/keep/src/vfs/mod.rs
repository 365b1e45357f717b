//! What a workload sees as its file system: one tree, of read-only files from the configuration, with file systems in
//! memory and encrypted volumes mounted in it. Preview 1 and `wasi:filesystem` are both written over [`Handle`].
//!
//! No path of the host can be named in it. There are no symbolic and no hard links, so a path only ever leads down
//! from the directory that it is relative to.
//!
//! ```text
//!   Vfs ── root: Fixed (Tree<Bytes>, read-only) ── /etc/app.toml
//!    │                                          └─ /data ─▶ mount 1: Stored (crate volume)
//!    └── limit of open files                    └─ /tmp  ─▶ mount 2: Tmpfs
//! ```
//!
//! Operations are synchronous; those of volumes wait for the host's disk and, where they commit, for the anchor.
//! [`Handle::run`] takes an operation off the async threads when that can be.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use volume::{
    Volume,
    tree::{NodeId, ROOT, Time},
};
use zeroize::Zeroizing;

mod error;
mod fixed;
mod handle;
mod mount;
mod path;
mod stored;
mod tmpfs;

pub use self::fixed::{BadFile, FileFault};
pub(crate) use self::{
    error::Error,
    handle::{Handle, Open},
    mount::{Entry, Kind, Mount, Stat},
};

/// Content by absolute path, as the configuration gives it.
pub(crate) type Files = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// The file system of one workload; all its instances share it.
pub(crate) struct Vfs {
    /// The first is the root's.
    mounts: Vec<Arc<dyn Mount>>,
    /// Directories of the first mount in whose place another mount is.
    points: BTreeMap<NodeId, usize>,
    open: AtomicU32,
    max_open: u32,
    /// Whether an operation can wait for a disk or the network.
    waits: bool,
}

/// Something to be mounted.
pub(crate) enum Source {
    /// Memory, for as long as the workload runs: most bytes of content.
    Tmpfs(u64),
    /// The host's disk, encrypted: name and volume.
    Volume(String, Arc<Volume>),
}

/// How often what was written to volumes is committed, though nobody asks for it.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

impl Vfs {
    /// Lays `files` out, with `mounts` (absolute path → what is there) in directories of their own. At most `max_open`
    /// files and directories can be open at a time.
    pub(crate) fn new(
        files: Files,
        mounts: Vec<(String, Source)>,
        max_open: u32,
    ) -> Result<Arc<Self>, BadFile> {
        let (fixed, places) = fixed::lay_out(files, mounts.iter().map(|(path, _)| path.as_str()))?;
        let mut all: Vec<Arc<dyn Mount>> = vec![Arc::new(fixed)];
        let mut points = BTreeMap::new();
        for (place, (_, source)) in places.into_iter().zip(mounts) {
            points.insert(place, all.len());
            all.push(match source {
                Source::Tmpfs(size) => Arc::new(tmpfs::Tmpfs::new(size)),
                Source::Volume(name, volume) => Arc::new(stored::Stored::new(name, volume)),
            });
        }
        let waits = all.iter().any(|mount| mount.waits());
        Ok(Arc::new(Self { mounts: all, points, open: AtomicU32::new(0), max_open, waits }))
    }

    /// The root directory, opened.
    pub(crate) fn root(self: &Arc<Self>) -> Result<Handle, Error> {
        Handle::new(self, Place { mount: 0, node: ROOT }, handle::Access { read: true, write: true })
    }

    /// Commits what was written to all volumes; the first error, after all were tried.
    pub(crate) async fn commit(self: &Arc<Self>) -> Result<(), Error> {
        if !self.waits {
            return Ok(());
        }
        let vfs = Arc::clone(self);
        let commit = move || vfs.mounts.iter().map(|mount| mount.sync()).fold(Ok(()), Result::and);
        tokio::task::spawn_blocking(commit).await.unwrap_or(Err(Error::Storage("OPERATION_LOST")))
    }

    /// Commits now and then, until the file system is gone, where there is anything to commit. Errors are in the Keep's
    /// log.
    pub(crate) fn keep_committing(this: &Arc<Self>) {
        if !this.waits {
            return;
        }
        let this = Arc::downgrade(this);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(COMMIT_EVERY).await;
                match this.upgrade() {
                    Some(vfs) => drop(vfs.commit().await),
                    None => return,
                }
            }
        });
    }

    /// Whether anything can be written anywhere.
    pub(crate) fn is_read_only(&self) -> bool {
        self.mounts.iter().all(|mount| mount.is_read_only())
    }

    fn mount(&self, index: usize) -> Result<&Arc<dyn Mount>, Error> {
        self.mounts.get(index).ok_or(Error::BadDescriptor)
    }

    /// One step down, through mount points.
    fn step(&self, from: Place, name: &str) -> Result<Place, Error> {
        let node = self.mount(from.mount)?.lookup(from.node, name)?;
        Ok(match self.points.get(&node) {
            Some(mount) if from.mount == 0 => Place { mount: *mount, node: ROOT },
            _ => Place { mount: from.mount, node },
        })
    }

    fn take_one(&self) -> Result<(), Error> {
        let more = |open: u32| (open < self.max_open).then_some(open + 1);
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map(drop)
            .map_err(|_| Error::TooManyOpen)
    }

    fn give_back(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Vfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vfs").field("mounts", &self.mounts.len()).finish_non_exhaustive()
    }
}

/// Where a file or directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    mount: usize,
    node: NodeId,
}

/// The workload's clock, the same as that of `wasi:clocks`: the host's word (S-19), which decides nothing here.
pub(crate) fn now() -> Time {
    #[expect(clippy::disallowed_methods, reason = "times of files, which decide nothing")]
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
