//! Who the users are, and what each may do.

use std::collections::BTreeSet;

use super::{Changes, Effect, Kind, differences, opens_if, pairs};
use crate::manifest::Manifest;
use crate::user::{Action, Grant, InstanceAction, Role, User};

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
                Right::On(Action::ReadSecret, secret) => (Kind::UserReads, secret, format!("read {secret}")),
                Right::On(Action::WriteSecret, secret) => {
                    (Kind::UserWrites, secret, format!("write {secret}"))
                }
                Right::On(Action::RotateSecret, secret) => {
                    (Kind::UserRotates, secret, format!("have {secret} made anew"))
                }
                Right::Of(InstanceAction::ReadInstances, marble) => {
                    (Kind::UserSees, marble, format!("see instances of {marble}"))
                }
                Right::Of(InstanceAction::EvictInstance, marble) => {
                    (Kind::UserEvicts, marble, format!("evict instances of {marble}"))
                }
                Right::Raise(package) => {
                    (Kind::UserRaises, package, format!("raise the security version of package {package}"))
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
        }
    }
    rights
}
