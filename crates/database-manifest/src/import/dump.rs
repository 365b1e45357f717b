//! Dumps as text. Tables, keys, indexes, types and views become the schema of a manifest, rows become statements that a
//! writer runs. Users and rights are not carried over: in a manifest they are parties with certificates.

use std::collections::BTreeMap;

use sqlparser::{
    ast::{
        AlterTableOperation, ColumnOption, ColumnOptionDef, CreateTable, GeneratedAs, Ident, ObjectName,
        ObjectNamePart, Statement as Sql, TableConstraint, TableObject, visit_relations_mut,
    },
    dialect::{MySqlDialect, PostgreSqlDialect},
    parser::Parser,
    tokenizer::Token,
};

use super::{Dialect, ImportError, Note, Translated, begins, mysql, statements, too_large, words};

/// What a dump became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// For `Schema` of a manifest.
    pub schema: String,
    /// Rows: `INSERT` statements and `COPY … FROM stdin`, for psql.
    pub data: String,
    /// What was not carried over.
    pub notes: Vec<Note>,
}

pub(super) fn translate(text: &str, dialect: Dialect) -> Result<Dump, ImportError> {
    too_large(text.len())?;
    let mut out = Translated::default();
    let mut data = String::new();
    let sql = match dialect {
        Dialect::Postgres => without_rows(text, &mut data, &mut out),
        Dialect::MySql => text.to_owned(),
    };
    let statements = statements(&sql, dialect)?;
    let identities = identities(&statements);
    for (text, tokens) in &statements {
        let words = words(tokens);
        if dropped(&words) {
            continue;
        }
        match dialect {
            Dialect::Postgres => postgres(text, &words, &identities, &mut data, &mut out),
            Dialect::MySql => from_mysql(text, &mut data, &mut out),
        }
    }
    Ok(Dump { schema: out.schema_text(), data, notes: out.notes })
}

/// What has no meaning in a new database, and is no loss.
fn dropped(words: &[String]) -> bool {
    [
        &["SET"][..],
        &["USE"],
        &["LOCK", "TABLES"],
        &["UNLOCK", "TABLES"],
        &["BEGIN"],
        &["COMMIT"],
        &["START", "TRANSACTION"],
        &["DROP", "TABLE", "IF", "EXISTS"],
        &["DROP", "VIEW", "IF", "EXISTS"],
        &["CREATE", "DATABASE"],
        &["CREATE", "SCHEMA"],
        &["CREATE", "SEQUENCE"],
        &["ALTER", "SEQUENCE"],
        &["SELECT", "pg_catalog"],
        &["SELECT", "PG_CATALOG"],
        &["COMMENT", "ON"],
    ]
    .iter()
    .any(|with| begins(words, with))
        || (begins(words, &["ALTER"]) && words.windows(2).any(|pair| pair == ["OWNER", "TO"] || keys(pair)))
}

/// `DISABLE KEYS`, `ENABLE KEYS`.
fn keys(pair: &[String]) -> bool {
    matches!(pair, [verb, what] if (verb == "DISABLE" || verb == "ENABLE") && what == "KEYS")
}

/// The dump without its `COPY` blocks, which go to `data`.
fn without_rows(text: &str, data: &mut String, out: &mut Translated) -> String {
    let mut sql = String::with_capacity(text.len());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with('\\') {
            continue;
        }
        if !(line.starts_with("COPY ") && line.ends_with(" FROM stdin;")) {
            sql.push_str(line);
            sql.push('\n');
            continue;
        }
        let whole = line.replacen("COPY public.", "COPY ", 1);
        data.push_str(&whole);
        data.push('\n');
        let mut ended = false;
        for row in lines.by_ref() {
            data.push_str(row);
            data.push('\n');
            if row == "\\." {
                ended = true;
                break;
            }
        }
        if !ended {
            out.note(line, "the dump ends within its rows: it was cut off");
        }
    }
    sql
}

/// Columns that number themselves, by table: how.
type Identities = BTreeMap<(String, String), GeneratedAs>;

/// `ALTER TABLE … ALTER COLUMN c ADD GENERATED …` and `… SET DEFAULT nextval(…)`, as `pg_dump` writes them.
fn identities(statements: &[(String, Vec<Token>)]) -> Identities {
    let mut found = Identities::new();
    for (_, tokens) in statements {
        let all = words(tokens);
        if !begins(&all, &["ALTER", "TABLE"]) {
            continue;
        }
        let Some(at) = all.windows(2).position(|pair| pair == ["ALTER", "COLUMN"]) else { continue };
        let table = all[..at].last().map(|it| it.to_lowercase());
        let column = all.get(at + 2).map(|it| it.to_lowercase());
        let rest = all.get(at + 3..).unwrap_or_default();
        let how = if begins(rest, &["ADD", "GENERATED", "ALWAYS"]) {
            GeneratedAs::Always
        } else if begins(rest, &["ADD", "GENERATED"]) || begins(rest, &["SET", "DEFAULT", "NEXTVAL"]) {
            GeneratedAs::ByDefault
        } else {
            continue;
        };
        found.extend(table.zip(column).map(|key| (key, how)));
    }
    found
}

fn postgres(text: &str, words: &[String], identities: &Identities, data: &mut String, out: &mut Translated) {
    let is_identity = words.windows(2).any(|pair| pair == ["ADD", "GENERATED"])
        || words.windows(3).any(|three| three == ["SET", "DEFAULT", "NEXTVAL"]);
    if begins(words, &["ALTER", "TABLE"]) && is_identity {
        return;
    }
    if begins(words, &["GRANT"]) || begins(words, &["REVOKE"]) || begins(words, &["CREATE", "ROLE"]) {
        out.note(text, "rights are the manifest's: say under `Tables` who writes and who reads");
        return;
    }
    let mut parsed = match Parser::parse_sql(&PostgreSqlDialect {}, text) {
        Ok(parsed) => parsed,
        Err(error) => return out.note(text, error.to_string()),
    };
    for statement in &mut parsed {
        unqualify(statement);
        match statement {
            Sql::CreateTable(table) => {
                numbered(table, identities);
                out.take_parsed(text, statement);
            }
            Sql::Insert(_) => {
                data.push_str(&format!("{statement};\n"));
            }
            _ => out.take_parsed(text, statement),
        }
    }
}

/// Takes `public.` away: everything is in that schema.
fn unqualify(statement: &mut Sql) {
    let _ = visit_relations_mut(statement, |name| {
        strip(name);
        std::ops::ControlFlow::<()>::Continue(())
    });
    match statement {
        Sql::CreateTable(table) => {
            strip(&mut table.name);
            table.constraints.iter_mut().for_each(foreign);
        }
        Sql::CreateView(view) => strip(&mut view.name),
        Sql::CreateIndex(index) => strip(&mut index.table_name),
        Sql::CreateType { name, .. } => strip(name),
        Sql::AlterTable(alter) => {
            strip(&mut alter.name);
            // A table here has no children.
            alter.only = false;
            for operation in &mut alter.operations {
                if let AlterTableOperation::AddConstraint { constraint, .. } = operation {
                    foreign(constraint);
                }
            }
        }
        Sql::Insert(insert) => {
            if let TableObject::TableName(name) = &mut insert.table {
                strip(name);
            }
        }
        _ => {}
    }
    if let Sql::CreateTable(table) = statement {
        for column in &mut table.columns {
            if let sqlparser::ast::DataType::Custom(name, _) = &mut column.data_type {
                strip(name);
            }
        }
    }
}

fn foreign(constraint: &mut TableConstraint) {
    if let TableConstraint::ForeignKey(key) = constraint {
        strip(&mut key.foreign_table);
    }
}

fn strip(name: &mut ObjectName) {
    let public = |part: &ObjectNamePart| part.as_ident().is_some_and(|ident: &Ident| ident.value == "public");
    if name.0.len() == 2 && name.0.first().is_some_and(public) {
        name.0.remove(0);
    }
}

fn numbered(table: &mut CreateTable, identities: &Identities) {
    let name = table.name.to_string().to_lowercase();
    for column in &mut table.columns {
        let Some(how) = identities.get(&(name.clone(), column.name.value.to_lowercase())) else { continue };
        let option = ColumnOption::Generated {
            generated_as: *how,
            sequence_options: None,
            generation_expr: None,
            generation_expr_mode: None,
            generated_keyword: true,
        };
        column.options.push(ColumnOptionDef { name: None, option });
    }
}

fn from_mysql(text: &str, data: &mut String, out: &mut Translated) {
    let parsed = match Parser::parse_sql(&MySqlDialect {}, text) {
        Ok(parsed) => parsed,
        Err(error) => return out.note(text, error.to_string()),
    };
    for statement in &parsed {
        match statement {
            Sql::CreateTable(table) => mysql::table(text, table, out),
            Sql::Insert(insert) => match mysql::insert(insert) {
                Ok(sql) => data.push_str(&sql),
                Err(why) => out.note(text, why),
            },
            _ => out.note(text, "this has no counterpart in a manifest, or none that is sure"),
        }
    }
}
