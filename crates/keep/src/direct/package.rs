//! The package of a direct deployment: the client says which, how its registry is known and whose signature counts, after
//! it has verified this Keep. We fetch it over the host's network and verify it here; what opens it, if it is encrypted,
//! stays with the client. Certificates and trust roots are held against the client's clock: ours is the host's.

use std::fmt::Display;

use appraisal::UnixTime;
use async_trait::async_trait;
use attested_tls::clock;
use keep_protocol::{
    keep::{Refused, RefusedCode},
    package::{FetchedPackage, FetchedRelease, PackageOrder, Proof, Signed, Sigstore},
};
use reference_statements::{PublicKey, Signer, Signers, TrustRoot};
use registry::{Credentials, Fetched, Opener, PackageError, Wanted};
use serde_bytes::ByteArray;
use zeroize::Zeroizing;

use super::{
    attention::Opening,
    deployment::{cut, sentences},
};
use crate::packages::{self, Order};

/// A workload that was fetched and verified.
pub(super) struct Loaded {
    pub(super) workload: Vec<u8>,
    /// The text of the `Keep.toml` in its package.
    pub(super) config: Option<String>,
    /// What the client is told of it.
    pub(super) package: FetchedPackage,
}

/// Fetches what the client ordered, and verifies it.
pub(super) async fn load(order: PackageOrder, opening: Opening) -> Result<Loaded, Refused> {
    // A time beyond what can be said is no earlier than all that is signed.
    let now = UnixTime(i64::try_from(order.now).unwrap_or(i64::MAX));
    let order = checked(order, now)?;
    let fetched = packages::fetch(order, clock::fixed(now), &Client(opening)).await.map_err(refused)?;
    let Fetched { digest, artefact, release, workload } = fetched;
    let release = release.map(|release| FetchedRelease {
        name: release.name.to_string(),
        signer: release.signer,
        version: release.version.to_string(),
    });
    let package = FetchedPackage { digest: ByteArray::new(digest.0), release };
    Ok(Loaded { workload, config: artefact.config, package })
}

/// With nothing left to check but the package itself.
fn checked(order: PackageOrder, now: UnixTime) -> Result<Order, Refused> {
    let PackageOrder { access, signed, reference, .. } = order;
    let package = reference.parse().map_err(|error| unusable("reference", &error))?;
    let credentials = access.credentials.map(|given| {
        let password = String::from_utf8(given.password.as_bytes().to_vec())
            .map_err(|error| unusable("password", &error.utf8_error()))?;
        Ok(Credentials { username: given.username, password: Zeroizing::new(password) })
    });
    Ok(Order {
        package,
        wanted: signed.map_or(Ok(Wanted::Exactly), |signed| wanted(signed, now))?,
        plain: access.plain,
        roots: access.roots.into_iter().map(|root| root.into_vec()).collect(),
        credentials: credentials.transpose()?,
    })
}

fn wanted(signed: Signed, now: UnixTime) -> Result<Wanted, Refused> {
    let name = signed.name.parse().map_err(|error| unusable("name", &error))?;
    let minimum = signed.minimum.parse().map_err(|error| unusable("minimum", &error))?;
    let signer = |signer: keep_protocol::package::Signer| Ok((signer.name, proof(signer.proof, now)?));
    let signers = signed.signers.into_iter().map(signer).collect::<Result<Signers, Refused>>()?;
    Ok(Wanted::Signed { name, signers, minimum })
}

/// A client gives its trust root with each deployment, so it is good now, and nobody keeps it.
fn proof(proof: Proof, now: UnixTime) -> Result<Signer, Refused> {
    Ok(match proof {
        Proof::Key(spki) => {
            let key = PublicKey::from_spki(&spki).map_err(|error| unusable("key", &error))?;
            Signer::Key { key, log: None }
        }
        Proof::Sigstore(sigstore) => {
            let Sigstore { root, issuer, identity } = *sigstore;
            let root = TrustRoot::from_json(&root, now).map_err(|error| unusable("root", &error))?;
            Signer::Sigstore { identity, issuer, root }
        }
    })
}

fn unusable(what: &str, error: &dyn Display) -> Refused {
    let message = cut(&format!("{what} of the package: {error}"));
    Refused {
        detail: Some("PACKAGE_ORDER_UNUSABLE".into()),
        ..Refused::new(RefusedCode::PackageRefused, message)
    }
}

fn refused(error: PackageError) -> Refused {
    Refused {
        detail: Some(error.code().into()),
        faults: sentences(&error),
        ..Refused::new(RefusedCode::PackageRefused, cut(&error.to_string()))
    }
}

/// The keys of encrypted packages stay with the client.
struct Client(Opening);

#[async_trait]
impl Opener for Client {
    async fn open(&self, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        self.0.open(packet).await.map_err(str::to_owned)
    }
}
