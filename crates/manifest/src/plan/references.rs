//! Who may sign reference values.

use std::collections::BTreeSet;

use super::{Changes, Effect, Kind, pairs};
use crate::manifest::Manifest;
use crate::references::{ReferenceSigner, TrustedRoot};

pub(super) fn compare(old: &Manifest, new: &Manifest, changes: &mut Changes) {
    for (name, before, after) in pairs(old.reference_signers(), new.reference_signers()) {
        match (before, after) {
            (None, Some(_)) => {
                let words = format!("{name} may sign reference values");
                changes.add(Effect::Opens, Kind::ReferenceSigner, name, words);
            }
            (Some(_), None) => {
                let words = format!("{name} may no longer sign reference values");
                changes.add(Effect::Closes, Kind::ReferenceSigner, name, words);
            }
            (Some(before), Some(after)) => {
                for (effect, words) in signer(before, after) {
                    changes.add(effect, Kind::ReferenceSigner, name, format!("signer {name} {words}"));
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
