//! The manifest as a whole: from the exact bytes to a value in which every reference is resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use evidence::Platform;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::broker::{self, Broker};
use crate::document::Document;
use crate::fault::{Code, Collector, Faults};
use crate::marble::{self, Access, Marble};
use crate::names::{MarbleName, PackageName, RoleName, SecretName, SignerName, StoreName, UserName};
use crate::package::{self, Package};
use crate::path::Path;
use crate::platform::{self, PlatformPolicy};
use crate::references::{self, ReferenceSigner};
use crate::secret::{self, Secret};
use crate::settings::{self, Settings};
use crate::store::{self, SecretStore};
use crate::tls;
use crate::tree::Node;
use crate::user::{self, Action, Grant, Proof, Role, User};
use crate::wire::Wire;
use crate::workload::{self, Registry};

/// A manifest without faults. [`Manifest::parse`] is its only origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    digest: ManifestDigest,
    platforms: BTreeMap<Platform, Arc<PlatformPolicy>>,
    packages: BTreeMap<PackageName, Arc<Package>>,
    marbles: BTreeMap<MarbleName, Marble>,
    secrets: BTreeMap<SecretName, Secret>,
    roles: BTreeMap<RoleName, Arc<Role>>,
    users: BTreeMap<UserName, User>,
    settings: Settings,
    stores: BTreeMap<StoreName, SecretStore>,
    broker: Option<Broker>,
    reference_signers: BTreeMap<SignerName, ReferenceSigner>,
    workload_signers: BTreeMap<SignerName, ReferenceSigner>,
    registries: BTreeMap<String, Registry>,
}

impl Manifest {
    /// Reads a manifest: JSON when its first byte that is not white space is `{`, else YAML.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its path. Semantic faults are looked for only when all
    /// values are of the right type.
    pub fn parse(bytes: &[u8]) -> Result<Self, Faults> {
        Self::parse_checking(bytes, &|_| Ok(()))
    }

    /// As [`Manifest::parse`], for a manifest that is to come into force: `rego` says of each release policy in Rego
    /// why it could not be run, as the one who will run it knows.
    ///
    /// # Errors
    /// As those of [`Manifest::parse`], and what `rego` says.
    pub fn parse_checking(bytes: &[u8], rego: &dyn Fn(&str) -> Result<(), String>) -> Result<Self, Faults> {
        let tree = Node::parse(bytes)?;
        let mut faults = Collector::new(&tree);
        let resolved = Document::read(&tree, &Path::Root, &mut faults)
            .map(|document| Self::resolve(&document, ManifestDigest::of(bytes), rego, &mut faults));
        faults.into_result()?;
        resolved.ok_or_else(|| {
            Faults::of_document(Code::WrongType, None, "the document is no object".to_owned(), None)
        })
    }

    fn resolve(
        document: &Document,
        digest: ManifestDigest,
        rego: &dyn Fn(&str) -> Result<(), String>,
        faults: &mut Collector<'_>,
    ) -> Self {
        let at = Path::Root;
        for (field, what, empty) in [
            ("Packages", "package", document.packages.is_empty()),
            ("Marbles", "Marble", document.marbles.is_empty() && document.broker.is_none()),
        ] {
            if empty {
                faults.add(&at.field(field), Code::Missing, format!("a manifest needs at least one {what}"));
            }
        }
        let settings = settings::resolve(document, &at, faults);
        let tags = tls::resolve(document, &at.field("TLS"), faults);
        let platforms = platform::resolve(document.platforms.as_ref(), &at.field("Platforms"), faults);
        // A guest of the broker may be any package.
        let referenced: BTreeSet<_> = match &document.broker {
            Some(_) => document.packages.keys().map(String::as_str).collect(),
            None => document.marbles.values().map(|marble| marble.package.as_str()).collect(),
        };
        let reference_signers = references::signers(document.broker.as_ref(), &at.field("Broker"), faults);
        let policies = (&platforms, document.platforms.is_some(), &reference_signers);
        let packages =
            package::resolve(&document.packages, &referenced, policies, &at.field("Packages"), faults);
        let stores = store::resolve(document, &at.field("SecretStores"), faults);
        let secrets = secret::resolve(document, &at.field("Secrets"), faults);
        let shapes = secret::shapes(&document.secrets);
        let workload_signers = workload::signers(document, &at.field("WorkloadSigners"), faults);
        let registries = workload::registries(document, &at.field("Registries"), faults);
        let marbles = marble::resolve(
            document,
            &packages,
            (&shapes, &tags),
            &workload_signers,
            &at.field("Marbles"),
            faults,
        );
        store::previous(&marbles, &secrets, &at.field("Marbles"), faults);
        store::held(&marbles, &secrets, &at.field("Marbles"), faults);
        let roles = user::resolve_roles(&document.roles, document, &at.field("Roles"), faults);
        let users = user::resolve_users(&document.users, &document.roles, &roles, &at.field("Users"), faults);
        let broker = broker::resolve(document, (&packages, &secrets), rego, &at.field("Broker"), faults);
        workload::keys_exist(&marbles, broker.as_ref(), &at.field("Marbles"), faults);
        Self {
            digest,
            platforms,
            packages,
            marbles,
            secrets,
            roles,
            users,
            settings,
            stores,
            broker,
            reference_signers,
            workload_signers,
            registries,
        }
    }

    /// The manifest's identity: SHA-256 of its exact bytes. JSON and YAML of one meaning differ.
    #[must_use]
    pub fn digest(&self) -> ManifestDigest {
        self.digest
    }

    /// The accepted platforms with their policies. A package's own policy, in [`Package::accepted`],
    /// is the one to appraise by: a MarbleRun manifest states it there.
    #[must_use]
    pub fn platforms(&self) -> &BTreeMap<Platform, Arc<PlatformPolicy>> {
        &self.platforms
    }

    /// The packages that a Marble names; all, where there is a broker, whose guests may be any.
    #[must_use]
    pub fn packages(&self) -> &BTreeMap<PackageName, Arc<Package>> {
        &self.packages
    }

    /// The Marbles.
    #[must_use]
    pub fn marbles(&self) -> &BTreeMap<MarbleName, Marble> {
        &self.marbles
    }

    /// The Marble of this name.
    #[must_use]
    pub fn marble(&self, name: &str) -> Option<&Marble> {
        self.marbles.get(name)
    }

    /// The secrets.
    #[must_use]
    pub fn secrets(&self) -> &BTreeMap<SecretName, Secret> {
        &self.secrets
    }

    /// The roles.
    #[must_use]
    pub fn roles(&self) -> &BTreeMap<RoleName, Arc<Role>> {
        &self.roles
    }

    /// The users.
    #[must_use]
    pub fn users(&self) -> &BTreeMap<UserName, User> {
        &self.users
    }

    /// What governs the coordinator itself.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The secret stores outside the mesh.
    #[must_use]
    pub fn stores(&self) -> &BTreeMap<StoreName, SecretStore> {
        &self.stores
    }

    /// What is released to guests that are no Marbles; nothing, where absent.
    #[must_use]
    pub fn broker(&self) -> Option<&Broker> {
        self.broker.as_ref()
    }

    /// Who may sign reference values.
    #[must_use]
    pub fn reference_signers(&self) -> &BTreeMap<SignerName, ReferenceSigner> {
        &self.reference_signers
    }

    /// Who may sign workloads.
    #[must_use]
    pub fn workload_signers(&self) -> &BTreeMap<SignerName, ReferenceSigner> {
        &self.workload_signers
    }

    /// How registries are known, by `HOST` or `HOST:PORT`.
    #[must_use]
    pub fn registries(&self) -> &BTreeMap<String, Registry> {
        &self.registries
    }

    /// The users who take part in updates of the manifest.
    pub fn updaters(&self) -> impl Iterator<Item = &User> {
        self.users.values().filter(|user| user.may_update())
    }

    /// How many of them an update needs: all, where the manifest says nothing.
    #[must_use]
    pub fn update_threshold(&self) -> usize {
        self.settings.update_threshold.map_or_else(|| self.updaters().count(), |threshold| threshold.get())
    }

    /// How many recovery keys it takes to bring the state back: all, where the manifest says nothing.
    #[must_use]
    pub fn recovery_threshold(&self) -> usize {
        let keys = self.settings.recovery_keys.len();
        self.settings.recovery_threshold.map_or(keys, |threshold| threshold.get())
    }

    /// The secrets that a template, a TLS tag, a store, a role or a resource refers to: values of others are never made.
    #[must_use]
    pub fn referenced_secrets(&self) -> BTreeSet<SecretName> {
        let mut names = BTreeSet::new();
        for marble in self.marbles.values() {
            names.extend(marble.readable_secrets());
        }
        names.extend(self.stores.values().map(|store| store.credential().clone()));
        let passwords = self.registries.values().filter_map(|registry| registry.credentials.as_ref());
        names.extend(passwords.map(|(_, secret)| secret.clone()));
        for role in self.roles.values() {
            if let Grant::Secrets { secrets, .. } = &role.grant {
                names.extend(secrets.iter().cloned());
            }
        }
        names.extend(self.broker.iter().flat_map(Broker::secrets).cloned());
        names
    }

    /// The same manifest, with packages by signer raised to these security versions. Its digest stays: it is that
    /// of the document, and versions are raised beside it.
    #[must_use]
    pub fn with_security_versions(&self, versions: &BTreeMap<PackageName, u16>) -> Self {
        let mut raised = self.clone();
        for (name, &version) in versions {
            if let Some(package) = raised.packages.get_mut(name) {
                let package = Arc::make_mut(package);
                package.raise(version);
            }
        }
        for marble in raised.marbles.values_mut() {
            if let Some(package) = raised.packages.get(&marble.package.name) {
                marble.package = Arc::clone(package);
            }
        }
        raised
    }

    /// The user with this certificate: DER, the first of the chain that the peer presented.
    #[must_use]
    pub fn user_by_certificate(&self, der: &[u8]) -> Option<&User> {
        self.users.values().find(|user| matches!(&user.proof, Proof::Certificate(own) if own.0 == der))
    }

    /// Whether the user of this certificate may do this with all of these secrets. An unknown secret is
    /// granted to nobody.
    #[must_use]
    pub fn authorised<'s>(
        &self,
        certificate: &[u8],
        action: Action,
        secrets: impl IntoIterator<Item = &'s SecretName>,
    ) -> bool {
        let user = self.user_by_certificate(certificate);
        user.is_some_and(|user| secrets.into_iter().all(|secret| user.may(action, secret)))
    }

    /// The Marbles to which a Marble may open connections.
    pub fn reachable_from<'m>(&'m self, from: &'m MarbleName) -> impl Iterator<Item = &'m Marble> {
        self.marbles.values().filter(move |marble| {
            match marble.workload.as_ref().map(|workload| &workload.access) {
                Some(Access::Public) => true,
                Some(Access::Peers(peers)) => peers.contains(from),
                None => false,
            }
        })
    }
}

/// SHA-256 of a manifest's exact bytes; written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ManifestDigest(pub [u8; 32]);

impl ManifestDigest {
    /// The digest of these bytes, whether or not they are a manifest.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManifestDigest({self})")
    }
}

/// Text that is not a manifest digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a manifest digest has 64 hexadecimal digits")]
pub struct InvalidDigest;

impl FromStr for ManifestDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let bytes = hex::decode(text).map_err(|_| InvalidDigest)?;
        bytes.try_into().map(Self).map_err(|_| InvalidDigest)
    }
}

impl TryFrom<String> for ManifestDigest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<ManifestDigest> for String {
    fn from(digest: ManifestDigest) -> Self {
        digest.to_string()
    }
}
