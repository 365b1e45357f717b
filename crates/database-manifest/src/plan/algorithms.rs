//! Algorithms: who learns what.

use std::collections::BTreeSet;

use ::manifest::Effect;

use super::{Found, differences, list, may, opens_if, span};
use crate::{Algorithm, AlgorithmName, Column, Manifest, Output};

pub(super) fn compare(old: Option<&Manifest>, new: &Manifest, found: &mut Found) {
    for (name, algorithm) in &new.algorithms {
        let before = old.and_then(|old| old.algorithms.get(name));
        let changed = match before {
            None => {
                fresh(name, algorithm, old.is_some(), found);
                true
            }
            Some(before) => one(name, before, algorithm, found),
        };
        if let Some(old) = old.filter(|_| changed) {
            let reads = before.map(|before| &before.reads).into_iter().flatten().chain(&algorithm.reads);
            reads.for_each(|table| touches(old, name, table, found));
        }
    }
    let Some(old) = old else { return };
    for (name, gone) in old.algorithms.iter().filter(|(name, _)| !new.algorithms.contains_key(name)) {
        found.add(Effect::Closes, name, format!("{} may no longer call {name}", list(&gone.callers)));
        gone.reads.iter().for_each(|table| touches(old, name, table, found));
    }
}

fn touches(old: &Manifest, name: &AlgorithmName, table: &crate::TableName, found: &mut Found) {
    if let Some(owner) = old.tables.get(table).and_then(|table| table.owner.clone()) {
        found.require(&owner, format!("{name} reads {table}"));
    }
}

fn fresh(name: &AlgorithmName, algorithm: &Algorithm, later: bool, found: &mut Found) {
    let may = if later { "may now" } else { "may" };
    let mut words =
        format!("{} {may} call {name}, which reads {}", list(&algorithm.callers), list(&algorithm.reads));
    words.push_str(&limits(&algorithm.output));
    if algorithm.wasm.is_some() {
        words.push_str(", through a WebAssembly module");
    }
    found.add(Effect::Opens, name, words);
}

/// What holds an answer back.
fn limits(output: &Output) -> String {
    let mut words = match output.min_contributors {
        0 if output.privacy.is_none() => "; an answer may be about a single contributor".to_owned(),
        0 => String::new(),
        least => format!("; each row of its answer is about {least} contributors or more"),
    };
    if let Some(privacy) = output.privacy {
        words.push_str(&format!("; its answers are noisy, within a budget of epsilon {}", privacy.epsilon));
    }
    if let Some(rate) = output.rate {
        words.push_str(&format!("; {} calls in {}", rate.calls, span(rate.per)));
    }
    words
}

/// Whether anything differs.
fn one(name: &AlgorithmName, old: &Algorithm, new: &Algorithm, found: &mut Found) -> bool {
    let Algorithm { callers, reads, arguments, sql, wasm, time, output } = new;
    let before = found.changes.len();
    for (now, party) in differences(&old.callers, callers) {
        found.add(opens_if(now), party, format!("{party} {} call {name}", may(now, Some(()))));
    }
    for table in reads.difference(&old.reads) {
        found.add(Effect::Opens, name, format!("{name} now also reads {table}"));
    }
    if old.sql != *sql {
        found.add(Effect::Opens, name, format!("the query of {name} is another"));
    }
    if format!("{:?}", old.arguments) != format!("{arguments:?}") {
        found.add(Effect::Opens, name, format!("{name} takes other arguments"));
    }
    let module = |algorithm: &Algorithm| {
        algorithm.wasm.as_ref().map(|wasm| (wasm.digest, wasm.fuel, wasm.memory, wasm.form))
    };
    if module(old) != wasm.as_ref().map(|wasm| (wasm.digest, wasm.fuel, wasm.memory, wasm.form)) {
        found.add(
            Effect::Opens,
            name,
            format!("{name} runs another WebAssembly module, or with other limits"),
        );
    }
    if old.time != *time {
        let words = format!("a call of {name} may run for {}; it was {}", span(*time), span(old.time));
        found.add(opens_if(*time > old.time), name, words);
    }
    of_output(name, &old.output, output, found);
    found.changes.len() > before
}

fn of_output(name: &AlgorithmName, old: &Output, new: &Output, found: &mut Found) {
    let Output { columns, contributors, min_contributors, max_rows, rate, privacy } = new;
    if old.min_contributors != *min_contributors {
        let words = format!(
            "rows of {name} with {min_contributors} contributors leave; it was {}",
            old.min_contributors
        );
        found.add(opens_if(*min_contributors < old.min_contributors), name, words);
    }
    if old.contributors != *contributors {
        found.add(Effect::Opens, name, format!("contributors of {name} are counted by another column"));
    }
    if old.max_rows != *max_rows {
        let words = format!("{max_rows} rows of {name} may leave; it was {}", old.max_rows);
        found.add(opens_if(*max_rows > old.max_rows), name, words);
    }
    if old.rate != *rate {
        let words = match rate {
            Some(rate) => format!("{name} may be called {} times in {}", rate.calls, span(rate.per)),
            None => format!("{name} may be called as often as one likes"),
        };
        let slower = rate.is_some_and(|new| match old.rate {
            Some(old) => new.calls <= old.calls && new.per >= old.per,
            None => true,
        });
        found.add(opens_if(!slower), name, words);
    }
    if old.privacy != *privacy {
        let words = match privacy {
            Some(privacy) => {
                format!("the budget of {name} is epsilon {}, delta {}", privacy.epsilon, privacy.delta)
            }
            None => format!("{name} has no budget"),
        };
        let tighter = privacy.is_some_and(|new| {
            old.privacy.is_none_or(|old| new.epsilon <= old.epsilon && new.delta <= old.delta)
        });
        found.add(opens_if(!tighter), name, words);
    }
    shown(name, &old.columns, columns, found);
}

fn shown(name: &AlgorithmName, old: &[Column], new: &[Column], found: &mut Found) {
    let names =
        |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect::<BTreeSet<_>>();
    for (now, column) in differences(&names(old), &names(new)) {
        let words =
            format!("the column {column} of {name} {}", if now { "now leaves" } else { "no longer leaves" });
        found.add(opens_if(now), name, words);
    }
    for column in new {
        let Some(before) = old.iter().find(|it| it.name == column.name) else { continue };
        let Column { name: own, sql_type, round_to, noise } = column;
        if before.noise != *noise {
            let words = match noise {
                Some(noise) => {
                    format!("the column {own} of {name} leaves with noise of epsilon {}", noise.epsilon)
                }
                None => format!("the column {own} of {name} leaves without noise"),
            };
            let gone = noise.is_none_or(|new| before.noise.is_some_and(|old| new.epsilon > old.epsilon));
            found.add(opens_if(gone), name, words);
        }
        if before.sql_type != *sql_type || before.round_to != *round_to {
            found.add(
                Effect::Opens,
                name,
                format!("the column {own} of {name} has another type or rounding"),
            );
        }
    }
}
