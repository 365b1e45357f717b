//! Who may sign reference values, and who workloads.

use std::collections::{BTreeMap, BTreeSet};

use super::{Changes, Effect, Kind, pairs};
use crate::manifest::Manifest;
use crate::names::SignerName;
use crate::references::{ReferenceSigner, TrustedRoot};

pub(super) fn compare(old: &Manifest, new: &Manifest, changes: &mut Changes) {
    let (before, after) = (old.reference_signers(), new.reference_signers());
    signers(before, after, (Kind::ReferenceSigner, "reference values", "signer"), changes);
    let (before, after) = (old.workload_signers(), new.workload_signers());
    signers(before, after, (Kind::WorkloadSigner, "workloads", "signer of workloads"), changes);
}

fn signers(
    before: &BTreeMap<SignerName, ReferenceSigner>,
    after: &BTreeMap<SignerName, ReferenceSigner>,
    (kind, what, who): (Kind, &str, &str),
    changes: &mut Changes,
) {
    for (name, before, after) in pairs(before, after) {
        match (before, after) {
            (None, Some(_)) => {
                changes.add(Effect::Opens, kind, name, format!("{name} may sign {what}"));
            }
            (Some(_), None) => {
                changes.add(Effect::Closes, kind, name, format!("{name} may no longer sign {what}"));
            }
            (Some(before), Some(after)) => {
                for (effect, words) in signer(before, after) {
                    changes.add(effect, kind, name, format!("{who} {name} {words}"));
                }
            }
            (None, None) => {}
        }
    }
}

fn signer(before: &ReferenceSigner, after: &ReferenceSigner) -> Vec<(Effect, String)> {
    let mut found = Vec::new();
    if keys(before) != keys(after) {
        found.push((Effect::Opens, "is another now: what it is recognised by changes".to_owned()));
    }
    match (before.root(), after.root()) {
        (Some(before), Some(after)) => {
            let TrustedRoot { json, version, expires } = after;
            if (&before.json, before.version) != (json, *version) {
                let words = format!("has another trust root: version {version} (was {})", before.version);
                found.push((Effect::Opens, words));
            }
            match before.expires.cmp(expires) {
                std::cmp::Ordering::Less => {
                    found.push((Effect::Opens, "has a trust root that is believed for longer".to_owned()));
                }
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Greater => {
                    found.push((Effect::Closes, "has a trust root that is believed less long".to_owned()));
                }
            }
        }
        (Some(_), None) => found.push((Effect::Opens, "need not be in a log any more".to_owned())),
        (None, Some(_)) => found.push((Effect::Closes, "counts only with an entry in a log".to_owned())),
        (None, None) => {}
    }
    found
}

/// What a signer is recognised by, but for CAs and logs.
fn keys(signer: &ReferenceSigner) -> BTreeSet<Vec<u8>> {
    match signer {
        ReferenceSigner::Key { key, log: _ } => [key.clone()].into(),
        ReferenceSigner::Sigstore { identity, issuer, root: _ } => {
            [format!("{identity}\n{issuer}").into_bytes()].into()
        }
        ReferenceSigner::Corim(keys) => keys.iter().map(|key| key.clone().into_bytes()).collect(),
    }
}

/// What a package that is known by statements takes for its code, in words.
pub(super) fn words(stated: &crate::references::StatedReferences) -> String {
    let crate::references::StatedReferences { series, signers, threshold } = stated;
    let signers: Vec<_> = signers.iter().map(ToString::to_string).collect();
    format!("what {threshold} of {} state in series {series}", signers.join(", "))
}

#[cfg(test)]
mod tests {
    #[test]
    fn who_signs_is_told() {
        let root = |version, expires| crate::references::TrustedRoot { json: "{}".into(), version, expires };
        let sigstore = |version, expires| super::ReferenceSigner::Sigstore {
            identity: "a".into(),
            issuer: "b".into(),
            root: root(version, expires),
        };
        assert_eq!(super::signer(&sigstore(1, 5), &sigstore(1, 5)), []);
        assert_eq!(super::signer(&sigstore(1, 5), &sigstore(2, 6)).len(), 2);
        let key = |log| super::ReferenceSigner::Key { key: vec![1], log };
        assert_eq!(super::signer(&key(Some(root(1, 1))), &key(None))[0].0, super::Effect::Opens);
    }
}
