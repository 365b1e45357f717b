//! Secrets, and what governs the coordinator itself.

use std::time::Duration;

use super::{Changes, Effect, Kind, differences, opens_if, pairs, span};
use crate::choices::Choices;
use crate::manifest::Manifest;
use crate::names::SecretName;
use crate::secret::SecretSource;
use crate::settings::{Gate, RecoveryKey, Settings};
use crate::witness::Witnesses;

pub(super) fn compare(old: &Manifest, new: &Manifest, choices: &Choices, changes: &mut Changes) {
    for (name, before, after) in pairs(old.secrets(), new.secrets()) {
        let (effect, words) = match (before, after) {
            (None, Some(after)) => {
                let source = match after.source {
                    SecretSource::Shared => "made for all Marbles",
                    SecretSource::PerInstance => "made for each instance",
                    SecretSource::PerPlatform => "made for each machine",
                    SecretSource::UserDefined => "uploaded by a user",
                    SecretSource::Stored(_) => "out of a store outside the mesh",
                };
                (Effect::Changes, format!("secret {name} is new: {}, {source}", after.kind.as_str()))
            }
            (Some(_), None) => (Effect::Changes, format!("secret {name} is gone, and its value is lost")),
            (Some(before), Some(after)) if before != after => {
                (Effect::Changes, format!("secret {name} is defined differently"))
            }
            _ => continue,
        };
        changes.add(effect, Kind::Secret, name, words);
    }
    for (name, before, after) in pairs(old.stores(), new.stores()) {
        let (effect, words) = match (before, after) {
            (None, _) => (Effect::Changes, format!("secret store {name} is new")),
            (_, None) => (Effect::Closes, format!("secret store {name} is gone")),
            (before, after) if before == after => continue,
            // Another address, other roots, another library: whoever is there gives the values.
            _ => (Effect::Opens, format!("secret store {name} is another place, or reached otherwise")),
        };
        changes.add(effect, Kind::SecretStore, name, words);
    }
    for (name, before, after) in pairs(old.registries(), new.registries()) {
        let words = match (before, after) {
            (None, _) => format!("how registry {name} is known is said"),
            (_, None) => format!("how registry {name} is known is no longer said"),
            (before, after) if before == after => continue,
            _ => format!("registry {name} is known otherwise, or gets other credentials"),
        };
        changes.add(Effect::Changes, Kind::Registry, name, words);
    }
    for name in &choices.generated {
        value(name, old, choices, changes);
    }
    if choices.root_secret {
        let words = "every secret that is made for single instances is made anew".to_owned();
        changes.add(Effect::Changes, Kind::RootSecret, "root secret", words);
    }
    settings(old, new, choices, changes);
}

fn value(name: &SecretName, old: &Manifest, choices: &Choices, changes: &mut Changes) {
    if !old.secrets().contains_key(name) {
        return;
    }
    let words = if choices.rotated.contains(name) {
        format!("{name} is made anew; its old value stays readable as the previous one")
    } else {
        format!("{name} is made anew; its old value is lost")
    };
    changes.add(Effect::Changes, Kind::SecretValue, name, words);
}

fn settings(old: &Manifest, new: &Manifest, choices: &Choices, changes: &mut Changes) {
    let Settings {
        infrastructures,
        recovery_keys,
        recovery_threshold: _,
        update_threshold: _,
        update_deadline,
        seal_mode: _,
        gates,
        rotate_root_secret: _,
        rollout_window,
        roll_back_after,
        witnesses,
        reinstated,
    } = new.settings();
    let before = old.settings();
    for (name, was, is) in pairs(&before.infrastructures, infrastructures) {
        // With none named, Marbles may run anywhere.
        let words = match (was, is) {
            (None, Some(_)) => format!("infrastructure {name} is accepted"),
            (Some(_), None) => format!("infrastructure {name} is no longer named"),
            (was, is) if was != is => format!("infrastructure {name} is described differently"),
            _ => continue,
        };
        let from_nothing = before.infrastructures.is_empty();
        let closes = if from_nothing { true } else { is.is_none() && !infrastructures.is_empty() };
        changes.add(opens_if(!closes), Kind::Infrastructure, name, words);
    }
    if infrastructures.is_empty() && !before.infrastructures.is_empty() {
        let words = "Marbles may now run on any infrastructure".to_owned();
        changes.add(Effect::Opens, Kind::Infrastructure, "any", words);
    }
    for (name, was, is) in pairs(&before.recovery_keys, recovery_keys) {
        let (effect, words) = match (was, is) {
            (None, Some(_)) => (Effect::Opens, format!("{name} becomes a holder of a recovery share")),
            (Some(_), None) => (Effect::Closes, format!("{name} no longer holds a recovery share")),
            (Some(RecoveryKey { public_key: was }), Some(RecoveryKey { public_key: is })) if was != is => {
                (Effect::Opens, format!("the recovery share of {name} is for another key"))
            }
            _ => continue,
        };
        changes.add(effect, Kind::RecoveryKey, name, words);
    }
    if choices.recovery_keys && recovery_keys.is_empty() {
        let words = "nobody can bring the state back on another machine any more".to_owned();
        changes.add(Effect::Changes, Kind::RecoveryThreshold, "recovery", words);
    } else if choices.recovery_keys {
        let of =
            |manifest: &Manifest| (manifest.recovery_threshold(), manifest.settings().recovery_keys.len());
        let what = "holders of recovery shares can bring the state back";
        threshold(Kind::RecoveryThreshold, "recovery", what, of(old), of(new), changes);
    }
    let of = |manifest: &Manifest| (manifest.update_threshold(), manifest.updaters().count());
    let what = "users who may update must agree to an update";
    threshold(Kind::UpdateThreshold, "update", what, of(old), of(new), changes);
    if before.update_deadline != *update_deadline {
        let (was, is) = (span(before.update_deadline), span(*update_deadline));
        let words = format!("an update is cancelled after {is} without agreement (was {was})");
        changes.add(Effect::Changes, Kind::UpdateDeadline, "update deadline", words);
    }
    watched(&before.witnesses, witnesses, changes);
    for whom in reinstated.difference(&before.reinstated) {
        changes.add(
            Effect::Opens,
            Kind::Reinstated,
            whom,
            format!("{whom} may come back, if it was evicted"),
        );
    }
    times(before.rollout_window, *rollout_window, changes);
    roll_back(before.roll_back_after, *roll_back_after, changes);
    for (is_new, gate) in differences(&before.gates, gates) {
        let name = match gate {
            Gate::SignQuoteEndpoint => "SignQuoteEndpoint",
            Gate::MonotonicCounter => "MonotonicCounter",
        };
        let now = if is_new { "open now" } else { "closed now" };
        changes.add(opens_if(is_new), Kind::FeatureGate, name, format!("the feature gate {name} is {now}"));
    }
}

fn times(was: Option<Duration>, is: Option<Duration>, changes: &mut Changes) {
    let words = match (was, is) {
        (was, is) if was == is => return,
        (_, Some(is)) => {
            format!(
                "Marbles of the epoch before may speak with the new ones for {} (was {})",
                span(is),
                time(was)
            )
        }
        (_, None) => {
            format!("Marbles of the epoch before may no longer speak with the new ones (was {})", time(was))
        }
    };
    changes.add(opens_if(is > was), Kind::RolloutWindow, "roll-out window", words);
}

fn roll_back(was: Option<Duration>, is: Option<Duration>, changes: &mut Changes) {
    let words = match is {
        _ if was == is => return,
        Some(is) => format!(
            "an update is rolled back unless all Marbles that ran run again within {} (was {})",
            span(is),
            time(was)
        ),
        None => format!("an update is never rolled back (was after {})", time(was)),
    };
    changes.add(Effect::Changes, Kind::RollBack, "roll-back", words);
}

fn time(time: Option<Duration>) -> String {
    time.map_or("never".to_owned(), span)
}

/// Who watches that the log only grows: fewer, or others, see less of it.
fn watched(was: &Witnesses, is: &Witnesses, changes: &mut Changes) {
    let Witnesses { keys, quorum } = is;
    if was == is {
        return;
    }
    let gone = was.keys.iter().any(|key| !keys.contains(key));
    let effect = opens_if(gone || *quorum < was.quorum);
    let words = format!(
        "{quorum} of {} witnesses must cosign the log (was {} of {})",
        keys.len(),
        was.quorum,
        was.keys.len()
    );
    let words = if gone { format!("{words}, and some are others") } else { words };
    changes.add(effect, Kind::Witnesses, "witnesses", words);
}

/// So many of so many. Fewer are easier to win over, and so are the same of more.
fn threshold(
    kind: Kind,
    subject: &str,
    what: &str,
    (was, of): (usize, usize),
    (is, now_of): (usize, usize),
    changes: &mut Changes,
) {
    if (was, of) == (is, now_of) {
        return;
    }
    let effect = opens_if(is < was || (is == was && now_of > of));
    changes.add(effect, kind, subject, format!("{is} of {now_of} {what} (was {was} of {of})"));
}
