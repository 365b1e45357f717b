//! What each Marble is, is given, and lets in.

use std::collections::{BTreeMap, BTreeSet};

use keep_config::{KeepConfig, Volume};

use super::{Changes, Effect, Kind, differences, opens_if, pairs};
use crate::config::WorkloadConfig;
use crate::database::Database;
use crate::manifest::Manifest;
use crate::marble::{Access, Limits, Log, Marble, Workload};
use crate::names::MarbleName;
use crate::parameters::Parameters;
use crate::template::Template;
use crate::workload::{SignedPackages, WorkloadCode};

pub(super) fn compare(old: &Manifest, new: &Manifest, changes: &mut Changes) {
    for (name, before, after) in pairs(old.marbles(), new.marbles()) {
        match (before, after) {
            (None, Some(after)) => {
                let words = format!("Marble {name} is new, of package {}", after.package.name);
                changes.add(Effect::Changes, Kind::Marble, name, words);
            }
            (Some(_), None) => {
                let words = format!("Marble {name} is gone: its instances end");
                changes.add(Effect::Closes, Kind::Marble, name, words);
            }
            _ => {}
        }
        if let (Some(before), Some(after)) = (before, after) {
            marble(before, after, changes);
        }
        let reads = |marble: Option<&Marble>| marble.map(Marble::readable_secrets).unwrap_or_default();
        for (is_new, secret) in differences(&reads(before), &reads(after)) {
            let may = if is_new { "may now" } else { "may no longer" };
            let words = format!("{name} {may} read {secret}");
            changes.about(opens_if(is_new), Kind::MarbleReads, (name, secret), words);
        }
        called(name, before, after, changes);
    }
}

fn marble(before: &Marble, after: &Marble, changes: &mut Changes) {
    // What it is made of is compared with its package; `access` is in [`called`].
    let Marble {
        name,
        package,
        max_activations,
        parameters: given,
        names,
        workload: runs,
        database: holds,
        tls,
    } = after;
    if before.package.name != package.name {
        let words = format!("{name} is of package {} now (was {})", package.name, before.package.name);
        changes.add(Effect::Opens, Kind::MarblePackage, name, words);
    }
    if before.max_activations != *max_activations {
        let count = |limit: &Option<std::num::NonZeroU64>| match limit {
            Some(limit) => format!("at most {limit} times"),
            None => "any number of times".to_owned(),
        };
        let more = match (before.max_activations, max_activations) {
            (Some(before), Some(after)) => *after > before,
            (_, after) => after.is_none(),
        };
        let words = format!(
            "{name} may be activated {} in all (was {})",
            count(max_activations),
            count(&before.max_activations)
        );
        changes.add(opens_if(more), Kind::MarbleActivations, name, words);
    }
    parameters(name, &before.parameters, given, changes);
    let set = |names: &[crate::marble::SubjectName]| names.iter().cloned().collect::<BTreeSet<_>>();
    for (is_new, alias) in differences(&set(&before.names), &set(names)) {
        let now = if is_new { "now also" } else { "no longer" };
        let words = format!("the certificate of {name} is {now} for {alias}");
        changes.about(opens_if(is_new), Kind::MarbleName, (name, alias), words);
    }
    workload(name, before.workload.as_ref(), runs.as_ref(), changes);
    database(name, before.database, *holds, changes);
    if before.tls != *tls {
        let words =
            format!("which connections of {name} its runtime encrypts, and with what, is another now");
        changes.add(Effect::Opens, Kind::MarbleTls, name, words);
    }
}

fn parameters(name: &MarbleName, before: &Parameters, after: &Parameters, changes: &mut Changes) {
    let Parameters { files, env, argv } = after;
    let mut templates =
        |what: &str, before: &BTreeMap<String, Template>, after: &BTreeMap<String, Template>| {
            for (parameter, before, after) in pairs(before, after) {
                let how = match (before, after) {
                    (None, _) => "gets",
                    (_, None) => "no longer gets",
                    (before, after) if before == after => continue,
                    _ => "gets another value of",
                };
                let words = format!("{name} {how} the {what} {parameter}");
                changes.about(Effect::Changes, Kind::MarbleParameter, (name, parameter), words);
            }
        };
    templates("file", &before.files, files);
    templates("environment variable", &before.env, env);
    if before.argv != *argv {
        let words = format!("{name} gets other arguments");
        changes.about(Effect::Changes, Kind::MarbleParameter, (name, "argv"), words);
    }
}

fn workload(name: &MarbleName, before: Option<&Workload>, after: Option<&Workload>, changes: &mut Changes) {
    let (before, after) = match (before, after) {
        (None, None) => return,
        (None, Some(after)) => {
            let words = format!("a Keep runs {} as {name} now (it was a native program)", after.code);
            return changes.add(Effect::Opens, Kind::MarbleWorkload, name, words);
        }
        (Some(before), None) => {
            let words = format!("{name} is a native program now (a Keep ran {})", before.code);
            return changes.add(Effect::Opens, Kind::MarbleWorkload, name, words);
        }
        (Some(before), Some(after)) => (before, after),
    };
    let Workload { code, keys, limits: new, access: _, log, config } = after;
    self::code(name, &before.code, code, changes);
    for (is_new, key) in differences(&before.keys, keys) {
        let may = if is_new { "may now" } else { "may no longer" };
        let words = format!("the workload of {name} {may} be one that is encrypted by {key}");
        changes.about(opens_if(is_new), Kind::MarbleWorkload, (name, key), words);
    }
    if before.log != *log {
        let words = match log {
            Log::Host => format!("the host may now read what {name} logs"),
            Log::Discard => format!("the host may no longer read what {name} logs"),
        };
        changes.add(opens_if(*log == Log::Host), Kind::MarbleLog, name, words);
    }
    configuration(name, before.config.as_deref(), config.as_deref(), changes);
    let Limits { memory, cpu_per_request, concurrent_requests, body_size } = *new;
    let old = before.limits;
    for (what, unit, before, after) in [
        ("memory", "bytes", u128::from(old.memory), u128::from(memory)),
        ("processor time per request", "ms", old.cpu_per_request.as_millis(), cpu_per_request.as_millis()),
        ("requests", "at a time", old.concurrent_requests.into(), concurrent_requests.into()),
        ("a request's body", "bytes", old.body_size.into(), body_size.into()),
    ] {
        if before != after {
            let words = format!("the limit of {name} on {what} is {after} {unit} (was {before})");
            changes.about(Effect::Changes, Kind::MarbleLimit, (name, what), words);
        }
    }
}

/// Its key stays with the Marble's name: whoever is the database of that name now gets it.
fn database(name: &MarbleName, before: Option<Database>, after: Option<Database>, changes: &mut Changes) {
    let (effect, words) = match (before, after) {
        (None, Some(after)) => (Effect::Opens, format!("{name} is {after} now")),
        (Some(_), None) => (Effect::Closes, format!("{name} is no database any more; its key is kept")),
        (Some(before), Some(after)) if before != after => {
            (Effect::Opens, format!("{name} is another database now: {after} (was {before})"))
        }
        _ => return,
    };
    changes.add(effect, Kind::MarbleWorkload, name, words);
}

/// Which code it may be. Of what is signed, more may run where more sign it or older versions may.
fn code(name: &MarbleName, before: &WorkloadCode, after: &WorkloadCode, changes: &mut Changes) {
    let (WorkloadCode::Signed(old), WorkloadCode::Signed(new)) = (before, after) else {
        if before != after {
            let words = format!("{name} runs other code: {after} (was {before})");
            changes.add(Effect::Opens, Kind::MarbleWorkload, name, words);
        }
        return;
    };
    let SignedPackages { repository, name: signed_as, signers, minimum, older } = new;
    if (&old.repository, &old.name) != (repository, signed_as) {
        let words = format!("{name} runs other code: {after} (was {before})");
        return changes.add(Effect::Opens, Kind::MarbleWorkload, name, words);
    }
    for (is_new, signer) in differences(&old.signers, signers) {
        let may = if is_new { "may now" } else { "may no longer" };
        let words = format!("{name} {may} run what {signer} signs");
        changes.about(opens_if(is_new), Kind::MarbleWorkload, (name, signer), words);
    }
    if old.minimum != *minimum {
        let words = format!("{name} runs version {minimum} or later (was {})", old.minimum);
        changes.about(opens_if(*minimum < old.minimum), Kind::MarbleWorkload, (name, "version"), words);
    }
    if old.older != *older {
        let may = if *older { "may now" } else { "may no longer" };
        let words = format!("{name} {may} run a version that is older than one that ran");
        changes.about(opens_if(*older), Kind::MarbleWorkload, (name, "older"), words);
    }
}

/// What it finds in its Keep.
fn configuration(
    name: &MarbleName,
    before: Option<&WorkloadConfig>,
    after: Option<&WorkloadConfig>,
    changes: &mut Changes,
) {
    let nothing = KeepConfig::default();
    let before = before.map_or(&nothing, |config| &config.parsed);
    let after = after.map_or(&nothing, |config| &config.parsed);
    // Every part by name: one that is added is compared here, or does not compile.
    let KeepConfig {
        steward: _,
        args,
        env,
        files,
        listen,
        connect,
        peers,
        http,
        volumes,
        tmpfs,
        // They are among the parameters.
        secrets: _,
        limits,
        roots,
        log,
    } = after;
    let log_opens = matches!((&before.log, log), (before, after) if before != after && *after != keep_config::Log::Nobody);
    for (what, is_other, effect) in [
        ("arguments", before.args != *args, Effect::Changes),
        ("variables", before.env != *env, Effect::Changes),
        ("descriptors", before.files != *files, Effect::Opens),
        ("listeners", before.listen != *listen || before.http != *http, Effect::Opens),
        ("connections", before.connect != *connect || before.peers != *peers, Effect::Opens),
        ("trust roots", before.roots != *roots, Effect::Opens),
        ("temporary storage", before.tmpfs != *tmpfs, Effect::Changes),
        ("limits", before.limits != *limits, Effect::Changes),
        ("readers of its log", before.log != *log, opens_if(log_opens)),
    ] {
        if is_other {
            let words = format!("the configuration of {name} has other {what} now");
            changes.about(effect, Kind::MarbleConfig, (name, what), words);
        }
    }
    let by_name = |config: &[Volume]| -> BTreeMap<String, Volume> {
        config.iter().map(|volume| (volume.name.clone(), volume.clone())).collect()
    };
    for (volume, before, after) in pairs(&by_name(&before.volumes), &by_name(volumes)) {
        let (effect, words) = match (before, after) {
            (None, Some(_)) => (Effect::Opens, format!("{name} has the volume {volume} now")),
            (Some(_), None) => {
                (Effect::Closes, format!("{name} no longer has the volume {volume}; its key is kept"))
            }
            (Some(before), Some(after)) if before != after => (
                Effect::Changes,
                format!("the volume {volume} of {name} has another place, size or mode now"),
            ),
            _ => continue,
        };
        changes.about(effect, Kind::MarbleVolume, (name, volume), words);
    }
}

/// Who may open connections to it.
fn called(name: &MarbleName, before: Option<&Marble>, after: Option<&Marble>, changes: &mut Changes) {
    let access = |marble: Option<&Marble>| match marble.and_then(|marble| marble.workload.as_ref()) {
        Some(Workload { access: Access::Public, .. }) => (true, BTreeSet::new()),
        Some(Workload { access: Access::Peers(peers), .. }) => (false, peers.clone()),
        None => (false, BTreeSet::new()),
    };
    let ((was_public, before), (is_public, after)) = (access(before), access(after));
    if was_public != is_public {
        let by =
            if is_public { "may now be called by anyone" } else { "may no longer be called by just anyone" };
        let words = format!("{name} {by}");
        changes.about(opens_if(is_public), Kind::MarbleCalled, (name, "anyone"), words);
    }
    for (is_new, peer) in differences(&before, &after) {
        // Nobody loses what everybody gets.
        if is_public && !is_new {
            continue;
        }
        let may = if is_new { "may now" } else { "may no longer" };
        let effect = if is_new && was_public { Effect::Changes } else { opens_if(is_new) };
        let words = format!("{name} {may} be called by {peer}");
        changes.about(effect, Kind::MarbleCalled, (name, peer), words);
    }
}
