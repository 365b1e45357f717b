//! Unpacks a base backup as it comes. It is PostgreSQL's own archive (ustar), so whatever such an archive does not hold
//! is refused: links, devices, names that lead out of the folder.
//!
//! Source: POSIX.1-2017, pax, "ustar Interchange Format"; sizes of 8 GiB and more as PostgreSQL's `tar.c` writes them.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Component, Path, PathBuf},
};

const BLOCK: usize = 512;

/// Why an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It cannot be written.
    #[error("the folder cannot be written")]
    Folder(#[from] io::Error),
    /// It is not what PostgreSQL makes.
    #[error("the archive cannot be understood: {0}")]
    Malformed(&'static str),
}

enum State {
    /// Within a header.
    Header(Vec<u8>),
    /// Within a file: what is missing of it, and of the padding behind it.
    File(File, u64, usize),
    Padding(usize),
    /// After a block of zeros.
    End,
}

/// Takes an archive in parts.
pub struct Extractor {
    folder: PathBuf,
    state: State,
}

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    path: PathBuf,
    /// `None`: a folder.
    size: Option<u64>,
}

impl Extractor {
    /// Unpacks into `folder`, which it makes.
    ///
    /// # Errors
    /// Where it cannot be made, or is there.
    pub fn new(folder: &Path) -> io::Result<Self> {
        make(folder)?;
        Ok(Self { folder: folder.to_owned(), state: State::Header(Vec::new()) })
    }

    /// The next part.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        while !bytes.is_empty() {
            let used = self.step(bytes)?;
            bytes = &bytes[used..];
        }
        Ok(())
    }

    /// Whether it ended behind a member.
    pub fn is_whole(&self) -> bool {
        match &self.state {
            State::Header(part) => part.is_empty(),
            State::End => true,
            State::File(..) | State::Padding(_) => false,
        }
    }

    fn step(&mut self, bytes: &[u8]) -> Result<usize, ArchiveError> {
        match &mut self.state {
            State::Header(part) => {
                let used = bytes.len().min(BLOCK - part.len());
                part.extend(&bytes[..used]);
                if let Some(block) = part.first_chunk::<BLOCK>() {
                    self.state = match parse(block)? {
                        None => State::End,
                        Some(member) => self.begin(&member)?,
                    };
                }
                Ok(used)
            }
            State::File(file, left, padding) => {
                let used = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                file.write_all(&bytes[..used])?;
                *left -= used as u64;
                if *left == 0 {
                    self.state = after(*padding);
                }
                Ok(used)
            }
            State::Padding(left) => {
                let used = bytes.len().min(*left);
                self.state = after(*left - used);
                Ok(used)
            }
            State::End if bytes.iter().all(|byte| *byte == 0) => Ok(bytes.len()),
            State::End => Err(ArchiveError::Malformed("something behind its end")),
        }
    }

    fn begin(&self, member: &Member) -> Result<State, ArchiveError> {
        let path = self.folder.join(&member.path);
        let Some(size) = member.size else {
            make(&path)?;
            return Ok(State::Header(Vec::new()));
        };
        let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        let padding = usize::try_from(padding).unwrap_or(0);
        Ok(if size == 0 { State::Header(Vec::new()) } else { State::File(file, size, padding) })
    }
}

fn after(padding: usize) -> State {
    if padding == 0 { State::Header(Vec::new()) } else { State::Padding(padding) }
}

fn make(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(folder).or_else(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() { Ok(()) } else { Err(error) }
    })
}

/// `None`: a block of zeros, the end.
fn parse(block: &[u8; BLOCK]) -> Result<Option<Member>, ArchiveError> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { u64::from(b' ') } else { u64::from(*byte) })
        .sum();
    if number(&block[148..156]) != Some(sum) || &block[257..262] != b"ustar" {
        return Err(ArchiveError::Malformed("a header of another format"));
    }
    let text = |field: &[u8]| {
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        String::from_utf8(field[..end].to_vec()).ok()
    };
    let name = text(&block[..100]).ok_or(ArchiveError::Malformed("a name that is no text"))?;
    let path: PathBuf = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || name.starts_with('/') || block[345] != 0 {
        return Err(ArchiveError::Malformed("a name that leads out of the folder"));
    }
    let size = number(&block[124..136]).ok_or(ArchiveError::Malformed("a size that is no number"))?;
    match block[156] {
        b'0' | 0 if path.file_name().is_some() => Ok(Some(Member { path, size: Some(size) })),
        b'5' if size == 0 => Ok(Some(Member { path, size: None })),
        _ => Err(ArchiveError::Malformed("a member that is neither file nor folder")),
    }
}

/// Octal digits; or, behind a byte of 0x80, a big-endian number.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if *first == 0x80 {
        let (high, low) = rest.split_at(rest.len().checked_sub(8)?);
        return high.iter().all(|byte| *byte == 0).then(|| low.try_into().ok().map(u64::from_be_bytes))?;
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches([' ', '\0']);
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| u64::from_str_radix(digits, 8).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, kind: u8, size: usize) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        block[156] = kind;
        block[257..263].copy_from_slice(b"ustar\0");
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    fn archive() -> Vec<u8> {
        let mut bytes = header("./", b'5', 0).to_vec();
        bytes.extend(header("base/", b'5', 0));
        bytes.extend(header("base/1", b'0', 700));
        bytes.extend([7; 700]);
        bytes.extend([0; 324]);
        bytes.extend(header("empty", b'0', 0));
        bytes.extend([0; 2 * BLOCK]);
        bytes
    }

    #[test]
    fn an_archive_is_unpacked_whatever_its_parts() {
        for part in [1, 511, 512, 513, 5000] {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path().join("data");
            let mut extractor = Extractor::new(&data).unwrap();
            archive().chunks(part).for_each(|part| extractor.write(part).unwrap());
            assert!(extractor.is_whole());
            assert_eq!(fs::read(data.join("base/1")).unwrap(), [7; 700]);
            assert!(fs::read(data.join("empty")).unwrap().is_empty());
        }
    }

    #[test]
    fn an_archive_that_was_cut_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut extractor = Extractor::new(&folder.path().join("data")).unwrap();
        extractor.write(&archive()[..1600]).unwrap();
        assert!(!extractor.is_whole());
    }

    #[test]
    fn members_that_lead_out_or_are_no_files_are_refused() {
        let big = "a/".repeat(40);
        for (name, kind) in [
            ("/etc/passwd", b'0'),
            ("../x", b'0'),
            ("a/../../x", b'0'),
            ("link", b'2'),
            ("device", b'3'),
            ("", b'0'),
        ] {
            assert!(parse(&header(name, kind, 0)).is_err(), "{name} {kind}");
        }
        assert!(parse(&header(&big, b'5', 0)).is_ok());
        let mut bad = header("a", b'0', 5);
        bad[0] = b'b';
        assert!(parse(&bad).is_err(), "a wrong sum");
    }
}
