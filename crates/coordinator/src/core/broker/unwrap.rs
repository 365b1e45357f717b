//! Keys that wrap the layer keys of container images: for users who encrypt, and for guests that have something unwrapped
//! by a key that never leaves. A key is 32 bytes, of the manifest's secrets or uploaded; or it stays in a store, which then
//! encrypts a data key for each packet.
//!
//! Packets by a key that guests may read are CoCo's, which their own clients unwrap. Packets by one that they may not are
//! ours: name and data key are authenticated in them, so that none can be moved to another name with another policy.

use appraisal::UnixTime;
use image_keys::{Kek, KekError, KeyName, Packet};
use manifest::{
    DeclaredResource, Generation, ResourceAction, ResourcePath, SecretName, StoredAt, StoredPlace, Use,
};
use secret_store::StoreKey;
use zeroize::Zeroizing;

use super::release::Releasable;
use crate::core::{Caller, Mesh, Refusal, State, Stored, resources, secrets, stored_at};

/// A key that a user may wrap with.
pub struct Wrapping {
    name: KeyName,
    path: ResourcePath,
}

impl Wrapping {
    /// By the right `WrapKey` in the key's repository. Whoever has no right learns the same of a key that exists and of
    /// one that does not (S-58).
    pub fn allowed(state: &State, caller: &Caller, key: &str) -> Result<Self, Refusal> {
        let name: KeyName = key.parse().map_err(|_| Refusal::ResourcePath)?;
        let path: ResourcePath = name.path().parse().map_err(|_| Refusal::ResourcePath)?;
        let mesh = state.running()?;
        resources::granted(mesh, caller, ResourceAction::WrapKey, path.repository())?;
        Ok(Self { name, path })
    }

    /// The secret that has to be asked of a store.
    pub fn stored<'m>(&self, mesh: &'m Mesh) -> Option<&'m SecretName> {
        let secret = mesh.manifest().secrets().get(&declared(mesh, &self.path)?.secret)?;
        stored_at(secret).map(|_| &secret.name)
    }

    /// A packet, by a key that is here or was fetched.
    pub fn wrap(
        &self,
        mesh: &Mesh,
        stored: &Stored,
        options: &[u8],
        now: UnixTime,
    ) -> Result<Packet, Refusal> {
        let (value, usage) = match declared(mesh, &self.path) {
            Some(declared) => (resources::declared_value(mesh, declared, stored, now)?.0, declared.usage),
            None => {
                let newest = mesh.resources().newest(&self.path).ok_or(Refusal::UnknownResource)?;
                (resources::bytes(&newest.value)?, Use::Read)
            }
        };
        let kek = Kek::new(&value).map_err(Refusal::ImageKey)?;
        match usage {
            Use::Read => kek.wrap(&self.name, options),
            Use::Unwrap => kek.wrap_bound(&self.name, None, options),
        }
        .map_err(Refusal::ImageKey)
    }

    /// A packet by a data key, which a store has encrypted with the key that stays there.
    pub fn wrap_by(&self, data_key: &Kek, encrypted: Vec<u8>, options: &[u8]) -> Result<Packet, Refusal> {
        data_key.wrap_bound(&self.name, Some(encrypted), options).map_err(Refusal::ImageKey)
    }
}

/// Where a packet's key is, if it stays in a store.
pub fn held<'m>(mesh: &'m Mesh, secret: &SecretName) -> Option<(&'m StoredAt, StoreKey)> {
    let at = stored_at(mesh.manifest().secrets().get(secret)?)?;
    match &at.place {
        StoredPlace::Held { label, mechanism } => {
            Some((at, StoreKey::Token { key: label.clone(), mechanism: *mechanism }))
        }
        _ => None,
    }
}

/// What is in a packet, by the key that was released for it. Keys are replaced, and images stay: the versions before it
/// that are kept open packets too.
pub fn unwrap(
    mesh: &Mesh,
    releasable: Releasable,
    packet: &Packet,
    stored: &Stored,
    now: UnixTime,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let path = releasable.finding.resource.clone();
    let newest = releasable.value(mesh, stored)?;
    let newest = Kek::new(&newest).and_then(|kek| kek.unwrap(packet));
    let Err(error) = newest else { return newest.map_err(Refusal::ImageKey) };
    let opened = before(mesh, &path, now).iter().find_map(|value| Kek::new(value).ok()?.unwrap(packet).ok());
    opened.ok_or(Refusal::ImageKey(error))
}

/// As [`unwrap`], by the data key that a store has decrypted.
pub fn unwrap_by(data_key: &[u8], packet: &Packet) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    // What decrypts to another length was not made by us.
    let kek = Kek::new(data_key).map_err(|_| Refusal::ImageKey(KekError::NotOpened))?;
    kek.unwrap(packet).map_err(Refusal::ImageKey)
}

fn declared<'m>(mesh: &'m Mesh, path: &ResourcePath) -> Option<&'m DeclaredResource> {
    mesh.manifest().broker()?.declared(path)
}

/// The values before the newest, the newest of them first.
fn before(mesh: &Mesh, path: &ResourcePath, now: UnixTime) -> Vec<Zeroizing<Vec<u8>>> {
    let Some(declared) = declared(mesh, path) else {
        let versions = mesh.resources().versions(path).iter().rev().skip(1);
        return versions.filter_map(|version| resources::bytes(&version.value).ok()).collect();
    };
    let secret = mesh.manifest().secrets().get(&declared.secret);
    let version = secret
        .and_then(|secret| secrets::deliverable(mesh, secret, Generation::Previous, now).ok().flatten());
    let value = version.and_then(|version| resources::bytes(version.value.as_ref()?).ok());
    value.into_iter().collect()
}
