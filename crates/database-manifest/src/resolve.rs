//! The document to the manifest: every reference resolved, all faults found.

mod algorithms;
mod output;
mod parties;
mod rules;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use manifest::{
    Code, Faults,
    reading::{Collector, Node, Path, Wire as _, size, suggestion},
};

use crate::{
    Manifest, PartyName,
    document::Document,
    manifest::{Audit, Updates},
    sql::Schema,
};

/// At most so many parties, tables, algorithms.
const MOST: usize = 1000;

impl Manifest {
    /// Reads a manifest: JSON when its first byte that is not white space is `{`, else YAML. At most one mebibyte.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its path. What values mean is looked at only when all of them are of
    /// the right type.
    pub fn parse(bytes: &[u8]) -> Result<Self, Faults> {
        let memory =
            || Faults::of_document(Code::TooDeep, None, "there is no memory to read it".to_owned(), None);
        crate::sql::deep(|| Self::read(bytes)).ok_or_else(memory)?
    }

    fn read(bytes: &[u8]) -> Result<Self, Faults> {
        let tree = Node::parse(bytes)?;
        let mut faults = Collector::new(&tree);
        let resolved = Document::read(&tree, &Path::Root, &mut faults)
            .map(|document| resolve(&document, bytes, &mut faults));
        faults.into_result()?;
        let none =
            || Faults::of_document(Code::WrongType, None, "the document is no object".to_owned(), None);
        resolved.flatten().ok_or_else(none)
    }
}

fn resolve(document: &Document, bytes: &[u8], faults: &mut Collector<'_>) -> Option<Manifest> {
    let at = Path::Root;
    for (field, count) in [
        ("Parties", document.parties.len()),
        ("Tables", document.tables.len()),
        ("Algorithms", document.algorithms.len()),
    ] {
        if count > MOST {
            faults.add(&at.field(field), Code::InvalidValue, format!("{count} are more than {MOST}"));
            return None;
        }
    }
    let name = name(&document.name, &at.field("Name"), faults);
    let parties = parties::resolve(&document.parties, &at.field("Parties"), faults);
    let names = Names(document.parties.keys().map(String::as_str).collect());
    let schema = Schema::read(&document.schema, &at.field("Schema"), faults);
    let tables = tables::resolve(document, &names, &schema, &at.field("Tables"), faults);
    let algorithms =
        algorithms::resolve(&document.algorithms, &names, &schema, &at.field("Algorithms"), faults);
    let updates = rules::updates(document, &names, &at.field("Updates"), faults);
    let recovery = rules::recovery(document.recovery.as_ref(), &at.field("Recovery"), faults);
    let audit_at = at.field("Audit");
    let audit = Audit { readers: names.set(&document.audit.readers, &audit_at.field("Readers"), faults) };
    let freshness = rules::freshness(&document.freshness, &at.field("Freshness"), faults);
    let max_size = max_size(document.max_size.as_deref(), &at.field("MaxSize"), faults);
    let history = history(document.history.as_deref(), &at.field("History"), faults);
    Some(Manifest {
        digest: sha256(bytes),
        text: Arc::from(bytes),
        name: name?,
        parties,
        schema: schema.text(),
        statements: schema.statements,
        tables,
        algorithms,
        updates: updates?,
        recovery,
        audit,
        freshness,
        max_size: max_size?,
        history: history?,
    })
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// PostgreSQL's own databases are none of ours.
fn name(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<String> {
    if text.is_empty() {
        faults.add(at, Code::Missing, "a database needs a name, which clients connect to");
        return None;
    }
    let known =
        ["postgres", "template0", "template1", "bailey", "replication", "all", "sameuser", "samerole"];
    if PartyName::new(text).is_none() || known.contains(&text) {
        faults.add(at, Code::InvalidName, format!("{NAME_RULE}, and not one of {}", known.join(", ")));
        return None;
    }
    Some(text.to_owned())
}

pub(crate) const NAME_RULE: &str =
    "a name is a lower-case letter, then lower-case letters, digits and `_`, at most 40 characters";

fn history(text: Option<&str>, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<u64> {
    let Some(text) = text else { return Some(0) };
    let size = size(text);
    if size.is_none() {
        faults.hint(at, Code::InvalidValue, "expected a whole number with KiB, MiB or GiB", "as `4GiB`");
    }
    size
}

fn max_size(text: Option<&str>, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<u64> {
    let least = 64 << 20;
    let Some(text) = text else {
        faults.hint(at, Code::Missing, "the manifest does not say how large the data may grow", "as `4GiB`");
        return None;
    };
    let size = size(text).filter(|size| *size >= least);
    if size.is_none() {
        let message = "expected a whole number with KiB, MiB or GiB, at least 64MiB";
        faults.hint(at, Code::InvalidValue, message, "as `4GiB`");
    }
    size
}

/// The parties that the manifest names.
struct Names<'d>(BTreeSet<&'d str>);

impl Names<'_> {
    /// That party.
    fn one(&self, text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<PartyName> {
        if !self.0.contains(text) {
            let known: Vec<_> = self.0.iter().copied().collect();
            let hint = || suggestion(text, &known);
            faults.add_with(at, Code::UnknownReference, "the manifest has no such party", hint);
            return None;
        }
        // A party whose name is none is a fault already.
        PartyName::new(text)
    }

    /// Those parties, each once.
    fn set(&self, texts: &[String], at: &Path<'_>, faults: &mut Collector<'_>) -> BTreeSet<PartyName> {
        let mut parties = BTreeSet::new();
        for (index, text) in texts.iter().enumerate() {
            let here = at.index(index);
            let Some(party) = self.one(text, &here, faults) else { continue };
            if !parties.insert(party) {
                faults.add(&here, Code::DuplicateValue, "the party is named twice");
            }
        }
        parties
    }
}

/// A span of time as `90d`.
fn span(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Duration> {
    let span = manifest::reading::span(text);
    if span.is_none() {
        let message = "expected a whole number with m, h or d, at most 365 days";
        faults.hint(at, Code::InvalidValue, message, "as `12h`");
    }
    span
}

/// Names of one kind: those that are none are faults.
fn named<'d, W, N: Ord, T>(
    map: &'d BTreeMap<String, W>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
    new: impl Fn(&str) -> Option<N>,
    mut value: impl FnMut(&N, &'d W, &Path<'_>, &mut Collector<'_>) -> Option<T>,
) -> BTreeMap<N, T> {
    let mut resolved = BTreeMap::new();
    for (text, wire) in map {
        let here = at.key(text);
        let Some(name) = new(text) else {
            faults.add(&here, Code::InvalidName, NAME_RULE);
            continue;
        };
        if let Some(value) = value(&name, wire, &here, faults) {
            resolved.insert(name, value);
        }
    }
    resolved
}

impl Updates {
    /// Whether a party decides changes.
    #[must_use]
    pub fn approves(&self, party: &PartyName) -> bool {
        self.approvers.contains(party)
    }
}
