//! The little DER (X.690) that certificates, revocation lists and vendors' own extensions need, read in place:
//! nothing is copied, and no slack is left.

use ::time::{Date, Month, Time};

use crate::UnixTime;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const T61_STRING: u8 = 0x14;
pub(crate) const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const IMPLICIT_1: u8 = 0x81;
pub(crate) const IMPLICIT_2: u8 = 0x82;
pub(crate) const EXPLICIT_0: u8 = 0xa0;
pub(crate) const EXPLICIT_3: u8 = 0xa3;

/// Elements that are left to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes are left.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes that are left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn next_tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The contents of the next element if it has `tag`; none without when it is malformed.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.next_tag() == Some(tag) { self.take(tag).map(Some) } else { Some(None) }
    }

    /// The contents of the next element, which must have `tag`.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (seen, contents) = self.any()?;
        (seen == tag).then_some(contents)
    }

    /// Tag and contents of the next element. A length has one encoding, the shortest. Tags of several bytes, which
    /// nothing that we read has, are refused.
    pub(crate) fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first().filter(|(tag, _)| **tag & 0x1f != 0x1f)?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits.iter().fold(0, |length, &digit| (length << 8) | usize::from(digit));
                let shortest = digits[0] != 0 && length > 0x7f;
                (shortest.then_some(length)?, rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }

    /// The next element whole, which must have `tag`.
    pub(crate) fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        let before = self.0;
        self.take(tag)?;
        Some(&before[..before.len() - self.0.len()])
    }

    /// The elements in the next one, a SEQUENCE.
    pub(crate) fn sequence(&mut self) -> Option<Self> {
        self.take(SEQUENCE).map(Self)
    }
}

/// A UTCTime or GeneralizedTime, in the one form that RFC 5280, §4.1.2.5, allows: to the second, in UTC. Years of
/// two digits are those from 1950 to 2049.
pub(crate) fn time(elements: &mut Elements<'_>) -> Option<UnixTime> {
    let (year, rest) = match elements.any()? {
        (UTC_TIME, digits) => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, digits) => {
            let (year, rest) = digits.split_at_checked(4)?;
            (number(&year[..2])? * 100 + number(&year[2..])?, rest)
        }
        _ => return None,
    };
    let (digits, zone) = rest.as_chunks::<2>();
    let ([month, day, hour, minute, second], b"Z") = (digits, zone) else { return None };
    let part = |digits: &[u8; 2]| number(digits).and_then(|number| u8::try_from(number).ok());
    let date = Date::from_calendar_date(year, Month::try_from(part(month)?).ok()?, part(day)?).ok()?;
    let time = Time::from_hms(part(hour)?, part(minute)?, part(second)?).ok()?;
    Some(UnixTime(date.with_time(time).assume_utc().unix_timestamp()))
}

/// Two decimal digits.
fn number(digits: &[u8]) -> Option<i32> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i32::from(byte - b'0'));
    match *digits {
        [tens, ones] => Some(digit(tens)? * 10 + digit(ones)?),
        _ => None,
    }
}

/// An INTEGER of 0 to 65535.
pub(crate) fn small_integer(contents: &[u8]) -> Option<u16> {
    match *contents {
        [low @ 0..=0x7f] => Some(u16::from(low)),
        [0, low @ 0x80..=0xff] => Some(u16::from(low)),
        [high @ 1..=0x7f, low] => Some(u16::from_be_bytes([high, low])),
        [0, high @ 0x80..=0xff, low] => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_encoding() {
        for (bytes, value) in [
            (&[0][..], Some(0)),
            (&[127], Some(127)),
            (&[0, 128], Some(128)),
            (&[1, 0], Some(256)),
            (&[0, 0xff, 0xff], Some(65535)),
            (&[0x80], None),
            (&[0, 1], None),
            (&[1, 0, 0], None),
            (&[], None),
        ] {
            assert_eq!(small_integer(bytes), value, "{bytes:?}");
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        assert!(Elements::new(&[0x30, 3, 0, 0]).any().is_none());
        assert!(Elements::new(&[0x30, 0x82, 0xff]).any().is_none());
        assert!(Elements::new(&[0x30, 0x80, 0, 0]).any().is_none());
    }

    #[test]
    fn lengths_have_one_encoding() {
        assert!(Elements::new(&[0x30, 1, 0]).any().is_some());
        assert!(Elements::new(&[0x30, 0x81, 1, 0]).any().is_none());
        assert!(Elements::new(&[0x30, 0x82, 0, 1, 0]).any().is_none());
        let long = [&[0x30, 0x81, 0x80][..], &[0; 0x80]].concat();
        assert!(Elements::new(&long).any().is_some());
    }

    #[test]
    fn a_whole_element_has_its_header() {
        let mut elements = Elements::new(&[4, 2, 7, 8, 5, 0]);
        assert_eq!(elements.whole(OCTET_STRING), Some(&[4, 2, 7, 8][..]));
        assert_eq!(elements.any(), Some((5, &[][..])));
    }
}
