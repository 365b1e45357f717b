//! What leaves: columns, limits, noise and its budget.

use std::collections::BTreeSet;

use manifest::{
    Code,
    reading::{Collector, Path, suggestion},
};

use crate::{
    Column, Mechanism, Noise, Output, PartyName, Privacy, Rate, document,
    resolve::{NAME_RULE, algorithms::sql_type, span},
};

const MOST_COLUMNS: usize = 200;
const MOST_ROWS: u64 = 10_000_000;

/// `shown` are the columns of the query, where they are known.
pub(super) fn resolve(
    wire: &document::Output,
    shown: Option<&[String]>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Output> {
    let columns = columns(wire, shown, at, faults);
    contributors(wire, shown, at, faults);
    let here = at.field("MaxRows");
    let max_rows = wire.max_rows.filter(|rows| (1..=MOST_ROWS).contains(rows));
    if max_rows.is_none() {
        faults.add(
            &here,
            Code::Missing,
            format!("the manifest does not say how many rows may leave, 1 to {MOST_ROWS}"),
        );
    }
    let privacy = wire.privacy.as_ref().map(|privacy| budget(privacy, &at.field("Privacy"), faults));
    spent(wire, at, faults);
    let rate = wire.rate.as_ref().map(|rate| {
        let here = at.field("Rate");
        if rate.calls == 0 {
            faults.add(&here.field("Calls"), Code::InvalidValue, "nobody could ever call it");
        }
        span(&rate.per, &here.field("Per"), faults).map(|per| Rate { calls: rate.calls, per })
    });
    Some(Output {
        columns: columns?,
        contributors: wire.contributors.clone(),
        min_contributors: wire.min_contributors.unwrap_or(0),
        max_rows: max_rows?,
        rate: rate.map_or(Some(None), |rate| rate.map(Some))?,
        privacy: privacy.map_or(Some(None), |privacy| privacy.map(Some))?,
    })
}

fn columns(
    wire: &document::Output,
    shown: Option<&[String]>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Vec<Column>> {
    let at = at.field("Columns");
    if wire.columns.is_empty() {
        faults.add(&at, Code::Missing, "no column leaves");
    }
    if wire.columns.len() > MOST_COLUMNS {
        faults.add(&at, Code::InvalidValue, format!("more than {MOST_COLUMNS} columns"));
        return None;
    }
    let mut known = BTreeSet::new();
    let read: Vec<_> = wire
        .columns
        .iter()
        .enumerate()
        .map(|(index, wire)| {
            let here = at.index(index);
            let field = here.field("Name");
            if PartyName::new(&wire.name).is_none() {
                faults.add(&field, Code::InvalidName, NAME_RULE);
            } else if !known.insert(&wire.name) {
                faults.add(&field, Code::DuplicateValue, "another column has this name");
            } else {
                in_query(&wire.name, shown, &field, faults);
            }
            column(wire, &here, faults)
        })
        .collect();
    read.into_iter().collect()
}

fn in_query(name: &str, shown: Option<&[String]>, at: &Path<'_>, faults: &mut Collector<'_>) {
    let Some(shown) = shown.filter(|shown| !shown.iter().any(|it| it == name)) else { return };
    let known: Vec<_> = shown.iter().map(String::as_str).collect();
    let hint = || suggestion(name, &known);
    faults.add_with(at, Code::UnknownReference, "the query has no column of this name", hint);
}

fn column(wire: &document::Column, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Column> {
    let sql_type = sql_type(&wire.sql_type, &at.field("Type"), faults)?;
    for (field, given) in [("RoundTo", wire.round_to.is_some()), ("Noise", wire.noise.is_some())] {
        if given && !sql_type.is_number() {
            faults.add(&at.field(field), Code::NotApplicable, format!("a {} is no number", sql_type.word()));
        }
    }
    if let Some(step) = wire.round_to {
        positive(Some(step), &at.field("RoundTo"), faults);
    }
    let noise = wire.noise.as_ref().map(|noise| noise_of(noise, &at.field("Noise"), faults));
    let noise = noise.map_or(Some(None), |noise| noise.map(Some))?;
    Some(Column { name: wire.name.clone(), sql_type, round_to: wire.round_to, noise })
}

fn noise_of(wire: &document::Noise, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Noise> {
    let sensitivity = positive(wire.sensitivity, &at.field("Sensitivity"), faults);
    let epsilon = positive(wire.epsilon, &at.field("Epsilon"), faults);
    let here = at.field("Delta");
    let mechanism = match wire.mechanism.as_str() {
        "laplace" => {
            if wire.delta.is_some() {
                faults.add(&here, Code::NotApplicable, "Laplace noise has no delta");
            }
            Mechanism::Laplace
        }
        "gaussian" => Mechanism::Gaussian { delta: probability(wire.delta, &here, faults)? },
        other => {
            let hint = || suggestion(other, &["laplace", "gaussian"]);
            faults.add_with(&at.field("Mechanism"), Code::InvalidValue, "this is no mechanism", hint);
            return None;
        }
    };
    Some(Noise { mechanism, sensitivity: sensitivity?, epsilon: epsilon? })
}

fn positive(given: Option<f64>, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<f64> {
    let value = given.filter(|value| *value > 0.0 && *value <= 1e15);
    match given {
        None => faults.add(at, Code::Missing, "this must be given"),
        Some(_) if value.is_none() => {
            faults.add(at, Code::InvalidValue, "expected a number greater than zero")
        }
        Some(_) => {}
    }
    value
}

/// A delta: a chance that the promise of epsilon fails.
fn probability(given: Option<f64>, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<f64> {
    let value = given.filter(|value| *value > 0.0 && *value < 0.1);
    match given {
        None => faults.hint(at, Code::Missing, "Gaussian noise has a delta", "as 1e-6"),
        Some(_) if value.is_none() => {
            faults.add(at, Code::InvalidValue, "expected a number greater than 0 and less than 0.1");
        }
        Some(_) => {}
    }
    value
}

fn budget(wire: &document::Privacy, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Privacy> {
    let epsilon = positive(wire.epsilon, &at.field("Epsilon"), faults);
    let delta = match wire.delta {
        None => 0.0,
        Some(_) => probability(wire.delta, &at.field("Delta"), faults)?,
    };
    Some(Privacy { epsilon: epsilon?, delta })
}

/// Noise without a budget would be averaged away; a budget without noise, or less than one call costs, means nothing.
fn spent(wire: &document::Output, at: &Path<'_>, faults: &mut Collector<'_>) {
    let here = at.field("Privacy");
    let noises: Vec<_> = wire.columns.iter().filter_map(|column| column.noise.as_ref()).collect();
    let Some(privacy) = &wire.privacy else {
        if !noises.is_empty() {
            let message = "noise without a budget is averaged away by asking again";
            faults.hint(&here, Code::Missing, message, "`Privacy: { Epsilon: 1 }`");
        }
        return;
    };
    if noises.is_empty() {
        faults.add(&here, Code::NotApplicable, "no column has noise, so nothing is charged");
        return;
    }
    let sum =
        |of: fn(&document::Noise) -> Option<f64>| noises.iter().filter_map(|noise| of(noise)).sum::<f64>();
    if sum(|noise| noise.epsilon) > privacy.epsilon.unwrap_or(f64::INFINITY) {
        let message = "one call costs more epsilon than there is";
        faults.add(&here.field("Epsilon"), Code::Conflict, message);
    }
    if sum(|noise| noise.delta) > privacy.delta.unwrap_or(0.0) {
        faults.add(&here.field("Delta"), Code::Conflict, "one call costs more delta than there is");
    }
}

fn contributors(
    wire: &document::Output,
    shown: Option<&[String]>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) {
    let least = at.field("MinContributors");
    let column = at.field("Contributors");
    match (&wire.contributors, wire.min_contributors) {
        (None, None) => {}
        (Some(_), None) => {
            faults.add(&least, Code::Missing, "how many contributors a row must have is not said")
        }
        (None, Some(_)) => {
            let message = "no column says how many contributors a row has";
            faults.hint(&column, Code::Missing, message, "select `count(DISTINCT …) AS contributors`");
        }
        (Some(name), Some(count)) => {
            if count < 2 {
                faults.add(&least, Code::InvalidValue, "a row about one contributor is that contributor's");
            }
            if wire.columns.iter().any(|column| column.name == *name) {
                faults.add(&column, Code::Conflict, "the count of contributors is never shown");
            }
            in_query(name, shown, &column, faults);
        }
    }
}
