//! Every part of a statement: each relation is one of the schema, each function is known and pure, each kind of
//! expression and of type is let through by name; nothing is written, locked or prepared.

use std::{collections::BTreeSet, ops::ControlFlow};

use manifest::{Code, reading::shown};
use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArguments, Ident, ObjectName, Query, Select, SelectFlavor, SetExpr,
    TableFactor, Value, ValueWithSpan, Visit, Visitor,
};

use super::{Refusal, Schema, folded, functions, types};

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// In a query with arguments.
    Query,
    /// In a view.
    View,
    /// In a table's or an index's definition: no subquery.
    Definition,
    /// In a statement that moves data.
    Migration,
}

/// What was met.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) relations: BTreeSet<String>,
    pub(super) placeholders: BTreeSet<usize>,
}

/// Looks at every part of a statement or query.
pub(super) fn check(part: &impl Visit, schema: &Schema, level: Level) -> Result<Checked, Refusal> {
    let mut aliases = Aliases(BTreeSet::new());
    let _ = part.visit(&mut aliases);
    if let Some(shadow) = aliases.0.iter().find(|alias| schema.relations.contains_key(*alias)) {
        return Err(Refusal::unsupported(format!("`WITH {shadow}` hides the table or view {shadow}"))
            .hint("give it another name"));
    }
    let mut checker = Checker { schema, level, aliases: aliases.0, checked: Checked::default() };
    match part.visit(&mut checker) {
        ControlFlow::Continue(()) => Ok(checker.checked),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

/// Names that `WITH` gives.
struct Aliases(BTreeSet<String>);

impl Visitor for Aliases {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.0.extend(query.with.iter().flat_map(|with| &with.cte_tables).map(|cte| folded(&cte.alias.name)));
        ControlFlow::Continue(())
    }
}

struct Checker<'s> {
    schema: &'s Schema,
    level: Level,
    aliases: BTreeSet<String>,
    checked: Checked,
}

impl Visitor for Checker<'_> {
    type Break = Refusal;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refusal> {
        flow(self.query(query))
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refusal> {
        flow(simple(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Refusal> {
        flow(self.factor(factor))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refusal> {
        flow(self.expression(expr))
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Refusal> {
        flow(self.value(&value.value))
    }

    fn pre_visit_ident(&mut self, ident: &Ident) -> ControlFlow<Refusal> {
        flow(match ident.quote_style {
            None | Some('"') => Ok(()),
            Some(_) => Err(Refusal::unsupported("an identifier has other quotes than \"\"")),
        })
    }
}

fn flow(result: Result<(), Refusal>) -> ControlFlow<Refusal> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(refusal) => ControlFlow::Break(refusal),
    }
}

impl Checker<'_> {
    fn query(&self, query: &Query) -> Result<(), Refusal> {
        if self.level == Level::Definition {
            return Err(Refusal::unsupported("a definition contains a query"));
        }
        if !query.locks.is_empty() {
            return Err(Refusal::unsupported("the query locks rows"));
        }
        let other = query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty();
        if other {
            return Err(Refusal::unsupported("the query has parts that PostgreSQL does not have"));
        }
        body(&query.body)
    }

    fn factor(&mut self, factor: &TableFactor) -> Result<(), Refusal> {
        match factor {
            TableFactor::Table {
                name,
                args,
                with_hints,
                version: None,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
                ..
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => match args {
                Some(args) if args.settings.is_none() => function(name, self.level),
                Some(_) => Err(Refusal::unsupported("a function has settings")),
                None => self.relation(name),
            },
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => Ok(()),
            TableFactor::UNNEST { with_offset: false, .. } => Ok(()),
            TableFactor::Function { name, .. } => function(name, self.level),
            other => Err(Refusal::unsupported(format!("`{}` is not understood", shown(&other.to_string())))),
        }
    }

    fn relation(&mut self, name: &ObjectName) -> Result<(), Refusal> {
        let parts: Option<Vec<_>> = name.0.iter().map(|part| part.as_ident().map(folded)).collect();
        let known = match parts.as_deref() {
            Some([name]) if self.aliases.contains(name) => return Ok(()),
            Some([name]) => Some(name),
            // A view is tried out in another schema before it is made.
            Some([schema, name]) if schema == "public" && self.level != Level::View => Some(name),
            _ => None,
        };
        match known.filter(|name| self.schema.relations.contains_key(*name)) {
            Some(name) => {
                self.checked.relations.insert(name.clone());
                Ok(())
            }
            None => Err(Refusal {
                code: Code::UnknownReference,
                message: format!("the schema makes no table or view `{}`", shown(&name.to_string())),
                hint: None,
            }),
        }
    }

    fn value(&mut self, value: &Value) -> Result<(), Refusal> {
        let Value::Placeholder(text) = value else { return Ok(()) };
        let index = text.strip_prefix('$').and_then(|digits| digits.parse().ok());
        match index {
            Some(index) if self.level == Level::Query => {
                self.checked.placeholders.insert(index);
                Ok(())
            }
            Some(_) => Err(Refusal::unsupported(format!("`{text}`: only an algorithm has arguments"))),
            None => Err(Refusal::unsupported(format!("`{}` is no argument", shown(text)))
                .hint("arguments are `$1`, `$2` … in the order of `Arguments`")),
        }
    }

    fn expression(&self, expr: &Expr) -> Result<(), Refusal> {
        let refused =
            |what: &str| Err(Refusal::unsupported(format!("`{}` {what}", shown(&expr.to_string()))));
        match expr {
            Expr::Function(it) => {
                if it.uses_odbc_syntax || !matches!(it.parameters, FunctionArguments::None) {
                    return refused("is no call as PostgreSQL has it");
                }
                function(&it.name, self.level)
            }
            Expr::Cast { data_type, format: None, .. } => match types::name(data_type, &self.schema.enums) {
                Some(_) => Ok(()),
                None => refused("casts to a type that is not let through"),
            },
            Expr::TypedString(typed) => match types::name(&typed.data_type, &self.schema.enums) {
                Some(_) => Ok(()),
                None => refused("has a type that is not let through"),
            },
            Expr::BinaryOp {
                op: BinaryOperator::Custom(_) | BinaryOperator::PGCustomBinaryOperator(_),
                ..
            } => refused("has an operator that is not let through"),
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::CompoundFieldAccess { .. }
            | Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(..)
            | Expr::IsNotDistinctFrom(..)
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Between { .. }
            | Expr::BinaryOp { .. }
            | Expr::Like { .. }
            | Expr::ILike { .. }
            | Expr::SimilarTo { .. }
            | Expr::AnyOp { .. }
            | Expr::AllOp { .. }
            | Expr::UnaryOp { .. }
            | Expr::AtTimeZone { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Overlay { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::GroupingSets(_)
            | Expr::Cube(_)
            | Expr::Rollup(_)
            | Expr::Tuple(_)
            | Expr::Array(_)
            | Expr::Interval(_) => Ok(()),
            _ => refused("is not understood"),
        }
    }
}

fn function(name: &ObjectName, level: Level) -> Result<(), Refusal> {
    let parts: Option<Vec<_>> = name.0.iter().map(|part| part.as_ident().map(folded)).collect();
    let known = match parts.as_deref() {
        Some([name]) => Some(name),
        Some([schema, name]) if schema == "pg_catalog" => Some(name),
        _ => None,
    };
    let allowed = |name: &String| match level {
        Level::Query | Level::View => functions::is_pure(name),
        Level::Definition | Level::Migration => functions::is_default(name),
    };
    if known.is_some_and(allowed) {
        return Ok(());
    }
    let message = format!("the function `{}` is not let through", shown(&name.to_string()));
    Err(Refusal::unsupported(message).hint("docs/database-manifest.md lists those that are"))
}

/// Nothing is written in a query, nor in a part of one.
fn body(expr: &SetExpr) -> Result<(), Refusal> {
    match expr {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => Ok(()),
        SetExpr::SetOperation { left, right, .. } => body(left).and_then(|()| body(right)),
        other => Err(Refusal::unsupported(format!("`{}` is no query", shown(&other.to_string())))),
    }
}

fn simple(select: &Select) -> Result<(), Refusal> {
    if select.into.is_some() {
        return Err(Refusal::unsupported("the query writes its result INTO a table"));
    }
    let other = !select.optimizer_hints.is_empty()
        || select.select_modifiers.is_some()
        || select.top.is_some()
        || select.exclude.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.qualify.is_some()
        || select.value_table_mode.is_some()
        || select.flavor != SelectFlavor::Standard;
    if other {
        return Err(Refusal::unsupported("the query has parts that PostgreSQL does not have"));
    }
    Ok(())
}
