//! Dependencies point inward. The rule is a table of absences: what a crate must never come to know, through
//! any number of steps. ARCHITECTURE.md says why.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::shell::{cargo, step};

/// `crate` must not reach any of these, directly or through others (development dependencies aside).
const ABSENCES: &[(&str, &[&str])] = &[
    ("evidence", &["appraisal", "endorsements", "aws-lc-rs", "tokio", "rustls", "rand", "getrandom"]),
    (
        "appraisal",
        &[
            "policy-rego",
            "regorus",
            "crypto-aws-lc",
            "attested-tls",
            "endorsements",
            "aws-lc-rs",
            "tokio",
            "rustls",
            "rand",
            "getrandom",
        ],
    ),
    (
        "endorsements",
        &[
            "crypto-aws-lc",
            "attested-tls",
            "manifest",
            "coordinator",
            "keep",
            "host",
            "emulator",
            "wasmtime",
            "axum",
        ],
    ),
    (
        "policy-rego",
        &["endorsements", "crypto-aws-lc", "attested-tls", "tokio", "rustls", "rand", "getrandom"],
    ),
    (
        "reference-statements",
        &[
            "endorsements",
            "attested-tls",
            "manifest",
            "coordinator",
            "emulator",
            "tokio",
            "reqwest",
            "openssl",
        ],
    ),
    (
        "manifest",
        &[
            "reference-statements",
            "endorsements",
            "appraisal",
            "attested-tls",
            "aws-lc-rs",
            "tokio",
            "rustls",
        ],
    ),
    (
        "package",
        &["evidence", "appraisal", "attested-tls", "manifest", "aws-lc-rs", "tokio", "rustls", "hyper"],
    ),
    (
        "registry",
        &[
            "endorsements",
            "manifest",
            "coordinator",
            "keep",
            "host",
            "emulator",
            "bailey",
            "wasmtime",
            "reqwest",
        ],
    ),
    ("attester", &["endorsements", "appraisal", "emulator", "tokio", "rustls"]),
    (
        "attested-tls",
        &["endorsements", "manifest", "coordinator", "keep", "host", "emulator", "wasmtime", "axum"],
    ),
    ("coordinator", &["endorsements", "keep", "host", "emulator", "bailey", "wasmtime"]),
    (
        "secret-store",
        &["endorsements", "coordinator", "keep", "host", "emulator", "bailey", "wasmtime", "axum", "redb"],
    ),
    ("keep", &["endorsements", "coordinator", "manifest", "host", "emulator", "bailey", "redb", "cryptoki"]),
    ("host", &["endorsements", "appraisal", "attested-tls", "coordinator", "keep", "manifest", "wasmtime"]),
    ("emulator", &["endorsements", "appraisal", "attested-tls", "coordinator", "keep", "host", "manifest"]),
    (
        "guest",
        &[
            "endorsements",
            "appraisal",
            "attested-tls",
            "coordinator",
            "manifest",
            "keep",
            "host",
            "emulator",
            "bailey",
            "wasmtime",
            "redb",
            "cryptoki",
        ],
    ),
    ("keep-config", &["evidence", "appraisal", "attested-tls", "manifest", "tokio", "rustls", "wasmtime"]),
    (
        "keep-protocol",
        &["evidence", "appraisal", "attested-tls", "aws-lc-rs", "tokio", "rustls", "keep", "host"],
    ),
    ("owner-log", &["evidence", "appraisal", "attested-tls", "manifest", "tokio", "wasmtime"]),
    (
        "volume",
        &["evidence", "appraisal", "attested-tls", "manifest", "keep-config", "tokio", "rustls", "wasmtime"],
    ),
    (
        "deploy",
        &["endorsements", "coordinator", "manifest", "keep", "host", "emulator", "bailey", "wasmtime"],
    ),
    (
        "database",
        &["endorsements", "coordinator", "keep", "host", "emulator", "bailey", "wasmtime", "openssl"],
    ),
    (
        "marble",
        &["endorsements", "manifest", "coordinator", "keep", "database", "host", "emulator", "wasmtime"],
    ),
    ("database-manifest", &["appraisal", "attested-tls", "tokio", "rustls", "tokio-postgres", "database"]),
    (
        "sealed-log",
        &[
            "evidence",
            "appraisal",
            "attested-tls",
            "tokio",
            "rustls",
            "sqlparser",
            "tokio-postgres",
            "database",
        ],
    ),
    (
        "database-receipt",
        &["tokio", "rustls", "sqlparser", "tokio-postgres", "database", "database-manifest", "appraisal"],
    ),
    ("sealed-secret", &["appraisal", "attester", "tokio", "rustls", "hyper"]),
    ("mesh-api", &["endorsements", "evidence", "appraisal", "attested-tls"]),
    ("bailey", &["wasmtime"]),
    ("etcd", &["endorsements", "evidence", "appraisal", "attested-tls", "manifest"]),
    (
        "spiffe-workload",
        &[
            "endorsements",
            "appraisal",
            "attested-tls",
            "manifest",
            "coordinator",
            "keep",
            "host",
            "emulator",
            "bailey",
            "wasmtime",
        ],
    ),
    ("tpm-anchor", &["evidence", "appraisal", "attested-tls", "coordinator", "tokio", "rustls"]),
    (
        "transparency",
        &["evidence", "appraisal", "attested-tls", "aws-lc-rs", "tokio", "rustls", "rand", "getrandom"],
    ),
    (
        "rcar",
        &["endorsements", "appraisal", "attested-tls", "manifest", "coordinator", "tokio", "rustls", "axum"],
    ),
    (
        "vm-image",
        &["evidence", "appraisal", "attested-tls", "coordinator", "tokio", "rustls", "keep", "host"],
    ),
    ("init", &["evidence", "appraisal", "attested-tls", "coordinator", "tokio", "rustls", "keep", "host"]),
    (
        "vm",
        &[
            "endorsements",
            "appraisal",
            "attested-tls",
            "coordinator",
            "keep",
            "host",
            "manifest",
            "wasmtime",
            "tokio",
        ],
    ),
    ("image-keys", &["evidence", "appraisal", "attested-tls", "manifest", "secret-store", "rustls", "rcar"]),
];

/// Fails when a crate reaches what it must not know. Asked of cargo for each crate by itself: features that
/// other crates of the workspace turn on are not its own.
pub fn check() -> Result<()> {
    step("dependency direction");
    let mut broken = Vec::new();
    for (from, forbidden) in ABSENCES {
        let reached = tree(from)?;
        for target in forbidden.iter().filter(|target| reached.contains(**target)) {
            let output = cargo().args(TREE).args(["-p", from, "-i", target]).output()?;
            broken.push(format!(
                "{from} must not know {target}, but:\n{}",
                String::from_utf8_lossy(&output.stdout)
            ));
        }
    }
    if !broken.is_empty() {
        bail!("dependencies point the wrong way:\n{}", broken.join("\n"));
    }
    eprintln!("{} crates checked", ABSENCES.len());
    Ok(())
}

const TREE: [&str; 4] = ["tree", "--locked", "--edges", "normal"];

/// The names of all crates that `package` depends on, through any number of steps, build tools aside.
fn tree(package: &str) -> Result<BTreeSet<String>> {
    let output = cargo().args(TREE).args(["--prefix", "none", "--format", "{p}", "-p", package]).output()?;
    if !output.status.success() {
        bail!("the rule names crate {package}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().skip(1).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_dependencies_are_found_and_development_ones_are_not() {
        let reached = tree("coordinator").expect("a crate of the workspace");
        assert!(reached.contains("evidence"), "through appraisal");
        assert!(!reached.contains("testkit"), "only tests know it");
        assert!(tree("no-such-crate").is_err());
    }
}
