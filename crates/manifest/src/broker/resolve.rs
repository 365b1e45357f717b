//! `Broker` of the document, with every reference resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use evidence::Platform;

use super::{
    Broker, DeclaredResource, Epochs, InitDataDigest, ReleasePolicy, Repository, TokenSettings, Use,
};
use crate::document as wire;
use crate::encoding;
use crate::fault::{Code, Collector, Faults, shown, suggestion};
use crate::manifest::Manifest;
use crate::names::{PackageName, PathSegment, PolicyName, RepositoryName, SecretName};
use crate::package::Package;
use crate::path::Path;
use crate::secret::{Secret, SecretKind, SecretSource};
use crate::tree::Node;
use crate::user::exists;
use crate::wire::Wire;

/// As much as the interpreter admits; `docs/policy-rego.md` has the other limits.
const MAX_REGO: usize = 32 * 1024;
/// As Trustee's tokens live.
const TOKEN_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// A token outlives the session that it was made in, so it must not outlive the day.
const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Of a token's audience, in bytes.
const MAX_AUDIENCE: usize = 256;

type Packages = BTreeMap<PackageName, Arc<Package>>;
type Secrets = BTreeMap<SecretName, Secret>;
type Policies = BTreeMap<PolicyName, Arc<ReleasePolicy>>;

pub(crate) fn resolve(
    document: &wire::Document,
    (packages, secrets): (&Packages, &Secrets),
    check: &dyn Fn(&str) -> Result<(), String>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Broker> {
    let wire = document.broker.as_ref()?;
    let mut policies = Policies::new();
    for (name, policy) in &wire.policies {
        let list = at.field("Policies");
        let here = list.key(name);
        let name = name.parse::<PolicyName>().map_err(|error| {
            faults.add(&here, Code::InvalidName, error.to_string());
        });
        let Ok(name) = name else { continue };
        let known = (&document.packages, packages);
        let policy = release_policy(name.clone(), policy, known, check, &here, faults);
        policies.insert(name, Arc::new(policy));
    }
    let mut repositories = BTreeMap::new();
    for (name, repository) in &wire.repositories {
        let list = at.field("Repositories");
        let here = list.key(name);
        match name.parse::<RepositoryName>() {
            Ok(name) => {
                let known = Known { document, broker: wire, policies: &policies, secrets };
                repositories.insert(name, known.repository(repository, &here, faults));
            }
            Err(error) => faults.add(&here, Code::InvalidName, error.to_string()),
        }
    }
    kept(&repositories, &at.field("Repositories"), faults);
    let tokens = tokens(&wire.tokens, &at.field("Tokens"), faults);
    Some(Broker { policies, repositories, tokens, sample: wire.sample })
}

impl ReleasePolicy {
    /// Reads a policy that is in no manifest, as one of `manifest` would be written: to be tried.
    ///
    /// # Errors
    /// As those of [`Manifest::parse_checking`](crate::Manifest::parse_checking), with paths in the policy.
    pub fn parse(
        bytes: &[u8],
        manifest: &Manifest,
        rego: &dyn Fn(&str) -> Result<(), String>,
    ) -> Result<Self, Faults> {
        let tree = Node::parse(bytes)?;
        let mut faults = Collector::new(&tree);
        let named: BTreeMap<_, _> = manifest.packages().keys().map(|name| (name.to_string(), ())).collect();
        let name = PolicyName::try_from("given".to_owned());
        let policy = wire::ReleasePolicy::read(&tree, &Path::Root, &mut faults).zip(name.ok());
        let policy = policy.map(|(policy, name)| {
            let known = (&named, manifest.packages());
            release_policy(name, &policy, known, rego, &Path::Root, &mut faults)
        });
        faults.into_result()?;
        policy.ok_or_else(|| {
            Faults::of_document(Code::WrongType, None, "the policy is no object".to_owned(), None)
        })
    }
}

fn release_policy<T>(
    name: PolicyName,
    wire: &wire::ReleasePolicy,
    (known, packages): (&BTreeMap<String, T>, &Packages),
    check: &dyn Fn(&str) -> Result<(), String>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> ReleasePolicy {
    let list = at.field("Packages");
    if wire.packages.is_empty() {
        let hint = "name at least one package: a policy for everyone is none";
        faults.hint(&list, Code::Missing, "this policy is for no code", hint);
    }
    let mut named = BTreeSet::new();
    for (i, package) in wire.packages.iter().enumerate() {
        let here = list.index(i);
        exists(package, "package", known, &here, faults);
        if let Ok(package) = package.parse::<PackageName>()
            && !named.insert(package)
        {
            faults.add(&here, Code::DuplicateValue, "this is named twice");
        }
    }
    let platforms = platforms(wire, (&named, packages), &at.field("Platforms"), faults);
    if wire.emulated && !may_be_emulated(&named, platforms.as_ref(), packages) {
        let message = "no platform of these packages has an emulated root, so this has no effect";
        let hint = "remove it, or name the root in `Platforms.….EmulatedRoots`";
        faults.hint(&at.field("Emulated"), Code::NotApplicable, message, hint);
    }
    let rego = rego(wire.rego.as_deref(), &at.field("Rego"), faults);
    if let Some(Err(reason)) = rego.as_deref().map(check) {
        let hint = "docs/broker-resources.md says what a policy may use";
        faults.hint(&at.field("Rego"), Code::InvalidValue, reason, hint);
    }
    ReleasePolicy {
        name,
        packages: named,
        platforms,
        init_data: init_data(wire, &at.field("InitData"), faults),
        epochs: epochs(wire.epochs.as_ref(), &at.field("Epochs"), faults),
        emulated: wire.emulated,
        rego,
    }
}

fn platforms(
    wire: &wire::ReleasePolicy,
    (named, packages): (&BTreeSet<PackageName>, &Packages),
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<BTreeSet<Platform>> {
    let words = wire.platforms.as_ref()?;
    if words.is_empty() {
        faults.hint(at, Code::Missing, "this policy is for no platform", "leave it out to accept all");
    }
    let mut resolved = BTreeSet::new();
    for (i, word) in words.iter().enumerate() {
        let here = at.index(i);
        let Ok(platform) = word.parse::<Platform>() else {
            let message = format!("`{}` is not a platform", shown(word));
            let known = Platform::ALL.map(|platform| platform.as_str());
            faults.add_with(&here, Code::InvalidValue, message, || suggestion(word, &known));
            continue;
        };
        let mut resolvable = named.iter().filter_map(|name| packages.get(name));
        // A package with a fault of its own is absent, and says so itself.
        let faulty = named.iter().any(|name| !packages.contains_key(name));
        if !faulty && !resolvable.any(|package| package.accepted.contains_key(&platform)) {
            let message = format!("none of these packages runs on {platform}");
            faults.hint(
                &here,
                Code::PlatformNotListed,
                message,
                "give one a measurement for it, or remove it",
            );
        }
        if !resolved.insert(platform) {
            faults.add(&here, Code::DuplicateValue, "this is named twice");
        }
    }
    Some(resolved)
}

fn may_be_emulated(
    named: &BTreeSet<PackageName>,
    platforms: Option<&BTreeSet<Platform>>,
    packages: &Packages,
) -> bool {
    named.iter().any(|name| {
        // A package that could not be resolved has a fault of its own.
        let Some(package) = packages.get(name) else { return true };
        let on = |platform: &Platform| platforms.is_none_or(|platforms| platforms.contains(platform));
        package
            .accepted
            .iter()
            .any(|(platform, accepted)| on(platform) && !accepted.policy.emulated_roots.is_empty())
    })
}

fn init_data(
    wire: &wire::ReleasePolicy,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<BTreeSet<InitDataDigest>> {
    let texts = wire.init_data.as_ref()?;
    if texts.is_empty() {
        faults.hint(at, Code::Missing, "this policy is for no init-data", "leave it out to accept any");
    }
    let mut resolved = BTreeSet::new();
    for (i, text) in texts.iter().enumerate() {
        let here = at.index(i);
        match text.parse::<InitDataDigest>() {
            Ok(digest) => {
                if !resolved.insert(digest) {
                    faults.add(&here, Code::DuplicateValue, "this is named twice");
                }
            }
            Err(error) => {
                let message = format!("`{}`: {error}", shown(text));
                faults.hint(&here, Code::InvalidValue, message, "it is the digest of the exact text");
            }
        }
    }
    Some(resolved)
}

fn epochs(wire: Option<&wire::Epochs>, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Epochs> {
    let wire = wire?;
    if wire.from.is_none() && wire.to.is_none() {
        faults.hint(
            at,
            Code::Missing,
            "there is neither `From` nor `To`",
            "leave it out to accept all epochs",
        );
    }
    let epochs = Epochs { from: wire.from.unwrap_or(0), to: wire.to };
    if epochs.to.is_some_and(|to| to < epochs.from) {
        faults.add(at, Code::InvalidValue, "no epoch is so early and so late");
    }
    Some(epochs)
}

fn rego(text: Option<&str>, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Arc<str>> {
    let text = text?;
    if text.trim().is_empty() {
        faults.hint(at, Code::Missing, "this policy is empty", "leave it out, or give it a rule `allow`");
    }
    if text.len() > MAX_REGO {
        let message = format!("{} bytes are more than {MAX_REGO}", text.len());
        faults.hint(at, Code::InvalidValue, message, "write the policy shorter");
    }
    Some(text.into())
}

fn tokens(wire: &wire::BrokerTokens, at: &Path<'_>, faults: &mut Collector<'_>) -> TokenSettings {
    let text = wire.lifetime.as_deref();
    let lifetime = text.map_or(Some(TOKEN_LIFETIME), encoding::span).filter(|it| *it <= MAX_TOKEN_LIFETIME);
    if lifetime.is_none() {
        let message = format!("`{}` is not a time of at most 24 hours", shown(text.unwrap_or_default()));
        faults.hint(&at.field("Lifetime"), Code::InvalidValue, message, "write `5m`; units are m, h and d");
    }
    let mut audiences = BTreeSet::new();
    for (i, audience) in wire.audiences.iter().enumerate() {
        let list = at.field("Audiences");
        let here = list.index(i);
        let plain = audience.bytes().all(|byte| byte.is_ascii_graphic());
        if audience.is_empty() || audience.len() > MAX_AUDIENCE || !plain {
            let message =
                format!("`{}` is not an audience: 1 to {MAX_AUDIENCE} ASCII signs", shown(audience));
            faults.hint(&here, Code::InvalidValue, message, "write it as the relying party compares it");
        } else if !audiences.insert(audience.clone()) {
            faults.add(&here, Code::DuplicateValue, "this is named twice");
        }
    }
    TokenSettings { lifetime: lifetime.unwrap_or(TOKEN_LIFETIME), audiences }
}

/// What a repository can refer to.
struct Known<'a> {
    document: &'a wire::Document,
    broker: &'a wire::Broker,
    policies: &'a Policies,
    secrets: &'a Secrets,
}

impl Known<'_> {
    fn repository(&self, wire: &wire::Repository, at: &Path<'_>, faults: &mut Collector<'_>) -> Repository {
        if wire.policy.is_none() && wire.resources.is_empty() {
            let message = "nothing is in this repository, and without a policy nothing can be uploaded";
            faults.hint(at, Code::Missing, message, "give it `Policy` or `Resources`");
        }
        let policy = wire.policy.as_deref().and_then(|name| self.policy(name, &at.field("Policy"), faults));
        let mut resources = BTreeMap::new();
        for (path, resource) in &wire.resources {
            let list = at.field("Resources");
            let here = list.key(path);
            let segments = path.split_once('/');
            let segments: Option<(PathSegment, PathSegment)> =
                segments.and_then(|(kind, tag)| Some((kind.parse().ok()?, tag.parse().ok()?)));
            let Some(segments) = segments else {
                let message = "a resource is named `kind/tag`, each of 1 to 64 ASCII letters, digits, `_`, `-` and \
                               `.`, with no `.` at the beginning";
                faults.add(&here, Code::InvalidName, message);
                continue;
            };
            let resource = self.resource(resource, (policy.as_ref(), wire.policy.is_some()), &here, faults);
            if let Some(resource) = resource {
                resources.insert(segments, resource);
            }
        }
        Repository { policy, resources }
    }

    fn resource(
        &self,
        wire: &wire::DeclaredResource,
        (inherited, inherits): (Option<&Arc<ReleasePolicy>>, bool),
        at: &Path<'_>,
        faults: &mut Collector<'_>,
    ) -> Option<DeclaredResource> {
        let usage = self.usage(wire, &at.field("Use"), faults);
        let secret = self.secret(&wire.secret, usage, &at.field("Secret"), faults);
        let policy = match &wire.policy {
            Some(name) => self.policy(name, &at.field("Policy"), faults),
            None if inherits => inherited.cloned(),
            None => {
                let message = "a resource without a policy is released to nobody";
                faults.hint(
                    &at.field("Policy"),
                    Code::Missing,
                    message,
                    "name one here or in the repository",
                );
                None
            }
        };
        Some(DeclaredResource { secret: secret?, policy: policy?, usage: usage? })
    }

    fn usage(&self, wire: &wire::DeclaredResource, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Use> {
        match wire.usage.as_deref() {
            None | Some("read") => Some(Use::Read),
            Some("unwrap") => Some(Use::Unwrap),
            Some(other) => {
                let message = format!("`{}` is not a use of a resource", shown(other));
                faults.add_with(at, Code::InvalidValue, message, || suggestion(other, &["read", "unwrap"]));
                None
            }
        }
    }

    fn policy(&self, name: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Arc<ReleasePolicy>> {
        exists(name, "release policy", &self.broker.policies, at, faults);
        self.policies.get(name).cloned()
    }

    fn secret(
        &self,
        name: &str,
        usage: Option<Use>,
        at: &Path<'_>,
        faults: &mut Collector<'_>,
    ) -> Option<SecretName> {
        if !exists(name, "secret", &self.document.secrets, at, faults) {
            return None;
        }
        // One with a fault of its own is absent, and says so itself.
        let secret = self.secrets.get(name)?;
        if matches!(secret.source, SecretSource::PerInstance | SecretSource::PerPlatform) {
            let message =
                "each instance of a Marble has its own value of this secret, so a guest could have none";
            let hint = "only shared, user-defined and stored secrets can be resources";
            faults.hint(at, Code::NotApplicable, message, hint);
        }
        if matches!(secret.kind, SecretKind::Certificate(_)) {
            let message = "this secret is a key with a certificate of the mesh, and a guest is no Marble";
            let hint = "use `symmetric-key`, or `plain` with what you upload";
            faults.hint(at, Code::NotApplicable, message, hint);
        }
        if usage == Some(Use::Read) && secret.is_held() {
            let message = "this key stays in its store, so it cannot be read";
            faults.hint(at, Code::NotApplicable, message, "set the resource's `Use` to `unwrap`");
        }
        if usage == Some(Use::Unwrap)
            && matches!(secret.kind, SecretKind::SymmetricKey { bytes } if bytes.get() != 32)
        {
            let message = "a key that unwraps has 256 bits";
            faults.hint(at, Code::NotApplicable, message, "set the secret's `Size` to 256");
        }
        Some(secret.name.clone())
    }
}

/// A key that never leaves must not leave by another path.
fn kept(repositories: &BTreeMap<RepositoryName, Repository>, at: &Path<'_>, faults: &mut Collector<'_>) {
    let all = || repositories.iter().flat_map(|(name, it)| it.resources.iter().map(move |it| (name, it)));
    let unwraps: BTreeSet<_> =
        all().filter(|(_, (_, it))| it.usage == Use::Unwrap).map(|(_, (_, it))| &it.secret).collect();
    for (repository, ((kind, tag), resource)) in all() {
        if resource.usage == Use::Read && unwraps.contains(&resource.secret) {
            let (repository, resources) = (at.key(repository.as_str()), format!("{kind}/{tag}"));
            let resources = (repository.field("Resources"), resources);
            let here = resources.0.key(&resources.1);
            let message = "this gives away a secret that is elsewhere a key that never leaves";
            let hint = "`Use` must be `unwrap` for both; or take two secrets";
            faults.hint(&here.field("Use"), Code::Conflict, message, hint);
        }
    }
}
