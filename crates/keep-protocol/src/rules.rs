//! Rules that messages share.

use crate::ProtocolError;

pub(crate) const fn rule<T>(
    what: &'static str,
    field: &'static str,
    rule: &'static str,
) -> Result<T, ProtocolError> {
    Err(ProtocolError::Rule { what, field, rule })
}

pub(crate) fn at_most(
    what: &'static str,
    field: &'static str,
    seen: usize,
    max: usize,
) -> Result<(), ProtocolError> {
    if seen > max { rule(what, field, "it is longer than any may be") } else { Ok(()) }
}

/// Something, and not too much of it.
pub(crate) fn some(
    what: &'static str,
    field: &'static str,
    seen: usize,
    max: usize,
) -> Result<(), ProtocolError> {
    if seen == 0 { rule(what, field, "it must not be empty") } else { at_most(what, field, seen, max) }
}
