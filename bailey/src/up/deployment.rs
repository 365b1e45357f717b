//! `bailey.toml`: what to start on this machine. Nothing in it is trusted by anyone: the manifest decides what
//! is admitted.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use evidence::Platform;
use package::Pinned;
use serde::{Deserialize, Deserializer, de::Error};

use crate::failure::{Failure, Input, Outcome};

/// The name of the file in a deployment's folder.
pub const FILE: &str = "bailey.toml";

/// A folder's deployment, with paths resolved.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The manifest's template: see [`super::Facts`].
    pub manifest: PathBuf,
    /// The coordinator.
    pub coordinator: CoordinatorPlan,
    /// The Keeps, by process name, in the order in which they start: whoever is a peer of others first.
    pub keeps: Vec<(String, KeepPlan)>,
    /// Users whose keys are made here.
    pub users: BTreeMap<String, UserPlan>,
}

/// The coordinator to start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoordinatorPlan {
    /// As what kind of TEE.
    pub platform: Platform,
    /// Names in its certificate; measured.
    pub names: Vec<String>,
    /// Where its client API listens; any free port if missing.
    pub listen: Option<SocketAddr>,
    /// Where its mesh API listens, for Keeps; any free port if missing.
    pub mesh: Option<SocketAddr>,
    /// Where native programs join by MarbleRun's protocol; nowhere if missing.
    pub marbles: Option<SocketAddr>,
    /// Where Prometheus finds metrics; nowhere if missing.
    pub metrics: Option<SocketAddr>,
    /// Where guests that are no Marbles find the key broker; nowhere if missing.
    pub broker: Option<SocketAddr>,
    /// The TPM that anchors its state, as `bailey-coordinator --tpm` takes it; none if missing. That there must be one
    /// is measured, and where it is not.
    pub tpm: Option<String>,
    /// Where it shares its state with others of its kind; in a file of its own if missing. Not of `bailey.toml`.
    #[serde(skip)]
    pub etcd: Option<EtcdPlan>,
}

/// An etcd that coordinators share their state in.
#[derive(Debug, Clone)]
pub struct EtcdPlan {
    /// URLs of its members.
    pub members: Vec<String>,
    /// PEM of the roots of its certificates.
    pub ca: Option<PathBuf>,
    /// PEM of the certificate that it knows the coordinator by, and of its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl EtcdPlan {
    /// In the words of the coordinator's program.
    pub fn arguments(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let members = self.members.iter().flat_map(|member| ["--etcd".to_owned(), member.clone()]);
        let ca = self.ca.iter().flat_map(|ca| ["--etcd-ca".to_owned(), path(ca)]);
        let own = self.certificate.iter().flat_map(|(certificate, key)| {
            ["--etcd-cert".to_owned(), path(certificate), "--etcd-key".to_owned(), path(key)]
        });
        members.chain(ca).chain(own).collect()
    }
}

/// A Keep to start.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepPlan {
    /// As what kind of TEE.
    pub platform: Platform,
    /// The Marble to become; the Keep's own name if missing.
    pub marble: Option<String>,
    /// The WebAssembly module or component: this, or `package`.
    #[serde(default)]
    pub workload: PathBuf,
    /// The signed package that the host tells it to take, REGISTRY/REPOSITORY@sha256:…; what counts is the manifest's
    /// word.
    #[serde(default, deserialize_with = "pinned")]
    pub package: Option<Pinned>,
    /// Where it listens; any free port if missing.
    pub listen: Option<SocketAddr>,
    /// Keeps of this deployment that it may want to reach: a hint where they listen, not a permission.
    #[serde(default)]
    pub peers: Vec<String>,
}

/// A user whose key is made here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserPlan {
    /// Secrets that this user uploads: name to value.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    manifest: PathBuf,
    coordinator: CoordinatorPlan,
    keeps: BTreeMap<String, KeepPlan>,
    #[serde(default)]
    users: BTreeMap<String, UserPlan>,
}

impl Deployment {
    /// Reads `bailey.toml` in `folder`.
    pub fn load(folder: &Path) -> Outcome<Self> {
        let path = folder.join(FILE);
        let text =
            std::fs::read_to_string(&path).malformed(format!("{} cannot be read", path.display())).map_err(
                |failure| failure.hint("the folder of a deployment has a bailey.toml; see examples/poll"),
            )?;
        let wire: Wire = toml::from_str(&text).malformed(format!("{} is no deployment", path.display()))?;
        let folder = std::path::absolute(folder).malformed("the folder's path cannot be resolved")?;
        let mut keeps = wire.keeps;
        for (name, keep) in &mut keeps {
            match (keep.workload.as_os_str().is_empty(), &keep.package) {
                (true, Some(_)) => continue,
                (false, None) => {}
                _ => {
                    let sentence = format!("keeps.{name}: give it a workload or a package, one of them");
                    return Err(Failure::malformed(sentence));
                }
            }
            keep.workload = folder.join(&keep.workload);
            if !keep.workload.is_file() {
                let sentence = format!("keeps.{name}.workload: {} is missing", keep.workload.display());
                return Err(Failure::malformed(sentence)
                    .hint("build the workloads first; for the example: cargo xtask demo"));
            }
        }
        Ok(Self {
            manifest: folder.join(wire.manifest),
            coordinator: wire.coordinator,
            keeps: in_order(keeps)?,
            users: wire.users,
        })
    }
}

fn pinned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Pinned>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

/// Peers before those who reach for them.
fn in_order(mut keeps: BTreeMap<String, KeepPlan>) -> Outcome<Vec<(String, KeepPlan)>> {
    let mut ordered: Vec<(String, KeepPlan)> = Vec::new();
    while !keeps.is_empty() {
        let started = |peer: &String| ordered.iter().any(|(name, _)| name == peer);
        let next =
            keeps.iter().find(|(_, keep)| keep.peers.iter().all(started)).map(|(name, _)| name.clone());
        let Some((name, keep)) = next.and_then(|name| keeps.remove_entry(&name)) else {
            let names: Vec<_> = keeps.keys().map(String::as_str).collect();
            return Err(Failure::malformed(format!(
                "{FILE}: the peers of {} are missing, or need each other in a circle",
                names.join(", ")
            )));
        };
        ordered.push((name, keep));
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(peers: &[&str]) -> KeepPlan {
        KeepPlan {
            platform: Platform::Snp,
            marble: None,
            workload: PathBuf::new(),
            package: None,
            listen: None,
            peers: peers.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn peers_start_first() {
        let keeps = BTreeMap::from([("a".to_owned(), keep(&["b"])), ("b".to_owned(), keep(&[]))]);
        let order: Vec<_> = in_order(keeps).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(order, ["b", "a"]);
    }

    #[test]
    fn circles_and_strangers_are_refused() {
        let circle = BTreeMap::from([("a".to_owned(), keep(&["b"])), ("b".to_owned(), keep(&["a"]))]);
        assert_eq!(in_order(circle).unwrap_err().exit_code(), 2);
        assert_eq!(in_order(BTreeMap::from([("a".to_owned(), keep(&["x"]))])).unwrap_err().exit_code(), 2);
    }
}
