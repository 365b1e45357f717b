//! A cursor over bytes that knows the format it reads, so that each failure names its field and offset.

use crate::Malformed;

pub(crate) struct Reader<'a> {
    format: &'static str,
    bytes: &'a [u8],
    position: usize,
    base: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(format: &'static str, bytes: &'a [u8]) -> Self {
        Self::at(format, bytes, 0)
    }

    /// A reader of a part of the input that starts at `base`: errors tell offsets in the whole input.
    pub(crate) fn at(format: &'static str, bytes: &'a [u8], base: usize) -> Self {
        Self { format, bytes, position: 0, base }
    }

    /// The offset of the next byte in the whole input.
    pub(crate) fn offset(&self) -> usize {
        self.base + self.position
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    pub(crate) fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], Malformed> {
        let rest = self.rest();
        if length > rest.len() {
            return Err(Malformed::truncated(self.format, field, self.offset(), length, rest.len()));
        }
        self.position += length;
        Ok(&rest[..length])
    }

    /// Fails when bytes are left: a length that was declared must be used up.
    pub(crate) fn finish(self, field: &'static str) -> Result<(), Malformed> {
        match self.rest().len() {
            0 => Ok(()),
            left => {
                let seen = format!("{left} bytes more than its contents");
                Err(Malformed::value(
                    self.format,
                    field,
                    self.offset(),
                    "a length that fits its contents",
                    seen,
                ))
            }
        }
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(field)?[0])
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// Reads `length` bytes that must be zero.
    pub(crate) fn zeros(&mut self, field: &'static str, length: usize) -> Result<(), Malformed> {
        let start = self.offset();
        match self.take(field, length)?.iter().position(|&byte| byte != 0) {
            None => Ok(()),
            Some(index) => Err(Malformed::value(
                self.format,
                field,
                start + index,
                "zero bytes",
                "a byte that is not zero",
            )),
        }
    }
}
