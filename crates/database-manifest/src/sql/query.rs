//! Queries of algorithms, and what they read.

use std::collections::BTreeSet;

use manifest::reading::{Collector, Path};
use sqlparser::ast::{Expr, Query, SelectItem, SetExpr, Statement};

use super::{
    Refusal, Relation, Schema,
    check::{Level, check},
    excerpt, folded, parse,
};
use crate::TableName;

/// What a query reads and gives.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Tables, also those behind views.
    pub(crate) reads: BTreeSet<TableName>,
    /// Its columns, where the query names each.
    pub(crate) columns: Option<Vec<String>>,
}

/// Reads the one query of an algorithm with so many arguments.
pub(crate) fn query(
    text: &str,
    schema: &Schema,
    arguments: usize,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Reading> {
    if text.trim().is_empty() {
        return None;
    }
    let read = one(text).and_then(|query| {
        let checked = check(&query, schema, Level::Query)?;
        let used = &checked.placeholders;
        if let Some(beyond) = used.iter().find(|index| **index == 0 || **index > arguments) {
            return Err(Refusal::invalid(format!("there is no argument for `${beyond}`")));
        }
        if let Some(unused) = (1..=arguments).find(|index| !used.contains(index)) {
            return Err(Refusal::invalid(format!("the query does not use its argument `${unused}`")));
        }
        Ok(Reading { reads: schema.tables_behind(&checked.relations), columns: columns(&query) })
    });
    match read {
        Ok(reading) => Some(reading),
        Err(Refusal { code, message, hint }) => {
            faults.add_with(at, code, message, || hint.map(str::to_owned));
            None
        }
    }
}

fn one(text: &str) -> Result<Query, Refusal> {
    let mut statements = parse(text)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(Statement::Query(query)), true) => Ok(*query),
        (Some(other), true) => Err(Refusal::unsupported(format!("`{}` is no query", excerpt(&other)))),
        (Some(_), false) => Err(Refusal::unsupported("there is more than one statement")),
        (None, _) => Err(Refusal::invalid("there is no statement")),
    }
}

/// Names of the columns of the first part of the query.
fn columns(query: &Query) -> Option<Vec<String>> {
    let mut body = query.body.as_ref();
    loop {
        match body {
            SetExpr::Select(select) => return select.projection.iter().map(column).collect(),
            SetExpr::Query(inner) => body = inner.body.as_ref(),
            SetExpr::SetOperation { left, .. } => body = left.as_ref(),
            _ => return None,
        }
    }
}

fn column(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(folded(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().map(folded),
        SelectItem::UnnamedExpr(Expr::Function(function)) => {
            function.name.0.last().and_then(|part| part.as_ident()).map(folded)
        }
        SelectItem::UnnamedExpr(_) => Some(String::new()),
        _ => None,
    }
}

impl Schema {
    /// Tables that are read through these tables and views.
    pub(crate) fn tables_behind(&self, relations: &BTreeSet<String>) -> BTreeSet<TableName> {
        let mut tables = BTreeSet::new();
        for name in relations {
            match self.relations.get(name) {
                Some(Relation::Table(_)) => tables.extend(TableName::new(name)),
                Some(Relation::View(reads)) => tables.extend(reads.iter().cloned()),
                None => {}
            }
        }
        tables
    }
}
