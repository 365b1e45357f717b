//! What an update from one manifest to another makes anew, and what stands in its way: decided once, for whoever
//! plans an update and whoever applies it.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::Manifest;
use crate::names::{PackageName, SecretName, SignerName};
use crate::package::Package;
use crate::references::ReferenceSigner;
use crate::secret::{Secret, SecretKind, SecretSource};

/// The consequences of an update. [`Choices::between`] is its only origin.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Choices {
    /// Shared secrets for which a new value is made.
    pub generated: BTreeSet<SecretName>,
    /// Those of them whose old value is kept as the previous one.
    pub rotated: BTreeSet<SecretName>,
    /// Whether the secret is made anew from which single instances' secrets are derived.
    pub root_secret: bool,
    /// Whether holders of recovery keys get new shares, and old ones open nothing any more.
    pub recovery_keys: bool,
    /// Packages whose security version falls: only whoever says so may do that.
    pub falls: Vec<Fall>,
    /// Uploaded secrets whose value does not fit its new definition: such an update is refused.
    pub unfit: BTreeSet<SecretName>,
    /// Whether the seal mode changes: such an update is refused.
    pub seal_mode: bool,
    /// Whether it should be rolled back by itself and could not be, as holders of recovery keys get new shares: such an
    /// update is refused.
    pub no_way_back: bool,
    /// Signers of reference values or workloads whose trust root is replaced by an older one, or by another of the same version
    /// (S-63): such an update is refused.
    pub trust_roots: BTreeSet<SignerName>,
}

/// A security version that was required and would be no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fall {
    /// Which package.
    pub package: PackageName,
    /// The least version now.
    pub in_force: u16,
    /// The least version then; `None` where the package is no longer known by its signer, or gone.
    pub proposed: Option<u16>,
}

impl Choices {
    /// What changes from `old`, with the security versions in force, to `new`. `held` says of a secret of `old`
    /// whether it has a value.
    pub fn between(old: &Manifest, new: &Manifest, held: impl Fn(&SecretName) -> bool) -> Self {
        let root_secret = new.settings().rotate_root_secret;
        let unchanged = |secret: &Secret| old.secrets().get(&secret.name) == Some(secret);
        let referenced = new.referenced_secrets();
        let shared =
            |secret: &&Secret| secret.source == SecretSource::Shared && referenced.contains(&secret.name);
        let anew = |secret: &&Secret| {
            // A certificate is of its epoch's CA, and each update begins an epoch.
            let certificate = matches!(secret.kind, SecretKind::Certificate(_));
            !unchanged(secret) || certificate || root_secret || !held(&secret.name)
        };
        let generated: Vec<_> = new.secrets().values().filter(shared).filter(anew).collect();
        let named = |secrets: &mut dyn Iterator<Item = &Secret>| secrets.map(|it| it.name.clone()).collect();
        let rotated = named(&mut generated.iter().copied().filter(|secret| unchanged(secret)));
        let uploaded = new.secrets().values().filter(|secret| secret.source == SecretSource::UserDefined);
        let unfit = named(&mut uploaded.filter(|secret| {
            let before = old.secrets().get(&secret.name);
            before.is_some_and(|before| before.kind != secret.kind) && held(&secret.name)
        }));
        let recovery_keys = new.settings().recovery_keys != old.settings().recovery_keys
            || new.recovery_threshold() != old.recovery_threshold();
        Self {
            generated: named(&mut generated.into_iter()),
            rotated,
            root_secret,
            recovery_keys,
            falls: falls(old, new),
            unfit,
            seal_mode: new.settings().seal_mode != old.settings().seal_mode,
            no_way_back: recovery_keys && new.settings().roll_back_after.is_some(),
            trust_roots: older_roots(old, new),
        }
    }
}

/// S-45: what was once required stays required. A package that is gone, or that is known by measurements from now on,
/// counts: with the next update it could come back at any version.
fn falls(old: &Manifest, new: &Manifest) -> Vec<Fall> {
    let fall = |(name, package): (&PackageName, &std::sync::Arc<Package>)| {
        let in_force = package.security_version()?;
        let proposed = new.packages().get(name).and_then(|package| package.security_version());
        let falls = proposed.is_none_or(|proposed| proposed < in_force);
        falls.then(|| Fall { package: name.clone(), in_force, proposed })
    };
    old.packages().iter().filter_map(fall).collect()
}

/// A later end alone is no other root.
fn older_roots(old: &Manifest, new: &Manifest) -> BTreeSet<SignerName> {
    let mut names = older_roots_of(old.reference_signers(), new.reference_signers());
    names.extend(older_roots_of(old.workload_signers(), new.workload_signers()));
    names
}

fn older_roots_of(
    old: &BTreeMap<SignerName, ReferenceSigner>,
    new: &BTreeMap<SignerName, ReferenceSigner>,
) -> BTreeSet<SignerName> {
    let older = |(name, signer): &(&SignerName, &ReferenceSigner)| {
        let before = old.get(*name).and_then(ReferenceSigner::root);
        before.zip(signer.root()).is_some_and(|(before, after)| {
            after.version < before.version || (after.version == before.version && after.json != before.json)
        })
    };
    new.iter().filter(older).map(|(name, _)| name.clone()).collect()
}
