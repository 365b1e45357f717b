//! Where files with secrets are: in memory, of mode 0600, in a folder of mode 0700 that did not exist before.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::{fd::AsFd, unix::fs::DirBuilderExt},
    path::{Component, Path, PathBuf},
};

use aws_lc_rs::rand;
use rustix::fs::{AtFlags, FsWord, Mode, OFlags};

/// Folders in memory that Linux has, in the order of trying.
const IN_MEMORY: [&str; 3] = ["/run/bailey-guest", "/run", "/dev/shm"];
/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
const MEMORY_FILE_SYSTEMS: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];

/// A new folder in memory, and the files that were written for one command. Dropped, all of them are removed.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    elsewhere: Vec<PathBuf>,
}

/// Why a secret was not written.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// There is no folder in memory.
    #[error("none of /run and /dev/shm is a file system in memory where a folder can be made")]
    NoMemory,
    /// The path climbs, or is a folder.
    #[error("a file's path has no \"..\", and ends in a name")]
    Path,
    /// The path is on a disk, which keeps what was deleted.
    #[error("{} is not in memory (tmpfs); a secret is never written to a disk", .0.display())]
    Disk(PathBuf),
    /// It cannot be written.
    #[error("{} cannot be written", .path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Place {
    /// Makes the folder.
    ///
    /// # Errors
    /// When there is no file system in memory that we may write to.
    pub fn create() -> Result<Self, PlaceError> {
        let mut random = [0; 16];
        rand::fill(&mut random).map_err(|_| PlaceError::NoMemory)?;
        let name = format!("bailey-secrets-{:032x}-{}", u128::from_be_bytes(random), std::process::id());
        for parent in IN_MEMORY {
            let folder = Path::new(parent).join(&name);
            if in_memory(Path::new(parent)) && fs::DirBuilder::new().mode(0o700).create(&folder).is_ok() {
                return Ok(Self { folder, elsewhere: Vec::new() });
            }
        }
        Err(PlaceError::NoMemory)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a new file: a relative path in the folder, an absolute one where it says, if that is in memory. Nothing
    /// is overwritten, and no symbolic link is followed to its end.
    ///
    /// # Errors
    /// When the path is none, is on a disk, or there is a file already.
    pub fn write(&mut self, path: &Path, secret: &[u8]) -> Result<(), PlaceError> {
        let normal = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
        let (Some(name), true) = (path.file_name(), path.components().all(normal)) else {
            return Err(PlaceError::Path);
        };
        let whole = self.folder.join(path);
        let failed = |source: io::Error| PlaceError::Write { path: whole.clone(), source };
        let parent = whole.parent().unwrap_or(&self.folder);
        if path.is_relative() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        }
        let folder = rustix::fs::open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(error.into()))?;
        if !is_memory(&folder) {
            return Err(PlaceError::Disk(whole));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed(error.into()))?;
        if path.is_absolute() {
            self.elsewhere.push(whole.clone());
        }
        let mut file = File::from(file);
        file.write_all(secret).map_err(failed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Somebody may have taken them away, which is as well.
        for path in &self.elsewhere {
            let _ = rustix::fs::unlinkat(rustix::fs::CWD, path, AtFlags::empty());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn in_memory(folder: &Path) -> bool {
    rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .is_ok_and(|folder| is_memory(folder))
}

fn is_memory(folder: impl AsFd) -> bool {
    rustix::fs::fstatfs(folder).is_ok_and(|found| MEMORY_FILE_SYSTEMS.contains(&found.f_type))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
    }

    #[test]
    fn secrets_are_in_memory_for_nobody_else_and_gone_afterwards() {
        let mut place = Place::create().expect("a folder in memory");
        let folder = place.folder().to_owned();
        place.write(Path::new("db/password"), b"secret").expect("written");
        assert_eq!(fs::read(folder.join("db/password")).expect("read"), b"secret");
        assert_eq!(mode(&folder.join("db/password")), 0o600);
        assert_eq!((mode(&folder), mode(&folder.join("db"))), (0o700, 0o700));

        let other = Place::create().expect("a folder in memory");
        let absolute = other.folder().join("key");
        place.write(&absolute, b"secret").expect("written");
        assert_eq!(mode(&absolute), 0o600);
        drop(place);
        assert!(!folder.exists() && !absolute.exists());
    }

    #[test]
    fn nothing_is_overwritten_and_no_link_is_followed() {
        let mut place = Place::create().expect("a folder in memory");
        place.write(Path::new("a"), b"first").expect("written");
        assert!(matches!(place.write(Path::new("a"), b"second"), Err(PlaceError::Write { .. })));
        let target = place.folder().join("target");
        std::os::unix::fs::symlink(&target, place.folder().join("link")).expect("a link");
        assert!(matches!(place.write(Path::new("link"), b"second"), Err(PlaceError::Write { .. })));
        assert!(!target.exists());
    }

    #[test]
    fn s43_paths_that_climb_or_lie_on_a_disk_are_refused() {
        let mut place = Place::create().expect("a folder in memory");
        for path in ["../x", "a/../../x", "/run/../etc/x", "", "/", "..", "."] {
            assert!(matches!(place.write(Path::new(path), b""), Err(PlaceError::Path)), "{path:?}");
        }
        let disk = Path::new(env!("CARGO_MANIFEST_DIR")).join("secret");
        assert!(matches!(place.write(&disk, b""), Err(PlaceError::Disk(_))));
        assert!(!disk.exists());
    }
}
