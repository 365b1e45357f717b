//! Which columns of a query are selected, and where the columns of the answer come from.

use database_manifest::{Algorithm, Column, SqlType, WasmForm};

use super::Reason;

/// How rows of the query become rows of the answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Expressions that are selected.
    select: Vec<String>,
    /// Columns that rows are ordered by: those of a group, for aggregates.
    order: Vec<String>,
    /// Whether the last value of each row is the one that counts contributors.
    pub counted: bool,
    /// Where each column of the answer comes from.
    pub places: Vec<Place>,
}

/// Where a column of the answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The query's value at this place.
    Query(usize),
    /// The module.
    Module,
}

impl Plan {
    /// For a query with columns of these names.
    ///
    /// # Errors
    /// [`Reason::Result`]: the query lacks what the manifest names, or has a name twice.
    pub fn new(algorithm: &Algorithm, names: &[&str]) -> Result<Self, Reason> {
        let lacking = |name: &str| Reason::Result(format!("the query has not one column {name}"));
        let at = |name: &str| {
            let mut found = names.iter().enumerate().filter(|(_, it)| **it == name).map(|(i, _)| i);
            found.next().filter(|_| found.next().is_none())
        };
        let output = &algorithm.output;
        let contributors = match (&output.contributors, &algorithm.wasm) {
            // The module counts: it gives the number as the last value of its rows.
            (Some(_), Some(wasm)) if wasm.form == WasmForm::Rows => None,
            (Some(name), _) => Some(at(name).ok_or_else(|| lacking(name))?),
            (None, _) => None,
        };
        let Some(wasm) = &algorithm.wasm else {
            for column in &output.columns {
                at(&column.name).ok_or_else(|| lacking(&column.name))?;
            }
            let mut select: Vec<_> = output.columns.iter().map(cast).collect();
            select.extend(contributors.map(|i| format!("({}::bigint)::text", quoted(names[i]))));
            let places = (0..output.columns.len()).map(Place::Query).collect();
            return Ok(Self { select, order: Vec::new(), counted: contributors.is_some(), places });
        };
        // The module gets all columns but the one that counts.
        let inputs: Vec<usize> = (0..names.len()).filter(|i| Some(*i) != contributors).collect();
        if let Some(i) = inputs.iter().find(|i| at(names[**i]).is_none()) {
            return Err(lacking(names[*i]));
        }
        let mut select: Vec<_> = inputs.iter().map(|i| format!("{}::text", quoted(names[*i]))).collect();
        let counting = |i: usize| match wasm.form {
            WasmForm::Scalar => format!("({}::bigint)::text", quoted(names[i])),
            WasmForm::Rows | WasmForm::Aggregate => format!("{}::text", quoted(names[i])),
        };
        select.extend(contributors.map(counting));
        let place = |column: &Column| {
            let i = inputs.iter().position(|i| names[*i] == column.name);
            i.filter(|_| wasm.form != WasmForm::Rows).map_or(Place::Module, Place::Query)
        };
        let places: Vec<_> = output.columns.iter().map(place).collect();
        let computed = places.iter().filter(|it| **it == Place::Module).count();
        if wasm.form != WasmForm::Rows && computed != 1 {
            let fault = format!("the module computes one column, and {computed} are not the query's");
            return Err(Reason::Result(fault));
        }
        let keys = output.columns.iter().zip(&places).filter(|(_, place)| **place != Place::Module);
        let order = match wasm.form {
            WasmForm::Aggregate => {
                keys.map(|(column, _)| format!("{}::text", quoted(&column.name))).collect()
            }
            WasmForm::Rows | WasmForm::Scalar => Vec::new(),
        };
        Ok(Self { select, order, counted: contributors.is_some(), places })
    }

    /// What is selected.
    pub fn select(&self) -> String {
        self.select.join(", ")
    }

    /// ` ORDER BY …`, or nothing: then rows keep the order of the query.
    pub fn order(&self) -> String {
        if self.order.is_empty() { String::new() } else { format!(" ORDER BY {}", self.order.join(", ")) }
    }
}

/// A column as text of its type.
fn cast(column: &Column) -> String {
    let name = quoted(&column.name);
    match column.sql_type {
        SqlType::Text => format!("{name}::text"),
        kind => format!("({name}::{})::text", kind.sql()),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::tests::algorithm;

    #[test]
    fn only_what_the_manifest_names_is_selected() {
        let plan = Plan::new(&algorithm(None, Some("k")), &["secret", "k", "region", "n"]).unwrap();
        assert_eq!(plan.select(), r#""region"::text, ("n"::bigint)::text, ("k"::bigint)::text"#);
        assert_eq!(plan.order(), "");
    }

    #[test]
    fn a_name_that_is_lacking_or_there_twice_is_refused() {
        for names in
            [&["region", "n"] as &[_], &["region", "n", "n", "k"], &["n", "k"], &["region", "n", "k", "k"]]
        {
            assert!(Plan::new(&algorithm(None, Some("k")), names).is_err(), "{names:?}");
        }
    }

    #[test]
    fn an_aggregate_gets_its_groups_together() {
        let plan =
            Plan::new(&algorithm(Some(WasmForm::Aggregate), Some("unit")), &["region", "v", "unit"]).unwrap();
        assert_eq!(plan.select(), r#""region"::text, "v"::text, "unit"::text"#);
        assert_eq!(plan.order(), r#" ORDER BY "region"::text"#);
        assert_eq!(plan.places, [Place::Query(0), Place::Module]);
    }

    #[test]
    fn a_scalar_computes_exactly_one_column() {
        let scalar = algorithm(Some(WasmForm::Scalar), None);
        assert_eq!(Plan::new(&scalar, &["v", "region"]).unwrap().places, [Place::Query(1), Place::Module]);
        assert!(Plan::new(&scalar, &["region", "n"]).is_err(), "none is left for the module");
        assert!(Plan::new(&scalar, &["v"]).is_err(), "two are");
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"; DROP"), "\"a\"\"; DROP\"");
    }
}
