//! The components of the tests, built once by cargo from their lock files, and compiled once.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use keep::runtime::{Pool, Runtime, Workload};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new(Pool::default()).unwrap());
static POLL: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = repository().join("examples/poll");
    build(&source, &source.join("target"))
});
static PROBES: LazyLock<PathBuf> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probe");
    build(&source, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("probe"))
});
static PROBE: LazyLock<Workload> = LazyLock::new(|| load(&fs::read(PROBES.join("probe.wasm")).unwrap()));
static COMMAND: LazyLock<Workload> = LazyLock::new(|| load(&command_bytes()));
static SERVICE03: LazyLock<Workload> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/service03");
    let built = build(&source, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("service03"));
    load(&fs::read(built.join("service03.wasm")).unwrap())
});
static COMMAND03: LazyLock<Workload> = LazyLock::new(|| {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/command03");
    // What both components of 0.3 are made of is built once.
    let built = build(&source, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("service03"));
    load(&fs::read(built.join("command03.wasm")).unwrap())
});
static FRONTEND: LazyLock<Workload> = LazyLock::new(|| load(&component("frontend")));
static TALLY: LazyLock<Workload> = LazyLock::new(|| load(&component("tally")));

/// A component of `examples/poll`.
pub fn component(name: &str) -> Vec<u8> {
    fs::read(POLL.join(name).with_extension("wasm")).unwrap()
}

pub fn probe() -> Workload {
    PROBE.clone()
}

/// The command of `tests/probe`.
pub fn command_bytes() -> Vec<u8> {
    fs::read(PROBES.join("command.wasm")).unwrap()
}

pub fn command() -> Workload {
    COMMAND.clone()
}

/// A handler of WASI 0.3.
pub fn service03() -> Workload {
    SERVICE03.clone()
}

/// The command of WASI 0.3 of `tests/command03`.
pub fn command03() -> Workload {
    COMMAND03.clone()
}

pub fn frontend() -> Workload {
    FRONTEND.clone()
}

pub fn tally() -> Workload {
    TALLY.clone()
}

fn load(component: &[u8]) -> Workload {
    RUNTIME.load(component, None).unwrap()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

fn build(source: &Path, target: &Path) -> PathBuf {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(source)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .unwrap();
    assert!(status.success(), "cargo could not build {}", source.display());
    target.join("wasm32-wasip2/release")
}
