//! Putting packages into a registry, and signatures beside them.

use package::{
    Attached, Built, Descriptor, Digest, EMPTY_CONFIG, EMPTY_TYPE, MANIFEST_TYPE, Reference, Referrers,
    Repository,
};

use crate::{Client, RegistryError, client::fallback};

/// Pushes a package: its blobs, then its manifest, under the reference's tag if it has one. `done` hears of each blob how
/// many bytes it has.
///
/// # Errors
/// [`RegistryError`].
pub async fn push(
    client: &Client,
    to: &Reference,
    built: &Built,
    mut done: impl FnMut(u64),
) -> Result<Digest, RegistryError> {
    for (descriptor, bytes) in &built.blobs {
        client.put_blob(&to.repository, descriptor, bytes).await?;
        done(descriptor.size);
    }
    let digest = built.digest();
    let name = to.tag.as_ref().map_or_else(|| digest.to_string(), ToString::to_string);
    client.put_manifest(&to.repository, &name, MANIFEST_TYPE, &built.manifest).await?;
    Ok(digest)
}

/// Attaches a bundle to a package. Where the registry keeps no lists of referrers, its list is written under a tag: who
/// attaches at the same time may lose an entry of it, and attaches again.
///
/// # Errors
/// [`RegistryError`].
pub async fn attach(
    client: &Client,
    repository: &Repository,
    package: Digest,
    bundle: &[u8],
) -> Result<Digest, RegistryError> {
    let manifest = client.manifest(repository, package).await?;
    let subject = Descriptor::of(MANIFEST_TYPE, &manifest);
    let (attached, listed) = Attached::to_subject(&subject, bundle);
    for (kind, bytes) in [(EMPTY_TYPE, EMPTY_CONFIG), (package::BUNDLE_TYPE, bundle)] {
        client.put_blob(repository, &Descriptor::of(kind, bytes), bytes).await?;
    }
    let digest = listed.digest;
    let is_listed = client.put_manifest(repository, &digest.to_string(), MANIFEST_TYPE, &attached).await?;
    if !is_listed {
        let list: Referrers = client.referrers(repository, package).await?.with(listed);
        let tag = fallback(package);
        client.put_manifest(repository, &tag, list.media_type(), &list.to_json()).await?;
    }
    Ok(digest)
}
