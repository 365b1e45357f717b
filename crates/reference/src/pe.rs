//! Portable executables, as far as firmware measures them: sections, and the Authenticode digest (Microsoft,
//! "Windows Authenticode Portable Executable Signature Format", "Calculating the PE Image Hash"; edk2,
//! `DxeTpm2MeasureBootLib`). What is not laid out plainly is refused rather than guessed at.

use std::ops::Range;

use crate::{Bank, Malformed};

const ARTEFACT: &str = "EFI program";
/// COFF: machine, count of sections, timestamp, symbols, their count, size of the optional header, characteristics.
const COFF_HEADER: usize = 20;
const SECTION_HEADER: usize = 40;
/// More are refused; Windows loads no more either.
const MAX_SECTIONS: usize = 96;
/// The data directory that holds signatures.
const CERTIFICATES: usize = 4;

/// A parsed program.
#[derive(Clone, Debug)]
pub struct Program<'a> {
    bytes: &'a [u8],
    /// In the order of the file's table.
    sections: Vec<Section<'a>>,
    headers: usize,
    checksum: usize,
    certificate_entry: Option<usize>,
    /// Where signatures lie, which ends with the file.
    certificates: Range<usize>,
}

/// One section.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    /// Up to 8 characters, such as `.linux`.
    pub name: &'a str,
    /// What is loaded into memory.
    pub contents: &'a [u8],
    /// How many bytes of memory it takes; beyond those of the file, zeros.
    pub(crate) loaded: usize,
    offset: usize,
    length: usize,
}

impl<'a> Program<'a> {
    /// Reads a program's headers.
    ///
    /// # Errors
    /// [`Malformed`] when it is no PE file, or one that loaders could understand in different ways.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let wrong = |field, expected| Malformed::field(ARTEFACT, field, expected);
        if bytes.get(..2) != Some(b"MZ") {
            return Err(wrong("DOS header", "MZ"));
        }
        let start = u32_at(bytes, 0x3c).ok_or_else(|| wrong("DOS header", "an offset at 0x3c"))?;
        if bytes.get(start..).and_then(|rest| rest.get(..4)) != Some(b"PE\0\0") {
            return Err(wrong("PE header", "PE and two zero bytes"));
        }
        let coff = start + 4;
        let truncated = || wrong("PE header", "a header inside the file");
        let count = u16_at(bytes, coff + 2).ok_or_else(truncated)?;
        let optional_length = u16_at(bytes, coff + 16).ok_or_else(truncated)?;
        let optional = coff + COFF_HEADER;
        // Where the number of data directories is: after 64-bit base, stack and heap sizes in PE32+.
        let directories = match u16_at(bytes, optional).ok_or_else(truncated)? {
            0x10b => optional + 92,
            0x20b => optional + 108,
            _ => return Err(wrong("optional header", "PE32 or PE32+")),
        };
        let headers = u32_at(bytes, optional + 60).ok_or_else(truncated)?;
        let present = u32_at(bytes, directories).ok_or_else(truncated)?;
        let table = optional + optional_length;
        let table_end = table + count * SECTION_HEADER;
        if count > MAX_SECTIONS || present > 16 || directories + 4 + present * 8 > table {
            return Err(wrong("PE header", "tables that fit their headers, and at most 96 sections"));
        }
        if headers > bytes.len() || table_end > headers {
            return Err(wrong("size of headers", "headers inside the file, and sections' among them"));
        }
        let certificate_entry = (present > CERTIFICATES).then_some(directories + 4 + CERTIFICATES * 8);
        let certificates = certificates(bytes, certificate_entry)?;
        let sections = bytes[table..table_end]
            .chunks_exact(SECTION_HEADER)
            .map(|header| section(bytes, header, headers..certificates.start))
            .collect::<Result<_, _>>()?;
        Ok(Self { bytes, sections, headers, checksum: optional + 64, certificate_entry, certificates })
    }

    /// The sections, in the order of the file's table.
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// The Authenticode digest: of everything but the checksum and the signatures. Firmware extends it when it loads
    /// the program.
    ///
    /// # Errors
    /// [`Malformed`] when sections overlap or leave gaps, so that the digest would not cover each byte once.
    pub fn authenticode(&self, bank: Bank) -> Result<Vec<u8>, Malformed> {
        let bytes = self.bytes;
        let mut parts = vec![&bytes[..self.checksum]];
        match self.certificate_entry {
            Some(entry) => {
                parts.extend([&bytes[self.checksum + 4..entry], &bytes[entry + 8..self.headers]]);
            }
            None => parts.push(&bytes[self.checksum + 4..self.headers]),
        }
        let mut sections: Vec<_> = self.sections.iter().filter(|section| section.length > 0).collect();
        sections.sort_by_key(|section| section.offset);
        let mut end = self.headers;
        for section in sections {
            if section.offset != end {
                return Err(Malformed::Unsupported {
                    artefact: ARTEFACT,
                    reason: "its sections overlap or leave gaps, which firmware measures in its own ways; link it without",
                });
            }
            end += section.length;
            parts.push(&bytes[section.offset..end]);
        }
        parts.push(&bytes[end..self.certificates.start]);
        Ok(bank.digest(&parts))
    }
}

/// Where signatures lie: the end of the file, with no bytes, when there are none.
fn certificates(bytes: &[u8], entry: Option<usize>) -> Result<Range<usize>, Malformed> {
    let end = bytes.len();
    let Some(entry) = entry else { return Ok(end..end) };
    match (u32_at(bytes, entry), u32_at(bytes, entry + 4)) {
        (Some(0), Some(0)) => Ok(end..end),
        (Some(start), Some(length)) if length > 0 && start.checked_add(length) == Some(end) => Ok(start..end),
        _ => Err(Malformed::field(ARTEFACT, "certificate table", "a table that ends with the file")),
    }
}

/// One row of the table. Its contents must lie in `room`.
fn section<'a>(bytes: &'a [u8], header: &'a [u8], room: Range<usize>) -> Result<Section<'a>, Malformed> {
    let wrong = |expected| Malformed::field(ARTEFACT, "section", expected);
    let end = header[..8].iter().position(|&byte| byte == 0).unwrap_or(8);
    let (name, padding) = header[..8].split_at(end);
    if padding.iter().any(|&byte| byte != 0) || !name.is_ascii() {
        return Err(wrong("a name in ASCII, filled with zeros"));
    }
    let name = str::from_utf8(name).map_err(|_| wrong("a name in ASCII"))?;
    let [loaded, length, offset] = [8, 16, 20].map(|at| u32_at(header, at).unwrap_or_default());
    if length == 0 {
        // Zeros in memory, such as `.bss`: nothing of the file.
        return Ok(Section { name, contents: &[], loaded, offset: room.start, length });
    }
    let end = offset.checked_add(length).filter(|&end| offset >= room.start && end <= room.end);
    let end = end.ok_or_else(|| wrong("contents between headers and signatures"))?;
    // Some linkers leave the size in memory out; more memory than file is filled with zeros.
    let contents = &bytes[offset..end];
    let contents = if loaded == 0 { contents } else { contents.get(..loaded).unwrap_or(contents) };
    Ok(Section { name, contents, loaded, offset, length })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    crate::ovmf::number(bytes, at).map(|number| number as usize)
}
