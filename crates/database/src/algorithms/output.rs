//! What of a result leaves: rows with contributors enough, up to a number, numbers noisy and rounded. This is the one
//! place where rows are let through.

use database_manifest::{Column, Output, SqlType};

use super::{Reason, arguments, decimal, noise};

/// A row of a result before the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// How many contributed to it, where the algorithm counts them; `None`: NULL or not counted.
    pub contributors: Option<u64>,
    /// Values of the columns that the manifest names, in order.
    pub values: Vec<Option<String>>,
}

/// No answer is larger: bytes of all values.
const MAX_BYTES: usize = 64 << 20;

/// Lets rows through.
pub struct Outgoing<'a> {
    rules: &'a Output,
    rows: Vec<Vec<Option<String>>>,
    bytes: usize,
}

impl<'a> Outgoing<'a> {
    /// By these rules.
    pub fn new(rules: &'a Output) -> Self {
        Self { rules, rows: Vec::new(), bytes: 0 }
    }

    /// Whether no further row leaves.
    pub fn full(&self) -> bool {
        self.rows.len() as u64 >= self.rules.max_rows
    }

    /// Offers a row. One with too few contributors is dropped, and so is one beyond the cap.
    ///
    /// # Errors
    /// [`Reason::Result`]: a value that is not of its type, or too much.
    pub fn offer(&mut self, row: Candidate) -> Result<(), Reason> {
        if self.full() || !enough(self.rules, row.contributors) {
            return Ok(());
        }
        if row.values.len() != self.rules.columns.len() {
            return Err(Reason::Result(format!("a row has {} values", row.values.len())));
        }
        let values = self.rules.columns.iter().zip(row.values).map(|(column, value)| leaving(column, value));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        self.bytes += values.iter().flatten().map(String::len).sum::<usize>();
        if self.bytes > MAX_BYTES {
            return Err(Reason::Result(format!("more than {MAX_BYTES} bytes")));
        }
        self.rows.push(values);
        Ok(())
    }

    /// What leaves.
    pub fn rows(self) -> Vec<Vec<Option<String>>> {
        self.rows
    }
}

fn enough(rules: &Output, contributors: Option<u64>) -> bool {
    // Where nobody is counted, nobody is known to have contributed.
    contributors.unwrap_or(0) >= rules.min_contributors
}

fn leaving(column: &Column, value: Option<String>) -> Result<Option<String>, Reason> {
    let fault = |what: &str| Reason::Result(format!("column {}: {what}", column.name));
    let value = match (&column.noise, value) {
        // A NULL would tell that nothing is there: it counts as zero.
        (Some(noise), value) => Some(noisy(column, noise, value.as_deref().unwrap_or("0"))?),
        (None, None) => return Ok(None),
        (None, Some(value)) => Some(typed(column.sql_type, value).ok_or_else(|| fault("not of its type"))?),
    };
    match (column.round_to, value) {
        (Some(step), Some(value)) if finite(&value) => {
            decimal::round_to(&value, step).map(Some).ok_or_else(|| fault("cannot be rounded"))
        }
        (_, value) => Ok(value),
    }
}

/// Values come from PostgreSQL cast to their type, or from a module as any text.
fn typed(kind: SqlType, value: String) -> Option<String> {
    match kind {
        SqlType::Text => Some(value),
        SqlType::Float | SqlType::Numeric if !finite(&value) => Some(value),
        // PostgreSQL's own digits stay as they are.
        SqlType::Float => value.parse::<f64>().is_ok().then_some(value),
        SqlType::Numeric => {
            let digits = value.strip_prefix('-').unwrap_or(&value).as_bytes();
            match digits {
                // A module's.
                [b'0', b'0'..=b'9', ..] => decimal::canonical(&value),
                _ => value.bytes().all(|it| matches!(it, b'0'..=b'9' | b'-' | b'.')).then_some(value),
            }
        }
        SqlType::Date | SqlType::Timestamp if matches!(value.as_str(), "infinity" | "-infinity") => {
            Some(value)
        }
        SqlType::Boolean | SqlType::Integer | SqlType::Date | SqlType::Timestamp => {
            arguments::canonical(kind, &value)
        }
    }
}

fn finite(value: &str) -> bool {
    !matches!(value, "NaN" | "Infinity" | "-Infinity")
}

fn noisy(column: &Column, noise: &database_manifest::Noise, value: &str) -> Result<String, Reason> {
    let fault = |what: String| Reason::Result(format!("column {}: {what}", column.name));
    match column.sql_type {
        SqlType::Integer => {
            let value = value.parse().map_err(|_| fault("not of its type".into()))?;
            noise::integer(noise, value).map(|it| it.to_string()).map_err(|error| fault(error.to_string()))
        }
        SqlType::Float | SqlType::Numeric => {
            // What PostgreSQL writes and is not finite counts as zero there.
            let value = value.parse().map_err(|_| fault("not of its type".into()))?;
            noise::float(noise, value).map(written).map_err(|error| fault(error.to_string()))
        }
        _ => Err(fault("noise on what is no number".into())),
    }
}

fn written(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use database_manifest::{Mechanism, Noise};

    use super::*;

    fn column(sql_type: SqlType) -> Column {
        Column { name: "n".into(), sql_type, round_to: None, noise: None }
    }

    fn rules(columns: Vec<Column>) -> Output {
        let contributors = Some("k".into());
        Output { columns, contributors, min_contributors: 10, max_rows: 3, rate: None, privacy: None }
    }

    fn offer(rules: &Output, rows: &[(Option<u64>, Option<&str>)]) -> Result<Vec<Option<String>>, Reason> {
        let mut outgoing = Outgoing::new(rules);
        for &(contributors, value) in rows {
            outgoing.offer(Candidate { contributors, values: vec![value.map(Into::into)] })?;
        }
        Ok(outgoing.rows().into_iter().map(|mut row| row.remove(0)).collect())
    }

    #[test]
    fn nine_contributors_of_ten_are_not_enough() {
        let rules = rules(vec![column(SqlType::Text)]);
        let rows =
            [(Some(9), Some("nine")), (Some(10), Some("ten")), (None, Some("unknown")), (Some(0), None)];
        assert_eq!(offer(&rules, &rows).unwrap(), [Some("ten".into())]);
    }

    #[test]
    fn rows_beyond_the_cap_do_not_leave() {
        let rules = rules(vec![column(SqlType::Integer)]);
        assert_eq!(offer(&rules, &[(Some(10), Some("1")); 7]).unwrap().len(), 3);
    }

    #[test]
    fn numbers_leave_rounded() {
        let rules = rules(vec![Column { round_to: Some(10.0), ..column(SqlType::Integer) }]);
        let rows = [(Some(10), Some("14")), (Some(10), Some("15")), (Some(10), None)];
        assert_eq!(offer(&rules, &rows).unwrap(), [Some("10".into()), Some("20".into()), None]);
    }

    #[test]
    fn noise_hides_what_is_null_and_is_rounded_after() {
        let noise = Noise { mechanism: Mechanism::Laplace, sensitivity: 1.0, epsilon: 0.01 };
        for kind in [SqlType::Integer, SqlType::Float, SqlType::Numeric] {
            let rules = rules(vec![Column { round_to: Some(5.0), noise: Some(noise), ..column(kind) }]);
            let values =
                offer(&rules, &[(Some(10), None), (Some(10), Some("7")), (Some(10), Some("7"))]).unwrap();
            for value in values {
                assert_eq!(value.unwrap().parse::<i64>().unwrap() % 5, 0, "{kind:?}");
            }
        }
    }

    #[test]
    fn what_a_module_gives_is_of_its_type() {
        for (kind, value) in [
            (SqlType::Integer, "x"),
            (SqlType::Float, "1,5"),
            (SqlType::Numeric, "1e5"),
            (SqlType::Boolean, "yes"),
            (SqlType::Date, "tomorrow"),
        ] {
            assert!(offer(&rules(vec![column(kind)]), &[(Some(10), Some(value))]).is_err(), "{kind:?}");
        }
    }
}
