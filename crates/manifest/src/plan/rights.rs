//! Who the users are, and what each may do.

use std::collections::BTreeSet;

use super::{Changes, Effect, Kind, differences, opens_if, pairs};
use crate::manifest::Manifest;
use crate::user::{Action, Grant, InstanceAction, ResourceAction, Role, User};

pub(super) fn compare(old: &Manifest, new: &Manifest, changes: &mut Changes) {
    for (name, before, after) in pairs(old.users(), new.users()) {
        match (before, after) {
            (None, Some(_)) => {
                changes.add(Effect::Changes, Kind::User, name, format!("user {name} is new"));
            }
            (Some(_), None) => changes.add(Effect::Closes, Kind::User, name, format!("user {name} is gone")),
            (Some(before), Some(after)) => {
                let User { name, proof, roles: _ } = after;
                if before.proof != *proof {
                    let words = format!("user {name} is known by another certificate or token now");
                    changes.add(Effect::Opens, Kind::UserProof, name, words);
                }
            }
            (None, None) => {}
        }
        for (is_new, right) in differences(&rights(before), &rights(after)) {
            let may = if is_new { "may now" } else { "may no longer" };
            let (kind, object, words) = match right {
                Right::On(Action::ReadSecret, secret) => {
                    (Kind::UserReads, secret.clone(), format!("read {secret}"))
                }
                Right::On(Action::WriteSecret, secret) => {
                    (Kind::UserWrites, secret.clone(), format!("write {secret}"))
                }
                Right::On(Action::RotateSecret, secret) => {
                    (Kind::UserRotates, secret.clone(), format!("have {secret} made anew"))
                }
                Right::Of(InstanceAction::ReadInstances, marble) => {
                    (Kind::UserSees, marble.clone(), format!("see instances of {marble}"))
                }
                Right::Of(InstanceAction::EvictInstance, marble) => {
                    (Kind::UserEvicts, marble.clone(), format!("evict instances of {marble}"))
                }
                Right::Raise(package) => (
                    Kind::UserRaises,
                    package.clone(),
                    format!("raise the security version of package {package}"),
                ),
                Right::In(action, repository) => {
                    let words = match action {
                        ResourceAction::ReadResource => format!("read resources of repository {repository}"),
                        ResourceAction::WriteResource => format!("upload into repository {repository}"),
                        ResourceAction::DeleteResource => format!("delete from repository {repository}"),
                        ResourceAction::ListResources => format!("list repository {repository}"),
                        ResourceAction::ExplainSessions => {
                            format!("see why guests get resources of repository {repository}")
                        }
                        ResourceAction::WrapKey => {
                            format!("have keys wrapped under resources of repository {repository}")
                        }
                    };
                    (Kind::UserResources, format!("{} {repository}", action.as_str()), words)
                }
                Right::References => {
                    let words =
                        format!("user {name} {may} bring and remove statements about reference values");
                    changes.add(opens_if(is_new), Kind::UserReferences, name, words);
                    continue;
                }
                Right::Update => {
                    let words = format!("user {name} {may} take part in updates of the manifest");
                    changes.add(opens_if(is_new), Kind::UserUpdates, name, words);
                    continue;
                }
            };
            changes.about(opens_if(is_new), kind, (name, object), format!("user {name} {may} {words}"));
        }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    On(Action, String),
    Of(InstanceAction, String),
    Raise(String),
    In(ResourceAction, String),
    References,
    Update,
}

/// What all roles of a user permit together: it does not matter to anyone how they are called.
fn rights(user: Option<&User>) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for role in user.into_iter().flat_map(|user| user.roles.values()) {
        let Role { name: _, grant } = role.as_ref();
        match grant {
            Grant::Secrets { actions, secrets } => {
                for action in actions {
                    rights.extend(secrets.iter().map(|secret| Right::On(*action, secret.to_string())));
                }
            }
            Grant::Marbles { actions, marbles } => {
                for action in actions {
                    rights.extend(marbles.iter().map(|marble| Right::Of(*action, marble.to_string())));
                }
            }
            Grant::Packages(packages) => {
                rights.extend(packages.iter().map(|package| Right::Raise(package.to_string())));
            }
            Grant::Manifest => drop(rights.insert(Right::Update)),
            Grant::Repositories { actions, repositories } => {
                for action in actions {
                    rights.extend(repositories.iter().map(|name| Right::In(*action, name.to_string())));
                }
            }
            Grant::References => drop(rights.insert(Right::References)),
        }
    }
    rights
}
