//! A cursor over CBOR (RFC 8949) that borrows what it reads: each failure names its field and offset, and nothing is
//! allocated, however great the lengths that an input claims. Arrays and maps may be of indefinite length (AWS writes
//! them so); strings may not.

use crate::Malformed;

/// How deep items that are skipped may be nested.
const MAX_DEPTH: usize = 8;
const BREAK: u8 = 0xff;
const NULL: u8 = 0xf6;

/// A place in CBOR. Copies of it read on from there.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    format: &'static str,
    bytes: &'a [u8],
    position: usize,
    base: usize,
}

/// What is left of an array or a map.
pub(crate) enum Left {
    Items(u64),
    UntilBreak,
}

/// The key of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key<'a> {
    Integer(i64),
    Text(&'a str),
}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// Major types (RFC 8949, §3.1).
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

impl<'a> Cursor<'a> {
    /// A cursor over a part of the input that starts at `base`: errors tell offsets in the whole input.
    pub(crate) fn at(format: &'static str, bytes: &'a [u8], base: usize) -> Self {
        Self { format, bytes, position: 0, base }
    }

    /// The offset of the next byte in the whole input.
    pub(crate) fn offset(&self) -> usize {
        self.base + self.position
    }

    pub(crate) fn unsigned(&mut self, field: &'static str) -> Result<u64, Malformed> {
        self.head(field, UNSIGNED, "an unsigned integer")
    }

    /// An integer that fits 64 bits with its sign.
    pub(crate) fn integer(&mut self, field: &'static str) -> Result<i64, Malformed> {
        let start = self.offset();
        let negative = self.major() == Some(NEGATIVE);
        let magnitude = match negative {
            true => self.head(field, NEGATIVE, "an integer")?,
            false => self.head(field, UNSIGNED, "an integer")?,
        };
        i64::try_from(magnitude)
            .map(|number| if negative { -1 - number } else { number })
            .map_err(|_| self.value(field, start, "an integer of 64 bits", "a greater one"))
    }

    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], Malformed> {
        let length = self.head(field, BYTES, "a byte string of definite length")?;
        self.take(field, length)
    }

    /// Bytes whose number must be one of `lengths`.
    pub(crate) fn bytes_of(
        &mut self,
        field: &'static str,
        lengths: std::ops::RangeInclusive<usize>,
        among: &[usize],
    ) -> Result<&'a [u8], Malformed> {
        let start = self.offset();
        let bytes = self.bytes(field)?;
        let fits = lengths.contains(&bytes.len()) && (among.is_empty() || among.contains(&bytes.len()));
        if fits {
            return Ok(bytes);
        }
        let expected = match among {
            [] => format!("{} to {} bytes", lengths.start(), lengths.end()),
            [one] => format!("{one} bytes"),
            _ => format!("a length of {among:?} bytes"),
        };
        Err(self.value(field, start, expected, format!("{} bytes", bytes.len())))
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, Malformed> {
        let start = self.offset();
        let length = self.head(field, TEXT, "text of definite length")?;
        let bytes = self.take(field, length)?;
        str::from_utf8(bytes).map_err(|error| self.value(field, start, "UTF-8", error.to_string()))
    }

    pub(crate) fn array(&mut self, field: &'static str) -> Result<Left, Malformed> {
        self.container(field, ARRAY, "an array")
    }

    pub(crate) fn map(&mut self, field: &'static str) -> Result<Left, Malformed> {
        self.container(field, MAP, "a map")
    }

    /// Whether there is another item (of a map: another pair); at the end, the container is left.
    pub(crate) fn more(&mut self, left: &mut Left) -> bool {
        match left {
            Left::Items(0) => false,
            Left::Items(count) => {
                *count -= 1;
                true
            }
            Left::UntilBreak if self.peek() == Some(BREAK) => {
                self.position += 1;
                *left = Left::Items(0);
                false
            }
            Left::UntilBreak => true,
        }
    }

    pub(crate) fn key(&mut self, field: &'static str) -> Result<Key<'a>, Malformed> {
        match self.major() {
            Some(TEXT) => self.text(field).map(Key::Text),
            _ => self.integer(field).map(Key::Integer),
        }
    }

    /// Reads the tag, when it is this one.
    pub(crate) fn has_tag(&mut self, tag: u64) -> bool {
        let mut ahead = self.clone();
        let found = ahead.head("tag", TAG, "a tag").is_ok_and(|seen| seen == tag);
        if found {
            *self = ahead;
        }
        found
    }

    /// Reads null, when it is there.
    pub(crate) fn has_null(&mut self) -> bool {
        let found = self.peek() == Some(NULL);
        self.position += usize::from(found);
        found
    }

    /// Reads one item of any kind, without looking at it.
    pub(crate) fn skip(&mut self, field: &'static str) -> Result<(), Malformed> {
        self.skip_nested(field, MAX_DEPTH)
    }

    fn skip_nested(&mut self, field: &'static str, depth: usize) -> Result<(), Malformed> {
        let start = self.offset();
        let deeper = || depth.checked_sub(1).ok_or_else(|| self.value(field, start, "less nesting", "more"));
        match self.major() {
            Some(BYTES) => self.bytes(field).map(drop),
            Some(TEXT) => self.text(field).map(drop),
            Some(major @ (ARRAY | MAP)) => {
                let depth = deeper()?;
                let mut left = self.container(field, major, "a container")?;
                while self.more(&mut left) {
                    self.skip_nested(field, depth)?;
                    if major == MAP {
                        self.skip_nested(field, depth)?;
                    }
                }
                Ok(())
            }
            Some(TAG) => {
                let depth = deeper()?;
                self.head(field, TAG, "a tag")?;
                self.skip_nested(field, depth)
            }
            Some(SIMPLE) => self.head(field, SIMPLE, "a simple value").map(drop),
            _ => self.integer(field).map(drop),
        }
    }

    /// Fails when bytes are left.
    pub(crate) fn finish(self, field: &'static str) -> Result<(), Malformed> {
        match self.bytes.len() - self.position {
            0 => Ok(()),
            left => Err(self.value(field, self.offset(), "the end", format!("{left} bytes more"))),
        }
    }

    pub(crate) fn value(
        &self,
        field: &'static str,
        offset: usize,
        expected: impl Into<std::borrow::Cow<'static, str>>,
        seen: impl Into<String>,
    ) -> Malformed {
        Malformed::value(self.format, field, offset, expected, seen)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    fn major(&self) -> Option<u8> {
        self.peek().map(|byte| byte >> 5)
    }

    fn take(&mut self, field: &'static str, length: u64) -> Result<&'a [u8], Malformed> {
        let rest = &self.bytes[self.position..];
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(bytes) = rest.get(..length) else {
            return Err(Malformed::truncated(self.format, field, self.offset(), length, rest.len()));
        };
        self.position += length;
        Ok(bytes)
    }

    fn container(
        &mut self,
        field: &'static str,
        major: u8,
        expected: &'static str,
    ) -> Result<Left, Malformed> {
        if self.peek() == Some(major << 5 | 31) {
            self.position += 1;
            return Ok(Left::UntilBreak);
        }
        self.head(field, major, expected).map(Left::Items)
    }

    /// The argument of the next item, which must be of `major` type.
    fn head(&mut self, field: &'static str, major: u8, expected: &'static str) -> Result<u64, Malformed> {
        let start = self.offset();
        let first = match self.peek() {
            Some(first) if first >> 5 == major && first & 31 < 28 => first,
            Some(other) => {
                return Err(self.value(field, start, expected, format!("initial byte {other:#04x}")));
            }
            None => return Err(Malformed::truncated(self.format, field, start, 1, 0)),
        };
        self.position += 1;
        match first & 31 {
            short @ 0..24 => Ok(u64::from(short)),
            long => {
                let digits = self.take(field, 1 << (long - 24))?;
                Ok(digits.iter().fold(0, |number, &digit| number << 8 | u64::from(digit)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(bytes: &[u8]) -> Cursor<'_> {
        Cursor::at("test", bytes, 100)
    }

    #[test]
    fn integers_of_every_length_are_read() {
        for (bytes, number) in [
            (&[0x17][..], 23),
            (&[0x18, 0xff], 255),
            (&[0x19, 1, 0], 256),
            (&[0x1a, 0, 1, 0, 0], 65536),
            (&[0x38, 0x22], -35),
            (&[0x20], -1),
        ] {
            assert_eq!(cursor(bytes).integer("n"), Ok(number), "{bytes:?}");
        }
        assert!(cursor(&[0x1b, 0xff, 0, 0, 0, 0, 0, 0, 0]).integer("n").is_err());
    }

    #[test]
    fn a_length_beyond_the_end_is_named_with_its_offset() {
        let error =
            cursor(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).bytes("b").unwrap_err();
        assert_eq!((error.field, error.offset), ("b", 109));
        assert!(cursor(&[0x19, 1]).unsigned("n").is_err());
        assert!(cursor(&[]).unsigned("n").is_err());
    }

    #[test]
    fn indefinite_containers_end_at_the_break_and_indefinite_strings_are_refused() {
        let mut map = cursor(&[0xbf, 1, 2, 0xff, 7]);
        let mut left = map.map("m").unwrap();
        assert!(map.more(&mut left));
        assert_eq!((map.key("k"), map.unsigned("v")), (Ok(Key::Integer(1)), Ok(2)));
        assert!(!map.more(&mut left) && !map.more(&mut left));
        assert_eq!(map.unsigned("after"), Ok(7));
        assert!(map.finish("all").is_ok());
        assert!(cursor(&[0x5f, 0x41, 1, 0xff]).bytes("b").is_err());
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(cursor(&[&[0x81; 8][..], &[0]].concat()).skip("s").is_ok());
        assert!(cursor(&[&[0x81; 9][..], &[0]].concat()).skip("s").is_err());
        assert!(cursor(&[&[0xc1; 20][..], &[0]].concat()).skip("s").is_err());
        assert!(cursor(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).skip("s").is_err());
    }
}
