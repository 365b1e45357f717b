//! Which workload a Keep may run: by its digest, by its package's digest, or by who signed the package, as what and in
//! which version. The Keep fetches and verifies; its claims, which its Evidence covers, say what came of it, and here
//! that is compared with the manifest. Versions of a Marble's signed packages never fall (S-45), unless the manifest
//! says that they may.

use std::sync::Arc;

use attested_tls::claims::{KeepClaims, ReleaseClaim};
use manifest::{SignedPackages, Workload, WorkloadCode};
use package::{Repository, Version};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::Refusal;

/// A signed package that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// What it was signed as.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The package that an instance runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packaged {
    /// SHA-256 of its manifest.
    pub digest: ByteArray<32>,
    /// Who signed it, by the manifest's names; nobody where the manifest names it by its digest.
    pub signer: Option<String>,
}

/// Why a package may not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageRefusal {
    /// The Keep has loaded none.
    #[error("it has loaded no workload yet: that comes before activation")]
    NotLoaded,
    /// Another package than the manifest names.
    #[error(
        "it runs another package than the manifest names: expected sha256:{}, seen {}",
        hex::encode(expected),
        shown(seen)
    )]
    Other {
        /// By the manifest.
        expected: [u8; 32],
        /// By the claims; none, where the workload came in no package.
        seen: Option<[u8; 32]>,
    },
    /// The manifest wants a signature.
    #[error("the manifest wants a package that is signed, and nobody's signature was verified")]
    Unsigned,
    /// Signed by somebody else.
    #[error("its package is signed by {seen:?}, and the manifest wants {}", wanted.join(" or "))]
    Signer {
        /// By the claims.
        seen: String,
        /// By the manifest.
        wanted: Vec<String>,
    },
    /// Signed as another package.
    #[error("its package is signed as {seen}, and the manifest wants {wanted}")]
    Name {
        /// By the claims.
        seen: String,
        /// By the manifest.
        wanted: String,
    },
    /// Older than the manifest wants.
    #[error("its package is version {seen}, and the manifest wants {wanted} or later")]
    TooOld {
        /// By the claims.
        seen: String,
        /// By the manifest.
        wanted: String,
    },
    /// Older than what ran.
    #[error(
        "its package is version {seen}, and {ran} ran before: versions do not fall, unless the manifest says `OlderVersions`"
    )]
    RolledBack {
        /// By the claims.
        seen: String,
        /// The newest that ran.
        ran: String,
    },
    /// A key that the manifest does not give to this workload.
    #[error("its package is encrypted by a key that is none of its `Keys` in the manifest")]
    Key,
    /// It says that it is encrypted, and not by which key.
    #[error("what opens its package cannot be read: {0}")]
    Packet(image_keys::PacketError),
    /// Nobody has uploaded the password.
    #[error("the password for the registry, secret {secret:?}, has not been uploaded yet")]
    NoPassword {
        /// Its name.
        secret: String,
    },
    /// What was uploaded is no password.
    #[error("the password for the registry, secret {secret:?}, is not UTF-8")]
    BadPassword {
        /// Its name.
        secret: String,
    },
    /// The manifest names none.
    #[error("the manifest names no package for it, so there is nothing to fetch or to open")]
    NoPackage,
}

fn shown(digest: &Option<[u8; 32]>) -> String {
    digest.map_or_else(|| "none".to_owned(), |digest| format!("sha256:{}", hex::encode(digest)))
}

impl PackageRefusal {
    /// Stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotLoaded => "WORKLOAD_NOT_LOADED",
            Self::Other { .. } => "PACKAGE_MISMATCH",
            Self::Unsigned => "WORKLOAD_UNSIGNED",
            Self::Signer { .. } => "WORKLOAD_SIGNER_UNKNOWN",
            Self::Name { .. } => "WORKLOAD_NAME_MISMATCH",
            Self::TooOld { .. } => "WORKLOAD_VERSION_TOO_LOW",
            Self::RolledBack { .. } => "WORKLOAD_VERSION_ROLLED_BACK",
            Self::Packet(_) => "PACKET_MALFORMED",
            Self::Key => "WORKLOAD_KEY_NOT_GRANTED",
            Self::NoPassword { .. } => "REGISTRY_PASSWORD_MISSING",
            Self::BadPassword { .. } => "REGISTRY_PASSWORD_UNUSABLE",
            Self::NoPackage => "WORKLOAD_NOT_PACKAGED",
        }
    }
}

/// Whether the manifest lets a Keep with these claims run what it has loaded.
pub(super) fn allowed(marble: &str, workload: &Workload, claims: &KeepClaims) -> Result<(), Refusal> {
    let refused = |package| Err(Refusal::Package { marble: marble.to_owned(), package });
    let Some(seen) = claims.workload else { return refused(PackageRefusal::NotLoaded) };
    let package = claims.package.as_ref();
    match &workload.code {
        WorkloadCode::Digest(digest) if digest.0 == seen.into_array() => Ok(()),
        WorkloadCode::Digest(digest) => {
            Err(Refusal::Workload { marble: marble.to_owned(), expected: digest.0, seen: seen.into_array() })
        }
        WorkloadCode::Package(wanted) => {
            let (expected, seen) = (wanted.digest.0, package.map(|package| package.digest.into_array()));
            if seen == Some(expected) { Ok(()) } else { refused(PackageRefusal::Other { expected, seen }) }
        }
        WorkloadCode::Signed(wanted) => match package.and_then(|package| package.release.as_ref()) {
            None => refused(PackageRefusal::Unsigned),
            Some(release) => signed(wanted, release).or_else(refused),
        },
    }
}

fn signed(wanted: &SignedPackages, release: &ReleaseClaim) -> Result<(), PackageRefusal> {
    let ReleaseClaim { name, version, signer } = release;
    if !wanted.signers.iter().any(|known| known.as_str() == signer) {
        let wanted = wanted.signers.iter().map(ToString::to_string).collect();
        return Err(PackageRefusal::Signer { seen: signer.clone(), wanted });
    }
    if name.parse::<Repository>().as_ref() != Ok(&wanted.name) {
        return Err(PackageRefusal::Name { seen: name.clone(), wanted: wanted.name.to_string() });
    }
    match version.parse::<Version>() {
        Ok(version) if version >= wanted.minimum => Ok(()),
        _ => Err(PackageRefusal::TooOld { seen: version.clone(), wanted: wanted.minimum.to_string() }),
    }
}

/// What is to be remembered of a workload that is about to run; nothing of one that is not known by who signed it.
pub(super) fn release(workload: &Workload, claims: &KeepClaims) -> Option<Release> {
    let WorkloadCode::Signed(_) = &workload.code else { return None };
    let ReleaseClaim { name, version, signer: _ } = claims.package.as_ref()?.release.as_ref()?;
    Some(Release { name: name.clone(), version: version.clone() })
}

/// The package that is about to run, if the manifest names packages.
pub(super) fn packaged(workload: &Workload, claims: &KeepClaims) -> Option<Packaged> {
    let package = claims.package.as_ref()?;
    let signer = match &workload.code {
        WorkloadCode::Digest(_) => return None,
        WorkloadCode::Package(_) => None,
        WorkloadCode::Signed(_) => Some(package.release.as_ref()?.signer.clone()),
    };
    Some(Packaged { digest: package.digest, signer })
}

/// The newest version that ran, of each Marble's packages.
#[derive(Clone, Default)]
pub(super) struct Releases(RedBlackTreeMapSync<(Arc<str>, String), Version>);

/// In a snapshot: Marble, name, version.
pub(super) type Record = Vec<(String, String, String)>;

impl Releases {
    /// The rule against versions that fall. It is asked on the newest state, when an instance is taken in: those that run
    /// may go on.
    pub(super) fn admit(&self, marble: &str, workload: &Workload, release: &Release) -> Result<(), Refusal> {
        let WorkloadCode::Signed(SignedPackages { older: false, .. }) = &workload.code else { return Ok(()) };
        let ran = self.0.get(&(marble.into(), release.name.clone()));
        match (ran, release.version.parse::<Version>()) {
            (Some(ran), Ok(version)) if version < *ran => Err(Refusal::Package {
                marble: marble.to_owned(),
                package: PackageRefusal::RolledBack { seen: release.version.clone(), ran: ran.to_string() },
            }),
            _ => Ok(()),
        }
    }

    /// What was decided. Where older versions may run, what counts is still the newest.
    pub(super) fn ran(&mut self, marble: &Arc<str>, release: Release) {
        let Ok(version) = release.version.parse::<Version>() else { return };
        let key = (marble.clone(), release.name);
        if self.0.get(&key).is_none_or(|newest| *newest < version) {
            self.0.insert_mut(key, version);
        }
    }

    pub(super) fn record(&self) -> Record {
        let line = |((marble, name), version): (&(Arc<str>, String), &Version)| {
            (marble.to_string(), name.clone(), version.to_string())
        };
        self.0.iter().map(line).collect()
    }
}

impl From<Record> for Releases {
    fn from(record: Record) -> Self {
        let mut releases = Self::default();
        for (marble, name, version) in record {
            releases.ran(&marble.into(), Release { name, version });
        }
        releases
    }
}
