//! Extensions, and what those say that matter here.

use crate::der::{BIT_STRING, BOOLEAN, Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING};

/// The extensions of a certificate, a revocation list, or an entry of one (RFC 5280, §4.1), known to be
/// well-formed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extensions<'a>(Elements<'a>);

#[derive(Clone, Copy)]
pub(super) struct Extension<'a> {
    pub(super) oid: &'a [u8],
    pub(super) critical: bool,
    pub(super) value: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// Takes what is around the SEQUENCE OF extensions; none when they are malformed.
    pub(super) fn read(around: Option<&'a [u8]>) -> Option<Self> {
        let Some(around) = around else { return Some(Self(Elements::new(&[]))) };
        let mut outer = Elements::new(around);
        let inner = outer.sequence().filter(|_| outer.is_empty())?;
        let mut rest = inner;
        while !rest.is_empty() {
            Extension::read(&mut rest)?;
        }
        Some(Self(inner))
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Extension<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || Extension::read(&mut rest))
    }
}

impl<'a> Extension<'a> {
    fn read(elements: &mut Elements<'a>) -> Option<Self> {
        let mut parts = elements.sequence()?;
        let oid = parts.take(OBJECT_IDENTIFIER)?;
        // DER leaves out what is the default, and some writers do not.
        let critical = parts.optional(BOOLEAN)?.map_or(Some(false), boolean)?;
        let value = parts.take(OCTET_STRING)?;
        parts.is_empty().then_some(Self { oid, critical, value })
    }
}

fn boolean(contents: &[u8]) -> Option<bool> {
    match contents {
        [0xff] => Some(true),
        [0] => Some(false),
        _ => None,
    }
}

/// Whether basic constraints name a CA, and how many may follow below it (RFC 5280, §4.2.1.9). A number that does not
/// fit is as good as none.
pub(super) fn constraints(value: &[u8]) -> Option<(bool, Option<u32>)> {
    let mut outer = Elements::new(value);
    let mut parts = outer.sequence().filter(|_| outer.is_empty())?;
    let ca = parts.optional(BOOLEAN)?.map_or(Some(false), boolean)?;
    let length = match parts.optional(INTEGER)? {
        Some(digits) if digits.len() <= 4 && digits.first().is_some_and(|first| first & 0x80 == 0) => {
            Some(digits.iter().fold(0, |number, &digit| number << 8 | u32::from(digit)))
        }
        _ => None,
    };
    parts.is_empty().then_some((ca, length))
}

/// Whether a key usage has keyCertSign, bit 5, and digitalSignature, bit 0 (RFC 5280, §4.2.1.3).
pub(super) fn signs(value: &[u8]) -> Option<(bool, bool)> {
    let mut outer = Elements::new(value);
    // Bits that are not used are zero.
    let (&unused, bits) = outer.take(BIT_STRING).filter(|_| outer.is_empty())?.split_first()?;
    let last = bits.last().filter(|_| bits.len() <= 2)?;
    let clean = unused <= 7 && last.trailing_zeros() >= u32::from(unused);
    clean.then_some((bits[0] & 4 != 0, bits[0] & 0x80 != 0))
}
