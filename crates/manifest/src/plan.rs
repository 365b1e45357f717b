//! What an update would change, in words: what gives more access or asks for less first, then what is merely
//! different, then what gives less. Every field of both manifests is taken apart by name, so that one that is added
//! and forgotten here does not compile.
//!
//! ```text
//! ! frontend may now read db-password
//! ~ salt is made anew; its old value stays readable as the previous one
//! - cron may no longer call frontend
//! ```

mod broker;
mod code;
mod marbles;
mod references;
mod rights;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::choices::{Choices, Fall};
use crate::manifest::{Manifest, ManifestDigest};
use crate::names::SecretName;

/// What an update would change. [`plan`] is its only origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The manifest in force.
    pub from: ManifestDigest,
    /// The proposed one.
    pub to: ManifestDigest,
    /// Each change, those with more danger first.
    pub changes: Vec<Change>,
    /// Packages whose security version falls: whoever proposes the update must name each.
    pub downgrades: BTreeSet<String>,
    /// Why the update would be refused whoever proposes it; mostly nothing.
    pub obstacles: Vec<String>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// What it does to those who rely on the manifest.
    pub effect: Effect,
    /// What it is, for programs: these words stay.
    pub kind: Kind,
    /// The package, Marble, user, secret, platform or setting that is changed.
    pub subject: String,
    /// What about it, where there are several: the secret that it may read, the parameter, the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// For people.
    pub words: String,
}

/// What a change does to those who rely on the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Someone may do more, other code may run, or less is asked of it.
    Opens,
    /// Different, and neither more nor less.
    Changes,
    /// Someone may do less, or more is asked of them.
    Closes,
}

impl Effect {
    /// One sign for it.
    #[must_use]
    pub fn mark(self) -> char {
        match self {
            Self::Opens => '!',
            Self::Changes => '~',
            Self::Closes => '-',
        }
    }
}

/// What a change is, those with more danger first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each is what its name says of its subject and object")]
#[non_exhaustive]
pub enum Kind {
    VersionFalls,
    PlatformPolicy,
    Infrastructure,
    Code,
    MarblePackage,
    MarbleWorkload,
    MarbleReads,
    MarbleCalled,
    MarbleName,
    MarbleTls,
    MarbleLog,
    MarbleConfig,
    MarbleVolume,
    MarbleActivations,
    Broker,
    ReleasePolicy,
    Resource,
    Repository,
    UserResources,
    UserReferences,
    ReferenceSigner,
    WorkloadSigner,
    Registry,
    Tokens,
    UserReads,
    UserWrites,
    UserRaises,
    UserRotates,
    UserSees,
    UserEvicts,
    UserUpdates,
    UserProof,
    UpdateThreshold,
    Witnesses,
    SecretStore,
    Reinstated,
    RecoveryThreshold,
    RecoveryKey,
    RolloutWindow,
    RollBack,
    FeatureGate,
    VersionRises,
    Package,
    Marble,
    MarbleParameter,
    MarbleLimit,
    Secret,
    SecretValue,
    RootSecret,
    User,
    UpdateDeadline,
}

/// What `new` changes about `old`, which has the security versions in force. `held` says of a secret of `old` whether
/// it has a value.
pub fn plan(old: &Manifest, new: &Manifest, held: impl Fn(&SecretName) -> bool) -> Plan {
    let choices = Choices::between(old, new, held);
    let mut changes = Changes(Vec::new());
    code::compare(old, new, &choices, &mut changes);
    marbles::compare(old, new, &mut changes);
    rights::compare(old, new, &mut changes);
    rules::compare(old, new, &choices, &mut changes);
    broker::compare(old.broker(), new.broker(), &mut changes);
    references::compare(old, new, &mut changes);
    let Changes(mut changes) = changes;
    changes.sort_by(|a, b| {
        (a.effect, a.kind, &a.subject, &a.object).cmp(&(b.effect, b.kind, &b.subject, &b.object))
    });
    let unfit = |name: &SecretName| {
        format!(
            "the uploaded value of {name} does not fit its new definition: give the new secret another name"
        )
    };
    let mut obstacles: Vec<_> = choices.unfit.iter().map(unfit).collect();
    if choices.seal_mode {
        obstacles.push("the seal mode of a mesh never changes".to_owned());
    }
    if choices.no_way_back {
        let words =
            "recovery keys change, which cannot be rolled back: leave `RollBackAfter` out of this update";
        obstacles.push(words.to_owned());
    }
    obstacles.extend(choices.trust_roots.iter().map(|signer| {
        format!(
            "the trust root of signer {signer} would be an older one, or another without a greater `Version`"
        )
    }));
    Plan {
        from: old.digest(),
        to: new.digest(),
        changes,
        downgrades: choices.falls.iter().map(|Fall { package, .. }| package.to_string()).collect(),
        obstacles,
    }
}

impl fmt::Display for Plan {
    /// A line for each change, and what there is to say of the whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            writeln!(f, "Nothing that the manifest says would change.")?;
        }
        for change in &self.changes {
            writeln!(f, "{} {}", change.effect.mark(), change.words)?;
        }
        for obstacle in &self.obstacles {
            writeln!(f, "This update would be refused: {obstacle}.")?;
        }
        if !self.downgrades.is_empty() {
            write!(f, "A security version falls. If that is meant, propose it with:")?;
            for package in &self.downgrades {
                write!(f, " --allow-downgrade {package}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Differences as they are found.
struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, effect: Effect, kind: Kind, subject: impl fmt::Display, words: String) {
        self.0.push(Change { effect, kind, subject: subject.to_string(), object: None, words });
    }

    fn about(
        &mut self,
        effect: Effect,
        kind: Kind,
        (subject, object): (impl fmt::Display, impl fmt::Display),
        words: String,
    ) {
        let object = Some(object.to_string());
        self.0.push(Change { effect, kind, subject: subject.to_string(), object, words });
    }
}

/// Opens where there is more of it now than there was.
fn opens_if(more: bool) -> Effect {
    if more { Effect::Opens } else { Effect::Closes }
}

/// What is only in `new`, and what was only in `old`.
fn differences<'a, T: Ord>(
    old: &'a BTreeSet<T>,
    new: &'a BTreeSet<T>,
) -> impl Iterator<Item = (bool, &'a T)> {
    new.difference(old).map(|it| (true, it)).chain(old.difference(new).map(|it| (false, it)))
}

/// Entries by name on both sides: absent on one of them where it came or went.
fn pairs<'a, K: Ord, A>(
    old: &'a BTreeMap<K, A>,
    new: &'a BTreeMap<K, A>,
) -> impl Iterator<Item = (&'a K, Option<&'a A>, Option<&'a A>)> {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    names.into_iter().map(|name| (name, old.get(name), new.get(name)))
}

/// A span of time as the manifest writes it.
fn span(duration: std::time::Duration) -> String {
    match duration.as_secs() {
        seconds if seconds % (24 * 3600) == 0 => format!("{}d", seconds / (24 * 3600)),
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        _ => format!("{} ms", duration.as_millis()),
    }
}
