//! Volumes of a Marble: their keys and newest commits are the coordinator's, their files the host's.

use std::{collections::BTreeMap, io, sync::Arc};

use marble::{MeshError, Use};
use volume::{Folder, Host, Options, Volume, VolumeKey, remote::Remote};

use crate::{
    activation::Candidate,
    storage::{Place, Storage},
};

/// Open volumes by name.
pub type Volumes = BTreeMap<String, Arc<Volume>>;

/// Why a volume of the configuration is not there.
#[derive(Debug, thiserror::Error)]
pub enum VolumesError {
    /// The host gave no place for volumes.
    #[error(
        "the configuration has the volume {name:?}, and the host gave no place for volumes (--volumes, or --storage in a machine)"
    )]
    Nowhere {
        /// Its name.
        name: String,
    },
    /// The host does not answer for the files of volumes.
    #[error("the host's storage for volumes cannot be reached (--storage)")]
    Unreachable(#[source] io::Error),
    /// The coordinator gave no key.
    #[error("the coordinator gives no key for the volume {name:?}")]
    Key {
        /// Its name.
        name: String,
        /// Why.
        source: MeshError,
    },
    /// The host's files are not those that the coordinator knows of, or cannot be used.
    #[error("the volume {name:?} cannot be opened ({}); {}", source.code(), source.remedy())]
    Open {
        /// Its name.
        name: String,
        /// Which way.
        source: volume::Error,
    },
}

impl VolumesError {
    /// Stable codes of the cause.
    pub fn codes(&self) -> Vec<String> {
        match self {
            Self::Nowhere { .. } | Self::Unreachable(_) => vec!["VOLUMES_NOWHERE".into()],
            Self::Key { source, .. } => source.codes(),
            Self::Open { source, .. } => vec![source.code().into()],
        }
    }
}

/// Opens the volumes of a configuration in the host's `storage`: in folders of their names below its folder, or as files
/// that it answers for.
///
/// # Errors
/// With the first that cannot be opened.
pub async fn open(
    candidate: &Candidate,
    wanted: &[keep_config::Volume],
    storage: Option<&Storage>,
) -> Result<Volumes, VolumesError> {
    let mut volumes = Volumes::new();
    let Some(first) = wanted.first() else { return Ok(volumes) };
    let storage = storage.ok_or_else(|| VolumesError::Nowhere { name: first.name.clone() })?;
    let place = storage.reach().await.map_err(VolumesError::Unreachable)?;
    for wanted in wanted {
        let name = || wanted.name.clone();
        let options = Options { size: wanted.size, read_only: wanted.read_only };
        let wants = if wanted.read_only { Use::Read } else { Use::Write };
        let known = candidate.member().open_volume(&wanted.name, wants).await;
        let known = known.map_err(|source| VolumesError::Key { name: name(), source })?;
        let (secret, anchor) = (VolumeKey::new(*known.key), known.volume);
        let host: Box<dyn Host> = match &place {
            Place::Folder(folder) => Box::new(Folder::new(&folder.join(&wanted.name))),
            Place::Link(link) => Box::new(Remote::new(Arc::clone(link), &secret)),
        };
        let opened = tokio::task::spawn_blocking(move || Volume::open(host, &secret, anchor, &options)).await;
        let lost = volume::Error::Host(std::io::ErrorKind::Other);
        let opened =
            opened.unwrap_or(Err(lost)).map_err(|source| VolumesError::Open { name: name(), source })?;
        tracing::info!(
            code = "VOLUME_OPENED",
            volume = wanted.name,
            commit = opened.head().sequence,
            "a volume"
        );
        volumes.insert(name(), Arc::new(opened));
    }
    Ok(volumes)
}
