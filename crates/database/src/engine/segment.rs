//! The one thing that PostgreSQL leaves in the kernel when it is killed: a segment of System V's shared memory, by which it
//! notices that another server has its folder, whatever `shared_memory_type` says. A kernel has room for 4096, so a host
//! on which databases end often would start no more.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Of util-linux, which every Debian has.
const IPCRM: &str = "/usr/bin/ipcrm";
/// For processes that nobody killed to end.
const MOMENT: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Of a server that runs, or did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    id: u32,
    /// The user that its server's folder belongs to.
    owner: u32,
}

impl Segment {
    /// What the server of this folder noted: key and id are in the seventh line of `postmaster.pid`.
    pub(super) fn of(data: &Path) -> Option<Self> {
        let noted = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let id = noted.lines().nth(6)?.split_whitespace().nth(1)?.parse().ok()?;
        Some(Self { id, owner: fs::metadata(data).ok()?.uid() })
    }

    /// Removes it, if nobody uses it any more. What a file says of segments of other users counts for nothing.
    pub(super) fn remove(self) {
        if !self.is_left(Some(0)) {
            return;
        }
        let mut command = Command::new(IPCRM);
        command.args(["--shmem-id", &self.id.to_string()]).env_clear().stdin(Stdio::null());
        let removed = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !removed.is_ok_and(|status| status.success()) {
            tracing::warn!(
                code = "SEGMENT_LEFT",
                id = self.id,
                "PostgreSQL left a segment of shared memory in the kernel"
            );
        }
    }

    /// The same of a server that was killed by somebody else: its processes see that and end, which takes a moment.
    pub(super) fn remove_soon(self) {
        let end = Instant::now() + MOMENT;
        while self.is_left(None) && Instant::now() < end {
            self.remove();
            thread::sleep(PAUSE);
        }
    }

    /// proc_sysvipc(5): after a line of names, a line for each segment: key, id, permissions, size, two processes, how many
    /// use it, user.
    fn is_left(self, users: Option<u32>) -> bool {
        let listed = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        let ours = [(1, Some(self.id)), (6, users), (7, Some(self.owner))];
        listed.lines().any(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let says =
                |at: usize, value: u32| fields.get(at).is_some_and(|field| *field == value.to_string());
            ours.iter().all(|(at, value)| value.is_none_or(|value| says(*at, value)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_server_left_is_removed_and_nothing_of_others() {
        let made = Command::new("ipcmk").args(["--shmem", "56"]).output().expect("ipcmk, of util-linux");
        let said = String::from_utf8(made.stdout).expect("text");
        let id = said.split_whitespace().last().expect("its id");
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        let noted =
            |id: &str| fs::write(data.join("postmaster.pid"), format!("1\n2\n3\n4\n5\n6\n  7 {id}\n"));
        noted("none").expect("written");
        assert!(Segment::of(data).is_none());
        noted(id).expect("written");
        let own = Segment::of(data).expect("noted");
        let others = Segment { owner: own.owner + 1, ..own };
        assert!(own.is_left(Some(0)) && !others.is_left(None));
        others.remove();
        assert!(own.is_left(Some(0)));
        own.remove();
        assert!(!own.is_left(Some(0)));
    }
}
