//! Tables: what they are, who writes and reads them, whose rows go.

use std::collections::{BTreeMap, BTreeSet};

use ::manifest::Effect;

use super::{Found, differences, list, may, opens_if};
use crate::{Manifest, Migration, PartyName, Table, TableName};

pub(super) fn compare(old: Option<&Manifest>, new: &Manifest, migration: &Migration, found: &mut Found) {
    let none = Table::default();
    for (name, table) in &new.tables {
        let before = old.and_then(|old| old.tables.get(name));
        if before.is_none() {
            let now = if old.is_some() { "there is now" } else { "there is" };
            found.add(Effect::Changes, name, format!("{now} {name}{}", owned(table.owner.as_ref())));
        }
        if one(name, before.unwrap_or(&none), table, old, found) {
            if let Some(old) = old {
                found.touches(old, name);
            }
            if before.is_some_and(|before| before.owner != table.owner) {
                found.touches(new, name);
            }
        }
    }
    let Some(old) = old else { return };
    for name in old.tables.keys().filter(|name| !new.tables.contains_key(name)) {
        found.add(Effect::Changes, name, format!("{name} is no more, with all that is in it"));
        found.touches(old, name);
    }
    for name in redefined(old, new) {
        found.add(Effect::Changes, &name, format!("{name} is defined anew"));
        concern(old, &name, found);
    }
    // What is new and looks at something that was there: a view, a foreign key.
    for statement in new.statements.iter().filter(|statement| !old.statements.contains(statement)) {
        statement.mentions.iter().for_each(|name| concern(old, name, found));
    }
    for name in &migration.touches {
        let words = format!("the migration reads or changes {name}");
        found.add(Effect::Changes, name, words);
        concern(old, name, found);
    }
}

/// The owners of a table, or of a view and all that is behind it.
fn concern(manifest: &Manifest, name: &str, found: &mut Found) {
    let mut seen = BTreeSet::new();
    let mut waiting = vec![name.to_owned()];
    while let Some(name) = waiting.pop() {
        if let Some(table) = TableName::new(&name) {
            found.touches(manifest, &table);
        }
        let about = manifest.statements.iter().filter(|statement| statement.subject == name);
        let behind = about.flat_map(|statement| statement.mentions.iter().cloned());
        waiting.extend(behind.filter(|name| seen.insert(name.clone())));
    }
}

/// Whether anything differs.
fn one(name: &TableName, old: &Table, new: &Table, manifest: Option<&Manifest>, found: &mut Found) -> bool {
    let Table { owner, writers, readers, unit, stamp, is_view: _ } = new;
    let before = found.changes.len();
    for (now, party) in differences(&old.writers, writers) {
        found.add(opens_if(now), party, format!("{party} {} write {name}", may(now, manifest)));
    }
    for (now, party) in differences(&old.readers, readers) {
        found.add(opens_if(now), party, format!("{party} {} read every row of {name}", may(now, manifest)));
    }
    let known = manifest.is_some_and(|manifest| manifest.tables.contains_key(name));
    if known && old.owner != *owner {
        found.add(Effect::Opens, name, format!("{name} is now{}", owned(owner.as_ref())));
    }
    if known && old.unit != *unit {
        let column = unit.as_deref().unwrap_or("no column");
        found.add(Effect::Opens, name, format!("contributors of {name} are counted by {column}"));
    }
    if known && old.stamp != *stamp {
        let words = match stamp {
            Some(column) => format!("{column} of {name} says which party inserted a row"),
            None => format!("rows of {name} no longer say which party inserted them"),
        };
        found.add(opens_if(stamp.is_none()), name, words);
    }
    found.changes.len() > before
}

fn owned(owner: Option<&PartyName>) -> String {
    owner.map_or_else(|| " without an owner".to_owned(), |owner| format!(" owned by {owner}"))
}

/// What has other statements than before.
fn redefined(old: &Manifest, new: &Manifest) -> BTreeSet<String> {
    let by_subject = |manifest: &Manifest| {
        let mut map: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for statement in &manifest.statements {
            map.entry(statement.subject.clone()).or_default().insert(statement.sql.clone());
        }
        map
    };
    let (before, now) = (by_subject(old), by_subject(new));
    let both = before.keys().chain(now.keys()).cloned().collect::<BTreeSet<_>>();
    both.into_iter().filter(|name| before.contains_key(name) && before.get(name) != now.get(name)).collect()
}

pub(super) fn erased(old: Option<&Manifest>, erase: &BTreeSet<PartyName>, found: &mut Found) {
    for (party, old) in erase.iter().filter_map(|party| Some((party, old?))) {
        let tables = rows_of(old, party);
        let words = format!("all rows of {party} are deleted: those in {}", list(tables.keys()));
        found.add(Effect::Changes, party, words);
        found.require(party, "its rows are deleted");
        for table in tables.keys() {
            found.touches(old, table);
        }
    }
}

/// Tables with rows that are known to be a party's: those that are stamped, by the column, and those that nobody else
/// writes.
#[must_use]
pub fn rows_of<'m>(manifest: &'m Manifest, party: &PartyName) -> BTreeMap<&'m TableName, Option<&'m str>> {
    let stamped = manifest.tables.iter().filter_map(|(name, table)| match &table.stamp {
        Some(column) => Some((name, Some(column.as_str()))),
        None => (table.writers.len() == 1 && table.writers.contains(party)).then_some((name, None)),
    });
    stamped.collect()
}
