//! Workloads out of registries. A Keep attests first, and is then told where its workload is and whose signature counts;
//! it fetches over the network that the host gives it, and verifies ([`fetch`]). Who tells it is the client of a direct
//! deployment (`direct::package`), or the coordinator of a mesh: then the Keep attests again with what it has loaded, and
//! only then is it admitted, and gets what the Marble has.
//!
//! ```text
//! Keep ──Evidence, no workload──▶ coordinator      repository, signers, least version, credentials
//! Keep ──▶ registry                                manifest, signature, layer: each checked before the next
//! Keep ──Evidence, no workload──▶ coordinator      what opens the layer, if it is encrypted
//! Keep ──Evidence, workload and package──▶ coordinator      certificate, parameters, secrets
//! ```
//!
//! Which of the signed packages it is, the host says: by digest, and that is a hint like all that it says (S-29).

use appraisal::UnixTime;
use async_trait::async_trait;
use attested_tls::{
    claims::{PackageClaim, ReleaseClaim},
    clock::Clock,
};
use marble::MeshError;
use mesh_api::{
    LocateResponse, SignedPackage, TrustedRoot, WorkloadSigner, locate_response::Workload as Located,
    workload_signer::Proof,
};
use package::{Pinned, ReferenceError};
use reference_statements::{PublicKey, Signer, Signers, TrustRoot};
use registry::{Client, Credentials, Fetched, Opener, PackageError, Security, Wanted};
use serde_bytes::ByteArray;
use zeroize::Zeroizing;

use crate::activation::{ActivationError, Candidate};

/// Which package a Keep is to fetch, and what makes it the right one.
pub(crate) struct Order {
    pub(crate) package: Pinned,
    pub(crate) wanted: Wanted,
    /// Whether the registry has no TLS.
    pub(crate) plain: bool,
    /// The registry's CAs, DER; none: those of the Web.
    pub(crate) roots: Vec<Vec<u8>>,
    pub(crate) credentials: Option<Credentials>,
}

/// Fetches a package and verifies it.
pub(crate) async fn fetch(order: Order, clock: Clock, opener: &dyn Opener) -> Result<Fetched, PackageError> {
    let Order { package, wanted, plain, roots, credentials } = order;
    let security = match (plain, roots.is_empty()) {
        (true, _) => Security::Plain,
        (false, true) => Security::web(clock.clone())?,
        (false, false) => Security::roots(roots, clock.clone())?,
    };
    let client = Client::new(package.repository.registry(), security, credentials)?;
    registry::fetch(&client, &wanted, &package, clock(), opener).await
}

/// A workload that a Keep has fetched and verified.
pub struct Loaded {
    /// Its bytes.
    pub workload: Vec<u8>,
    /// The text of the `Keep.toml` in its package.
    pub config: Option<String>,
    /// What the Keep claims of it.
    pub claim: PackageClaim,
}

/// Why there is no workload.
#[derive(Debug, thiserror::Error)]
pub enum NotLoaded {
    /// The coordinator did not say where it is.
    #[error("the coordinator did not say where the workload is")]
    Activation(#[from] ActivationError),
    /// The host brings it, and did not.
    #[error("the manifest names the workload sha256:{} alone, so the host must bring it", hex::encode(.0))]
    NotBrought(Vec<u8>),
    /// Which of the signed packages it is, the host must say.
    #[error("the manifest names a repository, so the host must say which package of it is meant")]
    NoHint,
    /// The host's hint is another.
    #[error("the host says package {hinted}, and the manifest says {wanted}")]
    Hint {
        /// By the host.
        hinted: String,
        /// By the manifest.
        wanted: String,
    },
    /// What the coordinator said cannot be used.
    #[error("what the coordinator says of the workload cannot be used: {0}")]
    Unusable(String),
    /// It was not what was asked for.
    #[error(transparent)]
    Package(#[from] PackageError),
}

impl NotLoaded {
    /// Stable codes of the cause.
    pub fn codes(&self) -> Vec<String> {
        match self {
            Self::Activation(error) => error.codes(),
            Self::NotBrought(_) => vec!["WORKLOAD_NOT_BROUGHT".into()],
            Self::NoHint => vec!["PACKAGE_HINT_MISSING".into()],
            Self::Hint { .. } => vec!["PACKAGE_HINT_MISMATCH".into()],
            Self::Unusable(_) => vec!["ANSWER_UNUSABLE".into()],
            Self::Package(error) => vec![error.code().into()],
        }
    }
}

impl From<ReferenceError> for NotLoaded {
    fn from(error: ReferenceError) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// Finds out where the workload of a candidate is, fetches and verifies it. `hint` is the host's word which package is
/// meant.
///
/// # Errors
/// [`NotLoaded`].
pub async fn load(candidate: &Candidate, hint: Option<&Pinned>) -> Result<Loaded, NotLoaded> {
    let LocateResponse { workload, registry } = candidate.locate().await?;
    let (package, wanted) = match workload.ok_or(ActivationError::from(MeshError::Incomplete("workload")))? {
        Located::Digest(digest) => return Err(NotLoaded::NotBrought(digest)),
        Located::Package(package) => (package.parse()?, Wanted::Exactly),
        Located::Signed(signed) => {
            let hint = hint.ok_or(NotLoaded::NoHint)?;
            if hint.repository.to_string() != signed.repository {
                let (hinted, wanted) = (hint.to_string(), signed.repository);
                return Err(NotLoaded::Hint { hinted, wanted });
            }
            (hint.clone(), wanted(signed)?)
        }
    };
    if let Some(hint) = hint.filter(|hint| **hint != package) {
        return Err(NotLoaded::Hint { hinted: hint.to_string(), wanted: package.to_string() });
    }
    let order = order(package.clone(), wanted, registry.unwrap_or_default());
    let fetched = fetch(order, candidate.clock(), &Coordinator(candidate)).await?;
    let Fetched { digest, artefact, release, workload } = fetched;
    let release = release.map(|release| ReleaseClaim {
        name: release.name.to_string(),
        version: release.version.to_string(),
        signer: release.signer,
    });
    tracing::info!(
        package = %package,
        version = release.as_ref().map(|release| release.version.as_str()),
        signer = release.as_ref().map(|release| release.signer.as_str()),
        "the workload is fetched"
    );
    let claim = PackageClaim { digest: ByteArray::new(digest.0), release };
    Ok(Loaded { workload, config: artefact.config, claim })
}

fn order(package: Pinned, wanted: Wanted, known: mesh_api::Registry) -> Order {
    let mesh_api::Registry { plain, roots, username, password, .. } = known;
    let credentials =
        (!username.is_empty()).then(|| Credentials { username, password: Zeroizing::new(password) });
    Order { package, wanted, plain, roots, credentials }
}

fn wanted(signed: SignedPackage) -> Result<Wanted, NotLoaded> {
    let unusable = |error: &dyn std::fmt::Display| NotLoaded::Unusable(error.to_string());
    let minimum = signed.minimum_version.parse().map_err(|error| unusable(&error))?;
    let signers = signed.signers.into_iter().map(signer).collect::<Result<Signers, String>>();
    let signers = signers.map_err(|error| unusable(&error))?;
    Ok(Wanted::Signed { name: signed.name.parse()?, signers, minimum })
}

fn signer(wire: WorkloadSigner) -> Result<(String, Signer), String> {
    let signer = match wire.proof.ok_or("a signer is recognised by nothing")? {
        Proof::Key(key) => Signer::Key {
            key: PublicKey::from_spki(&key.key).map_err(|error| error.to_string())?,
            log: key.log.as_ref().map(root).transpose()?,
        },
        Proof::Sigstore(sigstore) => Signer::Sigstore {
            identity: sigstore.identity,
            issuer: sigstore.issuer,
            root: root(sigstore.root.as_ref().ok_or("a signer has no trust root")?)?,
        },
    };
    Ok((wire.name, signer))
}

fn root(root: &TrustedRoot) -> Result<TrustRoot, String> {
    TrustRoot::from_json(&root.json, UnixTime(root.expires)).map_err(|error| error.to_string())
}

/// The keys of encrypted workloads stay with the coordinator.
struct Coordinator<'a>(&'a Candidate);

#[async_trait]
impl Opener for Coordinator<'_> {
    async fn open(&self, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        self.0.unwrap_workload_key(packet).await.map_err(|error| error.to_string())
    }
}
