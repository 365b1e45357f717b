//! The key broker: what may be released to guests that are no Marbles. A resource is a secret of the manifest, or
//! what a user uploads into a repository; either has a policy, and without one there is no release.

mod digest;
mod resolve;
mod resource;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use evidence::Platform;

pub use digest::{HashAlgorithm, InitDataDigest, InvalidInitDataDigest};
pub(crate) use resolve::resolve;
pub use resource::{InvalidResourcePath, ResourcePath};

use crate::names::{PackageName, PathSegment, PolicyName, RepositoryName, SecretName};

/// What the broker serves, and to whom. A broker without repositories is a verifier alone: it gives tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broker {
    /// The policies that resources and repositories name.
    pub policies: BTreeMap<PolicyName, Arc<ReleasePolicy>>,
    /// Where resources are.
    pub repositories: BTreeMap<RepositoryName, Repository>,
    /// What tokens are like.
    pub tokens: TokenSettings,
    /// Whether sample Evidence, which proves nothing, is accepted where the coordinator itself is emulated.
    pub sample: bool,
}

impl Broker {
    /// The resource that the manifest declares under this path.
    #[must_use]
    pub fn declared(&self, path: &ResourcePath) -> Option<&DeclaredResource> {
        let resources = &self.repositories.get(path.repository())?.resources;
        resources.get(&(path.kind().clone(), path.tag().clone()))
    }

    /// The policy for what is uploaded under this path; none where nothing may be, or where the path is declared.
    #[must_use]
    pub fn upload_policy(&self, path: &ResourcePath) -> Option<&Arc<ReleasePolicy>> {
        match self.declared(path) {
            Some(_) => None,
            None => self.repositories.get(path.repository())?.policy.as_ref(),
        }
    }

    /// The secrets that resources refer to.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        let resources = self.repositories.values().flat_map(|repository| repository.resources.values());
        resources.map(|resource| &resource.secret)
    }
}

/// A group of resources.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repository {
    /// The policy for what is uploaded into it; nothing can be where absent.
    pub policy: Option<Arc<ReleasePolicy>>,
    /// What the manifest declares in it, by kind and tag.
    pub resources: BTreeMap<(PathSegment, PathSegment), DeclaredResource>,
}

/// A secret of the manifest under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeclaredResource {
    /// Its value; one that all have in common.
    pub secret: SecretName,
    /// To whom it is released: its own policy, or else its repository's.
    pub policy: Arc<ReleasePolicy>,
    /// How a guest may use it.
    pub usage: Use,
}

/// How a guest uses a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// The value is given to it.
    Read,
    /// The value is a key that never leaves: the coordinator unwraps with it what the guest brings.
    Unwrap,
}

impl Use {
    /// The word for it in a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Unwrap => "unwrap",
        }
    }
}

/// To which guests a resource is released: to those that meet all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReleasePolicy {
    /// Its name.
    pub name: PolicyName,
    /// The guest is one of these; never empty.
    pub packages: BTreeSet<PackageName>,
    /// It runs on one of these; on any that its package accepts where absent.
    pub platforms: Option<BTreeSet<Platform>>,
    /// Its Evidence proves one of these; any, or none, where absent.
    pub init_data: Option<BTreeSet<InitDataDigest>>,
    /// The mesh is in one of these epochs; in any where absent.
    pub epochs: Option<Epochs>,
    /// Whether its platform may be an emulated one, as far as `Platforms` accepts its root.
    pub emulated: bool,
    /// What its claims must meet beyond that: text in Rego of package `policy`, 32 KiB at most. Whether it is a policy
    /// is for the one who runs it to say.
    pub rego: Option<Arc<str>>,
}

/// A range of epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Epochs {
    /// The first.
    pub from: u64,
    /// The last; no last one where absent.
    pub to: Option<u64>,
}

impl Epochs {
    /// Whether an epoch is one of them.
    #[must_use]
    pub fn contains(&self, epoch: u64) -> bool {
        epoch >= self.from && self.to.is_none_or(|to| epoch <= to)
    }
}

/// What the broker's tokens are like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenSettings {
    /// How long one is valid; a minute to a day.
    pub lifetime: Duration,
    /// For whom one may be made beside the broker itself.
    pub audiences: BTreeSet<String>,
}
