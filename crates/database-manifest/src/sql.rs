//! The SQL of a manifest: parsed whole, and refused where it is not understood. What is run later is written out anew
//! from what was read.

mod check;
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
    tokenizer::{Token, Tokenizer},
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

/// More tokens are no statement that a person can agree to; and a tree of them is only so deep.
pub(crate) const MOST_TOKENS: usize = 20_000;
/// Trees are walked, copied and dropped by recursion: `1 + 1 + 1 …` is as deep as it is long.
const STACK: usize = 256 << 20;

/// Does work with SQL on a stack that the deepest tree fits on; `None`: there is no memory for one.
pub fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work).ok()?;
        Some(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Only called within [`deep`].
fn parse(text: &str) -> Result<Vec<Statement>, Refusal> {
    if text.contains('\0') {
        return Err(Refusal::invalid("there is a zero byte in the SQL"));
    }
    let not_sql = |error: String| Refusal::invalid(format!("not SQL that is understood: {}", shown(&error)));
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, text)
        .tokenize_with_location()
        .map_err(|error| not_sql(error.to_string()))?;
    let statements = tokens.split(|token| token.token == Token::SemiColon);
    let longest = statements.map(|part| part.iter().filter(|it| !is_space(&it.token)).count()).max();
    if longest.is_some_and(|longest| longest > MOST_TOKENS) {
        return Err(Refusal::unsupported(format!("a statement has more than {MOST_TOKENS} words and signs")));
    }
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    parser.parse_statements().map_err(|error| not_sql(error.to_string()))
}

fn is_space(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_))
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
