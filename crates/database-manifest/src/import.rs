//! From other databases: manifests of EdgelessDB, dumps of PostgreSQL and MySQL. What cannot be carried over is never
//! dropped in silence: each such statement is in the report, with the reason.

mod dump;
mod edgelessdb;
mod mysql;

use std::fmt;

use manifest::reading::shown;
use sqlparser::{
    ast::Statement as Sql,
    dialect::{Dialect as Grammar, MySqlDialect, PostgreSqlDialect},
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};

pub use dump::Dump;
pub use edgelessdb::{Approvers, Imported};

use crate::sql::{MOST_TOKENS, Refusal, Schema, deep};

/// More text is not looked at: rows of a large table are better copied than translated.
const LONGEST: usize = 64 << 20;

/// Whose SQL it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `pg_dump`, as text.
    Postgres,
    /// `mysqldump`, and manifests of EdgelessDB.
    MySql,
}

/// A statement that was not carried over, or only in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Its beginning.
    pub statement: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    {}", self.statement, self.why)
    }
}

/// Why nothing can be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Too much.
    #[error("the file has {0} bytes, more than {LONGEST}: dump the schema alone, and copy the rows")]
    TooLarge(usize),
    /// Too little memory.
    #[error("there is no memory to read it")]
    Memory,
    /// No tokens of SQL.
    #[error("the file is not SQL: {0}")]
    NotSql(String),
    /// No manifest of EdgelessDB.
    #[error("this is no manifest of EdgelessDB: {0}")]
    NotEdgelessDb(String),
}

/// Translates a dump.
///
/// # Errors
/// When it is too large, or no SQL at all.
pub fn dump(text: &str, dialect: Dialect) -> Result<Dump, ImportError> {
    deep(|| dump::translate(text, dialect)).ok_or(ImportError::Memory)?
}

/// Translates a manifest of EdgelessDB.
///
/// # Errors
/// When it is none.
pub fn edgelessdb(bytes: &[u8], approvers: &Approvers) -> Result<Imported, ImportError> {
    deep(|| edgelessdb::translate(bytes, approvers)).ok_or(ImportError::Memory)?
}

/// What is translated so far.
#[derive(Default)]
struct Translated {
    schema: Schema,
    notes: Vec<Note>,
}

impl Translated {
    fn note(&mut self, statement: &str, why: impl Into<String>) {
        let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ");
        self.notes.push(Note { statement: shown(&statement), why: why.into() });
    }

    /// Adds statements of ours; what a manifest does not take is noted.
    fn take(&mut self, original: &str, ours: &str) {
        match Parser::parse_sql(&PostgreSqlDialect {}, ours) {
            Ok(statements) => statements.iter().for_each(|statement| self.take_parsed(original, statement)),
            Err(error) => self.note(original, error.to_string()),
        }
    }

    fn take_parsed(&mut self, original: &str, statement: &Sql) {
        if let Err(Refusal { message, hint, .. }) = self.schema.take(statement) {
            let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            self.note(original, format!("{message}{hint}"));
        }
    }

    /// Statements with blank lines between them.
    fn schema_text(&self) -> String {
        self.schema.statements.iter().map(|statement| format!("{};\n", statement.sql)).collect()
    }
}

/// The texts of statements, and their tokens without white space and comments.
fn statements(text: &str, dialect: Dialect) -> Result<Vec<(String, Vec<Token>)>, ImportError> {
    let grammar: &dyn Grammar = match dialect {
        Dialect::Postgres => &PostgreSqlDialect {},
        Dialect::MySql => &MySqlDialect {},
    };
    let tokens = Tokenizer::new(grammar, text).with_unescape(false).tokenize();
    let tokens = tokens.map_err(|error| ImportError::NotSql(shown(&error.to_string())))?;
    let mut statements = Vec::new();
    let (mut text, mut words) = (String::new(), Vec::new());
    let mut depth = 0;
    for token in tokens.into_iter().chain([Token::SemiColon]) {
        match token {
            Token::SemiColon => {
                if !words.is_empty() {
                    statements.push((std::mem::take(&mut text), std::mem::take(&mut words)));
                }
                text.clear();
                depth = 0;
            }
            Token::Whitespace(_) => text.push(' '),
            token => {
                text.push_str(&token.to_string());
                depth += usize::from(deepens(words.last(), &token));
                if depth > MOST_TOKENS {
                    return Err(ImportError::NotSql(format!(
                        "a statement has more than {MOST_TOKENS} operators"
                    )));
                }
                words.push(token);
            }
        }
    }
    Ok(statements)
}

/// Whether a token can make a tree deeper: rows of values, however many, are flat.
fn deepens(before: Option<&Token>, token: &Token) -> bool {
    match token {
        Token::Comma | Token::LParen | Token::RParen | Token::Number(..) => false,
        Token::SingleQuotedString(_) | Token::DoubleQuotedString(_) | Token::HexStringLiteral(_) => false,
        Token::Word(word) => !word.value.eq_ignore_ascii_case("NULL"),
        Token::Minus => !matches!(before, Some(Token::Comma | Token::LParen)),
        _ => true,
    }
}

/// Words of a statement in capitals, other tokens as they are.
fn words(tokens: &[Token]) -> Vec<String> {
    let word = |token: &Token| match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_uppercase(),
        Token::Word(word) => word.value.clone(),
        other => other.to_string(),
    };
    tokens.iter().map(word).collect()
}

/// Whether a statement begins with these words.
fn begins(words: &[String], with: &[&str]) -> bool {
    words.len() >= with.len() && words.iter().zip(with).all(|(word, with)| word == with)
}

fn too_large(bytes: usize) -> Result<(), ImportError> {
    if bytes > LONGEST { Err(ImportError::TooLarge(bytes)) } else { Ok(()) }
}
