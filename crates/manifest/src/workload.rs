//! Which code a Keep may run as a Marble: by the workload's digest, by a package's digest, or whatever of a repository
//! is signed by those who are named and not too old. And how registries are known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use evidence::CertificateDer;

// A module of this crate has the same name.
use ::package::{Digest, Pinned, Repository, Version};

use crate::broker::{Broker, ResourcePath};
use crate::document as wire;
use crate::fault::{Code, Collector, shown, suggestion};
use crate::marble::{Marble, WorkloadDigest};
use crate::names::{MarbleName, SecretName, SignerName};
use crate::path::Path;
use crate::platform::certificate;
use crate::references::{self, ReferenceSigner};
use crate::store;

/// More roots than a registry has.
const MOST_ROOTS: usize = 16;
const LONGEST_USERNAME: usize = 256;

/// Which code may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkloadCode {
    /// These bytes, which the host brings.
    Digest(WorkloadDigest),
    /// This package, which the Keep fetches.
    Package(Pinned),
    /// Signed packages, which the Keep fetches; the host says which one.
    Signed(SignedPackages),
}

/// Packages by those who sign them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignedPackages {
    /// Where they are fetched.
    pub repository: Repository,
    /// What they are signed as: that repository, or the one that it is a copy of.
    pub name: Repository,
    /// Any of them signs; never empty.
    pub signers: BTreeSet<SignerName>,
    /// None older than this.
    pub minimum: Version,
    /// Whether a version may run that is older than one that ran.
    pub older: bool,
}

/// How a registry is known, and the mesh to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registry {
    /// The CAs that its certificate may be of; those of the Web, where empty.
    pub roots: Vec<CertificateDer>,
    /// Whether it is spoken to without TLS: what it says is checked, and everybody on the way sees what is fetched.
    pub plain: bool,
    /// User and the secret that is the password.
    pub credentials: Option<(String, SecretName)>,
}

impl WorkloadCode {
    /// The registry that it is fetched from.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        match self {
            Self::Digest(_) => None,
            Self::Package(package) => Some(package.repository.registry()),
            Self::Signed(signed) => Some(signed.repository.registry()),
        }
    }
}

impl fmt::Display for WorkloadCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Package(package) => package.fmt(f),
            Self::Signed(signed) => {
                let signers: Vec<_> = signed.signers.iter().map(ToString::to_string).collect();
                let SignedPackages { repository, name, minimum, older, .. } = signed;
                write!(f, "{repository} from {minimum} on, as {} signs it", signers.join(" or "))?;
                if name != repository {
                    write!(f, " as {name}")?;
                }
                f.write_str(if *older { ", older ones again too" } else { "" })
            }
        }
    }
}

type Signers = BTreeMap<SignerName, ReferenceSigner>;

/// Resolves `WorkloadSigners`.
pub(crate) fn signers(document: &wire::Document, at: &Path<'_>, faults: &mut Collector<'_>) -> Signers {
    for (name, wire) in &document.workload_signers {
        if !wire.corim.0.is_empty() {
            let message = "a CoRIM signs reference values, and no workload";
            faults.add(&at.key(name).field("Corim"), Code::NotApplicable, message);
        }
    }
    references::named(&document.workload_signers, at, faults)
}

/// Resolves `Registries`.
pub(crate) fn registries(
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<String, Registry> {
    let mut registries = BTreeMap::new();
    for (host, wire) in &document.registries {
        let here = at.key(host);
        if !Repository::is_registry(host) {
            let message = format!("`{}` is no registry", shown(host));
            faults.hint(&here, Code::InvalidName, message, "write HOST or HOST:PORT, as in references");
        }
        if let Some(registry) = registry(wire, document, &here, faults) {
            registries.insert(host.clone(), registry);
        }
    }
    registries
}

fn registry(
    wire: &wire::Registry,
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Registry> {
    let here = at.field("RootCA");
    if wire.root_ca.0.len() > MOST_ROOTS {
        faults.add(&here, Code::InvalidValue, format!("more than {MOST_ROOTS} roots"));
    }
    let read = |text: &String| {
        certificate(text).map_err(|message| faults.add(&here, Code::InvalidCertificate, message)).ok()
    };
    let roots: Option<Vec<_>> = wire.root_ca.0.iter().map(read).collect::<Vec<_>>().into_iter().collect();
    let credentials = match (&wire.username, &wire.password) {
        (None, None) => None,
        (Some(user), Some(secret)) => {
            if user.is_empty() || user.len() > LONGEST_USERNAME || user.contains([':', '\r', '\n', '\0']) {
                let message = "a user's name has 1 to 256 bytes, and no colon or line end";
                faults.add(&at.field("Username"), Code::InvalidValue, message);
            }
            let secret = store::uploaded(secret, &document.secrets, &at.field("Password"), faults)?;
            Some((user.clone(), secret))
        }
        _ => {
            let hint = "give both `Username` and `Password`, the name of a secret; a token is a password";
            faults.hint(at, Code::Missing, "credentials are a name and a secret", hint);
            None
        }
    };
    if wire.plain && (credentials.is_some() || !wire.root_ca.0.is_empty()) {
        let message = "without TLS nobody knows whom the credentials are given to";
        faults.hint(&at.field("Plain"), Code::Conflict, message, "remove it, or credentials and roots");
    }
    Some(Registry { roots: roots?, plain: wire.plain, credentials })
}

/// Resolves what a Marble's `Workload` says of the code.
pub(crate) fn code(
    wire: &wire::Workload,
    signers: &Signers,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<WorkloadCode> {
    let of_signed = [
        ("Signers", !wire.signers.is_empty()),
        ("MinimumVersion", wire.minimum_version.is_some()),
        ("Name", wire.name.is_some()),
        ("OlderVersions", wire.older_versions),
    ];
    for (field, _) in of_signed.iter().filter(|(_, given)| *given && wire.repository.is_none()) {
        let message = "this is about packages that are known by who signs them";
        faults.hint(&at.field(field), Code::NotApplicable, message, "add `Repository`, or remove this");
    }
    match (&wire.digest, &wire.package, &wire.repository) {
        (Some(digest), None, None) => {
            self::digest(digest, &at.field("Digest"), faults).map(WorkloadCode::Digest)
        }
        (None, Some(package), None) => {
            pinned(package, &at.field("Package"), faults).map(WorkloadCode::Package)
        }
        (None, None, Some(repository)) => {
            signed(wire, repository, signers, at, faults).map(WorkloadCode::Signed)
        }
        (None, None, None) => {
            let hint = "give one of `Digest`, `Package` and `Repository`";
            faults.hint(at, Code::Missing, "nothing says which code may run", hint);
            None
        }
        _ => {
            let hint = "keep one of `Digest`, `Package` and `Repository`";
            faults.hint(at, Code::Conflict, "which code may run is said in more than one way", hint);
            None
        }
    }
}

/// `sha256:` and 64 digits.
pub(crate) fn digest(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<WorkloadDigest> {
    let digest = text.parse::<Digest>();
    if digest.is_err() {
        // S-29: a reference without a digest, such as a tag, could come to mean other code.
        let message = format!("`{}` is not a digest", shown(text));
        let hint = "write `sha256:` and 64 hexadecimal digits in lower case";
        faults.hint(at, Code::InvalidValue, message, hint);
    }
    digest.ok().map(|digest| WorkloadDigest(digest.0))
}

fn pinned(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Pinned> {
    let tagged =
        text.split('@').next().is_some_and(|name| name.rsplit('/').next().is_some_and(|it| it.contains(':')));
    match text.parse::<Pinned>() {
        Ok(_) if tagged => {
            let message = "the tag says nothing beside the digest, and readers would believe that it does";
            faults.add(at, Code::Unsafe, message);
            None
        }
        Ok(package) => Some(package),
        Err(error) => {
            let message = format!("`{}` is no package: {error}", shown(text));
            faults.hint(at, Code::InvalidValue, message, "write REGISTRY/REPOSITORY@sha256:…");
            None
        }
    }
}

fn repository(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Repository> {
    let repository = text.parse::<Repository>();
    if let Err(error) = &repository {
        let message = format!("`{}` is no repository: {error}", shown(text));
        faults.hint(at, Code::InvalidValue, message, "write REGISTRY/REPOSITORY, without tag or digest");
    }
    repository.ok()
}

fn signed(
    wire: &wire::Workload,
    from: &str,
    signers: &Signers,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<SignedPackages> {
    let from = repository(from, &at.field("Repository"), faults);
    let name = wire.name.as_deref().map(|name| repository(name, &at.field("Name"), faults));
    let minimum = match &wire.minimum_version {
        None => {
            let message = "every version that was ever signed could be run, faults and all";
            faults.hint(&at.field("MinimumVersion"), Code::Missing, message, "write one, such as 1.2.0");
            None
        }
        Some(text) => text
            .parse::<Version>()
            .map_err(|error| {
                let message = format!("`{}`: {error}", shown(text));
                faults.add(&at.field("MinimumVersion"), Code::InvalidValue, message);
            })
            .ok(),
    };
    let list = at.field("Signers");
    if wire.signers.is_empty() {
        let hint = "name some of `WorkloadSigners`";
        faults.hint(&list, Code::Missing, "anybody who can write into the repository would do", hint);
    }
    let mut named = BTreeSet::new();
    for (i, text) in wire.signers.iter().enumerate() {
        let here = list.index(i);
        match signers.keys().find(|known| known.as_str() == text) {
            Some(known) if named.insert(known.clone()) => {}
            Some(_) => faults.add(&here, Code::DuplicateValue, "this is named twice"),
            None => {
                let message = format!("there is no signer `{}` in `WorkloadSigners`", shown(text));
                let known: Vec<_> = signers.keys().map(SignerName::as_str).collect();
                faults.add_with(&here, Code::UnknownReference, message, || suggestion(text, &known));
            }
        }
    }
    let repository = from?;
    let name = name.unwrap_or_else(|| Some(repository.clone()))?;
    Some(SignedPackages { repository, name, signers: named, minimum: minimum?, older: wire.older_versions })
}

/// Resolves `Keys`: with which the coordinator opens what an encrypted workload brings.
pub(crate) fn keys(
    wire: &wire::Workload,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeSet<ResourcePath> {
    let mut keys = BTreeSet::new();
    let fetched = wire.package.is_some() || wire.repository.is_some();
    for (i, text) in wire.keys.iter().enumerate() {
        let here = at.index(i);
        match text.parse::<ResourcePath>() {
            Err(error) => faults.add(&here, Code::InvalidName, error.to_string()),
            Ok(_) if !fetched => {
                let message = "only packages that the Keep fetches are encrypted";
                faults.add(&here, Code::NotApplicable, message);
            }
            Ok(path) => {
                if !keys.insert(path) {
                    faults.add(&here, Code::DuplicateValue, "this is named twice");
                }
            }
        }
    }
    keys
}

/// Keys are resources of the broker.
pub(crate) fn keys_exist(
    marbles: &BTreeMap<MarbleName, Marble>,
    broker: Option<&Broker>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) {
    for (name, marble) in marbles {
        let keys = marble.workload.iter().flat_map(|workload| &workload.keys);
        for (i, path) in keys.enumerate() {
            if broker.and_then(|broker| broker.declared(path)).is_none() {
                let (marble, message) =
                    (at.key(name.as_str()), format!("there is no resource `{path}` in `Broker`"));
                let workload = marble.field("Workload");
                faults.add(&workload.field("Keys").index(i), Code::UnknownReference, message);
            }
        }
    }
}
