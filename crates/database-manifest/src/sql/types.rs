//! Types that columns may have.

use std::collections::BTreeSet;

use sqlparser::ast::{ArrayElemTypeDef, DataType, ExactNumberInfo, TimezoneInfo};

use super::single;

/// PostgreSQL's name of a type; `None`: not one that a column may have. `enums` are types of the schema.
pub(super) fn name(kind: &DataType, enums: &BTreeSet<String>) -> Option<String> {
    let fixed = match kind {
        DataType::Boolean | DataType::Bool => "boolean",
        DataType::SmallInt(None) | DataType::Int2(None) => "smallint",
        DataType::Integer(None) | DataType::Int(None) | DataType::Int4(None) => "integer",
        DataType::BigInt(None) | DataType::Int8(None) => "bigint",
        DataType::Real | DataType::Float4 => "real",
        DataType::DoublePrecision | DataType::Float8 | DataType::Double(ExactNumberInfo::None) => {
            "double precision"
        }
        DataType::Float(ExactNumberInfo::None) => "double precision",
        DataType::Numeric(_) | DataType::Decimal(_) | DataType::Dec(_) => "numeric",
        DataType::Text
        | DataType::Varchar(_)
        | DataType::CharacterVarying(_)
        | DataType::CharVarying(_)
        | DataType::Char(_)
        | DataType::Character(_) => "text",
        DataType::Uuid => "uuid",
        DataType::Date => "date",
        DataType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => "time",
        DataType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => "timestamp",
        DataType::Timestamp(_, _) => "timestamptz",
        DataType::Interval { .. } => "interval",
        DataType::Bytea => "bytea",
        DataType::JSON => "json",
        DataType::JSONB => "jsonb",
        DataType::Array(ArrayElemTypeDef::SquareBracket(inner, _)) => {
            return name(inner, enums)
                .filter(|inner| !inner.ends_with("[]"))
                .map(|inner| format!("{inner}[]"));
        }
        DataType::Custom(custom, modifiers) => {
            let custom = single(custom).filter(|_| modifiers.is_empty())?;
            return match custom.as_str() {
                "timestamptz" | "bool" => Some(custom),
                _ => enums.contains(&custom).then_some(custom),
            };
        }
        _ => return None,
    };
    Some(fixed.to_owned())
}
