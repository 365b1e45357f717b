//! Users and roles: who may do what with which secret. A user is one certificate, compared byte by byte, or
//! whomever an OpenID provider of the manifest names in its tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evidence::CertificateDer;

use crate::document as wire;
use crate::fault::{Code, Collector, nearest, shown, suggestion};
use crate::names::{MarbleName, PackageName, RepositoryName, RoleName, SecretName, UserName};
use crate::oidc::{self, TokenIdentity};
use crate::path::Path;
use crate::platform::certificate;

/// A person or program outside the mesh that the manifest knows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The user's name.
    pub name: UserName,
    /// What the user is known by; no other user is known by the same.
    pub proof: Proof,
    /// The user's roles. What they grant adds up.
    pub roles: BTreeMap<RoleName, Arc<Role>>,
}

impl User {
    /// Whether one of the user's roles grants this action on this secret.
    #[must_use]
    pub fn may(&self, action: Action, secret: &SecretName) -> bool {
        self.grants().any(|grant| match grant {
            Grant::Secrets { actions, secrets } => actions.contains(&action) && secrets.contains(secret),
            _ => false,
        })
    }

    /// Whether one of the user's roles grants this action on instances of this Marble.
    #[must_use]
    pub fn may_on(&self, action: InstanceAction, marble: &str) -> bool {
        self.grants().any(|grant| match grant {
            Grant::Marbles { actions, marbles } => actions.contains(&action) && marbles.contains(marble),
            _ => false,
        })
    }

    /// Whether one of the user's roles lets it raise the security version of this package.
    #[must_use]
    pub fn may_raise(&self, package: &str) -> bool {
        self.grants().any(|grant| matches!(grant, Grant::Packages(packages) if packages.contains(package)))
    }

    /// Whether one of the user's roles grants this action on this repository of the broker.
    #[must_use]
    pub fn may_in(&self, action: ResourceAction, repository: &RepositoryName) -> bool {
        self.grants().any(|grant| match grant {
            Grant::Repositories { actions, repositories } => {
                actions.contains(&action) && repositories.contains(repository)
            }
            _ => false,
        })
    }

    /// Whether one of the user's roles grants this action on any repository of the broker: for what belongs to none,
    /// such as sessions.
    #[must_use]
    pub fn may_in_some(&self, action: ResourceAction) -> bool {
        self.grants()
            .any(|grant| matches!(grant, Grant::Repositories { actions, .. } if actions.contains(&action)))
    }

    /// Whether one of the user's roles lets it bring statements about reference values.
    #[must_use]
    pub fn may_write_references(&self) -> bool {
        self.grants().any(|grant| *grant == Grant::References)
    }

    /// Whether one of the user's roles lets it take part in updates of the manifest.
    #[must_use]
    pub fn may_update(&self) -> bool {
        self.grants().any(|grant| *grant == Grant::Manifest)
    }

    fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.roles.values().map(|role| &role.grant)
    }
}

/// What a user is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The certificate that the user presents as the first of its chain.
    Certificate(CertificateDer),
    /// A token of an OpenID provider.
    Token(Box<TokenIdentity>),
}

/// What whoever has it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Role {
    /// Its name.
    pub name: RoleName,
    /// What it permits.
    pub grant: Grant,
}

/// What a role permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// A set of actions on a set of secrets.
    Secrets {
        /// What.
        actions: BTreeSet<Action>,
        /// On what.
        secrets: BTreeSet<SecretName>,
    },
    /// Raising the security version of these packages.
    Packages(BTreeSet<PackageName>),
    /// Taking part in updates of the manifest.
    Manifest,
    /// A set of actions on instances of Marbles.
    Marbles {
        /// What.
        actions: BTreeSet<InstanceAction>,
        /// On instances of which.
        marbles: BTreeSet<MarbleName>,
    },
    /// A set of actions on repositories of the broker.
    Repositories {
        /// What.
        actions: BTreeSet<ResourceAction>,
        /// On which; never empty.
        repositories: BTreeSet<RepositoryName>,
    },
    /// Bringing signed statements about reference values, and removing them.
    References,
}

/// What a user can be permitted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Download the value of a secret.
    ReadSecret,
    /// Upload the value of a user-defined secret.
    WriteSecret,
    /// Have the coordinator make a new value of a shared secret.
    RotateSecret,
}

/// What a user can be permitted to do with instances of a Marble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum InstanceAction {
    /// See which there are, on which machines.
    ReadInstances,
    /// Revoke one, and rotate what it could have read.
    EvictInstance,
}

/// What a user can be permitted to do with resources of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ResourceAction {
    /// Download the value of a resource.
    ReadResource,
    /// Upload a resource.
    WriteResource,
    /// Delete an uploaded resource.
    DeleteResource,
    /// See which there are.
    ListResources,
    /// See why a guest was given a resource, or was not.
    ExplainSessions,
    /// Have the coordinator wrap a key under a resource that unwraps it.
    WrapKey,
}

impl ResourceAction {
    /// Every action, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::ReadResource,
        Self::WriteResource,
        Self::DeleteResource,
        Self::ListResources,
        Self::ExplainSessions,
        Self::WrapKey,
    ];

    /// The word for it in a role.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadResource => "ReadResource",
            Self::WriteResource => "WriteResource",
            Self::DeleteResource => "DeleteResource",
            Self::ListResources => "ListResources",
            Self::ExplainSessions => "ExplainSessions",
            Self::WrapKey => "WrapKey",
        }
    }
}

pub(crate) fn resolve_roles(
    roles: &BTreeMap<String, wire::Role>,
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<RoleName, Arc<Role>> {
    let mut resolved = BTreeMap::new();
    for (name, wire) in roles {
        let here = at.key(name);
        let name =
            name.parse::<RoleName>().map_err(|error| faults.add(&here, Code::InvalidName, error.to_string()));
        let grant = match wire.resource_type.as_str() {
            "Secrets" => secrets_role(wire, &document.secrets, &here, faults),
            "Packages" => packages_role(wire, &document.packages, &here, faults),
            "Marbles" => Some(marbles_role(wire, &document.marbles, &here, faults)),
            "Manifest" => {
                if !wire.resource_names.is_empty() {
                    let message = "there is one manifest, so it is not named";
                    faults.add(&here.field("ResourceNames"), Code::NotApplicable, message);
                }
                only_action(wire, "UpdateManifest", &here, faults).then_some(Grant::Manifest)
            }
            "Repositories" => repositories_role(wire, document.broker.as_ref(), &here, faults),
            "References" => {
                if !wire.resource_names.is_empty() {
                    let message = "who signs which reference values is said in `Broker.ReferenceSigners`";
                    faults.add(&here.field("ResourceNames"), Code::NotApplicable, message);
                }
                only_action(wire, "WriteReference", &here, faults).then_some(Grant::References)
            }
            other => {
                let message = format!("`{}` is not a type of resource", shown(other));
                faults.add_with(&here.field("ResourceType"), Code::InvalidValue, message, || {
                    suggestion(
                        other,
                        &["Secrets", "Packages", "Manifest", "Marbles", "Repositories", "References"],
                    )
                });
                continue;
            }
        };
        if let (Ok(name), Some(grant)) = (name, grant) {
            resolved.insert(name.clone(), Arc::new(Role { name, grant }));
        }
    }
    resolved
}

fn secrets_role(
    wire: &wire::Role,
    secrets: &BTreeMap<String, wire::Secret>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Grant> {
    let mut actions = BTreeSet::new();
    for (i, action) in wire.actions.iter().enumerate() {
        match action.to_ascii_lowercase().as_str() {
            "readsecret" => actions.insert(Action::ReadSecret),
            "writesecret" => actions.insert(Action::WriteSecret),
            "rotatesecret" => actions.insert(Action::RotateSecret),
            _ => {
                let message = format!("`{}` is not an action on secrets", shown(action));
                faults.add_with(&at.field("Actions").index(i), Code::InvalidValue, message, || {
                    suggestion(action, &["ReadSecret", "WriteSecret", "RotateSecret"])
                });
                false
            }
        };
    }
    let mut names = BTreeSet::new();
    for (i, name) in wire.resource_names.iter().enumerate() {
        let list = at.field("ResourceNames");
        let here = list.index(i);
        exists(name, "secret", secrets, &here, faults);
        let Some(secret) = secrets.get(name) else { continue };
        if actions.contains(&Action::WriteSecret) && !secret.user_defined {
            let message = match secret.store {
                Some(_) => "this secret comes from a store, so no user may write it here",
                None => "this secret is made by the coordinator, so no user may write it",
            };
            faults.hint(&here, Code::RoleNotPermitted, message, "only user-defined secrets can be written");
        }
        let same_for_all = secret.user_defined || secret.shared || secret.store.is_some();
        if actions.contains(&Action::ReadSecret) && !same_for_all {
            let message =
                "each instance has its own value of this secret, so there is none for a user to read";
            faults.hint(
                &here,
                Code::RoleNotPermitted,
                message,
                "only shared and user-defined secrets can be read",
            );
        }
        if actions.contains(&Action::RotateSecret) && (secret.user_defined || !secret.shared) {
            let message = "the coordinator has no shared value of this secret that it could make anew";
            let hint = if secret.user_defined {
                "whoever may write it uploads a new value"
            } else {
                "`Config.RotateRootSecret` rotates what is derived for instances"
            };
            faults.hint(&here, Code::RoleNotPermitted, message, hint);
        }
        names.extend(name.parse::<SecretName>().ok());
    }
    Some(Grant::Secrets { actions, secrets: names })
}

fn marbles_role(
    wire: &wire::Role,
    marbles: &BTreeMap<String, wire::Marble>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Grant {
    let mut actions = BTreeSet::new();
    for (i, action) in wire.actions.iter().enumerate() {
        match action.to_ascii_lowercase().as_str() {
            "readinstances" => actions.insert(InstanceAction::ReadInstances),
            "evictinstance" => actions.insert(InstanceAction::EvictInstance),
            _ => {
                let message = format!("`{}` is not an action on Marbles", shown(action));
                faults.add_with(&at.field("Actions").index(i), Code::InvalidValue, message, || {
                    suggestion(action, &["ReadInstances", "EvictInstance"])
                });
                false
            }
        };
    }
    let mut names = BTreeSet::new();
    let list = at.field("ResourceNames");
    for (i, marble) in wire.resource_names.iter().enumerate() {
        exists(marble, "Marble", marbles, &list.index(i), faults);
        names.extend(marble.parse::<MarbleName>().ok());
    }
    Grant::Marbles { actions, marbles: names }
}

fn repositories_role(
    wire: &wire::Role,
    broker: Option<&wire::Broker>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Grant> {
    let mut actions = BTreeSet::new();
    for (i, text) in wire.actions.iter().enumerate() {
        match ResourceAction::ALL.into_iter().find(|action| action.as_str().eq_ignore_ascii_case(text)) {
            Some(action) => drop(actions.insert(action)),
            None => {
                let message = format!("`{}` is not an action on repositories", shown(text));
                faults.add_with(&at.field("Actions").index(i), Code::InvalidValue, message, || {
                    suggestion(text, &ResourceAction::ALL.map(ResourceAction::as_str))
                });
            }
        }
    }
    let none = BTreeMap::new();
    let known = broker.map_or(&none, |broker| &broker.repositories);
    let mut repositories = BTreeSet::new();
    let list = at.field("ResourceNames");
    for (i, name) in wire.resource_names.iter().enumerate() {
        let here = list.index(i);
        if !exists(name, "repository", known, &here, faults) {
            continue;
        }
        if actions.contains(&ResourceAction::WriteResource) && known[name].policy.is_none() {
            let message = "nothing is uploaded into this repository: it has no policy for that";
            faults.hint(&here, Code::RoleNotPermitted, message, "give the repository a `Policy`");
        }
        repositories.extend(name.parse::<RepositoryName>().ok());
    }
    (!repositories.is_empty()).then_some(Grant::Repositories { actions, repositories })
}

fn packages_role(
    wire: &wire::Role,
    packages: &BTreeMap<String, wire::Package>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Grant> {
    let mut names = BTreeSet::new();
    let list = at.field("ResourceNames");
    for (i, package) in wire.resource_names.iter().enumerate() {
        exists(package, "package", packages, &list.index(i), faults);
        names.extend(package.parse::<PackageName>().ok());
    }
    only_action(wire, "UpdateSecurityVersion", at, faults).then_some(Grant::Packages(names))
}

/// Whether the role names its one action; others are faults. Without any action a role grants nothing.
fn only_action(wire: &wire::Role, known: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> bool {
    for (i, action) in wire.actions.iter().enumerate() {
        if !action.eq_ignore_ascii_case(known) {
            let message = format!("`{}` is not an action on this type of resource", shown(action));
            faults.add_with(&at.field("Actions").index(i), Code::InvalidValue, message, || {
                Some(format!("known here: {known}"))
            });
        }
    }
    !wire.actions.is_empty()
}

/// Refuses a name that refers to nothing.
pub(crate) fn exists<T>(
    name: &str,
    kind: &str,
    known: &BTreeMap<String, T>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> bool {
    let found = known.contains_key(name);
    if !found {
        let message = format!("there is no {kind} `{}` in this manifest", shown(name));
        faults.add_with(at, Code::UnknownReference, message, || {
            nearest(name, known.keys().map(String::as_str)).map(|near| format!("did you mean `{near}`?"))
        });
    }
    found
}

pub(crate) fn resolve_users(
    users: &BTreeMap<String, wire::User>,
    known_roles: &BTreeMap<String, wire::Role>,
    roles: &BTreeMap<RoleName, Arc<Role>>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<UserName, User> {
    let mut resolved: BTreeMap<UserName, User> = BTreeMap::new();
    for (text, wire) in users {
        let here = at.key(text);
        let name =
            text.parse::<UserName>().map_err(|error| faults.add(&here, Code::InvalidName, error.to_string()));
        for (i, role) in wire.roles.iter().enumerate() {
            exists(role, "role", known_roles, &here.field("Roles").index(i), faults);
        }
        let Some(proof) = proof(wire, &here, faults) else { continue };
        if let Some(owner) = resolved.values().find(|user| same(&user.proof, &proof)) {
            let (field, what) = match proof {
                Proof::Certificate(_) => ("Certificate", "has the same certificate"),
                Proof::Token(_) => ("Oidc", "is known by the same tokens"),
            };
            let message = format!("the user `{}` {what}", shown(owner.name.as_str()));
            let hint = "give one user both sets of roles";
            faults.hint(&here.field(field), Code::DuplicateValue, message, hint);
            continue;
        }
        let Ok(name) = name else { continue };
        let roles = wire.roles.iter().filter_map(|role| roles.get(role.as_str()));
        let roles = roles.map(|role| (role.name.clone(), Arc::clone(role))).collect();
        resolved.insert(name.clone(), User { name, proof, roles });
    }
    resolved
}

fn same(one: &Proof, other: &Proof) -> bool {
    match (one, other) {
        (Proof::Certificate(one), Proof::Certificate(other)) => one == other,
        (Proof::Token(one), Proof::Token(other)) => {
            (&one.issuer, &one.audience, &one.holder) == (&other.issuer, &other.audience, &other.holder)
        }
        _ => false,
    }
}

fn proof(wire: &wire::User, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Proof> {
    let Some(oidc) = &wire.oidc else {
        return user_certificate(wire, at, faults).map(Proof::Certificate);
    };
    let here = at.field("Oidc");
    if !wire.certificate.is_empty() {
        let message = "a user is known by a certificate or by tokens, and not by either";
        faults.hint(&here, Code::Conflict, message, "make two users with the same roles");
        return None;
    }
    oidc::resolve(oidc, &here, faults).map(Box::new).map(Proof::Token)
}

fn user_certificate(wire: &wire::User, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<CertificateDer> {
    let here = at.field("Certificate");
    if wire.certificate.is_empty() {
        faults.hint(
            &here,
            Code::Missing,
            "a user is known by a certificate or by tokens; there is neither",
            "give a certificate as PEM, or `Oidc`",
        );
        return None;
    }
    match certificate(&wire.certificate) {
        Ok(certificate) => Some(certificate),
        Err(message) => {
            let hint = "give the user's own certificate as PEM, without its chain";
            faults.hint(&here, Code::InvalidCertificate, message, hint);
            None
        }
    }
}
