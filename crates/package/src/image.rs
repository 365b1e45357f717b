//! OCI image manifests (image specification 1.1, "Image Manifest Specification"): as much of them as an artefact has.
//! Fields that are not known are passed over, as the specification demands; nothing here decides by them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The only kind of manifest that is read.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The config of what has none, and its bytes.
pub const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The config of what has none.
pub const EMPTY_CONFIG: &[u8] = b"{}";
/// The longest manifest that is read, in bytes.
pub const MAX_MANIFEST: usize = 256 * 1024;
/// More layers than this are not read.
const MOST_LAYERS: usize = 64;

/// Names of annotations.
pub mod annotation {
    /// The version of the packaged software (image specification 1.1, "Pre-Defined Annotation Keys").
    pub const VERSION: &str = "org.opencontainers.image.version";
    /// Which package it is, `registry/repository`: wherever copies of it are.
    pub const NAME: &str = "dev.bailey.package.name";
    /// The text of the workload's `Keep.toml`. An annotation, because readers of Wasm artefacts refuse further layers.
    pub const KEEP_TOML: &str = "dev.bailey.keep-toml";
}

/// What is where (image specification 1.1, "OCI Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content.
    pub media_type: String,
    /// Of its bytes.
    #[serde(with = "text")]
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Of a manifest in a list: what kind of artefact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A manifest, read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    schema_version: u32,
    media_type: String,
    /// What kind of artefact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its config.
    pub config: Descriptor,
    /// Its layers.
    pub layers: Vec<Descriptor>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// What is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Over [`MAX_MANIFEST`].
    #[error("the manifest has {seen} bytes; {MAX_MANIFEST} are read")]
    TooLong {
        /// In bytes.
        seen: usize,
    },
    /// Not JSON of this shape.
    #[error("this is no OCI image manifest: {0}")]
    Malformed(String),
    /// Another kind: an index, or Docker's.
    #[error(
        "the manifest is {seen:?}, not {MANIFEST_TYPE}: of an index, name one of its manifests by digest"
    )]
    OtherType {
        /// Its media type.
        seen: String,
    },
    /// Over the limit.
    #[error("the manifest has {seen} layers; {MOST_LAYERS} are read")]
    Layers {
        /// How many.
        seen: usize,
    },
}

impl Descriptor {
    /// Of these bytes.
    #[must_use]
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl ImageManifest {
    /// One of these parts, about nothing and with nothing said of it.
    #[must_use]
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            media_type: Option<String>,
        }
        if bytes.len() > MAX_MANIFEST {
            return Err(ImageError::TooLong { seen: bytes.len() });
        }
        let malformed = |error: serde_json::Error| ImageError::Malformed(error.to_string());
        let kind: Kind = serde_json::from_slice(bytes).map_err(malformed)?;
        if kind.media_type.as_deref() != Some(MANIFEST_TYPE) {
            return Err(ImageError::OtherType { seen: kind.media_type.unwrap_or_default() });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        if manifest.schema_version != 2 {
            return Err(ImageError::Malformed(format!("its schemaVersion is {}", manifest.schema_version)));
        }
        match manifest.layers.len() {
            0..=MOST_LAYERS => Ok(manifest),
            seen => Err(ImageError::Layers { seen }),
        }
    }

    /// Its bytes: always the same ones of the same manifest.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Texts, numbers and maps by text: nothing that JSON cannot have.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::Digest;

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
