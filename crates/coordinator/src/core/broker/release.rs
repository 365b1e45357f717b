//! Whether a guest is given a resource: each time anew, by the policy that the manifest in force has for it. First what
//! is typed, then Rego; the default is to refuse. What was found is a table of what was expected and what was seen, for
//! operators; a guest is told the same of a resource that it may not have and of one that does not exist (S-58).

use std::collections::BTreeSet;

use appraisal::UnixTime;
use evidence::Platform;
use manifest::{
    Broker, DeclaredResource, InitDataDigest, PackageName, ReleasePolicy, ResourcePath, SecretName, Use,
};
use policy_rego::{Answer, Claims, Fault, Release, Request};
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{guest::Guest, policies::Compiled};
use crate::core::{Mesh, Refusal, State, Stored, references, resources, stored_at};

/// One rule of a policy, and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which rule: these words stay.
    pub check: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// The stable code of its refusal; absent where it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What the policy asks.
    pub expected: String,
    /// What the guest is.
    pub seen: String,
    /// What would mend it; absent where it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// What was found of a guest and a resource: the whole table, whether released or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `repository/kind/tag`.
    pub resource: ResourcePath,
    /// By which policy; absent where there is no such resource.
    pub policy: Option<String>,
    /// Each rule, in the order in which they are asked.
    pub checks: Vec<Check>,
}

impl Finding {
    /// Whether all rules hold.
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    /// The codes of those that do not.
    pub fn codes(&self) -> Vec<&'static str> {
        self.checks.iter().filter_map(|check| check.code).collect()
    }
}

/// Why a resource is not released. For operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the resource is not released ({})", .0.codes().join(", "))]
pub struct NotReleased(pub Box<Finding>);

impl NotReleased {
    /// Stable codes; never empty.
    pub fn codes(&self) -> Vec<&'static str> {
        self.0.codes()
    }

    /// The reason tree.
    pub fn tree(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or(Value::Null)
    }
}

/// What may be released, to the guest that was asked about and now. [`release`] is its only origin.
pub struct Releasable {
    source: Source,
    /// By what it was found.
    pub finding: Finding,
}

enum Source {
    Value(Zeroizing<Vec<u8>>),
    Stored(SecretName),
}

impl std::fmt::Debug for Releasable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Releasable").field("finding", &self.finding).finish_non_exhaustive()
    }
}

impl Releasable {
    /// The secret that has to be fetched from a store outside before there is a value.
    pub fn stored(&self) -> Option<&SecretName> {
        match &self.source {
            Source::Value(_) => None,
            Source::Stored(name) => Some(name),
        }
    }

    /// The value, with what was fetched where it is in a store outside.
    pub fn value(self, mesh: &Mesh, stored: &Stored) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        match self.source {
            Source::Value(value) => Ok(value),
            Source::Stored(name) => {
                let secret = mesh.manifest().secrets().get(&name).ok_or(Refusal::UnknownResource)?;
                resources::bytes(stored.value(mesh, secret)?)
            }
        }
    }
}

/// A guest as policies see it: proven, or in a dry run only said.
pub struct Subject<'a> {
    /// Where it runs; nowhere that Evidence is known of, for CoCo's `sample`.
    pub platform: Option<Platform>,
    /// The packages that it is.
    pub packages: &'a BTreeSet<PackageName>,
    /// Whether a root of its platform is an emulated one.
    pub emulated: bool,
    /// Of init-data that its Evidence proves.
    pub init_data: Option<&'a InitDataDigest>,
    /// In the shape of Trustee's tokens.
    pub claims: &'a Value,
}

impl<'a> From<&'a Guest> for Subject<'a> {
    fn from(guest: &'a Guest) -> Self {
        Self {
            platform: guest.platform(),
            packages: guest.packages(),
            emulated: guest.emulated(),
            init_data: guest.init_data(),
            claims: guest.claims(),
        }
    }
}

/// A resource with what governs it.
enum Found<'m> {
    Declared(&'m DeclaredResource),
    Uploaded(&'m ReleasePolicy),
}

/// Decides whether `guest` is given the resource at `path`, to read it or to have something unwrapped by it.
///
/// # Errors
/// [`NotReleased`], for the operator. A guest learns nothing of it.
pub fn release(
    state: &State,
    guest: &Guest,
    path: &ResourcePath,
    wanted: Use,
    now: UnixTime,
) -> Result<Releasable, NotReleased> {
    let refused = |checks, policy: Option<&ReleasePolicy>| {
        let policy = policy.map(|policy| policy.name.to_string());
        NotReleased(Box::new(Finding { resource: path.clone(), policy, checks }))
    };
    let Some((mesh, broker)) = state.mesh().and_then(|mesh| Some((mesh, mesh.manifest().broker()?))) else {
        return Err(refused(vec![no_resource("the manifest in force has no section `Broker`")], None));
    };
    let found = match find(mesh, broker, path) {
        Ok(found) => found,
        Err(check) => return Err(refused(vec![check], None)),
    };
    let policy = found.policy();
    let mut checks = vec![in_force(mesh, guest), in_time(guest, now), usage(&found, wanted)];
    checks.push(stated(mesh, guest, policy, now));
    if checks.iter().all(|check| check.holds) {
        let rego = mesh.policies().of(broker, &policy.name);
        checks.extend(examine(state, policy, rego.as_ref(), &Subject::from(guest), path));
    }
    if !checks.iter().all(|check| check.holds) {
        return Err(refused(checks, Some(policy)));
    }
    match value(mesh, &found, path, now) {
        Ok(source) => {
            let policy = Some(policy.name.to_string());
            Ok(Releasable { source, finding: Finding { resource: path.clone(), policy, checks } })
        }
        Err(refusal) => {
            let mend = "upload its value, or see what `bailey secret list` says of it";
            let why = format!("none: {refusal}");
            checks.push(broken("value", "VALUE_UNAVAILABLE", ("a value".into(), why), mend));
            Err(refused(checks, Some(policy)))
        }
    }
}

/// What a policy says of a guest: all typed rules, and where they hold its rule in Rego. `rego` is that rule compiled, if
/// the policy has one.
pub fn examine(
    state: &State,
    policy: &ReleasePolicy,
    rego: Option<&Compiled>,
    subject: &Subject<'_>,
    path: &ResourcePath,
) -> Vec<Check> {
    let mut checks = vec![package(policy, subject)];
    checks.extend(platform(policy, subject));
    checks.push(emulated(state, policy, subject));
    checks.extend(init_data(policy, subject));
    checks.extend(epoch(state, policy));
    if policy.rego.is_some() && checks.iter().all(|check| check.holds) {
        checks.push(claims_of(rego, subject, path));
    }
    checks
}

impl Found<'_> {
    fn policy(&self) -> &ReleasePolicy {
        match self {
            Self::Declared(resource) => &resource.policy,
            Self::Uploaded(policy) => policy,
        }
    }
}

fn find<'m>(mesh: &Mesh, broker: &'m Broker, path: &ResourcePath) -> Result<Found<'m>, Check> {
    if let Some(declared) = broker.declared(path) {
        return Ok(Found::Declared(declared));
    }
    let policy = broker.upload_policy(path);
    let policy = policy.ok_or_else(|| no_resource("the manifest declares no such resource"))?;
    match mesh.resources().newest(path) {
        Some(_) => Ok(Found::Uploaded(policy)),
        None => Err(no_resource("the manifest declares no such resource, and none was uploaded")),
    }
}

fn value(mesh: &Mesh, found: &Found<'_>, path: &ResourcePath, now: UnixTime) -> Result<Source, Refusal> {
    match found {
        Found::Declared(declared) => {
            let secret = mesh.manifest().secrets().get(&declared.secret).ok_or(Refusal::UnknownResource)?;
            if stored_at(secret).is_some() {
                return Ok(Source::Stored(secret.name.clone()));
            }
            let (value, _) = resources::declared_value(mesh, declared, &Stored::new(mesh), now)?;
            Ok(Source::Value(value))
        }
        Found::Uploaded(_) => {
            let newest = mesh.resources().newest(path).ok_or(Refusal::UnknownResource)?;
            resources::bytes(&newest.value).map(Source::Value)
        }
    }
}

fn held(check: &'static str, (expected, seen): (String, String)) -> Check {
    Check { check, holds: true, code: None, expected, seen, mend: None }
}

fn broken(
    check: &'static str,
    code: &'static str,
    (expected, seen): (String, String),
    mend: impl Into<String>,
) -> Check {
    Check { check, holds: false, code: Some(code), expected, seen, mend: Some(mend.into()) }
}

fn no_resource(seen: &str) -> Check {
    let mend = "declare it under `Broker.Repositories`, or upload it; or correct what the guest asks for";
    broken("resource", "RESOURCE_UNKNOWN", ("a resource".into(), seen.into()), mend)
}

/// S-45: what was appraised by a manifest counts under that manifest alone.
fn in_force(mesh: &Mesh, guest: &Guest) -> Check {
    let of = |epoch: u64, manifest: &manifest::ManifestDigest| format!("epoch {epoch}, manifest {manifest}");
    let in_force = mesh.manifest().digest();
    let both = (of(mesh.epoch(), &in_force), of(guest.epoch(), guest.manifest()));
    match guest.epoch() == mesh.epoch() && *guest.manifest() == in_force {
        true => held("manifest", both),
        false => {
            let mend = "the guest attests again: it was appraised by another manifest than the one in force";
            broken("manifest", "SESSION_STALE", both, mend)
        }
    }
}

fn in_time(guest: &Guest, now: UnixTime) -> Check {
    let both = (format!("before {}", guest.expires()), now.to_string());
    match now < guest.expires() {
        true => held("time", both),
        false => broken("time", "SESSION_EXPIRED", both, "the guest attests again"),
    }
}

/// Code that is known by what others sign is that code only while they say so.
fn stated(mesh: &Mesh, guest: &Guest, policy: &ReleasePolicy, now: UnixTime) -> Check {
    let stands = |package: &&PackageName| match guest.platform() {
        Some(platform) => references::stands(mesh, package, platform, guest.attested_at(), now),
        // Sample Evidence proves no code.
        None => true,
    };
    let named: Vec<_> = policy.packages.intersection(guest.packages()).collect();
    let standing: Vec<_> = named.iter().copied().filter(stands).collect();
    let both = ("reference values that still hold".to_owned(), list(&standing));
    match named.is_empty() || !standing.is_empty() {
        true => held("references", both),
        false => {
            let mend =
                "a statement ended, was removed or replaced since the guest attested: it attests again";
            broken("references", "REFERENCES_ENDED", both, mend)
        }
    }
}

fn usage(found: &Found<'_>, wanted: Use) -> Check {
    let granted = match found {
        Found::Declared(declared) => declared.usage,
        Found::Uploaded(_) => Use::Read,
    };
    let both = (granted.as_str().to_owned(), wanted.as_str().to_owned());
    // Whoever may read a key may as well have something unwrapped by it.
    match granted == wanted || granted == Use::Read {
        true => held("use", both),
        false => {
            let mend = "the key never leaves: have the broker unwrap with it, or set its `Use` to `read`";
            broken("use", "USE_NOT_GRANTED", both, mend)
        }
    }
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn package(policy: &ReleasePolicy, subject: &Subject<'_>) -> Check {
    let both = (format!("one of {}", list(&policy.packages)), list(subject.packages));
    match policy.packages.is_disjoint(subject.packages) {
        false => held("package", both),
        true => {
            let mend = "name the guest's package in the policy's `Packages`, or run the code that it names";
            broken("package", "PACKAGE_NOT_GRANTED", both, mend)
        }
    }
}

fn platform(policy: &ReleasePolicy, subject: &Subject<'_>) -> Option<Check> {
    let platforms = policy.platforms.as_ref()?;
    let seen = subject.platform.map_or_else(|| "sample".to_owned(), |platform| platform.to_string());
    let both = (format!("one of {}", list(platforms)), seen);
    Some(match subject.platform.is_some_and(|platform| platforms.contains(&platform)) {
        true => held("platform", both),
        false => {
            let mend = "name the platform in the policy's `Platforms`, or run the guest on one that it names";
            broken("platform", "PLATFORM_NOT_GRANTED", both, mend)
        }
    })
}

/// Which platforms are emulated is decided by the root that their Evidence ends in, when it is appraised. Here it takes
/// both: a policy that says so, and a manifest that still names such a root for a package of the guest.
fn emulated(state: &State, policy: &ReleasePolicy, subject: &Subject<'_>) -> Check {
    let word = |emulated| if emulated { "emulated" } else { "hardware" }.to_owned();
    let expected = if policy.emulated { "hardware or emulated".to_owned() } else { word(false) };
    let both = (expected, word(subject.emulated));
    if !subject.emulated {
        return held("emulated", both);
    }
    if !policy.emulated {
        let mend = "run the guest on hardware; `Emulated` in the policy is for tests, and proves nothing";
        return broken("emulated", "EMULATED_NOT_GRANTED", both, mend);
    }
    let Some(mesh) = state.mesh() else { return no_resource("no manifest is in force") };
    let named = match subject.platform {
        Some(platform) => policy.packages.intersection(subject.packages).any(|name| {
            let accepted = mesh.manifest().packages().get(name).and_then(|it| it.accepted.get(&platform));
            accepted.is_some_and(|accepted| !accepted.policy.emulated_roots.is_empty())
        }),
        None => state.emulated() && mesh.manifest().broker().is_some_and(|broker| broker.sample),
    };
    match named {
        true => held("emulated", both),
        false => {
            let mend = "the manifest names no root of an emulated platform for this package: name one under \
                        `Platforms`, or run the guest on hardware";
            broken("emulated", "EMULATED_NOT_GRANTED", both, mend)
        }
    }
}

fn init_data(policy: &ReleasePolicy, subject: &Subject<'_>) -> Option<Check> {
    let digests = policy.init_data.as_ref()?;
    let both = (format!("one of {}", list(digests)), list(subject.init_data));
    Some(match subject.init_data.is_some_and(|digest| digests.contains(digest)) {
        true => held("init-data", both),
        false => {
            let mend =
                "start the guest with init-data that the policy names, or name the digest in `InitData`";
            broken("init-data", "INIT_DATA_NOT_GRANTED", both, mend)
        }
    })
}

fn epoch(state: &State, policy: &ReleasePolicy) -> Option<Check> {
    let epochs = policy.epochs?;
    let current = state.mesh().map_or(0, Mesh::epoch);
    let until = epochs.to.map_or_else(|| "on".to_owned(), |to| format!("to {to}"));
    let both = (format!("from {} {until}", epochs.from), current.to_string());
    Some(match epochs.contains(current) {
        true => held("epoch", both),
        false => broken("epoch", "EPOCH_NOT_GRANTED", both, "correct the policy's `Epochs`"),
    })
}

/// What a rule in Rego says of a guest that asks for a resource.
pub(super) fn claims_of(rego: Option<&Compiled>, subject: &Subject<'_>, path: &ResourcePath) -> Check {
    let expected = || "`allow` is true".to_owned();
    let fault = |code, seen: String, mend: &str| broken("rego", code, (expected(), seen), mend);
    let invalid = |text: String| fault("REGO_INVALID", text, "correct the policy in Rego");
    let policy = match rego {
        Some(Ok(policy)) => policy,
        Some(Err(error)) => return invalid(error.clone()),
        None => return invalid("the policy was not compiled".to_owned()),
    };
    let request = Request::resource([path.repository().as_str(), path.kind().as_str(), path.tag().as_str()]);
    let asked =
        Claims::new(subject.claims, &Release::LIMITS).and_then(|claims| policy.ask(&claims, &request));
    match asked {
        Ok(Answer::Allowed) => held("rego", (expected(), "true".to_owned())),
        Ok(Answer::Denied { reasons }) => {
            let said = if reasons.is_empty() { "not true".to_owned() } else { reasons.join("; ") };
            let mend =
                "compare the guest's claims with the policy: `bailey broker policy check` runs it again";
            fault("REGO_DENIED", said, mend)
        }
        Err(Fault::Invalid(text)) => invalid(text),
        Err(Fault::Limit(text)) => {
            fault("REGO_LIMIT", text, "write the policy with fewer combinations, or shorter")
        }
    }
}
