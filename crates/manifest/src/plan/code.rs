//! Which code is accepted, on which platforms, and what these must be like.

use std::collections::{BTreeMap, BTreeSet};

use super::{Changes, Effect, Kind, differences, opens_if, pairs};
use crate::choices::Choices;
use crate::manifest::Manifest;
use crate::package::{Accepted, AcceptedCode, Package, Signer};
use crate::platform::{MinimumTcb, PlatformPolicy};

pub(super) fn compare(old: &Manifest, new: &Manifest, choices: &Choices, changes: &mut Changes) {
    for fall in &choices.falls {
        let (package, in_force) = (&fall.package, fall.in_force);
        let words = match fall.proposed {
            Some(proposed) => {
                format!("the security version of package {package} FALLS from {in_force} to {proposed}")
            }
            None if new.packages().contains_key(package) => format!(
                "the security version of package {package} FALLS: {in_force} is required now, and then it is known by \
                 measurements and has none"
            ),
            None => format!(
                "the security version of package {package} FALLS: {in_force} is required now, and then the package is \
                 gone, and could come back at any version"
            ),
        };
        changes.add(Effect::Opens, Kind::VersionFalls, package, words);
    }
    // Mostly many packages share one policy: a difference is told once, with all that it is for.
    let mut policies = BTreeMap::<_, BTreeSet<_>>::new();
    for (name, before, after) in pairs(old.packages(), new.packages()) {
        match (before, after) {
            (Some(before), Some(after)) => {
                package(before, after, changes);
                for (platform, before, after) in pairs(&before.accepted, &after.accepted) {
                    let (Some(before), Some(after)) = (before, after) else { continue };
                    for difference in policy(&before.policy, &after.policy) {
                        policies.entry((*platform, difference)).or_default().insert(name.to_string());
                    }
                }
            }
            (None, Some(after)) => {
                let on: Vec<_> = after.accepted.keys().map(ToString::to_string).collect();
                let words = format!("package {name} is new, for {}", on.join(", "));
                changes.add(Effect::Changes, Kind::Package, name, words);
            }
            _ => changes.add(Effect::Closes, Kind::Package, name, format!("package {name} is gone")),
        }
    }
    for ((platform, (effect, words)), packages) in policies {
        let packages: Vec<_> = packages.into_iter().collect();
        let words = format!("on {platform}, for {}: {words}", packages.join(", "));
        changes.about(effect, Kind::PlatformPolicy, (platform, packages.join(",")), words);
    }
}

fn package(before: &Package, after: &Package, changes: &mut Changes) {
    let Package { name, accepted: _ } = after;
    if let (Some(from), Some(to)) = (before.security_version(), after.security_version())
        && to > from
    {
        let words = format!("package {name} needs security version {to} or later (was {from})");
        changes.add(Effect::Closes, Kind::VersionRises, name, words);
    }
    for (is_new, (platform, code)) in differences(&codes(before), &codes(after)) {
        let may = if is_new { "may now also be" } else { "may no longer be" };
        let words = format!("package {name} {may} {code} on {platform}");
        changes.about(opens_if(is_new), Kind::Code, (name, code), words);
    }
}

fn codes(package: &Package) -> BTreeSet<(evidence::Platform, String)> {
    let of = |(platform, accepted): (&evidence::Platform, &Accepted)| {
        let Accepted { code, policy: _ } = accepted;
        let codes = match code {
            AcceptedCode::Measurements(measurements) => {
                measurements.iter().map(|it| format!("the code of measurement {it}")).collect()
            }
            AcceptedCode::Signer(Signer { id, product, security_version: _ }) => {
                vec![format!("product {product} of signer {id}")]
            }
            AcceptedCode::Values(tuples) => tuples.iter().map(|tuple| format!("code with {tuple}")).collect(),
            AcceptedCode::References(stated) => vec![super::references::words(stated)],
        };
        let platform = *platform;
        codes.into_iter().map(move |code| (platform, code))
    };
    package.accepted.iter().flat_map(of).collect()
}

fn policy(before: &PlatformPolicy, after: &PlatformPolicy) -> Vec<(Effect, String)> {
    let PlatformPolicy {
        accepted_tcb_statuses,
        accepted_advisories,
        minimum_tcb,
        minimum_tcb_evaluation_number,
        denied_families,
        emulated_roots,
        trust_anchors,
        registers,
        paravisors,
    } = after;
    let mut found = Vec::new();
    for (is_new, status) in differences(&before.accepted_tcb_statuses, accepted_tcb_statuses) {
        let now = if is_new { "now" } else { "no longer" };
        found.push((opens_if(is_new), format!("TCB status {status} is {now} accepted")));
    }
    match (&before.accepted_advisories, accepted_advisories) {
        (Some(before), Some(after)) => {
            for (is_new, advisory) in differences(before, after) {
                let may = if is_new { "may now" } else { "may no longer" };
                found.push((opens_if(is_new), format!("{advisory} {may} be open")));
            }
        }
        (Some(_), None) => found.push((Effect::Opens, "any advisory may now be open".to_owned())),
        (None, Some(after)) => {
            let only: Vec<_> = after.iter().map(String::as_str).collect();
            found.push((Effect::Closes, format!("no advisory may be open but {}", only.join(", "))));
        }
        (None, None) => {}
    }
    found.extend(minimum(&before.minimum_tcb, minimum_tcb));
    let numbers = (before.minimum_tcb_evaluation_number, *minimum_tcb_evaluation_number);
    found.extend(floor("TCB evaluation number", numbers.0, numbers.1));
    for (is_new, family) in differences(&before.denied_families, denied_families) {
        let now = if is_new { "refused now" } else { "no longer refused" };
        found.push((opens_if(!is_new), format!("processors of the {family} family are {now}")));
    }
    for (is_new, _) in differences(&hashes(before), &hashes(after)) {
        let now =
            if is_new { "now accepted, and proves nothing about hardware" } else { "no longer accepted" };
        found.push((opens_if(is_new), format!("an emulated platform is {now}")));
    }
    debug_assert_eq!(hashes(after).len(), emulated_roots.len(), "no root is named twice");
    let anchors = |anchors: &[String]| anchors.iter().cloned().collect::<BTreeSet<_>>();
    for (is_new, _) in differences(&anchors(&before.trust_anchors), &anchors(trust_anchors)) {
        let now = if is_new { "now" } else { "no longer" };
        found.push((opens_if(is_new), format!("a trust anchor is {now} accepted")));
    }
    // None means the strict default, 0 to 7.
    let quoted = |registers: &Option<BTreeSet<u8>>| registers.clone().unwrap_or_else(|| (0..=7).collect());
    for (is_new, register) in differences(&quoted(&before.registers), &quoted(registers)) {
        let need = if is_new { "must be quoted" } else { "need not be quoted" };
        found.push((opens_if(!is_new), format!("register {register} {need} now")));
    }
    for (is_new, paravisor) in differences(&before.paravisors, paravisors) {
        let now = if is_new { "now" } else { "no longer" };
        found.push((opens_if(is_new), format!("paravisor {paravisor} is {now} believed")));
    }
    found
}

fn hashes(policy: &PlatformPolicy) -> BTreeSet<&[u8]> {
    policy.emulated_roots.iter().map(|root| root.0.as_slice()).collect()
}

fn minimum(before: &MinimumTcb, after: &MinimumTcb) -> Vec<(Effect, String)> {
    let MinimumTcb { bootloader, tee, snp, microcode, fmc } = *after;
    let components = [
        ("bootloader", before.bootloader, bootloader),
        ("TEE", before.tee, tee),
        ("SNP firmware", before.snp, snp),
        ("microcode", before.microcode, microcode),
        ("FMC", before.fmc, fmc),
    ];
    components.into_iter().filter_map(|(name, before, after)| floor(name, before, after)).collect()
}

/// The least of something, where nothing is as good as zero.
fn floor<T: Ord + std::fmt::Display>(
    name: &str,
    before: Option<T>,
    after: Option<T>,
) -> Option<(Effect, String)> {
    match (before, after) {
        (before, after) if before == after => None,
        (Some(before), None) => {
            Some((Effect::Opens, format!("the {name} may now be any (least was {before})")))
        }
        (None, Some(after)) => {
            Some((Effect::Closes, format!("the {name} must be {after} or later (was any)")))
        }
        (Some(before), Some(after)) => {
            let words = format!("the {name} must be {after} or later (was {before})");
            Some((opens_if(after < before), words))
        }
        (None, None) => None,
    }
}
