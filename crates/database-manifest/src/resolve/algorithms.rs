//! Algorithms: what they read is found in their SQL, and what they take is typed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use manifest::{
    Code,
    reading::{Collector, Path, base64, duration, size, suggestion},
};

use crate::{
    Algorithm, AlgorithmName, Allowed, Argument, PartyName, SqlType, WasmForm, WasmUse,
    document::{self, Argument as Wire},
    resolve::{NAME_RULE, Names, named, output, sha256},
    sql::{self, Schema},
};

/// A call that takes more is none that a person wrote.
const MOST_ARGUMENTS: usize = 50;
/// What text of an argument may have where the manifest does not say.
const TEXT_BYTES: usize = 256;
const MOST_TEXT_BYTES: u64 = 64 << 10;
/// Steps of a module where the manifest does not say.
const FUEL: u64 = 1_000_000_000;
/// The longest that a call may run, which is also how long it may where the manifest does not say.
const TIME: Duration = Duration::from_secs(60);
const MEMORY: u64 = 64 << 20;
const MOST_MEMORY: u64 = 1 << 30;

pub(super) fn resolve(
    algorithms: &BTreeMap<String, document::Algorithm>,
    names: &Names<'_>,
    schema: &Schema,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<AlgorithmName, Algorithm> {
    named(algorithms, at, faults, AlgorithmName::new, |_, wire, here, faults| {
        let callers = names.set(&wire.callers, &here.field("Callers"), faults);
        let arguments = arguments(&wire.arguments, &here.field("Arguments"), faults);
        let field = here.field("Sql");
        let text = wire.sql.as_deref().unwrap_or_default();
        if text.trim().is_empty() {
            faults.add(&field, Code::Missing, "an algorithm is a query");
        }
        let query = sql::query(text, schema, wire.arguments.len(), &field, faults);
        let wasm = wire.wasm.as_ref().map(|wasm| module(wasm, &here.field("Wasm"), faults));
        let time = time(wire.time.as_deref(), &here.field("Time"), faults);
        let field = here.field("Output");
        let Some(wire_output) = &wire.output else {
            faults.add(&field, Code::Missing, "the manifest does not say what may leave");
            return None;
        };
        let shown = query.as_ref().filter(|_| wire.wasm.is_none()).and_then(|query| query.columns.as_deref());
        let output = output::resolve(wire_output, shown, &field, faults);
        Some(Algorithm {
            callers,
            reads: query?.reads,
            arguments: arguments?,
            sql: text.trim().trim_end_matches(';').to_owned(),
            wasm: wasm.map_or(Some(None), |wasm| wasm.map(Some))?,
            time: time?,
            output: output?,
        })
    })
}

fn time(given: Option<&str>, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Duration> {
    let Some(text) = given else { return Some(TIME) };
    let time = duration(text).filter(|time| !time.is_zero() && *time <= TIME);
    if time.is_none() {
        faults.add(at, Code::InvalidValue, "expected a time of at most a minute, such as `500ms` or `10s`");
    }
    time
}

fn arguments(wires: &[Wire], at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Vec<Argument>> {
    if wires.len() > MOST_ARGUMENTS {
        faults.add(
            at,
            Code::InvalidValue,
            format!("{} arguments are more than {MOST_ARGUMENTS}", wires.len()),
        );
        return None;
    }
    let mut known = BTreeSet::new();
    let read: Vec<_> = wires
        .iter()
        .enumerate()
        .map(|(index, wire)| {
            let here = at.index(index);
            if PartyName::new(&wire.name).is_none() {
                faults.add(&here.field("Name"), Code::InvalidName, NAME_RULE);
            }
            if !known.insert(&wire.name) {
                faults.add(&here.field("Name"), Code::DuplicateValue, "another argument has this name");
            }
            argument(wire, &here, faults)
        })
        .collect();
    read.into_iter().collect()
}

fn argument(wire: &Wire, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Argument> {
    let sql_type = sql_type(&wire.sql_type, &at.field("Type"), faults)?;
    let range = wire.from.is_some() || wire.to.is_some();
    let ways = [wire.one_of.is_some(), range, wire.max_length.is_some()];
    if ways.iter().filter(|way| **way).count() > 1 {
        faults.add(at, Code::Conflict, "`OneOf`, `From` with `To`, and `MaxLength` exclude each other");
        return None;
    }
    let allowed = if let Some(values) = &wire.one_of {
        let field = at.field("OneOf");
        if values.is_empty() {
            faults.add(&field, Code::Missing, "no value is let through");
        }
        let values: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(index, value)| text_form(sql_type, value, &field.index(index), faults))
            .collect();
        Allowed::OneOf(values.into_iter().collect::<Option<_>>()?)
    } else if range {
        Allowed::Range {
            from: bound(wire, true, sql_type, at, faults)?,
            to: bound(wire, false, sql_type, at, faults)?,
        }
    } else {
        Allowed::Any { max_length: max_length(wire.max_length, sql_type, at, faults)? }
    };
    Some(Argument { name: wire.name.clone(), sql_type, allowed })
}

fn bound(
    wire: &Wire,
    from: bool,
    sql_type: SqlType,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<String> {
    let (field, text) = if from { ("From", &wire.from) } else { ("To", &wire.to) };
    let here = at.field(field);
    let Some(text) = text else {
        faults.add(&here, Code::Missing, "a range has both ends, `From` and `To`");
        return None;
    };
    if matches!(sql_type, SqlType::Text | SqlType::Boolean) {
        faults.hint(&here, Code::NotApplicable, "only numbers, dates and times have a range", "give `OneOf`");
        return None;
    }
    text_form(sql_type, text, &here, faults)
}

fn max_length(
    given: Option<u64>,
    sql_type: SqlType,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<usize> {
    let here = at.field("MaxLength");
    match given {
        None => Some(if sql_type == SqlType::Text { TEXT_BYTES } else { 64 }),
        Some(_) if sql_type != SqlType::Text => {
            faults.add(&here, Code::NotApplicable, "only text has a length");
            None
        }
        Some(length) if length == 0 || length > MOST_TEXT_BYTES => {
            faults.add(&here, Code::InvalidValue, format!("expected 1 to {MOST_TEXT_BYTES} bytes"));
            None
        }
        Some(length) => usize::try_from(length).ok(),
    }
}

fn text_form(sql_type: SqlType, text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<String> {
    if !sql_type.accepts(text) {
        faults.add(at, Code::InvalidValue, format!("this is no value of the type {}", sql_type.word()));
        return None;
    }
    Some(text.to_owned())
}

pub(super) fn sql_type(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<SqlType> {
    let found = SqlType::ALL.into_iter().find(|kind| kind.word() == text);
    if found.is_none() {
        let words = SqlType::ALL.map(SqlType::word);
        faults.add_with(at, Code::InvalidValue, "this is no type", || suggestion(text, &words));
    }
    found
}

fn module(wire: &document::Wasm, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<WasmUse> {
    let field = at.field("Module");
    let module = base64(&wire.module).filter(|bytes| bytes.starts_with(b"\0asm"));
    if module.is_none() {
        faults.add(&field, Code::InvalidValue, "expected a WebAssembly module as base64");
    }
    let fuel = wire.fuel.unwrap_or(FUEL);
    if fuel == 0 {
        faults.add(&at.field("Fuel"), Code::InvalidValue, "a module that may do nothing computes nothing");
    }
    let memory = wire.memory.as_deref().map_or(Some(MEMORY), size).filter(|memory| *memory <= MOST_MEMORY);
    if memory.is_none() {
        let message = "expected a whole number with KiB, MiB or GiB, at most 1GiB";
        faults.hint(&at.field("Memory"), Code::InvalidValue, message, "as `64MiB`");
    }
    let form = match wire.form.as_deref() {
        Some("rows") => Some(WasmForm::Rows),
        Some("scalar") => Some(WasmForm::Scalar),
        Some("aggregate") => Some(WasmForm::Aggregate),
        other => {
            let hint = || suggestion(other.unwrap_or_default(), &["rows", "scalar", "aggregate"]);
            faults.add_with(&at.field("Form"), Code::InvalidValue, "this is no form of a module", hint);
            None
        }
    };
    let module = module?;
    Some(WasmUse { digest: sha256(&module), module: Arc::from(module), fuel, memory: memory?, form: form? })
}
