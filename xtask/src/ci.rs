//! What CI checks, cheapest first.

use anyhow::Result;

use crate::{
    build, direction, fuzz, guest,
    shell::{available, cargo, run, step},
};

/// Seconds for each fuzz target in CI.
const FUZZ_SECONDS: u32 = 2;

/// Everything.
pub fn all() -> Result<()> {
    step("formatting");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    direction::check()?;
    licences()?;
    pure_crates()?;
    step("lints");
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    build::test()?;
    guest::build()?;
    fuzz::run(FUZZ_SECONDS, None)?;
    step("the whole story");
    build::demo(true, None)
}

/// cargo-deny takes minutes to build, so it is used where it is, and installed where CI asks for it.
fn licences() -> Result<()> {
    step("licences, advisories, sources of dependencies");
    if !available("cargo-deny") {
        eprintln!("NOT RUN: cargo-deny is not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    // Also those of other platforms, which no build here downloads.
    run(cargo().args(["fetch", "--locked"]))?;
    // Advisories need a database from the network; everything else is checked offline.
    run(cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]))
}

/// The pure crates must build for a browser.
fn pure_crates() -> Result<()> {
    step("evidence, appraisal, policy-rego and transparency for wasm32-unknown-unknown");
    build::guest_target("wasm32-unknown-unknown")?;
    let packages = ["-p", "evidence", "-p", "appraisal", "-p", "policy-rego", "-p", "transparency"];
    run(cargo().args(["build", "--locked", "--target", "wasm32-unknown-unknown"]).args(packages))
}
