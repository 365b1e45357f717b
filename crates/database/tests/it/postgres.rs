//! A PostgreSQL for a test: its own server in its own folder in memory, copied from one that is made once.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock},
};

use database::engine::{Engine, Settings, binaries};
use tempfile::TempDir;

/// The database of the servers.
pub const DATABASE: &str = "test";

/// A server without a sealer; it ends with this.
#[allow(dead_code, reason = "not every test needs all of it")]
pub struct Running {
    engine: Arc<Engine>,
    /// After the engine: it goes when nothing runs in it any more.
    pub folder: TempDir,
}

impl Running {
    /// The engine, for whoever keeps it.
    #[allow(dead_code, reason = "not every test needs all of it")]
    pub fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine)
    }
}

impl Deref for Running {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.engine.kill();
    }
}

/// A server that takes sessions, or `None` and a word where this machine has no PostgreSQL.
pub async fn postgres() -> Option<Running> {
    let (settings, folder) = prepared()?;
    let engine = Engine::start(&settings).await.expect("PostgreSQL starts");
    Some(Running { engine: Arc::new(engine), folder })
}

/// As [`postgres`], before it is started.
pub fn prepared() -> Option<(Settings, TempDir)> {
    let Ok(binaries) = binaries() else {
        println!("NOT RUN: there is no PostgreSQL of version 15 or later; mend: cargo xtask tools");
        return None;
    };
    let folder = memory();
    let settings = small(Settings::within(binaries, folder.path(), DATABASE));
    copy(&TEMPLATE, &settings.data);
    Some((settings, folder))
}

/// A folder in memory, where there is one.
pub fn memory() -> TempDir {
    let shared = Path::new("/dev/shm");
    let place = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("bailey-test-").tempdir_in(place).expect("a folder")
}

/// What a test needs.
fn small(settings: Settings) -> Settings {
    Settings { shared_buffers: 16 << 20, ..settings }
}

/// A data directory that was initialised once and for all; where it lies nobody but root need get to it.
static TEMPLATE: LazyLock<PathBuf> = LazyLock::new(|| {
    let binaries = binaries().expect("asked before");
    let version = binaries.to_string_lossy().replace('/', "-");
    let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres{version}"));
    if !template.exists() {
        let folder = memory();
        let settings = Settings::within(binaries, folder.path(), DATABASE);
        Engine::initialise(&settings).expect("initdb");
        let making = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        copy(&settings.data, &making.path().join("data"));
        // Whoever comes second finds it there.
        let _ = std::fs::rename(making.path().join("data"), &template);
    }
    template
});

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} is copied", from.display());
}
