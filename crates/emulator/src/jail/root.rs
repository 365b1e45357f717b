//! A root directory that holds only what a dynamically linked program needs: the libraries of the system and a few
//! files of `/etc`, read-only; four devices; its own `/proc` where there is a process namespace; a `/tmp` in
//! memory; and the directories it was given. Nothing of other processes, of the agent, or of the platform.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use super::sys;

/// Where the new root is put together: any directory that exists everywhere will do, it is only covered for us.
const STAGE: &str = "/tmp";

const LIBRARIES: [&str; 8] =
    ["/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32"];
const FILES: [&str; 6] = [
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
];
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

const PRIVATE: libc::c_ulong = libc::MS_REC | libc::MS_PRIVATE;
const HARMLESS: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV;

/// Something of the old root that is wanted in the new one.
struct Wanted {
    path: PathBuf,
    what: What,
}

enum What {
    Link(PathBuf),
    /// Found before the stage covers its path.
    Mount {
        source: File,
        directory: bool,
        flags: Option<libc::c_ulong>,
    },
}

/// Enters the root. The mount namespace is already our own.
pub(super) fn enter(writable: &[PathBuf]) -> io::Result<()> {
    sys::mount(None, c"/", None, PRIVATE, None)?;
    let wanted = find(writable)?;
    let stage = Path::new(STAGE);
    let stage_path = sys::path(stage)?;
    sys::mount(Some(c"bailey"), &stage_path, Some(c"tmpfs"), HARMLESS, Some(c"mode=755,size=1m"))?;
    make_directory(&stage.join("tmp"))?;
    let temporary = sys::path(&stage.join("tmp"))?;
    sys::mount(
        Some(c"bailey"),
        &temporary,
        Some(c"tmpfs"),
        HARMLESS | libc::MS_NOEXEC,
        Some(c"mode=1777,size=64m"),
    )?;
    // After `/tmp`, below which some of it may be.
    for wanted in &wanted {
        wanted.put(stage)?;
    }
    mount_proc(&stage.join("proc"))?;
    sys::mount(
        None,
        &stage_path,
        None,
        libc::MS_REMOUNT | libc::MS_RDONLY | HARMLESS,
        Some(c"mode=755,size=1m"),
    )?;
    std::env::set_current_dir(stage)?;
    sys::take_working_directory_for_root()
}

fn find(writable: &[PathBuf]) -> io::Result<Vec<Wanted>> {
    let mut wanted = Vec::new();
    let read_only = libc::MS_RDONLY | HARMLESS;
    for path in LIBRARIES {
        match fs::symlink_metadata(path) {
            Ok(entry) if entry.is_symlink() => {
                wanted.push(Wanted { path: path.into(), what: What::Link(fs::read_link(path)?) });
            }
            Ok(entry) if entry.is_dir() => wanted.push(Wanted::mount(path.into(), Some(read_only))?),
            _ => {}
        }
    }
    for path in FILES.into_iter().filter(|path| Path::new(path).is_file()) {
        wanted.push(Wanted::mount(path.into(), Some(read_only))?);
    }
    for path in DEVICES {
        wanted.push(Wanted::mount(path.into(), None)?);
    }
    for path in writable {
        wanted.push(Wanted::mount(path.clone(), Some(HARMLESS | libc::MS_NOEXEC))?);
    }
    Ok(wanted)
}

impl Wanted {
    fn mount(path: PathBuf, flags: Option<libc::c_ulong>) -> io::Result<Self> {
        let source =
            OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(&path)?;
        let directory = source.metadata()?.is_dir();
        Ok(Self { path, what: What::Mount { source, directory, flags } })
    }

    fn put(&self, stage: &Path) -> io::Result<()> {
        let target = stage.join(self.path.strip_prefix("/").map_err(io::Error::other)?);
        if let Some(parent) = target.parent() {
            make_directory(parent)?;
        }
        match &self.what {
            What::Link(to) => symlink(to, &target),
            What::Mount { source, directory, flags } => {
                if *directory {
                    make_directory(&target)?;
                } else {
                    File::create_new(&target)?;
                }
                let found = sys::path(Path::new(&format!("/proc/self/fd/{}", source.as_raw_fd())))?;
                let target = sys::path(&target)?;
                sys::mount(Some(&found), &target, None, libc::MS_BIND, None)?;
                match flags {
                    Some(flags) => {
                        sys::mount(None, &target, None, libc::MS_REMOUNT | libc::MS_BIND | flags, None)
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// A `/proc` that shows our own processes. Where we have no process namespace it would show others': there, it holds
/// nothing but `/proc/self`.
fn mount_proc(at: &Path) -> io::Result<()> {
    make_directory(at)?;
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    if pid != 1 {
        let own = at.join("self");
        make_directory(&own)?;
        let (source, target) = (sys::path(Path::new(&format!("/proc/{pid}")))?, sys::path(&own)?);
        return sys::mount(Some(&source), &target, None, libc::MS_BIND | libc::MS_REC, None);
    }
    let (at, flags) = (sys::path(at)?, HARMLESS | libc::MS_NOEXEC);
    sys::mount(Some(c"proc"), &at, Some(c"proc"), flags, Some(c"hidepid=2,subset=pid"))
        // Linux before 5.8 does not know the options in this form.
        .or_else(|_| sys::mount(Some(c"proc"), &at, Some(c"proc"), flags, Some(c"hidepid=2")))
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}
