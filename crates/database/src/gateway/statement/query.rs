//! Queries: everything within one is looked at, wherever it stands.

use std::{
    collections::{BTreeSet, HashSet},
    ops::ControlFlow,
};

use sqlparser::ast::{
    BinaryOperator, Expr, ObjectName, Query, Select, SetExpr, Statement, TableFactor, TableObject, Visit,
    Visitor,
};

use super::{Refusal, Rights, functions, no, parts, relations};

/// Checks a query, or the query and the values of an `INSERT` into `target`.
pub(super) fn check(
    statement: &Statement,
    rights: &Rights,
    target: Option<&TableObject>,
) -> Result<(), Refusal> {
    let target = match target {
        Some(TableObject::TableName(name)) => Some(name),
        _ => None,
    };
    let mut walk =
        Walk { rights, own: own_names(statement), target, statements: 0, functions: HashSet::new() };
    match statement.visit(&mut walk) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

/// `EXPLAIN` of a query, without running it. Only for who reads: a plan shows estimates of how many rows there are.
pub(super) fn explain(statement: &Statement, rights: &Rights) -> Result<(), Refusal> {
    let Statement::Explain { analyze: false, statement, options, query_plan: false, estimate: false, .. } =
        statement
    else {
        return Err(no("EXPLAIN ANALYZE"));
    };
    let harmless = |name: &str| ["costs", "verbose", "format", "summary"].contains(&name);
    if options.iter().flatten().any(|it| !harmless(&it.name.value.to_ascii_lowercase())) {
        return Err(no("EXPLAIN with such an option"));
    }
    if rights.reads.is_empty() || !matches!(**statement, Statement::Query(_)) {
        return Err(no("EXPLAIN"));
    }
    check(statement, rights, None)
}

/// Names that a statement gives to queries of its own.
pub(super) fn own_names(statement: &Statement) -> BTreeSet<String> {
    let mut names = Names(BTreeSet::new());
    // Nothing of it ends early.
    let _ = statement.visit(&mut names);
    names.0
}

struct Names(BTreeSet<String>);

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|it| &it.cte_tables);
        self.0.extend(tables.map(|it| super::folded(&it.alias.name)));
        ControlFlow::Continue(())
    }
}

struct Walk<'a> {
    rights: &'a Rights,
    own: BTreeSet<String>,
    target: Option<&'a ObjectName>,
    statements: usize,
    /// Names of functions that stand where tables do: these very ones, since a table may be called the same.
    functions: HashSet<*const ObjectName>,
}

fn flow(result: Result<(), Refusal>) -> ControlFlow<Refusal> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(refusal) => ControlFlow::Break(refusal),
    }
}

impl Visitor for Walk<'_> {
    type Break = Refusal;

    fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<Refusal> {
        self.statements += 1;
        flow(if self.statements == 1 { Ok(()) } else { Err(no("a statement within another")) })
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refusal> {
        let plain = matches!(
            *query.body,
            SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::SetOperation { .. } | SetExpr::Values(_)
        );
        flow(if !query.locks.is_empty() {
            Err(no("FOR UPDATE or FOR SHARE"))
        } else if !plain
            || query.for_clause.is_some()
            || query.settings.is_some()
            || !query.pipe_operators.is_empty()
        {
            Err(no("such a query"))
        } else {
            Ok(())
        })
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refusal> {
        flow(if select.into.is_some() { Err(no("SELECT INTO")) } else { Ok(()) })
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refusal> {
        flow(match factor {
            TableFactor::Table { name, args: Some(_), .. } => {
                self.functions.insert(std::ptr::from_ref(name));
                functions::callable(name).map(drop)
            }
            TableFactor::Function { name, .. } => functions::callable(name).map(drop),
            TableFactor::Table { sample: None, version: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. } => Ok(()),
            _ => Err(no("such a table expression")),
        })
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Refusal> {
        let is_function = self.functions.contains(&std::ptr::from_ref(relation));
        if is_function || self.target.is_some_and(|it| std::ptr::eq(it, relation)) {
            return ControlFlow::Continue(());
        }
        let parts = parts(relation).unwrap_or_default();
        flow(relations::readable(&parts, self.rights, &self.own))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refusal> {
        flow(match expr {
            Expr::Function(function) => functions::check(function),
            Expr::BinaryOp { op: BinaryOperator::PGCustomBinaryOperator(parts), .. } => {
                let catalog = parts.len() < 2 || parts.first().is_some_and(|it| it == "pg_catalog");
                if catalog { Ok(()) } else { Err(no("such an operator")) }
            }
            _ => Ok(()),
        })
    }
}
