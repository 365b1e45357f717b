//! Programs and libraries (ELF, 64-bit, little-endian; System V ABI, chapters 4 and 5): what of them is loaded, and what
//! they want beside them.

use crate::Unbuildable;

const ARTEFACT: &str = "program";
const LOAD: u64 = 1;
const DYNAMIC: u64 = 2;
const INTERPRETER: u64 = 3;
const NEEDED: u64 = 1;
const STRING_TABLE: u64 = 5;
/// No program has more headers.
const MAX_HEADERS: u64 = 64;

/// A parsed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// The path of what loads it; None where it is static, or a library.
    pub interpreter: Option<String>,
    /// File names of libraries.
    pub needed: Vec<String>,
    /// How much of the file is loaded: what follows is for people and debuggers.
    loaded: usize,
}

impl Elf {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Unbuildable::Artefact`] when it is none.
    pub fn parse(file: &[u8]) -> Result<Self, Unbuildable> {
        let wrong = |expected| Unbuildable::Artefact { artefact: ARTEFACT, expected };
        if !file.starts_with(b"\x7fELF\x02\x01") {
            return Err(wrong("64-bit ELF"));
        }
        let inside = || wrong("headers inside the file");
        let number = |at, length| number(file, at, length).ok_or_else(inside);
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        if count > MAX_HEADERS {
            return Err(wrong("at most 64 program headers"));
        }
        let mut elf = Self { interpreter: None, needed: Vec::new(), loaded: 0 };
        let (mut segments, mut dynamic) = (Vec::new(), &[][..]);
        for index in 0..count {
            let header = table.checked_add(index * size).ok_or_else(inside)?;
            let field = |offset: u64, length| {
                header.checked_add(offset).map_or(Err(inside()), |at| number(at, length))
            };
            let (kind, at, address, length) = (field(0, 4)?, field(8, 8)?, field(16, 8)?, field(32, 8)?);
            let contents = slice(file, at, length).ok_or_else(inside)?;
            match kind {
                LOAD => {
                    segments.push((address, contents));
                    elf.loaded = elf.loaded.max(usize::try_from(at + length).unwrap_or(usize::MAX));
                }
                INTERPRETER => elf.interpreter = text(contents, 0),
                DYNAMIC => dynamic = contents,
                _ => {}
            }
        }
        // The headers themselves.
        elf.loaded =
            elf.loaded.max(usize::try_from(table + size * count).unwrap_or(usize::MAX)).min(file.len());
        let entries: Vec<_> = dynamic
            .chunks_exact(16)
            .filter_map(|entry| Some((self::number(entry, 0, 8)?, self::number(entry, 8, 8)?)))
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        let strings = entries.iter().find(|(tag, _)| *tag == STRING_TABLE).and_then(|(_, address)| {
            segments.iter().find_map(|(start, contents)| {
                contents.get(usize::try_from(address.checked_sub(*start)?).ok()?..)
            })
        });
        for (_, at) in entries.iter().filter(|(tag, _)| *tag == NEEDED) {
            let name = strings.and_then(|strings| text(strings, usize::try_from(*at).ok()?));
            elf.needed.push(name.ok_or_else(|| wrong("names of libraries"))?);
        }
        Ok(elf)
    }

    /// What is loaded of the file, without tables of sections and symbols, and without debug information.
    pub fn stripped(&self, file: &[u8]) -> Vec<u8> {
        let mut out = file[..self.loaded].to_vec();
        // Where the table of sections is, their number, and that of their names: there is none any more.
        for range in [40..48, 60..64] {
            if let Some(field) = out.get_mut(range) {
                field.fill(0);
            }
        }
        out
    }
}

fn slice(file: &[u8], at: u64, length: u64) -> Option<&[u8]> {
    file.get(usize::try_from(at).ok()?..)?.get(..usize::try_from(length).ok()?)
}

fn number(file: &[u8], at: u64, length: u64) -> Option<u64> {
    Some(slice(file, at, length)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Up to a NUL.
fn text(bytes: &[u8], at: usize) -> Option<String> {
    let bytes = bytes.get(at..)?;
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some(str::from_utf8(&bytes[..end]).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Headers, and what they lead to first.
    fn this() -> Vec<u8> {
        use std::io::Read;
        let file = std::fs::File::open(std::env::current_exe().expect("this test")).expect("a program");
        let mut program = Vec::new();
        file.take(1 << 16).read_to_end(&mut program).expect("a program");
        program
    }

    proptest! {
        #[test]
        fn changed_headers_are_refused_or_read_and_never_worse(at in 0_usize..1024, value: u8, length in 0_usize..70000) {
            let mut program = this();
            program[at] = value;
            program.truncate(length);
            if let Ok(elf) = Elf::parse(&program) {
                prop_assert!(elf.stripped(&program).len() <= program.len());
            }
            let _ = crate::unified::build(&program, &[(".linux", &[1])]);
        }
    }
}
