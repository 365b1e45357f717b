//! What is released to guests that are no Marbles: which resources, by which policies, and what these ask.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::{Changes, Effect, Kind, differences, opens_if, pairs, span};
use crate::broker::{Broker, DeclaredResource, Epochs, ReleasePolicy, Repository, TokenSettings, Use};
use crate::names::RepositoryName;

pub(super) fn compare(old: Option<&Broker>, new: Option<&Broker>, changes: &mut Changes) {
    match (old, new) {
        (None, Some(_)) => {
            let words = "guests that are no Marbles may attest, and get tokens".to_owned();
            changes.add(Effect::Opens, Kind::Broker, "broker", words);
        }
        (Some(_), None) => {
            let words = "guests that are no Marbles may no longer attest".to_owned();
            changes.add(Effect::Closes, Kind::Broker, "broker", words);
        }
        _ => {}
    }
    let sample = |broker: Option<&Broker>| broker.is_some_and(|broker| broker.sample);
    if sample(old) != sample(new) {
        let now = if sample(new) { "now accepted, and proves nothing at all" } else { "no longer accepted" };
        changes.add(opens_if(sample(new)), Kind::Broker, "sample", format!("sample Evidence is {now}"));
    }
    if let (Some(old), Some(new)) = (old, new) {
        let Broker { policies, repositories: _, tokens: now, sample: _ } = new;
        // One that is new or gone is told of with the resources that name it.
        for (name, before, after) in pairs(&old.policies, policies) {
            let (Some(before), Some(after)) = (before, after) else { continue };
            for (effect, words) in policy(before, after) {
                changes.add(effect, Kind::ReleasePolicy, name, format!("policy {name}: {words}"));
            }
        }
        tokens(&old.tokens, now, changes);
    }
    let none = BTreeMap::new();
    let before = old.map_or(&none, |broker| &broker.repositories);
    let after = new.map_or(&none, |broker| &broker.repositories);
    for (name, before, after) in pairs(before, after) {
        uploads(name, before, after, changes);
        let none = BTreeMap::new();
        let before = before.map_or(&none, |repository| &repository.resources);
        let after = after.map_or(&none, |repository| &repository.resources);
        for ((kind, tag), before, after) in pairs(before, after) {
            resource(&format!("{name}/{kind}/{tag}"), before, after, changes);
        }
    }
}

fn uploads(
    name: &RepositoryName,
    before: Option<&Repository>,
    after: Option<&Repository>,
    changes: &mut Changes,
) {
    let of = |repository: Option<&Repository>| {
        let Repository { policy, resources: _ } = repository?;
        policy.as_ref().map(|policy| policy.name.clone())
    };
    let (effect, words) = match (of(before), of(after)) {
        (was, is) if was == is => return,
        (None, Some(is)) => {
            (Effect::Opens, format!("what is uploaded into repository {name} is released by policy {is}"))
        }
        (Some(was), Some(is)) => (
            Effect::Opens,
            format!("what is uploaded into repository {name} is released by policy {is} (was {was})"),
        ),
        (_, None) => (
            Effect::Closes,
            format!("repository {name} takes no uploads any more, and what was uploaded is lost"),
        ),
    };
    changes.add(effect, Kind::Repository, name, words);
}

fn resource(
    path: &str,
    before: Option<&DeclaredResource>,
    after: Option<&DeclaredResource>,
    changes: &mut Changes,
) {
    let released = |usage: Use| match usage {
        Use::Read => "is given",
        Use::Unwrap => "unwraps, without being given away,",
    };
    let mut add = |effect, words| changes.add(effect, Kind::Resource, path, words);
    match (before, after) {
        (None, Some(DeclaredResource { secret, policy, usage })) => {
            let (what, policy) = (released(*usage), &policy.name);
            add(Effect::Opens, format!("{secret} {what} to guests as {path}, by policy {policy}"));
        }
        (Some(_), None) => add(Effect::Closes, format!("{path} is released to nobody any more")),
        (Some(before), Some(DeclaredResource { secret, policy, usage })) => {
            if before.secret != *secret {
                let words = format!("{path} is secret {secret} now (was {})", before.secret);
                add(Effect::Opens, words);
            }
            if before.policy.name != policy.name {
                let (was, is) = (&before.policy.name, &policy.name);
                add(Effect::Opens, format!("{path} is released by policy {is} now (was {was})"));
            }
            match (before.usage, usage) {
                (Use::Unwrap, Use::Read) => {
                    add(Effect::Opens, format!("{path} is given away now, and not only used to unwrap"));
                }
                (Use::Read, Use::Unwrap) => {
                    add(Effect::Closes, format!("{path} only unwraps now, and is not given away any more"));
                }
                _ => {}
            }
        }
        (None, None) => {}
    }
}

fn policy(before: &ReleasePolicy, after: &ReleasePolicy) -> Vec<(Effect, String)> {
    let ReleasePolicy { name: _, packages, platforms, init_data, epochs, emulated, rego } = after;
    let mut found = Vec::new();
    for (is_new, package) in differences(&before.packages, packages) {
        let now = if is_new { "now" } else { "no longer" };
        found.push((opens_if(is_new), format!("package {package} {now} meets it")));
    }
    found.extend(any_of("platform", before.platforms.as_ref(), platforms.as_ref()));
    found.extend(any_of("init-data", before.init_data.as_ref(), init_data.as_ref()));
    found.extend(range(before.epochs, *epochs));
    if before.emulated != *emulated {
        let now = if *emulated { "may now be" } else { "may no longer be" };
        found.push((opens_if(*emulated), format!("a guest {now} on an emulated platform")));
    }
    // Which of two policies in Rego asks for more, nobody can tell.
    match (&before.rego, rego) {
        (before, after) if before == after => {}
        (None, Some(_)) => found.push((Effect::Closes, "claims must also meet a policy in Rego".to_owned())),
        (Some(_), Some(_)) => found.push((Effect::Opens, "its policy in Rego is another one".to_owned())),
        (_, None) => found.push((Effect::Opens, "its policy in Rego is gone".to_owned())),
    }
    found
}

/// A set that is anything where absent.
fn any_of<T: Ord + Display>(
    what: &str,
    before: Option<&BTreeSet<T>>,
    after: Option<&BTreeSet<T>>,
) -> Vec<(Effect, String)> {
    match (before, after) {
        (None, None) => Vec::new(),
        (Some(_), None) => vec![(Effect::Opens, format!("the {what} may now be any"))],
        (None, Some(after)) => {
            let only: Vec<_> = after.iter().map(ToString::to_string).collect();
            vec![(Effect::Closes, format!("the {what} may only be {}", only.join(" or ")))]
        }
        (Some(before), Some(after)) => differences(before, after)
            .map(|(is_new, one)| {
                let may = if is_new { "may now be" } else { "may no longer be" };
                (opens_if(is_new), format!("the {what} {may} {one}"))
            })
            .collect(),
    }
}

fn range(before: Option<Epochs>, after: Option<Epochs>) -> Option<(Effect, String)> {
    let bounds = |epochs: Option<Epochs>| {
        let epochs = epochs.unwrap_or(Epochs { from: 0, to: None });
        (epochs.from, epochs.to.unwrap_or(u64::MAX))
    };
    let ((was_from, was_to), (from, to)) = (bounds(before), bounds(after));
    let words = |(from, to)| match to {
        u64::MAX => format!("from epoch {from} on"),
        to => format!("from epoch {from} to {to}"),
    };
    let more = from < was_from || to > was_to;
    (bounds(before) != bounds(after))
        .then(|| (opens_if(more), format!("met {} (was {})", words((from, to)), words((was_from, was_to)))))
}

fn tokens(before: &TokenSettings, after: &TokenSettings, changes: &mut Changes) {
    let TokenSettings { lifetime, audiences } = after;
    if before.lifetime != *lifetime {
        let words =
            format!("a guest's token is valid for {} (was {})", span(*lifetime), span(before.lifetime));
        changes.add(opens_if(*lifetime > before.lifetime), Kind::Tokens, "lifetime", words);
    }
    for (is_new, audience) in differences(&before.audiences, audiences) {
        let now = if is_new { "now" } else { "no longer" };
        let words = format!("guests' tokens are {now} made for {audience}");
        changes.add(opens_if(is_new), Kind::Tokens, audience, words);
    }
}
