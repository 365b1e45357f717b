//! Volumes of a direct deployment: key and newest state are the client's, the files the host's. Each commit is
//! acknowledged to the workload once the client says that it holds the new state, so that no host can bring an older one
//! back unnoticed.
//!
//! The host finds a folder for each volume, named by what is derived from its key: it tells nothing, and nobody guesses
//! it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use keep_config::KeepConfig;
use keep_protocol::keep::{self, Refused, RefusedCode};
use serde_bytes::ByteArray;
use tokio::runtime::Handle;
use volume::{Anchor, AnchorError, Folder, Head, Options, Volume, remote::Remote};

use super::attention::Holder;
use crate::{
    storage::{Place, Storage},
    volumes::Volumes,
};

/// Opens the configuration's volumes in the host's `storage`, with the keys that the client gave.
pub(super) async fn open(
    config: &KeepConfig,
    given: &[keep::VolumeKey],
    storage: Option<&Storage>,
    holder: &Holder,
) -> Result<Volumes, Refused> {
    let mut given: BTreeMap<&str, _> = given.iter().map(|key| (key.name.as_str(), key)).collect();
    let mut keys = Vec::new();
    for wanted in &config.volumes {
        let key = given.remove(wanted.name.as_str()).ok_or_else(|| {
            let message =
                format!("the volume {:?}, which the configuration names, was not given", wanted.name);
            refused("VOLUME_NOT_GIVEN", message)
        })?;
        keys.push((wanted, key));
    }
    if let Some((name, _)) = given.pop_first() {
        let message = format!("the volume {name:?} was given, and the configuration does not name it");
        return Err(refused("VOLUME_UNUSED", message));
    }
    let mut volumes = Volumes::new();
    if keys.is_empty() {
        return Ok(volumes);
    }
    let nowhere = |why: &str| refused("VOLUMES_NOWHERE", why);
    let place = match storage {
        Some(storage) => storage.reach().await.map_err(|error| {
            nowhere(&format!("the host's storage for volumes cannot be reached: {}", error.kind()))
        })?,
        None => return Err(nowhere("the host gave this Keep no storage for volumes")),
    };
    for (wanted, given) in keys {
        let opened = open_one(wanted, given, &place, holder).await.map_err(|error| {
            let message = format!("the volume {:?} cannot be opened: {error}", wanted.name);
            refused(error.code(), message)
        })?;
        volumes.insert(wanted.name.clone(), Arc::new(opened));
    }
    Ok(volumes)
}

async fn open_one(
    wanted: &keep_config::Volume,
    given: &keep::VolumeKey,
    place: &Place,
    holder: &Holder,
) -> Result<Volume, volume::Error> {
    let failed = || volume::Error::Host(std::io::ErrorKind::Other);
    // The message's own rule: a key has 32 bytes.
    let key = given.key.as_bytes().try_into().map(volume::VolumeKey::new).map_err(|_| failed())?;
    let host: Box<dyn volume::Host> = match place {
        Place::Folder(folder) => {
            Box::new(Folder::new(&folder.join(hex::encode(key.id()))).for_changing_users())
        }
        Place::Link(link) => Box::new(Remote::new(Arc::clone(link), &key)),
    };
    let options = Options { size: wanted.size, read_only: wanted.read_only };
    let known = given.head.map(|head| Head { sequence: head.sequence, hash: *head.digest });
    let anchor = Client {
        volume: wanted.name.clone(),
        holder: holder.clone(),
        runtime: Handle::current(),
        known: Mutex::new(known),
    };
    tokio::task::spawn_blocking(move || Volume::open(host, &key, anchor, &options))
        .await
        .unwrap_or_else(|_| Err(failed()))
}

fn refused(detail: &str, message: impl Into<String>) -> Refused {
    Refused { detail: Some(detail.into()), ..Refused::new(RefusedCode::VolumesMismatch, message) }
}

/// The client as a volume's anchor.
struct Client {
    volume: String,
    holder: Holder,
    runtime: Handle,
    known: Mutex<Option<Head>>,
}

impl Anchor for Client {
    fn current(&self) -> Result<Option<Head>, AnchorError> {
        Ok(*self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for the client: not for an async thread.
    fn advance(&self, from: Option<Head>, to: Head) -> Result<(), AnchorError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != from {
            return Err(AnchorError::Moved);
        }
        let head = keep::Head { digest: ByteArray::new(to.hash), sequence: to.sequence };
        let held = self.runtime.block_on(self.holder.hold(&self.volume, head));
        held.map_err(|why| AnchorError::Unreachable(why.into()))?;
        *known = Some(to);
        Ok(())
    }
}
