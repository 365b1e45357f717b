//! What TPM structures have in common: big-endian numbers and sized buffers (TPM 2.0 Library, part 2, §10.4).

use crate::Malformed;
use crate::reader::Reader;

pub(super) fn u16(reader: &mut Reader<'_>, field: &'static str) -> Result<u16, Malformed> {
    Ok(u16::from_be_bytes(reader.array(field)?))
}

pub(super) fn u32(reader: &mut Reader<'_>, field: &'static str) -> Result<u32, Malformed> {
    Ok(u32::from_be_bytes(reader.array(field)?))
}

pub(super) fn u64(reader: &mut Reader<'_>, field: &'static str) -> Result<u64, Malformed> {
    Ok(u64::from_be_bytes(reader.array(field)?))
}

/// A TPM2B: 16 bits of length, then so many bytes.
pub(super) fn sized<'a>(reader: &mut Reader<'a>, field: &'static str) -> Result<&'a [u8], Malformed> {
    let length = u16(reader, field)?;
    reader.take(field, usize::from(length))
}

/// The contents of bytes that are one TPM2B whole, or the bytes themselves when they are not.
pub(super) fn unsized_or_whole(bytes: &[u8]) -> &[u8] {
    match bytes {
        [high, low, contents @ ..] if usize::from(u16::from_be_bytes([*high, *low])) == contents.len() => {
            contents
        }
        whole => whole,
    }
}
