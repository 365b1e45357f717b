//! What a change means, in words, and whose agreement it needs. This is the one place where that is decided: the
//! database asks it before it activates a proposal, and people ask it before they approve one.
//!
//! ```text
//! ! auditor may now read every row of payments
//! ~ the query of volume is another
//! - bank_b may no longer write payments
//! Needs 2 of approver_c, approver_d, among them approver_c (owner of payments).
//! ```

mod algorithms;
mod parties;
mod tables;

pub use tables::rows_of;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ::manifest::Effect;

use crate::{
    Freshness, InvalidRestoration, Manifest, Migration, PartyName, Recovery, Restoration, TableName, Updates,
};

/// What a change means. [`Plan::between`] and [`Plan::of_restoration`] are its only origins.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// SHA-256 of the manifest in force; none where there is none yet.
    pub from: Option<[u8; 32]>,
    /// SHA-256 of the proposed one.
    pub to: [u8; 32],
    /// Each change, those with more danger first.
    pub changes: Vec<Change>,
    /// How many of the approvers in force must agree.
    pub threshold: usize,
    /// The approvers in force.
    pub approvers: BTreeSet<PartyName>,
    /// Who must be among them, and why.
    pub required: BTreeMap<PartyName, BTreeSet<String>>,
    /// Why the change would be refused whoever approves it; mostly nothing.
    pub obstacles: Vec<String>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// What it does to those who rely on the manifest.
    pub effect: Effect,
    /// What it is about.
    pub subject: String,
    /// For people.
    pub words: String,
}

/// Differences as they are found.
#[derive(Default)]
struct Found {
    changes: Vec<Change>,
    required: BTreeMap<PartyName, BTreeSet<String>>,
}

impl Found {
    fn add(&mut self, effect: Effect, subject: impl fmt::Display, words: impl Into<String>) {
        self.changes.push(Change { effect, subject: subject.to_string(), words: words.into() });
    }

    fn require(&mut self, party: &PartyName, why: impl Into<String>) {
        self.required.entry(party.clone()).or_default().insert(why.into());
    }

    /// The owners of a table must agree.
    fn touches(&mut self, manifest: &Manifest, table: &TableName) {
        if let Some(owner) = manifest.tables.get(table).and_then(|table| table.owner.as_ref()) {
            self.require(owner, format!("owner of {table}"));
        }
    }
}

impl Plan {
    /// What it means to go from `old` to `new` by that migration, deleting the rows of the parties in `erase`. Without
    /// `old`: what `new` gives to whom.
    #[must_use]
    pub fn between(
        old: Option<&Manifest>,
        new: &Manifest,
        migration: &Migration,
        erase: &BTreeSet<PartyName>,
    ) -> Self {
        let mut found = Found::default();
        parties::compare(old, new, &mut found);
        tables::compare(old, new, migration, &mut found);
        tables::erased(old, erase, &mut found);
        algorithms::compare(old, new, &mut found);
        rules(old, new, &mut found);
        Self::decided_by(
            old.unwrap_or(new),
            found,
            (old.map(|old| old.digest), new.digest),
            obstacles(old, erase, new),
        )
    }

    /// What it means to bring back rows under the manifest in force, which stays.
    ///
    /// # Errors
    /// Where it is no restoration.
    pub fn of_restoration(
        manifest: &Manifest,
        restoration: &Restoration,
    ) -> Result<Self, InvalidRestoration> {
        let (mut found, mut obstacles) = (Found::default(), Vec::new());
        let (tables, to) = (restoration.tables()?, &restoration.to);
        for table in &tables {
            let words = format!("the rows of {table} become those of {to}: later ones are gone");
            found.add(Effect::Changes, table, words);
            found.touches(manifest, table);
            if manifest.tables.get(table).is_none_or(|table| table.is_view) {
                obstacles.push(format!("there is no table {table}"));
            }
        }
        if manifest.tables_with_rows().all(|table| tables.contains(table)) {
            let words =
                format!("the whole database becomes that of {to}, but for budgets, audit log and rules");
            found.add(Effect::Changes, "", words);
        }
        restoration.time()?;
        Ok(Self::decided_by(manifest, found, (Some(manifest.digest), manifest.digest), obstacles))
    }

    fn decided_by(
        manifest: &Manifest,
        found: Found,
        (from, to): (Option<[u8; 32]>, [u8; 32]),
        obstacles: Vec<String>,
    ) -> Self {
        let Found { mut changes, mut required } = found;
        changes.sort();
        changes.dedup();
        let Updates { approvers, threshold, .. } = &manifest.updates;
        // Nobody but an approver can agree; owners are approvers, which parsing has seen to.
        required.retain(|party, _| approvers.contains(party));
        Self { from, to, changes, threshold: *threshold, approvers: approvers.clone(), required, obstacles }
    }

    /// Whether these parties are enough.
    #[must_use]
    pub fn agreed(&self, approving: &BTreeSet<PartyName>) -> bool {
        let count = approving.intersection(&self.approvers).count();
        count >= self.threshold && self.required.keys().all(|party| approving.contains(party))
    }

    /// Whether it can no longer come to that when these parties are against it.
    #[must_use]
    pub fn refused(&self, rejecting: &BTreeSet<PartyName>) -> bool {
        let left = self.approvers.difference(rejecting).count();
        left < self.threshold || self.required.keys().any(|party| rejecting.contains(party))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            writeln!(f, "Nothing that the manifest says would change.")?;
        }
        for change in &self.changes {
            writeln!(f, "{} {}", change.effect.mark(), change.words)?;
        }
        for obstacle in &self.obstacles {
            writeln!(f, "This change would be refused: {obstacle}.")?;
        }
        let approvers: Vec<_> = self.approvers.iter().map(PartyName::as_str).collect();
        let what = if self.from.is_some() { "Needs" } else { "Later changes need" };
        write!(f, "{what} {} of {}", self.threshold, approvers.join(", "))?;
        for (index, (party, why)) in self.required.iter().enumerate() {
            let why: Vec<_> = why.iter().map(String::as_str).collect();
            write!(f, "{}{party} ({})", if index == 0 { ", among them " } else { ", " }, why.join(", "))?;
        }
        writeln!(f, ".")
    }
}

fn obstacles(old: Option<&Manifest>, erase: &BTreeSet<PartyName>, new: &Manifest) -> Vec<String> {
    let mut obstacles = Vec::new();
    let Some(old) = old else { return obstacles };
    if old.name != new.name {
        obstacles
            .push("the name of a database never changes: clients and the lineage know it by that".to_owned());
    }
    for party in erase.iter().filter(|party| !old.parties.contains_key(party)) {
        obstacles.push(format!("there is no party {party} whose rows could be deleted"));
    }
    obstacles
}

/// Who decides, recovers, reads the audit log; freshness, size.
fn rules(old: Option<&Manifest>, new: &Manifest, found: &mut Found) {
    // Taken apart by name, so that a field that is added and forgotten here does not compile.
    let Manifest {
        digest: _,
        text: _,
        name: _,
        parties: _,
        schema: _,
        statements: _,
        tables: _,
        algorithms: _,
        updates,
        recovery,
        audit,
        freshness,
        max_size,
        history,
    } = new;
    approval(old.map(|old| &old.updates), updates, found);
    recovered(old.and_then(|old| old.recovery.as_ref()), recovery.as_ref(), found);
    let none = BTreeSet::new();
    let before = old.map_or(&none, |old| &old.audit.readers);
    for (now, party) in differences(before, &audit.readers) {
        let words = format!("{party} {} read the audit log, with the arguments of all calls", may(now, old));
        found.add(opens_if(now), party, words);
    }
    fresh(old.map(|old| &old.freshness), freshness, found);
    if let Some(old) = old.filter(|old| old.max_size != *max_size) {
        let words = format!("the data may take {} MiB; it was {} MiB", max_size >> 20, old.max_size >> 20);
        found.add(Effect::Changes, "size", words);
    }
    let before = old.map_or(0, |old| old.history);
    if before != *history {
        let mib = history >> 20;
        let words = format!(
            "{mib} MiB of the log before the last base backup stay, encrypted, with rows that were deleted since; it was {} MiB",
            before >> 20
        );
        found.add(Effect::Changes, "history", words);
    }
}

fn approval(old: Option<&Updates>, new: &Updates, found: &mut Found) {
    let Updates { approvers, threshold, expiry } = new;
    let none = BTreeSet::new();
    for (now, party) in differences(old.map_or(&none, |old| &old.approvers), approvers) {
        let word = if now { may(true, old) } else { "may no longer" };
        found.add(opens_if(now), party, format!("{party} {word} approve changes"));
    }
    let Some(old) = old else { return };
    if old.threshold != *threshold {
        let words = format!(
            "{threshold} of {} approvers change the manifest; it was {} of {}",
            approvers.len(),
            old.threshold,
            old.approvers.len()
        );
        found.add(opens_if(*threshold < old.threshold), "updates", words);
    }
    if old.expiry != *expiry {
        let words = format!("a proposal may be decided for {}", span(*expiry));
        found.add(Effect::Changes, "updates", words);
    }
}

fn recovered(old: Option<&Recovery>, new: Option<&Recovery>, found: &mut Found) {
    match (old, new) {
        (None, Some(new)) => {
            let holders: Vec<_> = new.holders.keys().map(String::as_str).collect();
            let words =
                format!("{} of {} may bring the data back elsewhere", new.threshold, holders.join(", "));
            found.add(Effect::Opens, "recovery", words);
        }
        (Some(_), None) => found.add(Effect::Closes, "recovery", "nobody may bring the data back elsewhere"),
        (Some(old), Some(new)) => {
            let Recovery { holders, threshold } = new;
            for (name, key) in holders {
                match old.holders.get(name) {
                    None => found.add(Effect::Opens, name, format!("{name} now holds a share of the key")),
                    Some(before) if before != key => {
                        found.add(Effect::Opens, name, format!("the share of {name} is for another key"));
                    }
                    Some(_) => {}
                }
            }
            for name in old.holders.keys().filter(|name| !holders.contains_key(*name)) {
                let words = format!("{name} holds no share of the key any more, which is exchanged");
                found.add(Effect::Closes, name, words);
            }
            if old.threshold != *threshold {
                let words = format!("{threshold} holders bring the data back; it was {}", old.threshold);
                found.add(opens_if(*threshold < old.threshold), "recovery", words);
            }
        }
        (None, None) => {}
    }
}

fn fresh(old: Option<&Freshness>, new: &Freshness, found: &mut Found) {
    let Freshness { max_lag, anchor_required } = new;
    let (lag, required) =
        old.map_or((std::time::Duration::ZERO, true), |old| (old.max_lag, old.anchor_required));
    if *max_lag != lag {
        let words = format!("the last {} of commits may be taken back unnoticed", span(*max_lag));
        found.add(opens_if(*max_lag > lag), "freshness", words);
    }
    if *anchor_required != required {
        let words = if required {
            "it runs without an anchor: an old copy of all data is noticed only by clients that keep receipts"
        } else {
            "it refuses to run without an anchor"
        };
        found.add(opens_if(required), "freshness", words);
    }
}

fn opens_if(more: bool) -> Effect {
    if more { Effect::Opens } else { Effect::Closes }
}

/// `may now`, `may no longer`, and `may` where there was nothing before.
fn may<T>(now: bool, old: Option<T>) -> &'static str {
    match (now, old.is_some()) {
        (true, true) => "may now",
        (true, false) => "may",
        (false, _) => "may no longer",
    }
}

/// What is only in `new`, and what was only in `old`.
fn differences<'a, T: Ord>(
    old: &'a BTreeSet<T>,
    new: &'a BTreeSet<T>,
) -> impl Iterator<Item = (bool, &'a T)> {
    new.difference(old).map(|it| (true, it)).chain(old.difference(new).map(|it| (false, it)))
}

/// A span of time as the manifest writes it.
fn span(duration: std::time::Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds if seconds % (24 * 3600) == 0 => format!("{}d", seconds / (24 * 3600)),
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

fn list(names: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| name.to_string()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
