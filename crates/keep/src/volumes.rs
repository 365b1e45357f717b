//! Volumes of a Marble: their keys and newest commits are the coordinator's, their files the host's.
//!
//! The coordinator is asked over an attested connection that stays; when it breaks, or the manifest was updated, over a
//! new one. A commit whose answer was lost is asked for again: the coordinator grants a step that it has taken already.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use mesh_api::{
    AdvanceVolumeRequest, OpenVolumeRequest, OpenVolumeResponse, VolumeHead, mesh_client::MeshClient,
};
use tokio::runtime::Handle;
use tonic::transport::Channel;
use volume::{Anchor, AnchorError, Folder, Head, Options, Volume, VolumeKey};
use zeroize::{Zeroize, Zeroizing};

use crate::activation::{ActivationError, Candidate, refused};

/// Open volumes by name.
pub type Volumes = BTreeMap<String, Arc<Volume>>;

/// Why a volume of the configuration is not there.
#[derive(Debug, thiserror::Error)]
pub enum VolumesError {
    /// The host gave no folder for volumes.
    #[error("the configuration has the volume {name:?}, and the host gave no folder for volumes (--volumes)")]
    NoFolder {
        /// Its name.
        name: String,
    },
    /// The coordinator gave no key.
    #[error("the coordinator gives no key for the volume {name:?}")]
    Key {
        /// Its name.
        name: String,
        /// Why.
        source: ActivationError,
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
            Self::NoFolder { .. } => vec!["VOLUMES_NOWHERE".into()],
            Self::Key { source, .. } => source.codes(),
            Self::Open { source, .. } => vec![source.code().into()],
        }
    }
}

/// Opens the volumes of a configuration in folders of their names below `folder`, the host's.
///
/// # Errors
/// With the first that cannot be opened.
pub async fn open(
    candidate: &Arc<Candidate>,
    wanted: &[keep_config::Volume],
    folder: Option<&Path>,
) -> Result<Volumes, VolumesError> {
    let mut volumes = Volumes::new();
    for wanted in wanted {
        let name = || wanted.name.clone();
        let folder = folder.ok_or_else(|| VolumesError::NoFolder { name: name() })?;
        let host = Folder::new(&folder.join(&wanted.name));
        let options = Options { size: wanted.size, read_only: wanted.read_only };
        let key = |source| VolumesError::Key { name: name(), source };
        let asked = OpenVolumeRequest { name: name(), read_only: wanted.read_only };
        let (mut client, _) = candidate.connect().await.map_err(key)?;
        let opened = client.open_volume(asked).await.map_err(|status| key(refused(status)))?.into_inner();
        let (secret, known) = read(opened).map_err(key)?;
        let anchor = Coordinator {
            candidate: Arc::clone(candidate),
            volume: name(),
            runtime: Handle::current(),
            state: Mutex::new(State { client: Some(client), known }),
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

fn read(mut response: OpenVolumeResponse) -> Result<(VolumeKey, Option<Head>), ActivationError> {
    let key: Option<Zeroizing<[u8; 32]>> = response.key.as_slice().try_into().ok().map(Zeroizing::new);
    response.key.zeroize();
    let key = key.ok_or(ActivationError::Incomplete("volume's key"))?;
    let head = response.head.map(|head| {
        let hash = head.hash.try_into().map_err(|_| ActivationError::Incomplete("volume's head"))?;
        Ok::<_, ActivationError>(Head { sequence: head.sequence, hash })
    });
    Ok((VolumeKey::new(*key), head.transpose()?))
}

/// The coordinator as a volume's anchor.
struct Coordinator {
    candidate: Arc<Candidate>,
    volume: String,
    runtime: Handle,
    state: Mutex<State>,
}

struct State {
    client: Option<MeshClient<Channel>>,
    /// Where it stood when it last said so.
    known: Option<Head>,
}

fn wire(head: Head) -> VolumeHead {
    VolumeHead { sequence: head.sequence, hash: head.hash.to_vec() }
}

impl Coordinator {
    async fn ask(
        &self,
        client: &mut Option<MeshClient<Channel>>,
        step: (Option<Head>, Head),
    ) -> Result<(), ActivationError> {
        let request = || AdvanceVolumeRequest {
            name: self.volume.clone(),
            from: step.0.map(wire),
            to: Some(wire(step.1)),
        };
        if let Some(known) = client {
            match known.advance_volume(request()).await.map_err(refused) {
                Ok(_) => return Ok(()),
                Err(error) if is_final(&error) => return Err(error),
                // The connection broke, or is of an epoch that is over.
                Err(_) => *client = None,
            }
        }
        let (mut fresh, _) = self.candidate.connect().await?;
        fresh.advance_volume(request()).await.map_err(refused)?;
        *client = Some(fresh);
        Ok(())
    }
}

/// Whether no other connection would make it better.
fn is_final(error: &ActivationError) -> bool {
    matches!(error, ActivationError::Refused { code, .. } if matches!(code.as_str(), "VOLUME_MOVED" | "VOLUME_TAKEN"))
}

impl Anchor for Coordinator {
    fn current(&self) -> Result<Option<Head>, AnchorError> {
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).known)
    }

    /// Waits for the network: not for an async thread.
    fn advance(&self, from: Option<Head>, to: Head) -> Result<(), AnchorError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = self.runtime.block_on(self.ask(&mut state.client, (from, to)));
        match asked {
            Ok(()) => {
                state.known = Some(to);
                Ok(())
            }
            Err(error) if is_final(&error) => Err(AnchorError::Moved),
            Err(error) => Err(AnchorError::Unreachable(format!("{error} ({})", error.codes().join(",")))),
        }
    }
}
