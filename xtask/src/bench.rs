//! The benches that measure other people's verifiers beside ours: `benches/`, a workspace of its own.

use std::process::Command;

use anyhow::Result;

use crate::build::is_root;
use crate::shell::{available, cargo, root, run, step};

/// Debian's packages for the faster back end of `sev`.
const OPENSSL_PACKAGES: &str = "libssl-dev pkg-config";

/// `cargo xtask bench verify`.
pub fn verify() -> Result<()> {
    let back_end = if openssl() { "openssl" } else { "nossl" };
    step("building for release and measuring verification");
    let folder = root().join("benches");
    let bench = ["bench", "--locked", "--bench", "verify", "--features", back_end];
    // Criterion's own talk goes beside the table, which is the result.
    run(cargo().current_dir(folder).args(bench).args(["--", "--quiet"]))
}

/// `cargo xtask bench coordinator`.
pub fn coordinator() -> Result<()> {
    step("building for release and measuring the coordinator");
    run(cargo().current_dir(root()).args(["bench", "--locked", "-p", "coordinator", "--bench", "mesh"]))
}

/// `cargo xtask bench deploy`.
pub fn deploy() -> Result<()> {
    step("building for release and measuring direct deployments");
    run(cargo().current_dir(root()).args(["bench", "--locked", "-p", "deploy", "--bench", "deploy"]))
}

/// `cargo xtask bench broker`: the protocol's keys, release policies, handshakes and reads.
pub fn broker() -> Result<()> {
    step("building for release and measuring the key broker");
    let benches = [("rcar", "protocol"), ("policy-rego", "release"), ("coordinator", "broker")];
    for (package, bench) in benches {
        run(cargo().current_dir(root()).args(["bench", "--locked", "-p", package, "--bench", bench]))?;
    }
    Ok(())
}

/// `cargo xtask bench keep`: requests, throughput, start and computation beside plain wasmtime and rustls alone, workloads
/// that wait, and volumes beside AES-GCM.
pub fn keep() -> Result<()> {
    step("building for release and measuring workloads in a Keep");
    for (package, bench) in [("keep", "start"), ("keep", "workloads"), ("keep", "keep"), ("volume", "volume")]
    {
        run(cargo().current_dir(root()).args(["bench", "--locked", "-p", package, "--bench", bench]))?;
    }
    Ok(())
}

/// `cargo xtask bench database`: the sealed log beside PostgreSQL's own `fsync`, the gateway beside PostgreSQL's own TLS,
/// and both at once.
pub fn database() -> Result<()> {
    step("building for release and measuring the confidential database");
    for bench in ["sealer", "gateway", "durable"] {
        run(cargo().current_dir(root()).args(["bench", "--locked", "-p", "database", "--bench", bench]))?;
    }
    Ok(())
}

/// Whether OpenSSL can be linked; installs it where that needs nobody's permission.
fn openssl() -> bool {
    let present = || {
        Command::new("pkg-config").args(["--exists", "openssl"]).status().is_ok_and(|status| status.success())
    };
    if present() {
        return true;
    }
    if available("apt-get") && is_root() {
        step("installing OpenSSL for the comparison");
        let install = format!(
            "apt-get update -qq && apt-get install -y -qq --no-install-recommends {OPENSSL_PACKAGES}"
        );
        if let Err(error) = run(Command::new("sh").args(["-c", &install])) {
            eprintln!("{error:#}");
        }
    }
    let present = present();
    if !present {
        eprintln!(
            "sev is measured with RustCrypto, for want of OpenSSL.\n  mend: sudo apt-get install {OPENSSL_PACKAGES}"
        );
    }
    present
}
