//! From rows of the query to rows that leave: through the module, where there is one, and the output rules.

use std::collections::HashSet;

use database_manifest::{Algorithm, WasmForm};
use tokio::sync::mpsc::Receiver;

use super::{
    Reason,
    output::{Candidate, Outgoing},
    plan::{Place, Plan},
    wasm::{ModuleError, Row, Running},
};

/// Values of a row, as they were selected.
pub type Cells = Row;

/// Takes rows until there are none, or no further may leave. Blocking.
///
/// # Errors
/// Of the module or the output rules.
pub fn compute(
    algorithm: &Algorithm,
    plan: &Plan,
    mut rows: Receiver<Cells>,
) -> Result<Vec<Vec<Option<String>>>, Reason> {
    let mut outgoing = Outgoing::new(&algorithm.output);
    let rows = std::iter::from_fn(|| rows.blocking_recv());
    match &algorithm.wasm {
        None => plain(plan, rows, &mut outgoing)?,
        Some(wasm) => {
            let mut module = Running::new(wasm)?;
            match wasm.form {
                WasmForm::Rows => all(algorithm, wasm.memory, &mut module, rows, &mut outgoing)?,
                WasmForm::Scalar => scalar(plan, &mut module, rows, &mut outgoing)?,
                WasmForm::Aggregate => aggregate(algorithm, plan, &mut module, rows, &mut outgoing)?,
            }
        }
    }
    Ok(outgoing.rows())
}

/// Takes the value that counts contributors from a row.
fn counted(plan: &Plan, row: &mut Cells) -> Option<u64> {
    let value = if plan.counted { row.pop().flatten() } else { None };
    value.and_then(|it| it.parse().ok())
}

fn plain(plan: &Plan, rows: impl Iterator<Item = Cells>, outgoing: &mut Outgoing<'_>) -> Result<(), Reason> {
    for mut row in rows {
        let contributors = counted(plan, &mut row);
        outgoing.offer(Candidate { contributors, values: row })?;
        if outgoing.full() {
            break;
        }
    }
    Ok(())
}

fn all(
    algorithm: &Algorithm,
    memory: u64,
    module: &mut Running,
    rows: impl Iterator<Item = Cells>,
    outgoing: &mut Outgoing<'_>,
) -> Result<(), Reason> {
    let (mut input, mut bytes) = (Vec::new(), 0);
    for row in rows {
        bytes += held(&row);
        if bytes > memory {
            return Err(ModuleError::Input.into());
        }
        input.push(row);
    }
    let counts = algorithm.output.contributors.is_some();
    module.rows(&input, |mut row| {
        let contributors = if counts { row.pop().flatten().and_then(|it| it.parse().ok()) } else { None };
        outgoing.offer(Candidate { contributors, values: row })
    })
}

/// About how many bytes a row takes here: no less than in the module's memory.
fn held(row: &Cells) -> u64 {
    row.iter().map(|it| 24 + it.as_ref().map_or(0, String::len) as u64).sum::<u64>() + 24
}

fn scalar(
    plan: &Plan,
    module: &mut Running,
    rows: impl Iterator<Item = Cells>,
    outgoing: &mut Outgoing<'_>,
) -> Result<(), Reason> {
    for mut row in rows {
        let contributors = counted(plan, &mut row);
        let computed = module.scalar(&row)?;
        outgoing.offer(Candidate { contributors, values: placed(plan, &row, &computed) })?;
        if outgoing.full() {
            break;
        }
    }
    Ok(())
}

fn placed(plan: &Plan, row: &Cells, computed: &Option<String>) -> Vec<Option<String>> {
    let value = |place: &Place| match place {
        Place::Query(i) => row.get(*i).cloned().flatten(),
        Place::Module => computed.clone(),
    };
    plan.places.iter().map(value).collect()
}

/// Rows come ordered by group, so that one group is held at a time. In a group the rows are single ones, whose value in
/// the counting column says whom each is about; we count the distinct ones, as far as the rule asks.
fn aggregate(
    algorithm: &Algorithm,
    plan: &Plan,
    module: &mut Running,
    rows: impl Iterator<Item = Cells>,
    outgoing: &mut Outgoing<'_>,
) -> Result<(), Reason> {
    let limit = algorithm.wasm.as_ref().map_or(0, |wasm| wasm.memory);
    let mut group: Option<Group> = None;
    for mut row in rows {
        let unit = if plan.counted { row.pop().flatten() } else { None };
        let key = placed(plan, &row, &None);
        if group.as_ref().is_some_and(|it| it.key != key)
            && let Some(done) = group.take()
        {
            finish(plan, done, module, outgoing)?;
        }
        let group = group.get_or_insert_with(|| Group { key, ..Group::default() });
        group.add(row, unit, algorithm.output.min_contributors, limit)?;
    }
    group.map_or(Ok(()), |done| finish(plan, done, module, outgoing))
}

#[derive(Default)]
struct Group {
    key: Cells,
    rows: Vec<Cells>,
    units: HashSet<String>,
    bytes: u64,
}

impl Group {
    fn add(&mut self, row: Cells, unit: Option<String>, enough: u64, limit: u64) -> Result<(), Reason> {
        self.bytes += held(&row);
        if self.bytes > limit {
            return Err(Reason::Module("a group has more rows than the module has memory".into()));
        }
        if let Some(unit) = unit
            && (self.units.len() as u64) < enough
        {
            self.units.insert(unit);
        }
        self.rows.push(row);
        Ok(())
    }
}

fn finish(
    plan: &Plan,
    group: Group,
    module: &mut Running,
    outgoing: &mut Outgoing<'_>,
) -> Result<(), Reason> {
    let Some(first) = group.rows.first() else { return Ok(()) };
    let computed = module.aggregate(group.rows.iter())?;
    let contributors = Some(group.units.len() as u64);
    outgoing.offer(Candidate { contributors, values: placed(plan, first, &computed) })
}
