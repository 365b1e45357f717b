//! The manifest in force. All parts watch it: when it changes, sessions that run are looked at again.

use std::sync::Arc;

use database_manifest::Manifest;

/// What is agreed now.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The manifest in force.
    pub manifest: Arc<Manifest>,
    /// How many manifests were in force before it.
    pub epoch: u64,
    /// SHA-256 of the first manifest, which the launch measurement names: the lineage.
    pub first: [u8; 32],
}

impl Rules {
    /// Those of a new database.
    #[must_use]
    pub fn first(manifest: Manifest) -> Self {
        Self { first: manifest.digest, manifest: Arc::new(manifest), epoch: 0 }
    }
}
