//! What the coordinator knows, rebuilt from its log. Secrets in it are wiped when it goes.

use std::{collections::BTreeMap, sync::Arc};

use appraisal::UnixTime;
use manifest::Manifest;
use zeroize::Zeroizing;

use super::Event;
use crate::{
    authority::{Authority, MARBLE_LIFETIME},
    store::StoreError,
};

/// The whole state.
#[derive(Clone)]
pub struct State {
    root: Authority,
    root_secret: Zeroizing<[u8; 32]>,
    emulated: bool,
    mesh: Option<Mesh>,
}

/// A mesh under a manifest.
#[derive(Clone)]
pub struct Mesh {
    manifest: Arc<Manifest>,
    manifest_bytes: Arc<Vec<u8>>,
    epoch: u64,
    intermediate: Authority,
    secrets: BTreeMap<String, Zeroizing<Vec<u8>>>,
    activations: BTreeMap<String, u64>,
    instances: BTreeMap<[u8; 32], Instance>,
}

#[derive(Clone)]
struct Instance {
    marble: String,
    /// Until when a certificate of this instance may be valid, by the renewal that it is owed.
    until: i64,
}

impl State {
    /// Replays a log. `None` for an empty one: the mesh has yet to be founded.
    pub fn replay(records: &[Zeroizing<Vec<u8>>]) -> Result<Option<Self>, StoreError> {
        let mut state = None;
        for (index, record) in (0..).zip(records) {
            let event = Event::from_record(index, record)?;
            state = Some(Self::step(state, event).map_err(|reason| StoreError::Version { index, reason })?);
        }
        Ok(state)
    }

    /// The state after `event`. An error means that the log was not written by this code.
    pub fn step(state: Option<Self>, event: Event) -> Result<Self, String> {
        match (state, event) {
            (None, Event::Founded { root_key, root_certificate, root_secret, emulated, at: _ }) => Ok(Self {
                root: authority(root_key.into_vec(), root_certificate.into_vec())?,
                root_secret: Zeroizing::new(root_secret.into_array()),
                emulated,
                mesh: None,
            }),
            (Some(mut state), event) => {
                state.apply(event)?;
                Ok(state)
            }
            (None, _) => Err("the log does not begin with the founding of a mesh".into()),
        }
    }

    fn apply(&mut self, event: Event) -> Result<(), String> {
        match (&mut self.mesh, event) {
            (_, Event::Founded { .. }) => return Err("the mesh is founded twice".into()),
            (
                None,
                Event::ManifestSet {
                    manifest,
                    epoch,
                    intermediate_key,
                    intermediate_certificate,
                    generated,
                    ..
                },
            ) => {
                self.mesh = Some(Mesh {
                    manifest: Arc::new(Manifest::parse(&manifest).map_err(|faults| faults.to_string())?),
                    manifest_bytes: Arc::new(manifest.into_vec()),
                    epoch,
                    intermediate: authority(
                        intermediate_key.into_vec(),
                        intermediate_certificate.into_vec(),
                    )?,
                    secrets: generated
                        .into_iter()
                        .map(|(name, value)| (name, Zeroizing::new(value.into_vec())))
                        .collect(),
                    activations: BTreeMap::new(),
                    instances: BTreeMap::new(),
                });
            }
            (Some(mesh), Event::SecretsWritten { secrets, .. }) => {
                let secrets =
                    secrets.into_iter().map(|(name, value)| (name, Zeroizing::new(value.into_vec())));
                mesh.secrets.extend(secrets);
            }
            (Some(mesh), Event::Activated { marble, instance, at }) => {
                *mesh.activations.entry(marble.clone()).or_default() += 1;
                // An instance that let its certificate lapse must activate again, so it need not be kept.
                mesh.instances.retain(|_, instance| instance.until > at);
                let until = at.saturating_add(MARBLE_LIFETIME.whole_seconds());
                mesh.instances.insert(instance.into_array(), Instance { marble, until });
            }
            (Some(mesh), Event::Renewed { instance, at }) => {
                if let Some(known) = mesh.instances.get_mut(&*instance) {
                    known.until = at.saturating_add(MARBLE_LIFETIME.whole_seconds());
                }
            }
            (Some(_), Event::ManifestSet { .. }) => return Err("the first manifest is set twice".into()),
            (None, Event::SecretsWritten { .. } | Event::Activated { .. } | Event::Renewed { .. }) => {
                return Err("something happened in a mesh that has no manifest".into());
            }
        }
        Ok(())
    }

    /// The root CA.
    pub fn root(&self) -> &Authority {
        &self.root
    }

    /// From which secrets of single instances are derived.
    pub(super) fn root_secret(&self) -> &[u8; 32] {
        &self.root_secret
    }

    /// Whether the coordinator itself runs on an emulated platform.
    pub fn emulated(&self) -> bool {
        self.emulated
    }

    /// The mesh, once a manifest is set.
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref()
    }

    /// Names the mesh in SPIFFE IDs: the root's fingerprint, shortened to a host name's length.
    pub fn trust_domain(&self) -> String {
        hex::encode(&self.root.fingerprint()[..16])
    }

    pub(super) fn running(&self) -> Result<&Mesh, super::Refusal> {
        self.mesh.as_ref().ok_or(super::Refusal::NoManifest)
    }
}

impl Mesh {
    /// The manifest in force.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its exact bytes.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// SHA-256 of them.
    pub fn manifest_digest(&self) -> [u8; 32] {
        self.manifest.digest().0
    }

    /// The epoch in force.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The epoch's CA.
    pub fn intermediate(&self) -> &Authority {
        &self.intermediate
    }

    /// A secret that was generated or uploaded.
    pub(super) fn secret(&self, name: &str) -> Option<&[u8]> {
        self.secrets.get(name).map(|value| value.as_slice())
    }

    /// How often a Marble was activated.
    pub fn activations(&self, marble: &str) -> u64 {
        self.activations.get(marble).copied().unwrap_or(0)
    }

    /// Whether `instance` was activated as `marble` and its certificate has not lapsed.
    pub(super) fn is_instance(&self, instance: &[u8; 32], marble: &str, now: UnixTime) -> bool {
        self.instances.get(instance).is_some_and(|known| known.marble == marble && known.until > now.0)
    }
}

fn authority(key: Vec<u8>, certificate: Vec<u8>) -> Result<Authority, String> {
    Authority::from_parts(Zeroizing::new(key), certificate).map_err(|error| error.to_string())
}
