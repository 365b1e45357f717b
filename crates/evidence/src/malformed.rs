//! The one error of parsing: which format, which field at which offset, what it demands and what was there.

use std::borrow::Cow;

/// In which way bytes fail to be what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MalformedKind {
    /// The bytes end before the field does.
    Truncated,
    /// A declared or actual length is beyond the limit.
    TooLong,
    /// The field has a value that the format does not allow.
    Value,
    /// The format allows the value, but this crate does not read it.
    Unsupported,
}

/// Why bytes are not the Evidence, Endorsements or value that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{format}: {field} at offset {offset}: expected {expected}, seen {seen}")]
pub struct Malformed {
    /// In which way.
    pub kind: MalformedKind,
    /// The format being read.
    pub format: &'static str,
    /// The field of that format.
    pub field: &'static str,
    /// Where the field starts, in bytes from the start of the input.
    pub offset: usize,
    /// What the format demands.
    pub expected: Cow<'static, str>,
    /// What was there.
    pub seen: String,
}

impl Malformed {
    pub(crate) fn truncated(
        format: &'static str,
        field: &'static str,
        offset: usize,
        needed: usize,
        available: usize,
    ) -> Self {
        Self {
            kind: MalformedKind::Truncated,
            format,
            field,
            offset,
            expected: format!("at least {needed} bytes").into(),
            seen: format!("{available} bytes"),
        }
    }

    pub(crate) fn too_long(
        format: &'static str,
        field: &'static str,
        offset: usize,
        limit: usize,
        length: usize,
    ) -> Self {
        Self {
            kind: MalformedKind::TooLong,
            format,
            field,
            offset,
            expected: format!("at most {limit} bytes").into(),
            seen: format!("{length} bytes"),
        }
    }

    pub(crate) fn value(
        format: &'static str,
        field: &'static str,
        offset: usize,
        expected: impl Into<Cow<'static, str>>,
        seen: impl Into<String>,
    ) -> Self {
        Self {
            kind: MalformedKind::Value,
            format,
            field,
            offset,
            expected: expected.into(),
            seen: seen.into(),
        }
    }

    pub(crate) fn unsupported(
        format: &'static str,
        field: &'static str,
        offset: usize,
        expected: impl Into<Cow<'static, str>>,
        seen: impl Into<String>,
    ) -> Self {
        Self { kind: MalformedKind::Unsupported, ..Self::value(format, field, offset, expected, seen) }
    }
}
