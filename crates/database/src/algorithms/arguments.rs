//! Arguments: each is of its type, one of the values that the manifest lets through, and has one text, so that the same
//! request is known again.

use std::{cmp::Ordering, collections::BTreeMap};

use database_manifest::{Allowed, Argument, SqlType};
use time::{
    Date, OffsetDateTime, UtcOffset, format_description::BorrowedFormatItem, macros::format_description,
};

use super::{Reason, decimal};

/// Arguments as they are given, in their text forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// As in SQL.
    InOrder(Vec<String>),
    /// As in JSON.
    ByName(BTreeMap<String, String>),
}

impl Given {
    /// The values, for the audit log.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::InOrder(values) => values.clone(),
            Self::ByName(values) => values.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        }
    }

    fn in_order(self, expected: &[Argument]) -> Result<Vec<String>, Reason> {
        let mut named = match self {
            Self::InOrder(values) => return Ok(values),
            Self::ByName(named) => named,
        };
        let count = Reason::ArgumentCount { expected: expected.len(), seen: named.len() };
        if named.len() != expected.len() {
            return Err(count);
        }
        let missing = |it: &Argument| Reason::Argument { name: it.name.clone(), expected: "a value".into() };
        expected.iter().map(|it| named.remove(&it.name).ok_or_else(|| missing(it))).collect()
    }
}

/// The arguments in order, in the text that PostgreSQL writes for them.
///
/// # Errors
/// [`Reason::ArgumentCount`], [`Reason::Argument`].
pub fn check(expected: &[Argument], given: Given) -> Result<Vec<String>, Reason> {
    let given = given.in_order(expected)?;
    if expected.len() != given.len() {
        return Err(Reason::ArgumentCount { expected: expected.len(), seen: given.len() });
    }
    expected.iter().zip(given).map(|(argument, text)| one(argument, &text)).collect()
}

fn one(argument: &Argument, text: &str) -> Result<String, Reason> {
    let kind = argument.sql_type;
    let refused = |expected: String| Reason::Argument { name: argument.name.clone(), expected };
    if let Allowed::Any { max_length } = argument.allowed
        && text.len() > max_length
    {
        return Err(refused(format!("at most {max_length} bytes")));
    }
    let value = canonical(kind, text).ok_or_else(|| refused(format!("a value of type {}", kind.sql())))?;
    match &argument.allowed {
        Allowed::Any { .. } => {}
        Allowed::OneOf(values) => {
            if !values.iter().any(|it| canonical(kind, it).as_ref() == Some(&value)) {
                return Err(refused(format!("one of {}", values.join(", "))));
            }
        }
        Allowed::Range { from, to } => {
            let inside = compare(kind, from, &value).is_some_and(Ordering::is_le)
                && compare(kind, &value, to).is_some_and(Ordering::is_le);
            if !inside {
                return Err(refused(format!("{from} to {to}")));
            }
        }
    }
    Ok(value)
}

/// The one text of a value. `None`: not of the type.
pub fn canonical(kind: SqlType, text: &str) -> Option<String> {
    match kind {
        SqlType::Boolean => match text {
            "t" | "true" => Some("t".into()),
            "f" | "false" => Some("f".into()),
            _ => None,
        },
        SqlType::Integer => text.parse::<i64>().ok().map(|it| it.to_string()),
        SqlType::Float => {
            let value: f64 = text.parse().ok()?;
            // One zero: PostgreSQL would write the other as -0.
            value.is_finite().then(|| if value == 0.0 { "0".into() } else { value.to_string() })
        }
        SqlType::Numeric => decimal::is_numeric(text).then(|| decimal::canonical(text)).flatten(),
        // PostgreSQL has no text with it.
        SqlType::Text => (!text.contains('\0')).then(|| text.into()),
        SqlType::Date => date(text)?.format(DATE).ok(),
        SqlType::Timestamp => timestamp(text)?.format(TIMESTAMP).ok(),
    }
}

fn compare(kind: SqlType, one: &str, other: &str) -> Option<Ordering> {
    match kind {
        SqlType::Integer => Some(one.parse::<i64>().ok()?.cmp(&other.parse().ok()?)),
        SqlType::Float => one.parse::<f64>().ok()?.partial_cmp(&other.parse().ok()?),
        SqlType::Numeric => decimal::compare(one, other),
        SqlType::Date => Some(date(one)?.cmp(&date(other)?)),
        SqlType::Timestamp => Some(timestamp(one)?.cmp(&timestamp(other)?)),
        SqlType::Boolean | SqlType::Text => None,
    }
}

const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]+00");

/// `2026-11-22`.
fn date(text: &str) -> Option<Date> {
    if text.len() == 10 { Date::parse(text, DATE).ok() } else { None }
}

/// RFC 3339, or with a space in place of the `T`; with an offset, to the microsecond.
fn timestamp(text: &str) -> Option<OffsetDateTime> {
    let text = if text.as_bytes().get(10) == Some(&b' ') { text.replacen(' ', "T", 1) } else { text.into() };
    // PostgreSQL writes whole hours of an offset without minutes.
    let offset_of_hours =
        matches!(text.as_bytes(), [.., b'+' | b'-', a, b] if a.is_ascii_digit() && b.is_ascii_digit());
    let text = if offset_of_hours && text.len() > 13 { format!("{text}:00") } else { text };
    let value = OffsetDateTime::parse(&text, &time::format_description::well_known::Rfc3339).ok()?;
    (value.nanosecond() % 1000 == 0).then(|| value.to_offset(UtcOffset::UTC))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argument(sql_type: SqlType, allowed: Allowed) -> Argument {
        Argument { name: "a".into(), sql_type, allowed }
    }

    fn any(sql_type: SqlType, text: &str) -> Option<String> {
        check(&[argument(sql_type, Allowed::Any { max_length: 40 })], Given::InOrder(vec![text.into()]))
            .ok()
            .map(|mut it| it.remove(0))
    }

    #[test]
    fn values_have_one_text() {
        for (kind, text, expected) in [
            (SqlType::Boolean, "true", "t"),
            (SqlType::Integer, "+7", "7"),
            (SqlType::Integer, "007", "7"),
            (SqlType::Float, "1e1", "10"),
            (SqlType::Float, "-0", "0"),
            (SqlType::Numeric, "1.50", "1.5"),
            (SqlType::Text, " a ", " a "),
            (SqlType::Date, "2026-11-22", "2026-11-22"),
            (SqlType::Timestamp, "2026-11-22T01:00:00+01:00", "2026-11-22 00:00:00.000000+00"),
            (SqlType::Timestamp, "2026-11-22 00:00:00.000000+00", "2026-11-22 00:00:00.000000+00"),
        ] {
            assert_eq!(any(kind, text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn values_of_another_type_are_refused() {
        for (kind, text) in [
            (SqlType::Boolean, "1"),
            (SqlType::Integer, "1.0"),
            (SqlType::Integer, "9223372036854775808"),
            (SqlType::Float, "NaN"),
            (SqlType::Float, "inf"),
            (SqlType::Numeric, "1e5"),
            (SqlType::Numeric, "NaN"),
            (SqlType::Text, "a\0b"),
            (SqlType::Date, "today"),
            (SqlType::Date, "2026-02-30"),
            (SqlType::Date, "infinity"),
            (SqlType::Timestamp, "now"),
            (SqlType::Timestamp, "2026-11-22T00:00:00"),
            (SqlType::Timestamp, "2026-11-22T00:00:00.0000001Z"),
        ] {
            assert_eq!(any(kind, text), None, "{text}");
        }
    }

    #[test]
    fn only_listed_values_pass() {
        let listed = |kind, values: &[&str], text: &str| {
            let allowed = Allowed::OneOf(values.iter().map(|&it| it.into()).collect());
            check(&[argument(kind, allowed)], Given::InOrder(vec![text.into()])).is_ok()
        };
        assert!(listed(SqlType::Text, &["a", "b"], "b"));
        assert!(!listed(SqlType::Text, &["a", "b"], "B"));
        assert!(listed(SqlType::Numeric, &["1.50"], "1.5"));
    }

    #[test]
    fn only_values_in_the_range_pass() {
        let within = |kind, from: &str, to: &str, text: &str| {
            let allowed = Allowed::Range { from: from.into(), to: to.into() };
            check(&[argument(kind, allowed)], Given::InOrder(vec![text.into()])).is_ok()
        };
        for good in ["-5", "0", "10"] {
            assert!(within(SqlType::Integer, "-5", "10", good), "{good}");
        }
        for bad in ["-6", "11", "x"] {
            assert!(!within(SqlType::Integer, "-5", "10", bad), "{bad}");
        }
        assert!(within(SqlType::Numeric, "0.1", "0.3", "0.30"));
        assert!(!within(SqlType::Numeric, "0.1", "0.3", "0.31"));
        assert!(within(SqlType::Date, "2026-01-01", "2026-12-31", "2026-06-01"));
        assert!(!within(SqlType::Date, "2026-01-01", "2026-12-31", "2027-01-01"));
        assert!(!within(SqlType::Text, "a", "z", "m"), "text has no ranges");
    }

    #[test]
    fn the_number_of_arguments_counts() {
        let one = [argument(SqlType::Text, Allowed::Any { max_length: 3 })];
        assert!(matches!(
            check(&one, Given::InOrder(vec![])),
            Err(Reason::ArgumentCount { expected: 1, seen: 0 })
        ));
        assert!(check(&one, Given::InOrder(vec!["a".into(), "b".into()])).is_err());
        assert!(check(&one, Given::InOrder(vec!["abcd".into()])).is_err(), "too long");
    }

    #[test]
    fn names_say_which_argument_a_value_is() {
        let named = |name: &str| Argument {
            name: name.into(),
            ..argument(SqlType::Text, Allowed::Any { max_length: 3 })
        };
        let given = |names: &[(&str, &str)]| {
            let names = names.iter().map(|&(name, value)| (name.into(), value.into())).collect();
            check(&[named("b"), named("a")], Given::ByName(names))
        };
        assert_eq!(given(&[("a", "1"), ("b", "2")]).unwrap(), ["2", "1"]);
        assert!(
            matches!(given(&[("a", "1"), ("c", "2")]), Err(Reason::Argument { name, .. }) if name == "b")
        );
        assert!(matches!(given(&[("a", "1")]), Err(Reason::ArgumentCount { expected: 2, seen: 1 })));
    }
}
