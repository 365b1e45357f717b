//! The platform directory. All that matters is in one file, `platform.json`, which is replaced as a whole: a
//! crash leaves the old platform, or none, never half of one. Opening takes a lock, so that two emulators that
//! start at once agree. `roots/` is derived from it and rewritten when it differs.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::amd::Amd;
use super::collateral::Collateral;
use super::error::{PlatformError, Result};
use super::intel::Intel;
use super::sealing::FusedSecret;
use super::tcb::PlatformOptions;

/// The file of the platform, in its directory.
const PLATFORM: &str = "platform.json";
const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
const PERMISSIONS: u32 = 0o7777;

/// The only layout so far. Another number is refused, not guessed at.
#[derive(Serialize, Deserialize)]
enum Layout {
    #[serde(rename = "bailey/emulated/platform/1")]
    One,
}

/// Everything that a platform is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    layout: Layout,
    pub(super) options: PlatformOptions,
    pub(super) secret: FusedSecret,
    pub(super) intel: Intel,
    pub(super) amd: Amd,
    pub(super) collateral: Collateral,
}

impl State {
    pub(super) fn new(
        options: PlatformOptions,
        secret: FusedSecret,
        intel: Intel,
        amd: Amd,
        collateral: Collateral,
    ) -> Self {
        Self { layout: Layout::One, options, secret, intel, amd, collateral }
    }
}

/// The directory, while it is locked.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory (mode 0700) where there is none, and waits for its lock.
    pub(super) fn lock(path: &Path) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create", path))?;
        let mode = fs::metadata(path).map_err(io("examine", path))?.mode() & PERMISSIONS;
        if mode & 0o022 != 0 {
            return Err(PlatformError::Exposed { path: path.into(), required: 0o700, mode });
        }
        let file = path.join("platform.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(PRIVATE)
            .open(&file)
            .map_err(io("open", &file))?;
        lock.lock().map_err(io("lock", &file))?;
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// Where the platform is kept.
    pub(super) fn platform(&self) -> PathBuf {
        self.path.join(PLATFORM)
    }

    /// The platform, if one was created here.
    pub(super) fn load(&self) -> Result<Option<State>> {
        let path = self.platform();
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io("open", &path))?,
        };
        let mode = file.metadata().map_err(io("examine", &path))?.mode() & PERMISSIONS;
        if mode & 0o077 != 0 {
            return Err(PlatformError::Exposed { path, required: PRIVATE, mode });
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.read_to_end(&mut bytes).map_err(io("read", &path))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|source| PlatformError::Damaged { path, source })
    }

    /// Stores the platform; it is durable when this returns.
    pub(super) fn store(&self, state: &State) -> Result<()> {
        let path = self.platform();
        let bytes = serde_json::to_vec(state)
            .map(Zeroizing::new)
            .map_err(|source| PlatformError::Damaged { path: path.clone(), source })?;
        replace(&path, &bytes, PRIVATE)
    }

    /// Writes a trust root where manifests and people look for it.
    pub(super) fn publish(&self, name: &str, pem: &str) -> Result<()> {
        let directory = self.path.join("roots");
        fs::create_dir_all(&directory).map_err(io("create", &directory))?;
        let path = directory.join(name);
        match fs::read(&path) {
            Ok(existing) if existing == pem.as_bytes() => Ok(()),
            _ => replace(&path, pem.as_bytes(), PUBLIC),
        }
    }
}

/// Writes beside the file, makes that durable, and renames.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut temporary = path.to_path_buf();
    temporary.add_extension("new");
    // Left by a crash, perhaps with other permissions: never reused.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io("remove", &temporary)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&temporary)
        .map_err(io("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(io("replace", path))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io("write", directory))
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlatformError {
    move |source| PlatformError::Io { action, path: path.into(), source }
}
