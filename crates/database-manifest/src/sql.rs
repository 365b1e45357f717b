//! The SQL of a manifest: parsed whole, and refused where it is not understood. What is run later is written out anew
//! from what was read.

mod functions;
mod migration;
mod query;
mod schema;
mod types;

pub use functions::is_pure;
pub use migration::{InvalidMigration, Migration};
pub(crate) use query::query;
pub(crate) use schema::{Relation, Schema};

use manifest::{Code, reading::shown};
use sqlparser::{
    ast::{Ident, ObjectName, Statement},
    dialect::PostgreSqlDialect,
    parser::Parser,
};

/// What is wrong with a statement, and what would mend it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) hint: Option<&'static str>,
}

impl Refusal {
    fn unsupported(what: impl Into<String>) -> Self {
        Self { code: Code::UnsupportedSql, message: what.into(), hint: None }
    }

    fn invalid(what: impl Into<String>) -> Self {
        Self { code: Code::InvalidSql, message: what.into(), hint: None }
    }

    fn hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }
}

fn parse(text: &str) -> Result<Vec<Statement>, Refusal> {
    if text.contains('\0') {
        return Err(Refusal::invalid("there is a zero byte in the SQL"));
    }
    Parser::parse_sql(&PostgreSqlDialect {}, text).map_err(|error| {
        Refusal::invalid(format!("not SQL that is understood: {}", shown(&error.to_string())))
    })
}

/// An identifier as PostgreSQL knows it: in lower case unless quoted.
fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The one identifier of a name that has no schema before it.
fn single(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [part] => part.as_ident().map(folded),
        _ => None,
    }
}

fn plain(name: &ObjectName) -> Result<String, Refusal> {
    single(name).ok_or_else(|| {
        Refusal::unsupported(format!("`{}` is no plain name", shown(&name.to_string())))
            .hint("leave out the schema: everything is in `public`")
    })
}

/// The start of a statement, to show.
fn excerpt(statement: &Statement) -> String {
    shown(&statement.to_string())
}
