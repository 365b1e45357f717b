//! `INSERT`: into tables that the party writes; and blind, unless it reads them too.

use sqlparser::ast::{Insert, ObjectName, OnConflictAction, OnInsert, TableObject};

use super::{Refusal, Rights, no, parts};

/// Whether it may insert; then, whether it does so blind.
pub(super) fn check(insert: &Insert, rights: &Rights) -> Result<bool, Refusal> {
    let TableObject::TableName(name) = &insert.table else { return Err(no("such an INSERT")) };
    let table = target(name, rights)?;
    let blind = !rights.reads.contains(&table);
    if blind && insert.returning.is_some() {
        let sentence = format!("{} writes `{table}` blind: RETURNING is refused", rights.party);
        return Err(Refusal::new("BLIND_RETURNING", sentence));
    }
    match &insert.on {
        None => {}
        Some(OnInsert::OnConflict(on)) if !blind && matches!(on.action, OnConflictAction::DoNothing) => {}
        // How many rows were inserted would tell which keys there are.
        Some(_) => {
            let sentence = format!(
                "{} writes `{table}` blind, or changes no rows: ON CONFLICT is refused",
                rights.party
            );
            return Err(Refusal::new("BLIND_CONFLICT", sentence));
        }
    }
    Ok(blind)
}

/// The table that rows go to.
pub(super) fn target(name: &ObjectName, rights: &Rights) -> Result<String, Refusal> {
    let parts = parts(name).unwrap_or_default();
    let table = match parts.as_slice() {
        [table] => Some(table),
        [schema, table] if schema == "public" => Some(table),
        _ => None,
    };
    let refusal = || {
        let sentence = format!("`{name}` is no table that the party {} writes", rights.party);
        Refusal::new("TABLE_REFUSED", sentence)
    };
    table.filter(|it| rights.writes.contains(*it)).cloned().ok_or_else(refusal)
}
