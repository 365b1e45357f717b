//! Manifests of EdgelessDB: SQL statements and one bundle of CAs, whose users are known by names in their certificates.
//! Here a party is known by its CA's key. So each issuer becomes a party; two users of one issuer cannot be told apart,
//! which is said, and neither gets what the other had beyond it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sqlparser::tokenizer::Token;
use x509_parser::{pem::Pem, prelude::X509Certificate};

use super::{Dialect, ImportError, Note, Translated, begins, mysql, statements, too_large, words};
use crate::{PartyName, TableName};

/// Who decides changes of the new manifest: EdgelessDB's never changes, so it says nothing of that.
#[derive(Debug, Clone, Default)]
pub struct Approvers {
    /// Names with certificates of their CAs, PEM.
    pub anchors: BTreeMap<String, String>,
    /// How many of them.
    pub threshold: u64,
}

/// What a manifest became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The new manifest, JSON. It has no faults where the report has no entry, and the CAs are usable.
    pub manifest: String,
    /// What was not carried over.
    pub notes: Vec<Note>,
}

/// As EdgelessDB reads it: other fields are ignored there, and named in the report here.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    sql: Vec<String>,
    #[serde(default)]
    ca: String,
    #[serde(default)]
    recovery: String,
    #[serde(default)]
    debug: bool,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

/// A user of MySQL.
#[derive(Default)]
struct User {
    issuer: Option<String>,
    subject: Option<String>,
    writes: BTreeSet<String>,
    reads: BTreeSet<String>,
}

pub(super) fn translate(bytes: &[u8], approvers: &Approvers) -> Result<Imported, ImportError> {
    too_large(bytes.len())?;
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| ImportError::NotEdgelessDb(error.to_string()))?;
    let mut out = Translated::default();
    let mut users: BTreeMap<String, User> = BTreeMap::new();
    let mut name = "edgelessdb".to_owned();
    for text in &document.sql {
        for (text, tokens) in statements(text, Dialect::MySql)? {
            statement(&text, &tokens, &mut users, &mut name, &mut out);
        }
    }
    if document.debug {
        out.note("debug: true", "a database here has no debug mode");
    }
    for field in document.other.keys() {
        out.note(field, "EdgelessDB ignores this field, and so does the import");
    }
    let mut parties: Map<String, Value> =
        approvers.anchors.iter().map(|(name, pem)| (name.clone(), json!({"Anchors": [pem]}))).collect();
    let authorities = authorities(&document.ca, &mut out);
    let roles = roles(&users, &authorities, &mut parties, &mut out);
    let tables = tables(&roles, &users, &mut out);
    let manifest = json!({
        "Name": name,
        "Parties": parties,
        "Schema": out.schema_text(),
        "Tables": tables,
        "Updates": {"Approvers": approvers.anchors.keys().collect::<Vec<_>>(), "Threshold": approvers.threshold},
        "MaxSize": "1GiB",
    });
    if !document.recovery.is_empty() {
        out.note(
            "recovery",
            "one key alone recovered EdgelessDB; here at least two holders do: add theirs under `Recovery`",
        );
    }
    let manifest = serde_json::to_string_pretty(&manifest).unwrap_or_default();
    Ok(Imported { manifest, notes: out.notes })
}

fn statement(
    text: &str,
    tokens: &[Token],
    users: &mut BTreeMap<String, User>,
    name: &mut String,
    out: &mut Translated,
) {
    let all = words(tokens);
    if begins(&all, &["CREATE", "DATABASE"]) {
        if let Some(database) =
            all.last().map(|it| it.to_lowercase()).filter(|it| PartyName::new(it).is_some())
        {
            *name = database;
        }
    } else if begins(&all, &["USE"]) || begins(&all, &["FLUSH"]) {
    } else if begins(&all, &["CREATE", "USER"]) {
        user(text, tokens, &all, users, out);
    } else if begins(&all, &["GRANT"]) {
        grant(text, &all, users, out);
    } else {
        let parsed = sqlparser::parser::Parser::parse_sql(&sqlparser::dialect::MySqlDialect {}, text);
        match parsed.as_deref() {
            Ok([sqlparser::ast::Statement::CreateTable(table)]) => mysql::table(text, table, out),
            Ok(_) => out.note(text, "this has no counterpart in a manifest"),
            Err(error) => out.note(text, error.to_string()),
        }
    }
}

/// The text of a string token.
fn string(token: Option<&Token>) -> Option<String> {
    match token {
        Some(Token::SingleQuotedString(text) | Token::DoubleQuotedString(text)) => Some(text.clone()),
        _ => None,
    }
}

/// `CREATE USER u REQUIRE ISSUER '…' SUBJECT '…'`.
fn user(
    text: &str,
    tokens: &[Token],
    all: &[String],
    users: &mut BTreeMap<String, User>,
    out: &mut Translated,
) {
    let after = |word: &str| all.iter().position(|it| it == word).and_then(|at| string(tokens.get(at + 1)));
    let Some(name) = all.get(2).map(|name| name.trim_matches(['\'', '"']).to_lowercase()) else {
        return out.note(text, "this names no user");
    };
    let user = User { issuer: after("ISSUER"), subject: after("SUBJECT"), ..User::default() };
    if user.issuer.is_none() {
        out.note(
            text,
            "without REQUIRE ISSUER nothing says by which CA this user is known; its rights are left out",
        );
    }
    if all.iter().any(|word| word == "IDENTIFIED") {
        out.note(text, "there are no passwords here");
    }
    users.insert(name, user);
}

/// `GRANT rights ON [database.]table TO user, …`.
fn grant(text: &str, all: &[String], users: &mut BTreeMap<String, User>, out: &mut Translated) {
    let at = |word: &str| all.iter().position(|it| it == word);
    let (Some(on), Some(to)) = (at("ON"), at("TO")) else {
        return out
            .note(text, "a GRANT of roles has no counterpart: say under `Tables` who writes and who reads");
    };
    let end = at("WITH").unwrap_or(all.len());
    let (Some(rights), Some(object), Some(names)) =
        (all.get(1..on), all.get(on + 1..to), all.get(to + 1..end))
    else {
        return out.note(text, "this GRANT is not understood");
    };
    if end < all.len() {
        out.note(text, "WITH GRANT OPTION is left out: nobody alone changes the rules here");
    }
    let table = object.last().map(|it| it.to_lowercase()).unwrap_or_default();
    let which: Vec<String> = match table.as_str() {
        "*" => out.schema.relations.keys().cloned().collect(),
        _ => vec![table],
    };
    let (mut reads, mut writes) = (false, false);
    for right in rights.iter().filter(|right| *right != "," && *right != "PRIVILEGES") {
        match right.as_str() {
            "SELECT" => reads = true,
            "INSERT" => writes = true,
            "ALL" => {
                (reads, writes) = (true, true);
                out.note(text, "ALL becomes reading and inserting: nobody changes, deletes or drops");
            }
            other => out.note(text, format!("{other} is left out: parties insert, read, or call algorithms")),
        }
    }
    for name in
        names.iter().filter(|name| *name != ",").map(|name| name.trim_matches(['\'', '"']).to_lowercase())
    {
        let Some(user) = users.get_mut(&name) else {
            out.note(text, format!("no statement before it makes the user {name}"));
            continue;
        };
        for table in &which {
            if reads {
                user.reads.insert(table.clone());
            }
            if writes {
                user.writes.insert(table.clone());
            }
        }
    }
}

/// CAs by their names as OpenSSL writes them on one line.
fn authorities(bundle: &str, out: &mut Translated) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for block in Pem::iter_from_buffer(bundle.as_bytes()) {
        let Ok(block) = block else {
            out.note("ca", "the bundle has what is no PEM");
            break;
        };
        match block.parse_x509() {
            Ok(certificate) => {
                let pem = evidence::pem::encode(&evidence::CertificateDer(block.contents.clone()));
                found.entry(one_line(&certificate)).or_default().push(pem);
            }
            Err(error) => out.note("ca", format!("a certificate cannot be read: {error}")),
        }
    }
    found
}

/// `/CN=Owner CA`, in the order of the certificate.
fn one_line(certificate: &X509Certificate<'_>) -> String {
    let attributes = certificate.subject().iter_attributes();
    let one = |it: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        let kind = it.attr_type();
        let names = x509_parser::objects::oid_registry();
        let short =
            x509_parser::objects::oid2abbrev(kind, names).map_or_else(|_| kind.to_id_string(), str::to_owned);
        format!("/{short}={}", it.as_str().unwrap_or_default())
    };
    attributes.map(one).collect()
}

/// The party of each user.
fn roles(
    users: &BTreeMap<String, User>,
    authorities: &BTreeMap<String, Vec<String>>,
    parties: &mut Map<String, Value>,
    out: &mut Translated,
) -> BTreeMap<String, String> {
    let mut roles = BTreeMap::new();
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, user) in users {
        let Some(issuer) = &user.issuer else { continue };
        if PartyName::new(name).is_none() || parties.contains_key(name) {
            out.note(
                name,
                "this user's name is none for a party, or an approver has it; its rights are left out",
            );
            continue;
        }
        if let Some(other) = taken.insert(issuer, name) {
            let why = format!(
                "{name} and {other} are both of {issuer}, told apart by their subjects; here a party is a CA: give \
                 {name} a CA of its own, and put it under `Parties`"
            );
            out.note(name, why);
            continue;
        }
        match authorities.get(issuer).map(Vec::as_slice) {
            Some(anchors) if !anchors.is_empty() => {
                if anchors.len() > 1 {
                    let why =
                        format!("{} CAs are called {issuer}: all of them are {name} now", anchors.len());
                    out.note(name, why);
                }
                parties.insert(name.clone(), json!({"Anchors": anchors}));
                roles.insert(name.clone(), name.clone());
            }
            _ => out.note(
                name,
                format!("no CA of the bundle is called {issuer}; the user's rights are left out"),
            ),
        }
        if let Some(subject) = &user.subject {
            let why = format!("{name} had to be {subject}; now it is whoever has a certificate of that CA");
            out.note(name, why);
        }
    }
    roles
}

fn tables(
    roles: &BTreeMap<String, String>,
    users: &BTreeMap<String, User>,
    out: &mut Translated,
) -> Map<String, Value> {
    let known: Vec<_> = out.schema.relations.keys().cloned().collect();
    let mut tables = Map::new();
    for table in &known {
        let having = |of: fn(&User) -> &BTreeSet<String>| -> Vec<&String> {
            roles
                .iter()
                .filter(|(user, _)| of(&users[*user]).contains(table))
                .map(|(_, party)| party)
                .collect()
        };
        let (writers, readers) = (having(|user| &user.writes), having(|user| &user.reads));
        tables.insert(table.clone(), json!({"Writers": writers, "Readers": readers}));
    }
    for (name, user) in users {
        for table in user.reads.union(&user.writes).filter(|table| !known.contains(table)) {
            if TableName::new(table).is_none() || !tables.contains_key(table) {
                out.note(name, format!("it had rights on {table}, which is not in the schema"));
            }
        }
    }
    tables
}
