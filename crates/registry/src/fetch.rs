//! A package, fetched: its manifest by digest, its signature, its workload, in this order, and each checked before the
//! next is asked for.

use appraisal::UnixTime;
use package::{Artefact, ArtefactError, Digest, Pinned, Repository, Version, Wasm};
use reference_statements::Signers;

use crate::{
    Client, Opener, RegistryError,
    encryption::{self, EncryptionError},
    signed::{self, NotCounted, Release},
};

/// Which packages will do.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// That of the digest, whoever signed it.
    Exactly,
    /// One that is signed.
    Signed {
        /// As this package.
        name: Repository,
        /// By one of these.
        signers: Signers,
        /// In this version or a later one.
        minimum: Version,
    },
}

/// A package whose workload may run.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Of the package.
    pub digest: Digest,
    /// Its description.
    pub artefact: Artefact,
    /// Who signed it, where that was asked.
    pub release: Option<Release>,
    /// The workload, decrypted.
    pub workload: Vec<u8>,
}

/// Why no workload came of a package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// The registry gave something else, or nothing.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The manifest describes no workload.
    #[error(transparent)]
    Artefact(#[from] ArtefactError),
    /// Nobody signed it.
    #[error("the package is not signed")]
    Unsigned,
    /// Nobody signed it whose word counts, or not as what it should be.
    #[error("no signature of the package counts: {}", told(.0))]
    NotCounted(Vec<NotCounted>),
    /// Signed as another package.
    #[error("the package is signed as {seen}, and {wanted} is wanted")]
    Name {
        /// By its signature.
        seen: Repository,
        /// By the caller.
        wanted: Repository,
    },
    /// Too old.
    #[error("the package is version {seen}, and {wanted} or later is wanted")]
    TooOld {
        /// By its signature.
        seen: Version,
        /// By the caller.
        wanted: Version,
    },
    /// It could not be decrypted.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
}

fn told(reasons: &[NotCounted]) -> String {
    reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl PackageError {
    /// Stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Registry(error) => error.code(),
            Self::Artefact(_) => "PACKAGE_MALFORMED",
            Self::Unsigned => "WORKLOAD_UNSIGNED",
            Self::NotCounted(reasons) => match reasons.as_slice() {
                // One reason is more than that there is some.
                [NotCounted::Statement(_)] => reasons[0].code(),
                _ => "WORKLOAD_SIGNER_UNKNOWN",
            },
            Self::Name { .. } => "WORKLOAD_NAME_MISMATCH",
            Self::TooOld { .. } => "WORKLOAD_VERSION_TOO_LOW",
            Self::Encryption(error) => error.code(),
        }
    }
}

/// Fetches a package and all that it takes to run it.
///
/// # Errors
/// [`PackageError`]. Nothing is fetched of a package whose signature does not count but what describes it.
pub async fn fetch(
    client: &Client,
    wanted: &Wanted,
    package: &Pinned,
    now: UnixTime,
    opener: &dyn Opener,
) -> Result<Fetched, PackageError> {
    let Pinned { repository, digest } = package;
    let artefact = Artefact::read(&client.manifest(repository, *digest).await?)?;
    let release = match wanted {
        Wanted::Exactly => None,
        Wanted::Signed { name, signers, minimum } => {
            let seen = signed::signatures(client, repository, (*digest, &artefact), signers, now).await?;
            Some(acceptable(seen.into_iter().map(|seen| seen.release), name, minimum)?)
        }
    };
    let bytes = client.blob(repository, &artefact.layer.descriptor).await?;
    let workload = match &artefact.layer.encryption {
        None => bytes,
        Some(encryption) => encryption::decrypt(bytes, encryption, opener).await?,
    };
    Wasm::of(&workload).ok_or(ArtefactError::NotWasm)?;
    Ok(Fetched { digest: *digest, artefact, release, workload })
}

/// The first signature that will do. A signature as another package, or one that is too old, says more than one that is
/// nobody's.
fn acceptable(
    releases: impl Iterator<Item = Result<Release, NotCounted>>,
    name: &Repository,
    minimum: &Version,
) -> Result<Release, PackageError> {
    let (mut reasons, mut nearest) = (Vec::new(), None);
    for release in releases {
        match release {
            Err(reason) => reasons.push(reason),
            Ok(release) if release.name != *name => {
                nearest = Some(PackageError::Name { seen: release.name, wanted: name.clone() });
            }
            Ok(release) if release.version < *minimum => {
                nearest = Some(PackageError::TooOld { seen: release.version, wanted: minimum.clone() });
            }
            Ok(release) => return Ok(release),
        }
    }
    match nearest {
        Some(error) => Err(error),
        None if reasons.is_empty() => Err(PackageError::Unsigned),
        None => Err(PackageError::NotCounted(reasons)),
    }
}
