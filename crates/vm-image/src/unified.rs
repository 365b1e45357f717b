//! A unified kernel image: an EFI program of systemd's (the stub) with kernel, initial RAM disk and command line as further
//! sections (UAPI Group Specifications, UKI; Microsoft, PE Format).

use reference::pe::Program;

use crate::Unbuildable;

const ARTEFACT: &str = "stub";
/// Alignment of sections in memory and in the file.
const PAGE: usize = 4096;
const BLOCK: usize = 512;
const COFF_HEADER: usize = 20;
const SECTION_HEADER: usize = 40;
/// Initialised data, to be read.
const CHARACTERISTICS: u32 = 0x4000_0040;
const MAX_SECTIONS: usize = 64;

/// `stub` with these sections, by name, behind its own.
///
/// # Errors
/// [`Unbuildable`] when the stub is none, or has no room for further sections in its headers.
pub fn build(stub: &[u8], sections: &[(&str, &[u8])]) -> Result<Vec<u8>, Unbuildable> {
    let wrong = |expected| Unbuildable::Artefact { artefact: ARTEFACT, expected };
    let parsed = Program::parse(stub).map_err(|_| wrong("an EFI program"))?;
    if sections.iter().any(|(name, _)| parsed.sections().iter().any(|own| own.name == *name)) {
        return Err(wrong("a stub alone, without a kernel"));
    }
    let outside = || wrong("headers inside the file");
    let coff = number(stub, 0x3c, 4).ok_or_else(outside)? + 4;
    let count = number(stub, coff + 2, 2).ok_or_else(outside)?;
    let optional = coff + COFF_HEADER;
    let table = optional + number(stub, coff + 16, 2).ok_or_else(outside)?;
    let headers = number(stub, optional + 60, 4).ok_or_else(outside)?;
    let total = count + sections.len();
    if total > MAX_SECTIONS || table + total * SECTION_HEADER > headers {
        return Err(wrong("room for further sections in its headers"));
    }
    // What follows the sections is for people: symbols.
    let end = (0..count).filter_map(|index| {
        let header = table + index * SECTION_HEADER;
        number(stub, header + 20, 4)?.checked_add(number(stub, header + 16, 4)?)
    });
    let mut out = stub.get(..end.max().unwrap_or(0)).ok_or_else(outside)?.to_vec();
    write(&mut out, coff + 8, 0, 4)?;
    write(&mut out, coff + 12, 0, 4)?;
    let mut memory = number(stub, optional + 56, 4).ok_or_else(outside)?.next_multiple_of(PAGE);
    let mut initialised = number(stub, optional + 8, 4).ok_or_else(outside)?;
    for (index, (name, contents)) in sections.iter().enumerate() {
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        let (at, length) = (out.len(), contents.len().next_multiple_of(BLOCK));
        out.extend_from_slice(contents);
        out.resize(at + length, 0);
        let header = table + (count + index) * SECTION_HEADER;
        out[header..header + SECTION_HEADER].fill(0);
        let short = name.len().min(8);
        out[header..header + short].copy_from_slice(&name.as_bytes()[..short]);
        for (offset, value) in [(8, contents.len()), (12, memory), (16, length), (20, at)] {
            write(&mut out, header + offset, value, 4)?;
        }
        write(&mut out, header + 36, CHARACTERISTICS as usize, 4)?;
        memory += contents.len().next_multiple_of(PAGE);
        initialised += length;
    }
    write(&mut out, coff + 2, total, 2)?;
    write(&mut out, optional + 8, initialised, 4)?;
    write(&mut out, optional + 56, memory, 4)?;
    // The checksum, which nothing looks at in EFI programs, would be that of the stub.
    write(&mut out, optional + 64, 0, 4)?;
    Ok(out)
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let field = bytes.get(at..)?.get(..length)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
}

fn write(out: &mut [u8], at: usize, value: usize, length: usize) -> Result<(), Unbuildable> {
    let too_large = Unbuildable::TooLarge { artefact: "image", size: value, limit: u32::MAX as usize };
    let value = u32::try_from(value).map_err(|_| too_large)?.to_le_bytes();
    let field = out.get_mut(at..at + length);
    let field =
        field.ok_or(Unbuildable::Artefact { artefact: ARTEFACT, expected: "headers inside the file" })?;
    field.copy_from_slice(&value[..length]);
    Ok(())
}
