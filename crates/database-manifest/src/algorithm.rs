//! What may be computed, by whom, and what may leave.

use std::{collections::BTreeSet, time::Duration};

use time::{Date, Month, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{PartyName, TableName};

/// SQL that is approved by being in the manifest, called as `SELECT * FROM algorithm.name(…)` or over HTTPS.
#[derive(Debug, Clone)]
pub struct Algorithm {
    /// Who may call it.
    pub callers: BTreeSet<PartyName>,
    /// Tables that it reads: found in its SQL.
    pub reads: BTreeSet<TableName>,
    /// Typed arguments, in order: `$1`, `$2` … of the SQL.
    pub arguments: Vec<Argument>,
    /// One query (`SELECT` or `WITH … SELECT`).
    pub sql: String,
    /// A WebAssembly module that the rows go through.
    pub wasm: Option<WasmUse>,
    /// No call of it runs longer: each may keep a processor busy.
    pub time: Duration,
    /// What leaves.
    pub output: Output,
}

/// Types of arguments and of columns of a result, each with one text form (PostgreSQL's).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqlType {
    /// `boolean`
    Boolean,
    /// `bigint`
    Integer,
    /// `double precision`
    Float,
    /// `numeric`
    Numeric,
    /// `text`
    Text,
    /// `date`
    Date,
    /// `timestamptz`
    Timestamp,
}

impl SqlType {
    /// Every type.
    pub const ALL: [Self; 7] =
        [Self::Boolean, Self::Integer, Self::Float, Self::Numeric, Self::Text, Self::Date, Self::Timestamp];

    /// The manifest's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
        }
    }

    /// PostgreSQL's word for it.
    #[must_use]
    pub fn sql(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "bigint",
            Self::Float => "double precision",
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Date => "date",
            Self::Timestamp => "timestamptz",
        }
    }

    /// Whether noise and rounding mean something.
    #[must_use]
    pub fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Float | Self::Numeric)
    }

    /// Whether a text is a value of the type in its one form: `true`, `-7`, `2.5`, `2026-01-31`,
    /// `2026-01-31T10:00:00Z`. PostgreSQL takes more forms (`now`, `infinity`, `0x10`), which are refused, so that a
    /// limit on values is not passed by another way to write them.
    #[must_use]
    pub fn accepts(self, text: &str) -> bool {
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        match self {
            Self::Boolean => matches!(text, "true" | "false"),
            Self::Integer => text.parse::<i64>().is_ok_and(|value| value.to_string() == text),
            Self::Float => plain(text) && text.parse::<f64>().is_ok_and(f64::is_finite),
            Self::Numeric => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
                let all = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                all(whole) && all(part) && text.len() <= 100
            }
            Self::Text => !text.contains('\0'),
            Self::Date => date(text),
            Self::Timestamp => {
                OffsetDateTime::parse(text, &Rfc3339).is_ok()
                    && text.bytes().filter(u8::is_ascii_digit).count() <= 26
            }
        }
    }
}

/// `2026-01-31`.
fn date(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut next = |length: usize| {
        let part =
            parts.next().filter(|part| part.len() == length && part.bytes().all(|it| it.is_ascii_digit()));
        part.and_then(|part| part.parse::<u16>().ok())
    };
    let (Some(year), Some(month), Some(day)) = (next(4), next(2), next(2)) else { return false };
    let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok());
    let valid = |month| Date::from_calendar_date(year.into(), month, u8::try_from(day).unwrap_or(0)).is_ok();
    year > 0 && parts.next().is_none() && month.is_some_and(valid)
}

/// An argument.
#[derive(Debug, Clone)]
pub struct Argument {
    /// An SQL identifier.
    pub name: String,
    /// Its type. NULL is refused.
    pub sql_type: SqlType,
    /// Which values are let through.
    pub allowed: Allowed,
}

/// Which values of an argument are let through.
#[derive(Debug, Clone)]
pub enum Allowed {
    /// All of the type; text of at most this many bytes.
    Any {
        /// Bytes of its text form.
        max_length: usize,
    },
    /// These alone, in their text form.
    OneOf(Vec<String>),
    /// Of a number, a date or a time: from, to, both included, in their text form.
    Range {
        /// The least.
        from: String,
        /// The greatest.
        to: String,
    },
}

/// A module that gets each row and says what becomes of it.
#[derive(Debug, Clone)]
pub struct WasmUse {
    /// The module's bytes.
    pub module: std::sync::Arc<[u8]>,
    /// SHA-256 of it.
    pub digest: [u8; 32],
    /// Steps of the interpreter, for the whole call.
    pub fuel: u64,
    /// Bytes of linear memory.
    pub memory: u64,
    /// How it is used: over all rows, or as SQL function of that kind.
    pub form: WasmForm,
}

/// How a module is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasmForm {
    /// It gets all rows of the query and gives the rows of the result.
    Rows,
    /// It computes one column from each row.
    Scalar,
    /// It takes in the rows of a group one by one and gives one value for each group.
    Aggregate,
}

/// What leaves.
#[derive(Debug, Clone)]
pub struct Output {
    /// Columns that the caller sees, in order.
    pub columns: Vec<Column>,
    /// The column of the query that counts a row's contributors; it is never shown.
    pub contributors: Option<String>,
    /// Rows with fewer contributors do not leave, and no hint of them.
    pub min_contributors: u64,
    /// Rows beyond this do not leave.
    pub max_rows: u64,
    /// How often each party may call it.
    pub rate: Option<Rate>,
    /// Noise, and what may be spent on it.
    pub privacy: Option<Privacy>,
}

/// A column that the caller sees.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name in the query and in the result.
    pub name: String,
    /// Its type.
    pub sql_type: SqlType,
    /// Numbers leave as multiples of this.
    pub round_to: Option<f64>,
    /// Noise that is added, and how.
    pub noise: Option<Noise>,
}

/// Noise on a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// From which distribution.
    pub mechanism: Mechanism,
    /// By how much one contributor can change the true value.
    pub sensitivity: f64,
    /// What the column costs for each call.
    pub epsilon: f64,
}

/// A distribution of noise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mechanism {
    /// Laplace, on numbers; discrete on integers.
    Laplace,
    /// Discrete Gaussian, with this delta.
    Gaussian {
        /// The probability that the promise of epsilon fails.
        delta: f64,
    },
}

/// A budget that answers are charged to before they leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Privacy {
    /// What each party may spend on this algorithm in all.
    pub epsilon: f64,
    /// As that, of delta.
    pub delta: f64,
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls.
    pub calls: u64,
    /// In this time.
    pub per: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_one_way_to_write_a_value() {
        use SqlType::*;
        for (kind, good) in [
            (Boolean, "true"),
            (Integer, "-7"),
            (Float, "2.5e3"),
            (Numeric, "-12.50"),
            (Text, "now"),
            (Date, "2024-02-29"),
            (Timestamp, "2026-01-31T10:00:00Z"),
        ] {
            assert!(kind.accepts(good), "{good}");
        }
        for (kind, bad) in [
            (Boolean, "t"),
            (Integer, "007"),
            (Integer, "9223372036854775808"),
            (Integer, "0x10"),
            (Float, "inf"),
            (Float, "NaN"),
            (Numeric, "1."),
            (Numeric, "Infinity"),
            (Text, "a\0b"),
            (Date, "now"),
            (Date, "2026-02-30"),
            (Date, "26-02-03"),
            (Timestamp, "infinity"),
            (Timestamp, "2026-01-31"),
        ] {
            assert!(!kind.accepts(bad), "{bad}");
        }
    }
}
