//! Signatures beside a package: manifests whose `subject` it is (image specification 1.1, "Manifests with a subject";
//! distribution specification 1.1, "Listing Referrers"), as cosign attaches its bundles.

use serde::{Deserialize, Serialize};

use crate::{
    Descriptor, Digest, EMPTY_CONFIG, EMPTY_TYPE, ImageError, ImageManifest, MANIFEST_TYPE, MAX_MANIFEST,
    PREDICATE_TYPE,
};

/// Sigstore bundles, from 0.3 on.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The longest bundle, in bytes.
pub const MAX_BUNDLE: u64 = 256 * 1024;
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// More signatures of one package than this are not looked at.
const MOST: usize = 64;

/// A bundle attached to a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The bundle.
    pub bundle: Descriptor,
}

/// The list of what is attached to a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrers {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Descriptor>,
}

impl Attached {
    /// The manifest that attaches `bundle` to a package, and that manifest's place in the list. Its blobs are the
    /// [`EMPTY_CONFIG`] and the bundle.
    #[must_use]
    pub fn to_subject(subject: &Descriptor, bundle: &[u8]) -> (Vec<u8>, Descriptor) {
        let config = Descriptor::of(EMPTY_TYPE, EMPTY_CONFIG);
        let mut manifest = ImageManifest::new(config, vec![Descriptor::of(BUNDLE_TYPE, bundle)]);
        manifest.artifact_type = Some(BUNDLE_TYPE.into());
        manifest.subject = Some(subject.clone());
        manifest.annotations = [
            ("dev.sigstore.bundle.content".to_owned(), "dsse-envelope".to_owned()),
            ("dev.sigstore.bundle.predicateType".to_owned(), PREDICATE_TYPE.to_owned()),
        ]
        .into();
        let bytes = manifest.to_json();
        let mut listed = Descriptor::of(MANIFEST_TYPE, &bytes);
        listed.artifact_type = Some(BUNDLE_TYPE.into());
        listed.annotations = manifest.annotations;
        (bytes, listed)
    }

    /// Reads a manifest that is said to attach something to `subject`; `None` where it attaches no bundle, or to
    /// something else.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn read(manifest: &[u8], subject: Digest) -> Result<Option<Self>, ImageError> {
        let manifest = ImageManifest::read(manifest)?;
        let about = manifest.subject.is_some_and(|it| it.digest == subject);
        let mut layers = manifest.layers.into_iter().filter(|layer| layer.media_type == BUNDLE_TYPE);
        let bundle = layers.next().filter(|bundle| about && bundle.size <= MAX_BUNDLE);
        Ok(bundle.map(|bundle| Self { bundle }))
    }
}

impl Referrers {
    /// Reads a list.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn read(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(ImageError::TooLong { seen: bytes.len() });
        }
        let list: Self =
            serde_json::from_slice(bytes).map_err(|error| ImageError::Malformed(error.to_string()))?;
        if list.media_type != INDEX_TYPE {
            return Err(ImageError::OtherType { seen: list.media_type });
        }
        Ok(list)
    }

    /// The manifests that attach bundles, [`MOST`] of them.
    pub fn bundles(&self) -> impl Iterator<Item = &Descriptor> {
        let attaches = |it: &&Descriptor| {
            it.artifact_type.as_deref() == Some(BUNDLE_TYPE)
                && it.media_type == MANIFEST_TYPE
                && it.size <= MAX_MANIFEST as u64
        };
        self.manifests.iter().filter(attaches).take(MOST)
    }

    /// With one more, for registries that keep no lists themselves.
    #[must_use]
    pub fn with(mut self, listed: Descriptor) -> Self {
        if !self.manifests.contains(&listed) {
            self.manifests.push(listed);
        }
        self
    }

    /// Its bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Texts, numbers and maps by text: nothing that JSON cannot have.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }
}

impl Default for Referrers {
    fn default() -> Self {
        Self { schema_version: 2, media_type: INDEX_TYPE.into(), manifests: Vec::new() }
    }
}
