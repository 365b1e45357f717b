//! The table at the end of OVMF firmware that tells a hypervisor where things belong (edk2,
//! `OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm`): entries of data, length and GUID, read backwards from the end.

use crate::Malformed;

const ARTEFACT: &str = "OVMF firmware";
/// 96b582de-1fb2-45f7-baea-a366c55a082d: the footer.
const FOOTER: [u8; 16] = guid(0x96b582de, 0x1fb2, 0x45f7, [0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d]);
/// Bytes between the table and the end of the file: the reset vector.
const RESET_VECTOR: usize = 32;
/// A length and a GUID.
const ENTRY: usize = 18;

/// A GUID as it lies in memory: the first three parts little-endian.
pub(crate) const fn guid(first: u32, second: u16, third: u16, rest: [u8; 8]) -> [u8; 16] {
    let (a, b, c) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
    [
        a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], rest[0], rest[1], rest[2], rest[3], rest[4], rest[5],
        rest[6], rest[7],
    ]
}

/// The data of the entry with this GUID.
pub(crate) fn entry(firmware: &[u8], wanted: [u8; 16]) -> Result<Option<&[u8]>, Malformed> {
    let wrong = || Malformed::field(ARTEFACT, "GUID table", "a table of entries before the reset vector");
    let end = firmware.len().checked_sub(RESET_VECTOR).ok_or_else(wrong)?;
    let (length, found) = header(firmware, end).ok_or_else(wrong)?;
    if found != FOOTER {
        return Ok(None);
    }
    let start = end.checked_sub(length).ok_or_else(wrong)?;
    let mut at = end - ENTRY;
    while at >= start + ENTRY {
        let (length, found) = header(firmware, at).ok_or_else(wrong)?;
        if length < ENTRY || at - start < length {
            return Err(wrong());
        }
        if found == wanted {
            return Ok(Some(&firmware[at - length..at - ENTRY]));
        }
        at -= length;
    }
    Ok(None)
}

/// Length (with header) and GUID of the entry that ends at `end`.
fn header(firmware: &[u8], end: usize) -> Option<(usize, [u8; 16])> {
    let header = firmware.get(end.checked_sub(ENTRY)?..end)?;
    let (length, guid) = header.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_le_bytes(*length)), guid.try_into().ok()?))
}

/// The 32-bit little-endian number at `at`.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A table of metadata: its number of items, and the bytes of those. `offset` is counted from the end of the file to a
/// header of signature, length, version and count, 4 bytes each.
pub(crate) fn items<'a>(
    firmware: &'a [u8],
    offset: usize,
    signature: &[u8; 4],
    item: usize,
) -> Result<impl Iterator<Item = &'a [u8]>, Malformed> {
    let wrong = || Malformed::field(ARTEFACT, "metadata", "a table of sections inside the file");
    let header =
        firmware.len().checked_sub(offset).and_then(|start| firmware.get(start..)).ok_or_else(wrong)?;
    if header.get(..4) != Some(signature) {
        return Err(wrong());
    }
    let count = number(header, 12).ok_or_else(wrong)? as usize;
    let bytes = count
        .checked_mul(item)
        .and_then(|length| header.get(16..16usize.checked_add(length)?))
        .ok_or_else(wrong)?;
    Ok(bytes.chunks_exact(item))
}
