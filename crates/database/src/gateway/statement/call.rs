//! Calls of algorithms: `SELECT * FROM algorithm.name(arguments)` and nothing besides. PostgreSQL gets a stand-in that
//! has the same parameters and the same columns, and no row, so that everything about a call but its answer (types,
//! formats, names of statements and portals, states of transactions, order) is what PostgreSQL itself says.

use std::fmt::Write as _;

use database_manifest::{AlgorithmName, Manifest, SqlType};
use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectName, Query, SetExpr, TableFactor, UnaryOperator, Value,
};

use super::{Refusal, Rights, parts};

/// An algorithm and its arguments.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::gateway) struct Call {
    pub(in crate::gateway) name: AlgorithmName,
    arguments: Vec<(Argument, SqlType)>,
    columns: Vec<(String, SqlType)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Argument {
    /// Written in the statement.
    Literal(String),
    /// A parameter, from 1.
    Parameter(u16),
}

const SHAPE: &str = "an algorithm is called as SELECT * FROM algorithm.name(arguments), with nothing besides, its \
                     arguments being literals or parameters";

/// `None`: the query has nothing to do with algorithms.
pub(super) fn recognise(
    query: &Query,
    rights: &Rights,
    manifest: &Manifest,
) -> Result<Option<Call>, Refusal> {
    let Some((name, arguments)) = function(query) else { return Ok(None) };
    let parts = parts(name).unwrap_or_default();
    let [schema, short] = parts.as_slice() else { return Ok(None) };
    if schema != "algorithm" {
        return Ok(None);
    }
    let shape = || Refusal::new("CALL_SHAPE", SHAPE);
    let plain = arguments.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if query.to_string() != format!("SELECT * FROM {name}({plain})") {
        return Err(shape());
    }
    let found = AlgorithmName::new(short).filter(|it| rights.calls.contains(it));
    let found = found.and_then(|name| manifest.algorithms.get(&name).map(|it| (name, it)));
    let unknown = || Refusal::new("NOT_A_CALLER", "there is no algorithm of this name that you may call");
    let (name, algorithm) = found.ok_or_else(unknown)?;
    let (expected, seen) = (algorithm.arguments.len(), arguments.len());
    if expected != seen {
        let sentence = format!("{expected} arguments are expected, {seen} were given");
        return Err(Refusal::new("ARGUMENT_COUNT", sentence));
    }
    let given = arguments.iter().map(|it| argument(it).ok_or_else(shape)).collect::<Result<Vec<_>, _>>()?;
    let types = algorithm.arguments.iter().map(|it| it.sql_type);
    let columns = algorithm.output.columns.iter().map(|it| (it.name.clone(), it.sql_type)).collect();
    Ok(Some(Call { name, arguments: given.into_iter().zip(types).collect(), columns }))
}

fn function(query: &Query) -> Option<(&ObjectName, &[FunctionArg])> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let [from] = select.from.as_slice() else { return None };
    match &from.relation {
        TableFactor::Table { name, args: Some(arguments), .. } => Some((name, arguments.args.as_slice())),
        _ => None,
    }
}

fn argument(argument: &FunctionArg) -> Option<Argument> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => value(expr),
        _ => None,
    }
}

fn value(expr: &Expr) -> Option<Argument> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(text, _) | Value::SingleQuotedString(text) => Some(Argument::Literal(text.clone())),
            Value::Boolean(value) => Some(Argument::Literal(value.to_string())),
            Value::Placeholder(text) => {
                let number = text.strip_prefix('$')?.parse().ok().filter(|it| *it > 0)?;
                Some(Argument::Parameter(number))
            }
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match value(expr)? {
            Argument::Literal(text) if !text.starts_with('-') => Some(Argument::Literal(format!("-{text}"))),
            _ => None,
        },
        // Clients write the type that they mean; what counts is the one that the manifest says.
        Expr::Cast { expr, .. } => value(expr),
        Expr::TypedString(typed) => match &typed.value.value {
            Value::SingleQuotedString(text) => Some(Argument::Literal(text.clone())),
            _ => None,
        },
        _ => None,
    }
}

impl Call {
    /// Parameters and columns of the call, and no row.
    pub(super) fn stand_in(&self) -> String {
        let column =
            |(name, kind): &(String, SqlType)| format!("NULL::{} AS {}", kind.sql(), quoted_name(name));
        let used =
            |(argument, kind): &(Argument, SqlType)| format!(" AND {} IS NULL", typed(argument, *kind));
        let columns = self.columns.iter().map(column).collect::<Vec<_>>().join(", ");
        format!("SELECT {columns} WHERE false{}", self.arguments.iter().map(used).collect::<String>())
    }

    /// A query of one row: the arguments' text forms, which do not depend on settings of the session.
    pub(in crate::gateway) fn conversion(&self) -> String {
        let text = |(argument, kind): &(Argument, SqlType)| match kind {
            SqlType::Timestamp => format!("({} AT TIME ZONE 'UTC')::text || '+00'", typed(argument, *kind)),
            _ => format!("{}::text", typed(argument, *kind)),
        };
        format!("SELECT {}", self.arguments.iter().map(text).collect::<Vec<_>>().join(", "))
    }

    /// A query that gives these rows, typed.
    pub(in crate::gateway) fn answer(&self, rows: &[Vec<Option<String>>]) -> String {
        let column = |(at, (name, kind)): (usize, &(String, SqlType))| {
            format!("c{at}::{} AS {}", kind.sql(), quoted_name(name))
        };
        let columns = self.columns.iter().enumerate().map(column).collect::<Vec<_>>().join(", ");
        let names = (0..self.columns.len()).map(|at| format!("c{at}")).collect::<Vec<_>>().join(", ");
        let none = [vec![None; self.columns.len()]];
        let value = |value: Option<&Option<String>>| match value.and_then(Option::as_deref) {
            Some(text) => quoted(text),
            None => "NULL::text".to_owned(),
        };
        let row = |row: &Vec<Option<String>>| {
            let values = (0..self.columns.len()).map(|at| value(row.get(at)));
            format!("({})", values.collect::<Vec<_>>().join(", "))
        };
        let values =
            if rows.is_empty() { &none } else { rows }.iter().map(row).collect::<Vec<_>>().join(", ");
        let mut text = format!("SELECT {columns} FROM (VALUES {values}) AS answer ({names})");
        if rows.is_empty() {
            let _ = text.write_str(" WHERE false");
        }
        text
    }
}

fn typed(argument: &Argument, kind: SqlType) -> String {
    match argument {
        Argument::Literal(text) => format!("({}::{})", quoted(text), kind.sql()),
        Argument::Parameter(number) => format!("(${number}::{})", kind.sql()),
    }
}

/// A literal. `standard_conforming_strings` is on, and no client changes that.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}
