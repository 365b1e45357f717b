//! Who signed a package, and as what. The one place where signatures of packages are believed.

use appraisal::UnixTime;
use package::{Artefact, Attached, Digest, Repository, SignedStatement, StatementError, Version};
use reference_statements::{Attested, Refused, Signers};

use crate::{Client, RegistryError};

/// What a signature that counts says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Who signed, by the caller's name.
    pub signer: String,
    /// As which package.
    pub name: Repository,
    /// As which version.
    pub version: Version,
}

/// A bundle beside a package, and what came of it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Of the manifest that attaches it.
    pub attached: Digest,
    /// What it says, or why it does not count.
    pub release: Result<Release, NotCounted>,
}

/// Why a bundle does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCounted {
    /// Nobody's whom we know.
    #[error(transparent)]
    Signature(#[from] Refused),
    /// It does not say which package this is.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// What is listed is no bundle about this package.
    #[error("what is attached is no bundle about this package")]
    Unrelated,
    /// It could not be fetched.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl NotCounted {
    /// Stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Signature(refused) => refused.code(),
            Self::Statement(StatementError::OtherPredicate { .. }) => "STATEMENT_OF_OTHER_TYPE",
            Self::Statement(StatementError::OtherDigest { .. }) => "STATEMENT_OF_OTHER_PACKAGE",
            Self::Statement(StatementError::Contradiction { .. }) => "STATEMENT_CONTRADICTED",
            Self::Statement(StatementError::Unnamed { .. }) => "PACKAGE_UNNAMED",
            Self::Statement(StatementError::Malformed(_)) => "STATEMENT_MALFORMED",
            Self::Unrelated => "ATTACHMENT_UNRELATED",
            Self::Registry(error) => error.code(),
        }
    }
}

/// All bundles beside a package, each with what came of it. `artefact` is that of `digest`.
///
/// # Errors
/// [`RegistryError`], where not even their list can be had.
pub async fn signatures(
    client: &Client,
    repository: &Repository,
    (digest, artefact): (Digest, &Artefact),
    signers: &Signers,
    now: UnixTime,
) -> Result<Vec<Seen>, RegistryError> {
    let referrers = client.referrers(repository, digest).await?;
    let mut seen = Vec::new();
    for listed in referrers.bundles() {
        let bundle = bundle(client, repository, (digest, listed.digest)).await;
        let release = bundle.and_then(|bundle| counted(&bundle, (digest, artefact), signers, now));
        seen.push(Seen { attached: listed.digest, release });
    }
    Ok(seen)
}

async fn bundle(
    client: &Client,
    repository: &Repository,
    (package, attached): (Digest, Digest),
) -> Result<Vec<u8>, NotCounted> {
    let manifest = client.manifest(repository, attached).await?;
    let attached = Attached::read(&manifest, package).ok().flatten().ok_or(NotCounted::Unrelated)?;
    Ok(client.blob(repository, &attached.bundle).await?)
}

/// What a bundle says of a package, if it is by one of these signers.
pub(crate) fn counted(
    bundle: &[u8],
    (digest, artefact): (Digest, &Artefact),
    signers: &Signers,
    now: UnixTime,
) -> Result<Release, NotCounted> {
    let attested = Attested::verify(bundle, &digest.0, signers, now)?;
    let (name, version) = SignedStatement::read(attested.statement())?.of(digest, artefact)?;
    Ok(Release { signer: attested.signer().to_owned(), name, version })
}
