//! The host's arguments.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result};
use attester::Tee;
use clap::Parser;
use keep::{cache::Cache, storage::Storage};
use zeroize::Zeroizing;

/// The sealing context of the key that authenticates compiled workloads on the host's disk.
const CACHE_CONTEXT: &str = "keep/compilation-cache/1";

#[derive(Parser)]
#[command(name = "bailey-keep", about = "Runs one WebAssembly workload inside a TEE", version)]
pub struct Hints {
    /// Where the coordinator's mesh API is; of a Marble
    #[arg(long, value_name = "HOST:PORT")]
    pub coordinator: Option<String>,
    /// The workload: a WebAssembly component; of a Marble. Without, it is fetched from where the coordinator says
    #[arg(long, value_name = "FILE")]
    pub workload: Option<PathBuf>,
    /// Which signed package to fetch: REGISTRY/REPOSITORY@sha256:…; of a Marble
    #[arg(long, value_name = "PACKAGE", conflicts_with = "workload")]
    pub package: Option<package::Pinned>,
    /// Where to listen; of a Marble
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where a Marble listens; of a Marble
    #[arg(long = "peer", value_name = "NAME=HOST:PORT", value_parser = peer)]
    pub peers: Vec<(String, String)>,
    /// Where clients arrive, instead of the socket that was given as descriptor 4; of a direct deployment
    #[arg(long, value_name = "IP:PORT", conflicts_with_all = ["coordinator", "workload", "package", "listen", "peers"])]
    pub channel: Option<SocketAddr>,
    /// Where volumes are kept, encrypted, in a folder each
    #[arg(long, value_name = "DIR")]
    pub volumes: Option<PathBuf>,
    /// Where the host answers for the files of volumes, instead of a folder: in a virtual machine
    #[arg(long, value_name = "IP:PORT", conflicts_with = "volumes")]
    pub storage: Option<SocketAddr>,
    /// Where compiled workloads are kept, authenticated
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

impl Hints {
    /// The host's storage for volumes, if there is some.
    pub fn storage(&self) -> Option<Storage> {
        let folder = self.volumes.clone().map(Storage::Folder);
        folder.or(self.storage.map(Storage::Port))
    }

    /// The cache of compiled workloads, if there is to be one.
    pub fn cache(&self, tee: &dyn Tee) -> Result<Option<Cache>> {
        let open = |folder: &PathBuf| {
            let key = Zeroizing::new(*tee.sealing_key(CACHE_CONTEXT)?.as_bytes());
            Ok(Cache::new(folder, key))
        };
        self.cache.as_ref().map(open).transpose()
    }
}

/// A hint that a Marble cannot do without.
pub fn required<T>(hint: Option<T>, name: &str) -> Result<T> {
    hint.with_context(|| format!("--{name} is missing: a Marble cannot do without"))
}

fn peer(text: &str) -> Result<(String, String), String> {
    let (name, address) = text.split_once('=').ok_or("expected NAME=HOST:PORT")?;
    Ok((name.to_owned(), address.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marble_has_its_volumes_in_a_folder_or_by_its_hosts_answers() {
        let storage = |more: &[&str]| {
            let arguments = ["bailey-keep", "--coordinator", "10.0.2.2:1", "--workload", "/w"];
            Hints::try_parse_from(arguments.iter().chain(more)).map(|hints| hints.storage())
        };
        assert!(matches!(storage(&[]), Ok(None)));
        assert!(matches!(storage(&["--volumes", "/v"]), Ok(Some(Storage::Folder(_)))));
        assert!(matches!(storage(&["--storage", "10.0.2.100:7001"]), Ok(Some(Storage::Port(_)))));
        assert!(storage(&["--volumes", "/v", "--storage", "10.0.2.100:7001"]).is_err());
    }
}
