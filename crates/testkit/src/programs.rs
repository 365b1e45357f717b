//! The programs under test, built from today's sources. Cargo makes the binaries of a package before that
//! package's own integration tests, but not those of other packages, and a test that runs whatever lies in
//! the target directory tests yesterday.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};

use serde_json::Value;

/// The path of one of the workspace's binaries, freshly built in the profile of the running test.
///
/// All binaries are built together, once per process: building one package alone would select other features
/// of shared dependencies, and compile the heavy ones again.
///
/// # Panics
/// When there is no such binary or it cannot be built: then there is nothing to test.
pub fn binary(name: &str) -> PathBuf {
    built(&["--bins"], name)
}

/// The path of an example program of one of the workspace's packages, freshly built.
///
/// # Panics
/// As [`binary`].
pub fn example(name: &str) -> PathBuf {
    built(&["--example", name], name)
}

/// Builds the WebAssembly components of `examples/poll`, where its `bailey.toml` looks for them.
///
/// # Panics
/// When they cannot be built.
pub fn workloads() {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let arguments = ["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"];
        cargo(&arguments, &repository().join("examples/poll"));
    });
}

/// Built programs by what was asked of cargo.
type Built = HashMap<String, HashMap<String, PathBuf>>;

fn built(what: &[&str], name: &str) -> PathBuf {
    static BUILT: Mutex<Option<Built>> = Mutex::new(None);
    // Held while building: of tests in parallel, one builds and the others wait for it.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let programs = built.get_or_insert_default().entry(what.join(" ")).or_insert_with(|| build(what));
    programs.get(name).unwrap_or_else(|| panic!("the workspace has no program {name}")).clone()
}

fn build(what: &[&str]) -> HashMap<String, PathBuf> {
    let profile = profile();
    let mut arguments = vec!["build", "--workspace", "--profile", &profile];
    arguments.push("--message-format=json-render-diagnostics");
    arguments.extend(what);
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let name = message["target"]["name"].as_str()?.to_owned();
        Some((name, PathBuf::from(message["executable"].as_str()?)))
    };
    cargo(&arguments, repository()).lines().filter_map(program).collect()
}

/// The profile that the running test was built in: its executable is `…/<profile>/deps/<test>`.
fn profile() -> String {
    let executable = std::env::current_exe().expect("the running test has a path");
    let directory = executable.ancestors().find(|path| path.ends_with("deps")).and_then(Path::parent);
    match directory.and_then(Path::file_name).and_then(|name| name.to_str()) {
        None | Some("debug") => "dev".to_owned(),
        Some(profile) => profile.to_owned(),
    }
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("testkit is in crates/ of the repository")
}

fn cargo(arguments: &[&str], directory: &Path) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be executed");
    assert!(output.status.success(), "cargo {} failed", arguments.join(" "));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}
