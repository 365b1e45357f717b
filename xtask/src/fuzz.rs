//! Runs the fuzz targets of `fuzz/` with the stable toolchain: libFuzzer's runtime comes as a crate, and the
//! coverage instrumentation is a set of code generation options.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::{self, cargo, root, step};

const INSTRUMENTATION: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 --cfg fuzzing";

/// So many seconds of each target are worth optimising the build for, which takes a new machine twice as long.
const LONG: u32 = 30;

/// Runs each target for `seconds`.
pub fn run(seconds: u32, filter: Option<&str>) -> Result<()> {
    step("fuzzing");
    let folder = root().join("fuzz");
    let host = host_triple()?;
    let level = if seconds < LONG { "0" } else { "2" };
    let mut build = cargo();
    build
        .current_dir(&folder)
        .env("RUSTFLAGS", INSTRUMENTATION)
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", level);
    // Naming the target keeps the instrumentation out of build scripts and procedural macros.
    shell::run(build.args(["build", "--locked", "--release", "--bins", "--target", &host]))?;
    let mut names: Vec<String> = std::fs::read_dir(folder.join("fuzz_targets"))?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .filter(|name| filter.is_none_or(|filter| name.contains(filter)))
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("no fuzz target matches");
    }
    for name in &names {
        let corpus = folder.join("corpus").join(name);
        let artifacts = folder.join("artifacts").join(name);
        std::fs::create_dir_all(&corpus)?;
        std::fs::create_dir_all(&artifacts)?;
        let mut command = Command::new(folder.join("target").join(&host).join("release").join(name));
        command
            .arg(format!("-max_total_time={seconds}"))
            .args([
                "-max_len=65536",
                "-rss_limit_mb=2048",
                "-timeout=10",
                "-print_final_stats=0",
                "-verbosity=0",
            ])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(&corpus);
        command.args(seeds(name).map(|seeds| root().join(seeds)));
        // libFuzzer says much; it matters only when something was found.
        let output = command.output().with_context(|| format!("fuzz target {name} cannot be started"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("fuzz target {name} found something, see {}:\n{said}", artifacts.display());
        }
        eprintln!("fuzzed {name} for {seconds} s: nothing found");
    }
    Ok(())
}

/// Real input to begin with, where the project has some.
fn seeds(target: &str) -> Option<&'static str> {
    match target {
        "evidence" | "dcap_collateral" | "collateral_file" => Some("crates/appraisal/tests/vectors"),
        "artefacts" => Some("crates/reference/tests/vectors/uki"),
        "corim" => Some("crates/appraisal/tests/vectors/corim"),
        "manifest_parse" => Some("crates/manifest/tests"),
        _ => None,
    }
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host =
        text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not tell its host")?;
    Ok(host.to_owned())
}
