//! Text to verdict: which statements of a party pass, and as what. PostgreSQL never gets the text that a client sent,
//! but what was understood, written out again; so there is no comment, quote or encoding that the two could read
//! differently. What cannot be read, or reads differently once written out, is refused.

mod call;
mod copy;
mod functions;
mod insert;
mod query;
mod relations;
mod session;
pub(crate) mod shown;
mod size;

use std::{collections::BTreeSet, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest as hash};
use bytes::Bytes;
use database_manifest::{AlgorithmName, Manifest, PartyName, sql::deep};
use sqlparser::{
    ast::{Ident, ObjectName, ObjectNamePart, Statement},
    dialect::PostgreSqlDialect,
    parser::Parser,
    tokenizer::TokenWithSpan,
};

pub(super) use call::Call;
pub(super) use size::MAX_STATEMENT;

/// Nesting of expressions and queries.
const MAX_NESTING: usize = 64;
/// Letters of a statement's first word that the audit log gets.
const MAX_COMMAND: usize = 32;
/// A statement that PostgreSQL refuses in every state of a session, so that a refusal of ours ends a transaction as
/// one of its own would.
pub(super) const REFUSED: &str = "REFUSED BY THE GATEWAY";

/// What a party may do, as the manifest in force says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Who.
    pub(super) party: PartyName,
    /// Tables that it reads.
    pub(super) reads: BTreeSet<String>,
    /// Tables that it inserts into.
    pub(super) writes: BTreeSet<String>,
    /// Algorithms that it calls.
    pub(super) calls: BTreeSet<AlgorithmName>,
}

impl Rights {
    /// Those of a party.
    pub fn new(manifest: &Manifest, party: &PartyName) -> Self {
        let tables = |of: fn(&database_manifest::Table) -> &BTreeSet<PartyName>| {
            let mine = manifest.tables.iter().filter(|(_, table)| of(table).contains(party));
            mine.map(|(name, _)| name.as_str().to_owned()).collect()
        };
        let calls = manifest.algorithms.iter().filter(|(_, it)| it.callers.contains(party));
        Self {
            party: party.clone(),
            reads: tables(|it| &it.readers),
            writes: tables(|it| &it.writers),
            calls: calls.map(|(name, _)| name.clone()).collect(),
        }
    }
}

/// A statement as the audit log names it: its text may hold rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spoken {
    /// Its first word.
    pub(super) command: String,
    /// SHA-256 of its text.
    pub(super) digest: [u8; 32],
}

impl Spoken {
    pub(super) fn of(text: &str) -> Self {
        let command =
            text.trim_start().split(|it: char| !it.is_ascii_alphabetic()).next().unwrap_or_default();
        let command = command.chars().take(MAX_COMMAND).collect::<String>().to_ascii_uppercase();
        let mut digest = [0; 32];
        digest.copy_from_slice(hash(&SHA256, text.as_bytes()).as_ref());
        Self { command, digest }
    }
}

/// What PostgreSQL gets.
#[derive(Debug)]
pub(super) struct Prepared {
    /// What the client said; `None`: it is a query of ours.
    pub(super) spoken: Option<Spoken>,
    pub(super) text: String,
    pub(super) kind: Kind,
    /// Its errors may speak of rows that the party does not see.
    pub(super) blind: bool,
    /// Types of its parameters, as `Parse` has them.
    pub(super) types: Bytes,
}

impl Prepared {
    /// A query of the gateway's own, within a session of a client.
    pub(super) fn own() -> Self {
        Self { spoken: None, text: String::new(), kind: Kind::Read, blind: false, types: Bytes::new() }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// It changes nothing.
    Read,
    /// It inserts, and commits unless a transaction is open.
    Write,
    /// It waits for rows, inserts them, and commits unless a transaction is open.
    CopyIn,
    /// `BEGIN` and what goes on within a transaction.
    Within,
    /// It may commit.
    End,
    /// Prepared statements that it forgets; `None`: all.
    Forget(Option<String>),
    /// An algorithm answers instead of PostgreSQL.
    Call(Arc<Call>),
}

/// Why a statement does not pass; the sentence is for the client, who wrote the statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Refusal {
    /// A stable word, for the audit log.
    pub code: &'static str,
    /// What is refused, and why.
    pub sentence: String,
}

impl Refusal {
    pub(super) fn new(code: &'static str, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }
}

/// Reads a statement.
///
/// # Errors
///
/// [`Refusal`]: it does not pass. Its SQLSTATE is 42501.
pub(super) fn admit(text: &str, rights: &Rights, manifest: &Manifest) -> Result<Prepared, Refusal> {
    let measured = size::measured(text.trim_end_matches([';', ' ', '\n', '\r', '\t']))?;
    let tokens = measured.tokens;
    let memory = || Refusal::new("STATEMENT_TOO_DEEP", "there is no memory now for so deep a statement");
    let prepared = match measured.deep {
        false => read(tokens, rights, manifest),
        true => deep(|| read(tokens, rights, manifest)).ok_or_else(memory)?,
    };
    Ok(Prepared { spoken: Some(Spoken::of(text)), ..prepared? })
}

/// The tree does not outlive this: it may be too deep for any other stack.
fn read(tokens: Vec<TokenWithSpan>, rights: &Rights, manifest: &Manifest) -> Result<Prepared, Refusal> {
    let mut statements = parsed(tokens)?;
    let Some(mut statement) = statements.pop() else { return Ok(Prepared::own()) };
    if !statements.is_empty() {
        let sentence = "several statements at once are refused: send them one by one";
        return Err(Refusal::new("SEVERAL_STATEMENTS", sentence));
    }
    let (kind, blind) = judge(&statement, rights, manifest)?;
    let text = match &kind {
        Kind::Call(call) => call.stand_in(),
        _ => {
            shown::replace(&mut statement);
            faithful(&statement)?
        }
    };
    Ok(Prepared { text, kind, blind, ..Prepared::own() })
}

fn parsed(tokens: Vec<TokenWithSpan>) -> Result<Vec<Statement>, Refusal> {
    Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(MAX_NESTING)
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|error| not_understood(&error.to_string()))
}

fn not_understood(error: &str) -> Refusal {
    Refusal::new("NOT_UNDERSTOOD", format!("the gateway does not understand this statement: {error}"))
}

/// The statement written out, which must read as the same statement.
fn faithful(statement: &Statement) -> Result<String, Refusal> {
    let text = statement.to_string();
    match parsed(size::measured(&text)?.tokens)?.as_slice() {
        [again] if again == statement => Ok(text),
        _ => Err(Refusal::new(
            "NOT_UNDERSTOOD",
            "the gateway does not understand this statement well enough to pass it on",
        )),
    }
}

fn judge(statement: &Statement, rights: &Rights, manifest: &Manifest) -> Result<(Kind, bool), Refusal> {
    match statement {
        Statement::Query(query) => match call::recognise(query, rights, manifest)? {
            Some(call) => Ok((Kind::Call(Arc::new(call)), false)),
            None => query::check(statement, rights, None).map(|()| (Kind::Read, false)),
        },
        Statement::Insert(insert) => {
            let blind = insert::check(insert, rights)?;
            query::check(statement, rights, Some(&insert.table)).map(|()| (Kind::Write, blind))
        }
        Statement::Copy { .. } => copy::check(statement, rights),
        Statement::Explain { .. } => query::explain(statement, rights).map(|()| (Kind::Read, false)),
        other => session::check(other).map(|kind| (kind, false)),
    }
}

fn no(what: &str) -> Refusal {
    Refusal::new("STATEMENT_REFUSED", format!("{what} is refused by this database's gateway"))
}

/// An identifier as PostgreSQL reads it: without quotes it is in lower case.
fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

/// A name's parts; `None`: one of them is no identifier.
fn parts(name: &ObjectName) -> Option<Vec<String>> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => Some(folded(ident)),
        ObjectNamePart::Function(_) => None,
    };
    name.0.iter().map(part).collect()
}
