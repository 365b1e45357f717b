//! The statements that lead from one schema to the next. They are checked as those of a schema are; beside them, columns
//! and constraints change, and data moves. Whether they lead there is seen when they are run.

use std::collections::BTreeSet;

use manifest::reading::shown;
use sqlparser::ast::{
    AlterColumnOperation, AlterTable, AlterTableOperation as Operation, Delete, Insert, ObjectType,
    Statement as Sql, TableObject, Update,
};

use super::{
    Refusal, Relation, Schema,
    check::{Level, check},
    deep, excerpt, parse, plain, types,
};
use crate::{Manifest, TableName};

/// A migration that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Migration {
    /// The statements, in order, without semicolons, written out anew from what was read.
    pub statements: Vec<String>,
    /// Tables and views of the schema in force that it changes or reads: whose owners must agree.
    pub touches: BTreeSet<String>,
}

/// Why a migration is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("statement {number} of the migration: {message}{}", hint.map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct InvalidMigration {
    /// Which statement, from 1; 0: the text as a whole.
    pub number: usize,
    /// What is wrong.
    pub message: String,
    /// What would mend it.
    pub hint: Option<&'static str>,
}

impl Migration {
    /// Reads the statements that change the schema of `current`.
    ///
    /// # Errors
    /// The first statement that may not stand in a migration, or is about what does not exist.
    pub fn read(text: &str, current: &Manifest) -> Result<Self, InvalidMigration> {
        let memory = || InvalidMigration {
            number: 0,
            message: "there is no memory to read it".to_owned(),
            hint: None,
        };
        deep(|| Self::steps(text, current)).ok_or_else(memory)?
    }

    fn steps(text: &str, current: &Manifest) -> Result<Self, InvalidMigration> {
        let fault = |number, Refusal { message, hint, .. }| InvalidMigration { number, message, hint };
        let mut schema = Schema::of(&current.schema).map_err(|refusal| fault(0, refusal))?;
        let mut migration = Self::default();
        for (index, statement) in parse(text).map_err(|refusal| fault(0, refusal))?.iter().enumerate() {
            let touched = step(&mut schema, statement).map_err(|refusal| fault(index + 1, refusal))?;
            migration.touches.extend(touched);
            migration.statements.push(statement.to_string());
        }
        Ok(migration)
    }

    /// Tables among those that it touches.
    pub fn tables(&self) -> impl Iterator<Item = TableName> {
        self.touches.iter().filter_map(|name| TableName::new(name))
    }
}

/// What a statement touches; `schema` is as it is after it.
fn step(schema: &mut Schema, statement: &Sql) -> Result<BTreeSet<String>, Refusal> {
    match statement {
        Sql::AlterTable(alter) => altered(schema, alter),
        Sql::Drop {
            object_type,
            if_exists: false,
            names,
            cascade: false,
            temporary: false,
            table: None,
            ..
        } => names.iter().map(|name| dropped(schema, *object_type, plain(name)?)).collect(),
        Sql::Insert(insert) => inserted(schema, insert),
        Sql::Update(update) => updated(schema, update),
        Sql::Delete(delete) => deleted(schema, delete),
        Sql::CreateTable(_) | Sql::CreateView(_) | Sql::CreateIndex(_) | Sql::CreateType { .. } => {
            schema.take(statement)?;
            let made = schema.statements.last();
            Ok(made
                .map(|made| made.mentions.iter().chain([&made.subject]).cloned().collect())
                .unwrap_or_default())
        }
        other => Err(Refusal::unsupported(format!("`{}` may not stand in a migration", excerpt(other)))
            .hint("CREATE, ALTER TABLE, DROP without CASCADE, INSERT … SELECT, UPDATE, DELETE may")),
    }
}

fn exists(schema: &Schema, table: &str) -> Result<(), Refusal> {
    match schema.relations.get(table) {
        Some(Relation::Table(_)) => Ok(()),
        _ => Err(Refusal::invalid(format!("there is no table {table} at this point"))),
    }
}

fn altered(schema: &Schema, alter: &AlterTable) -> Result<BTreeSet<String>, Refusal> {
    let table = plain(&alter.name)?;
    exists(schema, &table)?;
    if alter.if_exists || alter.location.is_some() || alter.on_cluster.is_some() || alter.table_type.is_some()
    {
        return Err(Refusal::unsupported(format!("`ALTER TABLE {table}` has parts that are not understood")));
    }
    let mut touched = BTreeSet::new();
    for operation in &alter.operations {
        let understood = match operation {
            Operation::AddConstraint { constraint, not_valid: false } => {
                schema.constrained(constraint, &table, &mut touched)?;
                true
            }
            Operation::AddColumn { column_def, if_not_exists: false, column_position: None, .. } => {
                schema.column(column_def, &table, &mut touched)?;
                true
            }
            Operation::AlterColumn { op, .. } => match op {
                AlterColumnOperation::SetDataType { data_type, .. } => {
                    types::name(data_type, &schema.enums).is_some()
                }
                AlterColumnOperation::AddGenerated { .. } => false,
                _ => true,
            },
            Operation::DropColumn { if_exists: false, drop_behavior: None, .. }
            | Operation::DropConstraint { if_exists: false, drop_behavior: None, .. }
            | Operation::RenameColumn { .. } => true,
            _ => false,
        };
        if !understood {
            let text = shown(&operation.to_string());
            return Err(Refusal::unsupported(format!("`ALTER TABLE {table} {text}` is not let through")));
        }
    }
    check(&Sql::AlterTable(alter.clone()), schema, Level::Definition)?;
    touched.insert(table);
    Ok(touched)
}

fn dropped(schema: &mut Schema, kind: ObjectType, name: String) -> Result<String, Refusal> {
    let missing = || Refusal::invalid(format!("there is no {kind} {name} at this point"));
    match kind {
        ObjectType::Table | ObjectType::View => {
            let there = schema.relations.remove(&name).ok_or_else(missing)?;
            let right = matches!(there, Relation::Table(_)) == (kind == ObjectType::Table);
            right.then_some(name.clone()).ok_or_else(missing)
        }
        ObjectType::Index => schema.indexes.remove(&name).ok_or_else(missing),
        ObjectType::Type => schema.enums.remove(&name).then_some(name.clone()).ok_or_else(missing),
        other => Err(Refusal::unsupported(format!("`DROP {other}` is not let through"))),
    }
}

fn inserted(schema: &Schema, insert: &Insert) -> Result<BTreeSet<String>, Refusal> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(Refusal::unsupported("an INSERT is into no plain table"));
    };
    let table = plain(name)?;
    exists(schema, &table)?;
    let plain_insert = insert.or.is_none()
        && !insert.ignore
        && insert.into
        && insert.table_alias.is_none()
        && !insert.overwrite
        && insert.source.is_some()
        && insert.assignments.is_empty()
        && insert.partitioned.is_none()
        && insert.after_columns.is_empty()
        && !insert.has_table_keyword
        && insert.on.is_none()
        && insert.returning.is_none()
        && insert.output.is_none()
        && !insert.replace_into
        && insert.priority.is_none()
        && insert.insert_alias.is_none()
        && insert.settings.is_none()
        && insert.format_clause.is_none()
        && insert.multi_table_insert_type.is_none();
    if !plain_insert {
        return Err(Refusal::unsupported("an INSERT has more than columns and VALUES or SELECT"));
    }
    let mut touched = check(&Sql::Insert(insert.clone()), schema, Level::Migration)?.relations;
    touched.insert(table);
    Ok(touched)
}

fn updated(schema: &Schema, update: &Update) -> Result<BTreeSet<String>, Refusal> {
    if update.returning.is_some() || update.output.is_some() || update.or.is_some() || update.limit.is_some()
    {
        return Err(Refusal::unsupported("an UPDATE has more than SET, FROM and WHERE"));
    }
    Ok(check(&Sql::Update(update.clone()), schema, Level::Migration)?.relations)
}

fn deleted(schema: &Schema, delete: &Delete) -> Result<BTreeSet<String>, Refusal> {
    let more = delete.returning.is_some()
        || delete.output.is_some()
        || delete.limit.is_some()
        || !delete.order_by.is_empty()
        || !delete.tables.is_empty();
    if more {
        return Err(Refusal::unsupported("a DELETE has more than FROM, USING and WHERE"));
    }
    Ok(check(&Sql::Delete(delete.clone()), schema, Level::Migration)?.relations)
}
