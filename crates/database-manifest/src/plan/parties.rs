//! Who comes in.

use std::collections::BTreeSet;

use ::manifest::Effect;

use super::{Found, opens_if, span};
use crate::{Anchor, Manifest, Party, PartyName};

pub(super) fn compare(old: Option<&Manifest>, new: &Manifest, found: &mut Found) {
    for (name, party) in &new.parties {
        match old.and_then(|old| old.parties.get(name)) {
            None => {
                let now = if old.is_some() { "is now" } else { "is" };
                let words =
                    format!("{name} {now} a party: whoever has a certificate of {}", keys(&party.anchors));
                found.add(Effect::Opens, name, words);
            }
            Some(before) => one(name, before, party, found),
        }
    }
    let gone =
        old.into_iter().flat_map(|old| old.parties.keys()).filter(|name| !new.parties.contains_key(name));
    for name in gone {
        found.add(
            Effect::Closes,
            name,
            format!("{name} is no party any more; rows that it wrote stay unless erased"),
        );
    }
}

fn one(name: &PartyName, old: &Party, new: &Party, found: &mut Found) {
    let Party { anchors, revoked, max_validity } = new;
    for anchor in anchors.iter().filter(|anchor| !old.anchors.contains(anchor)) {
        let words =
            format!("whoever has a certificate of {} is now {name}", keys(std::slice::from_ref(anchor)));
        found.add(Effect::Opens, name, words);
        found.require(name, "its anchors change");
    }
    for anchor in old.anchors.iter().filter(|anchor| !anchors.contains(anchor)) {
        let words =
            format!("certificates of {} no longer count for {name}", keys(std::slice::from_ref(anchor)));
        found.add(Effect::Closes, name, words);
        found.require(name, "its anchors change");
    }
    let more = revoked.difference(&old.revoked).count();
    if more > 0 {
        found.add(Effect::Closes, name, format!("{more} certificates of {name} count no more"));
    }
    let reinstated: BTreeSet<_> = old.revoked.difference(revoked).collect();
    if !reinstated.is_empty() {
        let words = format!("{} certificates of {name} that were revoked count again", reinstated.len());
        found.add(Effect::Opens, name, words);
        found.require(name, "certificates of its count again");
    }
    if old.max_validity != *max_validity {
        let looser = match (old.max_validity, max_validity) {
            (Some(_), None) => true,
            (Some(before), Some(now)) => *now > before,
            (None, _) => false,
        };
        let limit = max_validity
            .map_or_else(|| "as long as they like".to_owned(), |limit| format!("at most {}", span(limit)));
        found.add(opens_if(looser), name, format!("certificates of {name} may be valid {limit}"));
    }
}

/// The first bytes of the keys' digests, as `bailey certificate issue` prints them.
fn keys(anchors: &[Anchor]) -> String {
    let short: Vec<_> =
        anchors.iter().map(|anchor| format!("key {}…", &hex::encode(anchor.key)[..16])).collect();
    short.join(" or ")
}
