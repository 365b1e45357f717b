//! Dependencies point inward. The rule is a table of absences: what a crate must never come to know, through
//! any number of steps. ARCHITECTURE.md says why.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::shell::{root, step};

/// `crate` must not reach any of these, directly or through others (development dependencies aside).
const ABSENCES: &[(&str, &[&str])] = &[
    ("evidence", &["appraisal", "aws-lc-rs", "tokio", "rustls", "rand", "getrandom"]),
    ("appraisal", &["crypto-aws-lc", "attested-tls", "aws-lc-rs", "tokio", "rustls", "rand", "getrandom"]),
    ("manifest", &["appraisal", "attested-tls", "aws-lc-rs", "tokio", "rustls"]),
    ("attester", &["appraisal", "emulator", "tokio", "rustls"]),
    ("attested-tls", &["manifest", "coordinator", "keep", "host", "emulator", "wasmtime", "axum"]),
    ("coordinator", &["keep", "host", "emulator", "bailey", "wasmtime"]),
    ("keep", &["coordinator", "manifest", "host", "emulator", "bailey", "redb"]),
    ("host", &["appraisal", "attested-tls", "coordinator", "keep", "manifest", "wasmtime", "rustls"]),
    ("emulator", &["appraisal", "attested-tls", "coordinator", "keep", "host", "manifest"]),
    ("mesh-api", &["evidence", "appraisal", "attested-tls"]),
    ("bailey", &["wasmtime"]),
];

/// Fails when a crate reaches what it must not know.
pub fn check() -> Result<()> {
    step("dependency direction");
    let metadata =
        MetadataCommand::new().current_dir(root()).other_options(["--locked".to_owned()]).exec()?;
    let Some(resolve) = &metadata.resolve else { bail!("cargo metadata has no dependency graph") };
    let names: BTreeMap<_, _> =
        metadata.packages.iter().map(|package| (&package.id, package.name.as_str())).collect();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for node in &resolve.nodes {
        let reached = node
            .deps
            .iter()
            .filter(|dependency| {
                // Host tools of the build do not end up in the crate, and neither do other targets' crates.
                dependency.dep_kinds.iter().any(|kind| {
                    kind.kind == DependencyKind::Normal
                        && kind.target.as_ref().is_none_or(|target| !target.to_string().contains("wasm"))
                })
            })
            .map(|dependency| names[&dependency.pkg]);
        edges.entry(names[&node.id]).or_default().extend(reached);
    }
    let mut broken = Vec::new();
    for (from, forbidden) in ABSENCES {
        if !edges.contains_key(from) {
            bail!("the rule names crate {from}, which does not exist");
        }
        for target in *forbidden {
            if let Some(path) = path(&edges, from, target) {
                broken.push(format!("  {from} must not know {target}, but: {}", path.join(" → ")));
            }
        }
    }
    if !broken.is_empty() {
        bail!("dependencies point the wrong way:\n{}", broken.join("\n"));
    }
    eprintln!("{} crates checked", ABSENCES.len());
    Ok(())
}

fn path<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut queue = std::collections::VecDeque::from([vec![from]]);
    let mut seen = BTreeSet::from([from]);
    while let Some(path) = queue.pop_front() {
        let last = *path.last()?;
        if last == to && path.len() > 1 {
            return Some(path);
        }
        for next in edges.get(last).into_iter().flatten() {
            if seen.insert(next) {
                queue.push_back(path.iter().copied().chain([*next]).collect());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_through_others_is_found() {
        let edges = BTreeMap::from([("a", BTreeSet::from(["b"])), ("b", BTreeSet::from(["c"]))]);
        assert_eq!(path(&edges, "a", "c"), Some(vec!["a", "b", "c"]));
        assert_eq!(path(&edges, "c", "a"), None);
    }
}
