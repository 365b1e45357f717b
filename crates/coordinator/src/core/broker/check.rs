//! Dry runs of release policies: one that is in force or one that is given, on a guest that is known or on one that is
//! given. What comes out is the table that a real release would leave, and nothing is released by it.

use std::collections::BTreeSet;

use evidence::Platform;
use manifest::{
    Faults, InitDataDigest, PackageName, PolicyName, ReleasePolicy, RepositoryName, ResourceAction,
    ResourcePath,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    policies,
    release::{Check, Finding, Subject, claims_of, examine},
};
use crate::core::{Caller, Mesh, Refusal, State, resources, secrets};

/// Which policy is tried.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Tried {
    /// The one that is in force for the resource.
    InForce {},
    /// One of the manifest in force.
    Named(PolicyName),
    /// One that is written out, as in a manifest.
    Given(Value),
    /// Only a rule in Rego.
    Rego(String),
}

/// A guest that nobody proved.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Said {
    platform: Option<Platform>,
    packages: BTreeSet<PackageName>,
    #[serde(default)]
    emulated: bool,
    init_data: Option<InitDataDigest>,
    /// In the shape of Trustee's tokens: the payload of one, say.
    #[serde(default)]
    claims: Value,
}

impl Said {
    /// As policies see it.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            platform: self.platform,
            packages: &self.packages,
            emulated: self.emulated,
            init_data: self.init_data.as_ref(),
            claims: &self.claims,
        }
    }
}

/// What a dry run found.
#[derive(Debug, Serialize)]
pub struct DryRun {
    /// Whether it would be released, as far as the policy goes.
    pub released: bool,
    /// The reason tree.
    #[serde(flatten)]
    pub finding: Finding,
}

/// Whether a user may try policies on a resource: whoever may see why guests get it.
pub fn may_check(state: &State, caller: &Caller, path: &ResourcePath) -> Result<(), Refusal> {
    let mesh = state.running()?;
    resources::granted(mesh, caller, ResourceAction::ExplainSessions, path.repository()).map(drop)
}

/// Tries a policy on a guest that asks for the resource at `path`. It need not exist.
pub fn check(
    state: &State,
    caller: &Caller,
    tried: &Tried,
    subject: &Subject<'_>,
    path: &ResourcePath,
) -> Result<DryRun, Refusal> {
    may_check(state, caller, path)?;
    let mesh = state.running()?;
    let broker = mesh.manifest().broker().ok_or(Refusal::NoBroker)?;
    let stored = |policy: &ReleasePolicy| {
        let rego = mesh.policies().of(broker, &policy.name);
        (Some(policy.name.to_string()), examine(state, policy, rego.as_ref(), subject, path))
    };
    let (policy, checks): (_, Vec<Check>) = match tried {
        Tried::InForce {} => {
            let declared = broker.declared(path).map(|resource| &resource.policy);
            stored(declared.or_else(|| broker.upload_policy(path)).ok_or(Refusal::UnknownResource)?)
        }
        Tried::Named(name) => stored(broker.policies.get(name).ok_or(Refusal::UnknownPolicy)?),
        Tried::Given(policy) => {
            let policy = given(mesh, policy)?;
            let rego = policy.rego.as_deref().map(policies::compile);
            (None, examine(state, &policy, rego.as_ref(), subject, path))
        }
        Tried::Rego(text) => {
            let compiled = policies::compile(text);
            (None, vec![claims_of(Some(&compiled), subject, path)])
        }
    };
    let finding = Finding { resource: path.clone(), policy, checks };
    Ok(DryRun { released: finding.holds(), finding })
}

fn given(mesh: &Mesh, policy: &Value) -> Result<ReleasePolicy, Faults> {
    ReleasePolicy::parse(policy.to_string().as_bytes(), mesh.manifest(), &policy_rego::Release::check)
}

/// The policies of the manifest in force, for anybody whom it names: the manifest is public.
pub fn policies(state: &State, caller: &Caller) -> Result<Value, Refusal> {
    let mesh = state.running()?;
    secrets::user(mesh, caller)?;
    let broker = mesh.manifest().broker().ok_or(Refusal::NoBroker)?;
    let line = |policy: &ReleasePolicy| {
        let uses = broker.repositories.iter().flat_map(|(name, repository)| {
            let uploads = repository.policy.iter().filter(|it| it.name == policy.name);
            let declared = repository.resources.iter().filter(|(_, it)| it.policy.name == policy.name);
            let declared = declared.map(move |((kind, tag), _)| format!("{name}/{kind}/{tag}"));
            uploads.map(move |_| format!("{name}/*")).chain(declared)
        });
        json!({
            "name": policy.name,
            "packages": policy.packages,
            "platforms": policy.platforms,
            "initData": policy.init_data,
            "epochs": policy.epochs.map(|epochs| json!({ "from": epochs.from, "to": epochs.to })),
            "emulated": policy.emulated,
            "rego": policy.rego.as_deref(),
            "resources": uses.collect::<BTreeSet<_>>(),
        })
    };
    Ok(broker.policies.values().map(|policy| line(policy)).collect())
}

/// What the broker is, for users who have a role in one of its repositories.
pub fn status(state: &State, caller: &Caller) -> Result<Value, Refusal> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    let broker = mesh.manifest().broker().ok_or(Refusal::NoBroker)?;
    if !ResourceAction::ALL.into_iter().any(|action| user.may_in_some(action)) {
        return Err(Refusal::NotAllowed { user: user.name.to_string(), action: "a look at the broker" });
    }
    let seen =
        |name: &RepositoryName| ResourceAction::ALL.into_iter().any(|action| user.may_in(action, name));
    let repositories = broker.repositories.iter().filter(|(name, _)| seen(name)).map(|(name, repository)| {
        let uploaded = mesh.resources().iter().filter(|(path, _)| path.repository() == name);
        json!({
            "name": name,
            "uploads": repository.policy.as_ref().map(|policy| &policy.name),
            "declared": repository.resources.len(),
            "uploaded": uploaded.count(),
        })
    });
    let (bytes, most) = mesh.resources().room();
    Ok(json!({
        "epoch": mesh.epoch(),
        "manifest": mesh.manifest().digest(),
        "policies": broker.policies.len(),
        "repositories": repositories.collect::<Vec<_>>(),
        "resourceBytes": { "used": bytes, "most": most },
        "tokenSeconds": broker.tokens.lifetime.as_secs(),
        "sample": broker.sample,
        "emulated": state.emulated(),
    }))
}
