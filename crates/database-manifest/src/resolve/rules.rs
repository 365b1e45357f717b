//! Who changes the manifest, who recovers the database, what notices an old copy of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use manifest::{
    Code,
    reading::{Collector, Path, duration, rsa_key},
};

use crate::{
    Freshness, Recovery, Updates,
    document::{self, Document},
    resolve::{NAME_RULE, Names, span},
};

/// A proposal that nobody limits is decided within a week.
const EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shamir's scheme over bytes has no more shares.
const MOST_HOLDERS: usize = 255;

pub(super) fn updates(
    document: &Document,
    names: &Names<'_>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Updates> {
    let Some(wire) = &document.updates else {
        let message = "the manifest does not say who changes it";
        faults.hint(at, Code::Missing, message, "`Updates: { Approvers: [a, b], Threshold: 2 }`");
        return None;
    };
    let approvers = names.set(&wire.approvers, &at.field("Approvers"), faults);
    if wire.approvers.is_empty() {
        let message = "without approvers the manifest could never change, not even to revoke a certificate";
        faults.add(&at.field("Approvers"), Code::Missing, message);
    }
    let here = at.field("Threshold");
    let threshold = match wire.threshold {
        None => {
            faults.hint(
                &here,
                Code::Missing,
                "the manifest does not say how many approve",
                "as many as must agree",
            );
            return None;
        }
        Some(threshold) => usize::try_from(threshold).unwrap_or(usize::MAX),
    };
    if threshold == 0 || threshold > wire.approvers.len() {
        let message = format!("{threshold} of {} approvers is no threshold", wire.approvers.len());
        faults.add(&here, Code::InvalidValue, message);
    }
    let expiry = wire.expiry.as_deref().map(|text| span(text, &at.field("Expiry"), faults));
    Some(Updates { approvers, threshold, expiry: expiry.unwrap_or(Some(EXPIRY))? })
}

pub(super) fn recovery(
    wire: Option<&document::Recovery>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Recovery> {
    let wire = wire?;
    let here = at.field("Holders");
    let mut holders = BTreeMap::new();
    let mut keys = BTreeSet::new();
    for (name, text) in &wire.holders {
        let field = here.key(name);
        if crate::PartyName::new(name).is_none() {
            faults.add(&field, Code::InvalidName, NAME_RULE);
        }
        match rsa_key(text) {
            Ok(key) => {
                if !keys.insert(key.clone()) {
                    let message = "another holder has the same key, so one person would count as two";
                    faults.add(&field, Code::DuplicateValue, message);
                }
                holders.insert(name.clone(), key);
            }
            Err(message) => {
                faults.hint(&field, Code::InvalidCertificate, message, "give one RSA public key as PEM");
            }
        }
    }
    if wire.holders.len() > MOST_HOLDERS {
        faults.add(&here, Code::InvalidValue, format!("more than {MOST_HOLDERS} holders"));
    }
    let threshold = usize::try_from(wire.threshold).unwrap_or(usize::MAX);
    if threshold < 2 || threshold > wire.holders.len() {
        let message = format!(
            "{threshold} of {} holders is no threshold: at least two, at most all",
            wire.holders.len()
        );
        faults.add(&at.field("Threshold"), Code::InvalidValue, message);
    }
    Some(Recovery { holders, threshold })
}

pub(super) fn freshness(wire: &document::Freshness, at: &Path<'_>, faults: &mut Collector<'_>) -> Freshness {
    let max_lag = wire.max_lag.as_deref().map_or(Some(Duration::ZERO), |text| {
        let lag = duration(text).filter(|lag| *lag <= Duration::from_secs(60));
        if lag.is_none() {
            let message = "expected a whole number with ms or s, at most a minute";
            faults.hint(&at.field("MaxLag"), Code::InvalidValue, message, "leave it out for none");
        }
        lag
    });
    Freshness { max_lag: max_lag.unwrap_or_default(), anchor_required: wire.anchor_required.unwrap_or(true) }
}
