//! Tables: every one of the schema is spoken of, and what is said of it fits its columns.

use std::collections::BTreeMap;

use manifest::{
    Code,
    reading::{Collector, Path, suggestion},
};

use crate::{
    Table, TableName,
    document::{self, Document},
    resolve::{Names, named},
    sql::{Relation, Schema},
};

pub(super) fn resolve(
    document: &Document,
    names: &Names<'_>,
    schema: &Schema,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<TableName, Table> {
    for (name, relation) in &schema.relations {
        if !document.tables.contains_key(name) && matches!(relation, Relation::Table(_)) {
            let message = format!("the schema makes the table {name}, and nothing is said of it here");
            faults.hint(at, Code::Missing, message, "say who writes and who reads it; `{}` is nobody");
        }
    }
    let approvers = document.updates.as_ref().map(|updates| updates.approvers.as_slice()).unwrap_or_default();
    named(&document.tables, at, faults, TableName::new, |name, wire, here, faults| {
        let Some(relation) = schema.relations.get(name.as_str()) else {
            let known: Vec<_> = schema.relations.keys().map(String::as_str).collect();
            let hint = || suggestion(name.as_str(), &known);
            faults.add_with(here, Code::UnknownReference, "the schema makes no such table or view", hint);
            return None;
        };
        let table = Table {
            owner: wire.owner.as_ref().and_then(|owner| names.one(owner, &here.field("Owner"), faults)),
            writers: names.set(&wire.writers, &here.field("Writers"), faults),
            readers: names.set(&wire.readers, &here.field("Readers"), faults),
            unit: wire.unit.clone(),
            stamp: wire.stamp.clone(),
            is_view: matches!(relation, Relation::View(_)),
        };
        if let Some(owner) = wire.owner.as_ref().filter(|owner| !approvers.contains(owner)) {
            let message =
                format!("{owner} is not among the approvers, so no change of this table could be approved");
            faults.hint(&here.field("Owner"), Code::Conflict, message, "add it to `Updates.Approvers`");
        }
        match relation {
            Relation::Table(columns) => of_table(wire, columns, here, faults),
            Relation::View(_) => of_view(wire, here, faults),
        }
        Some(table)
    })
}

fn of_table(
    wire: &document::Table,
    columns: &BTreeMap<String, String>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) {
    for (field, column) in [("Unit", &wire.unit), ("Stamp", &wire.stamp)] {
        let Some(column) = column else { continue };
        let here = at.field(field);
        match columns.get(column) {
            None => {
                let known: Vec<_> = columns.keys().map(String::as_str).collect();
                let hint = || suggestion(column, &known);
                faults.add_with(&here, Code::UnknownReference, "the table has no such column", hint);
            }
            Some(kind) if field == "Stamp" && kind != "text" => {
                let message = format!("the column gets a party's name, so it must be text, not {kind}");
                faults.add(&here, Code::Conflict, message);
            }
            Some(_) => {}
        }
    }
}

fn of_view(wire: &document::Table, at: &Path<'_>, faults: &mut Collector<'_>) {
    let given = [
        ("Writers", !wire.writers.is_empty()),
        ("Unit", wire.unit.is_some()),
        ("Stamp", wire.stamp.is_some()),
    ];
    for (field, _) in given.into_iter().filter(|(_, given)| *given) {
        faults.add(&at.field(field), Code::NotApplicable, "a view is only read");
    }
}
