//! Measurements of an Intel trust domain: MRTD from its firmware (TDVF), here; RTMRs in [`direct_boot`].
//!
//! MRTD is a SHA-384 over what the TDX module does while a trust domain is built (Intel TDX Module Base Architecture
//! Specification, §12.2; ABI Specification, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND): for each page that is added its
//! address, and for each 256 bytes that the hypervisor has extended their address and contents. Which pages those are,
//! and in which order, is said by firmware (TDX Virtual Firmware Design Guide, §11).

pub mod direct_boot;

use sha2::{Digest, Sha384};

use crate::{Malformed, ovmf};

const ARTEFACT: &str = "TDX firmware";
const PAGE: u64 = 4096;
/// What TDH.MR.EXTEND extends at once.
const CHUNK: usize = 256;
/// e47a6535-984a-4798-865e-4685a7bf8ec2: where the metadata lie.
const METADATA: [u8; 16] =
    ovmf::guid(0xe47a6535, 0x984a, 0x4798, [0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2]);
/// The length of a section's entry: offset and length in the file, address and length in memory, kind, attributes.
const SECTION: usize = 32;
/// Attributes: the contents are extended; the pages are accepted later, rather than added.
const EXTENDED: u32 = 1;
const AUGMENTED: u32 = 2;
/// Kind of the section that the hypervisor fills, with the memory map.
const TD_HOB: u32 = 2;
/// Memory of all sections together beyond which firmware is refused: it has some MiB.
const MAX_MEMORY: u64 = 256 * 1024 * 1024;

/// MRTD of a trust domain that starts with this firmware, whole. The hypervisor adds a page and extends it before it
/// goes on to the next, as KVM does; a hypervisor that adds all pages of a section first makes another MRTD.
///
/// # Errors
/// [`Malformed`] when the firmware is none for TDX.
pub fn mrtd(firmware: &[u8]) -> Result<[u8; 48], Malformed> {
    let offset = ovmf::entry(firmware, METADATA)?
        .and_then(|entry| ovmf::number(entry, 0))
        .ok_or_else(|| Malformed::field(ARTEFACT, "TDX metadata", "a table: this firmware is not for TDX"))?;
    let mut digest = Sha384::new();
    let mut memory = 0;
    for entry in ovmf::items(firmware, offset as usize, b"TDVF", SECTION)? {
        let section = Section::parse(firmware, entry)?;
        memory += section.length;
        if memory > MAX_MEMORY {
            return Err(Malformed::field(ARTEFACT, "sections", "at most 256 MiB of memory together"));
        }
        section.measure(&mut digest);
    }
    Ok(digest.finalize().into())
}

/// A part of memory that exists when the trust domain starts.
struct Section<'a> {
    contents: &'a [u8],
    address: u64,
    length: u64,
    added: bool,
    extended: bool,
}

impl<'a> Section<'a> {
    fn parse(firmware: &'a [u8], entry: &[u8]) -> Result<Self, Malformed> {
        let wrong = |expected| Malformed::field(ARTEFACT, "section", expected);
        let [offset, contents, kind, attributes] =
            [0, 4, 24, 28].map(|at| ovmf::number(entry, at).unwrap_or_default());
        let [address, length] = [8, 16].map(|at| {
            let half = |at| u64::from(ovmf::number(entry, at).unwrap_or_default());
            half(at) | half(at + 4) << 32
        });
        if attributes & !(EXTENDED | AUGMENTED) != 0 {
            return Err(wrong("attributes that are known"));
        }
        let (added, extended) = (attributes & AUGMENTED == 0, attributes & EXTENDED != 0);
        if extended && (!added || kind == TD_HOB) {
            return Err(wrong("contents of the file, added, where they are extended"));
        }
        let end = address.checked_add(length);
        if !address.is_multiple_of(PAGE) || !length.is_multiple_of(PAGE) || end.is_none() {
            return Err(wrong("whole pages of memory"));
        }
        let (start, size) = (offset as usize, contents as usize);
        let contents = start.checked_add(size).and_then(|end| firmware.get(start..end));
        let contents = contents.filter(|contents| contents.len() as u64 <= length);
        let contents =
            contents.ok_or_else(|| wrong("contents inside the file, and not longer than its memory"))?;
        Ok(Self { contents, address, length, added, extended })
    }

    fn measure(&self, digest: &mut Sha384) {
        if !self.added {
            return;
        }
        for page in (0..self.length).step_by(PAGE as usize) {
            digest.update(operation(b"MEM.PAGE.ADD", self.address + page));
            if !self.extended {
                continue;
            }
            for at in (page..page + PAGE).step_by(CHUNK) {
                digest.update(operation(b"MR.EXTEND", self.address + at));
                let mut chunk = [0; CHUNK];
                // `at` is below 256 MiB.
                let rest = self.contents.get(at as usize..).unwrap_or_default();
                let present = rest.len().min(CHUNK);
                chunk[..present].copy_from_slice(&rest[..present]);
                digest.update(chunk);
            }
        }
    }
}

/// The 128 bytes that stand for an operation: its name, and the address at offset 16.
fn operation(name: &[u8], address: u64) -> [u8; 128] {
    let mut bytes = [0; 128];
    bytes[..name.len()].copy_from_slice(name);
    bytes[16..24].copy_from_slice(&address.to_le_bytes());
    bytes
}
