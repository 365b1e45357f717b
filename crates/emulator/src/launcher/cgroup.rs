//! The control groups of a launched process: one directory in the unified hierarchy (cgroup v2), or one per
//! controller where a system still has the older ones. Made before the process, removed after it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::control::Isolation;

const MOUNT: &str = "/sys/fs/cgroup";
/// Threads and processes.
const MAX_TASKS: u64 = 1024;
/// The period of the processor's limit, in microseconds.
const PERIOD: u64 = 100_000;
/// Swap would undo the limit of memory: none in v2.
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// The groups of one process.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    pub(super) directories: Vec<PathBuf>,
    /// What they limit.
    pub(super) limited: Vec<String>,
}

impl Cgroups {
    /// Makes what can be made on this machine, under a name that nobody else uses.
    pub(super) fn make(name: &str, isolation: &Isolation) -> Self {
        let mut made = Self::default();
        let mount = Path::new(MOUNT);
        if fs::exists(mount.join("cgroup.controllers")).unwrap_or(false) {
            made.make_unified(mount, name, isolation);
        } else {
            for controller in CONTROLLERS {
                made.make_old(mount, controller, name, isolation);
            }
        }
        made
    }

    fn make_unified(&mut self, mount: &Path, name: &str, isolation: &Isolation) {
        let parent = mount.join("bailey");
        let directory = parent.join(name);
        // Which controllers can be had is seen by which files appear.
        let enable = |path: &Path| {
            for controller in CONTROLLERS {
                let _ = fs::write(path.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        };
        enable(mount);
        let _ = fs::create_dir(&parent);
        enable(&parent);
        if fs::create_dir(&directory).is_err() {
            return;
        }
        for (controller, file, value) in [
            ("memory", "memory.max", isolation.memory_mib.map(|mib| (mib << 20).to_string())),
            ("cpu", "cpu.max", isolation.cpu_milli.map(|milli| format!("{} {PERIOD}", quota(milli)))),
            ("pids", "pids.max", Some(MAX_TASKS.to_string())),
        ] {
            if value.is_some_and(|value| fs::write(directory.join(file), value).is_ok()) {
                self.limited.push(controller.to_owned());
            }
        }
        let _ = fs::write(directory.join("memory.swap.max"), "0");
        self.directories.push(directory);
    }

    fn make_old(&mut self, mount: &Path, controller: &str, name: &str, isolation: &Isolation) {
        let settings: Vec<(&str, String)> = match controller {
            "memory" => isolation
                .memory_mib
                .map(|mib| ("memory.limit_in_bytes", (mib << 20).to_string()))
                .into_iter()
                .collect(),
            "cpu" => isolation.cpu_milli.map_or_else(Vec::new, |milli| {
                vec![
                    ("cpu.cfs_period_us", PERIOD.to_string()),
                    ("cpu.cfs_quota_us", quota(milli).to_string()),
                ]
            }),
            _ => vec![("pids.max", MAX_TASKS.to_string())],
        };
        if settings.is_empty() {
            return;
        }
        let directory = mount.join(controller).join(format!("bailey-{name}"));
        if fs::create_dir(&directory).is_err() {
            return;
        }
        let set = settings.iter().try_for_each(|(file, value)| fs::write(directory.join(file), value));
        self.directories.push(directory);
        if set.is_ok() {
            self.limited.push(controller.to_owned());
        }
    }
}

/// Of one period, in microseconds; the kernel's least is 1000.
fn quota(milli: u32) -> u64 {
    (u64::from(milli) * PERIOD / 1000).max(1000)
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for directory in &self.directories {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(directory = %directory.display(), %error, "a control group stays behind");
                }
                _ => {}
            }
        }
    }
}
