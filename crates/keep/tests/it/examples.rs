//! The workloads of `examples/languages`, built by `cargo xtask examples` with the compilers that `cargo xtask tools`
//! installed.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError},
};

use keep::runtime::{Pool, Runtime, Workload};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new(Pool { instances: 32, ..Pool::default() }).unwrap());
static BUILDING: Mutex<()> = Mutex::new(());

/// The example, or nothing where its language cannot be compiled, which is then said.
pub fn example(name: &str) -> Option<Workload> {
    let built = {
        let _one_at_a_time = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        build(name)
    };
    Some(RUNTIME.load(&built?, None).unwrap_or_else(|error| panic!("{name}: {error}: {error:?}")))
}

/// An example's `Keep.toml`, by its folder.
pub fn keep_toml(folder: &str) -> String {
    let path = repository().join("examples/languages").join(folder).join("Keep.toml");
    fs::read_to_string(path).unwrap()
}

fn build(name: &str) -> Option<Vec<u8>> {
    let output = Command::new(env!("CARGO"))
        .args(["xtask", "examples", name])
        .current_dir(repository())
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo xtask examples {name}:\n{said}");
    let file = repository().join("target/examples").join(name).with_extension("wasm");
    let built = fs::read(file).ok();
    if built.is_none() {
        let why: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("NOT RUN")).collect();
        assert!(!why.is_empty(), "cargo xtask examples {name} built nothing:\n{said}");
        println!("{}", why.join("\n"));
    }
    built
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}
