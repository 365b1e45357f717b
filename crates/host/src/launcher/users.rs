//! User ids of processes: each process has one that nobody else on this machine has. Which are taken is in files,
//! so that it is still known when the agent has died and its processes have not.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Users;

/// The ids of one range.
#[derive(Clone, Debug)]
pub(super) struct UserIds {
    directory: PathBuf,
    range: Users,
}

/// An id that is taken. Dropping it gives it back, unless it is [kept](Taken::keep).
#[derive(Debug)]
pub(super) struct Taken {
    id: u32,
    file: PathBuf,
    kept: Arc<AtomicBool>,
}

impl UserIds {
    /// `directory` exists, and belongs to the agent.
    pub(super) fn new(directory: &Path, range: Users) -> Self {
        Self { directory: directory.to_owned(), range }
    }

    /// Takes one that is free.
    pub(super) fn take(&self) -> io::Result<Taken> {
        (self.range.first..self.range.first.saturating_add(self.range.count))
            .find_map(|id| {
                let file = self.directory.join(id.to_string());
                match OpenOptions::new().create_new(true).write(true).mode(0o600).open(&file) {
                    Ok(_) => Some(Ok(Taken { id, file, kept: Arc::default() })),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                    Err(error) => Some(Err(error)),
                }
            })
            .unwrap_or_else(|| Err(io::Error::other("all user ids of the back end are taken")))
    }

    /// One that a process has had since before this agent.
    pub(super) fn taken(&self, id: u32) -> Taken {
        Taken { id, file: self.directory.join(id.to_string()), kept: Arc::default() }
    }
}

impl Taken {
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Setting it leaves the id taken when this value is dropped.
    pub(super) fn keep(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.kept)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Acquire) {
            // One that cannot be given back is not given to anybody else either.
            let _ = fs::remove_file(&self.file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s55_no_two_processes_have_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let ids = UserIds::new(directory.path(), Users { first: 200_000, count: 2 });
        let (one, two) = (ids.take().unwrap(), ids.take().unwrap());
        assert_eq!((one.id(), two.id()), (200_000, 200_001));
        assert!(ids.take().is_err());
        drop(one);
        assert_eq!(ids.take().unwrap().id(), 200_000);
        // What an agent leaves behind is still taken for the next, until that one finds it to be gone.
        two.keep().store(true, Ordering::Release);
        drop(two);
        let next = UserIds::new(directory.path(), Users { first: 200_001, count: 1 });
        assert!(next.take().is_err());
        drop(next.taken(200_001));
        assert!(next.take().is_ok());
    }
}
