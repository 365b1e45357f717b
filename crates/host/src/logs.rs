//! The output of processes: bytes to lines, and lines to a file that never grows beyond its limit. What a
//! process prints is not trusted to be text: control characters are spelled out, so that a line in a log is
//! one line of its process and moves no terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use emulator::control::Stream;
use serde::Serialize;

use crate::names::ProcessName;

/// The longest line, in bytes; what is longer becomes several.
const MAX_LINE: usize = 16 * 1024;

/// A line that a process has printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// Which process.
    pub process: ProcessName,
    /// Where to.
    pub stream: Stream,
    /// What, without its end, with control characters spelled out.
    pub text: String,
}

/// Cuts the bytes of one stream into lines.
#[derive(Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes in and gives the lines that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            self.partial.extend_from_slice(text);
            while self.partial.len() > MAX_LINE {
                let rest = self.partial.split_off(cut(&self.partial));
                lines.push(printable(&std::mem::replace(&mut self.partial, rest)));
            }
            if ended {
                lines.push(printable(&std::mem::take(&mut self.partial)));
            }
        }
        lines
    }

    /// Gives what is left when the stream has ended without a line end.
    pub(crate) fn finish(&mut self) -> Option<String> {
        (!self.partial.is_empty()).then(|| printable(&std::mem::take(&mut self.partial)))
    }
}

/// Where to cut a line that is too long: not inside a character, if it is UTF-8.
fn cut(bytes: &[u8]) -> usize {
    let continues = |index: usize| bytes.get(index).is_some_and(|byte| byte & 0xc0 == 0x80);
    (MAX_LINE - 3..=MAX_LINE).rev().find(|index| !continues(*index)).unwrap_or(MAX_LINE)
}

fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// `NAME.log`, and the one before it, `NAME.log.1`.
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
}

impl LogFile {
    /// Opens the log of a process in `directory`, to be appended to.
    pub(crate) fn open(directory: &Path, name: &ProcessName, limit: u64) -> io::Result<Self> {
        let path = directory.join(format!("{name}.log"));
        let file = append(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, limit })
    }

    pub(crate) fn write(&mut self, line: &str) -> io::Result<()> {
        let length = line.len() as u64 + 1;
        if self.size > 0 && self.size.saturating_add(length) > self.limit {
            self.rotate()?;
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, old)?;
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(no_follow).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut all: Vec<String> = pieces.iter().flat_map(|piece| lines.push(piece)).collect();
        all.extend(lines.finish());
        all
    }

    #[test]
    fn bytes_become_lines_wherever_they_are_cut() {
        assert_eq!(lines(&[b"a", b"b\nc\r\n\n", b"d"]), ["ab", "c", "", "d"]);
    }

    #[test]
    fn a_process_cannot_move_the_terminal() {
        assert_eq!(lines(&[b"\x1b[2J\x07\ttab \xff\n"]), ["\\u{1b}[2J\\u{7}\ttab \u{fffd}"]);
    }

    #[test]
    fn s43_a_line_without_end_costs_no_memory() {
        let mut splitter = Lines::default();
        for _ in 0..100 {
            assert!(splitter.push(&[b'x'; 4096]).iter().all(|line| line.len() <= MAX_LINE));
            assert!(splitter.partial.len() <= MAX_LINE);
        }
        let umlauts = "ü".repeat(MAX_LINE);
        let whole = lines(&[b"x", umlauts.as_bytes()]).concat();
        assert_eq!(whole, format!("x{umlauts}"));
    }

    #[test]
    fn a_log_is_set_aside_when_full() {
        let directory = tempfile::tempdir().unwrap();
        let name: ProcessName = "tally".parse().unwrap();
        let mut log = LogFile::open(directory.path(), &name, 10).unwrap();
        for line in ["1234", "5678", "9", "a line above the limit"] {
            log.write(line).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("tally.log"), "a line above the limit\n");
        assert_eq!(read("tally.log.1"), "9\n");
        drop(log);
        // A new agent goes on where the old one was.
        LogFile::open(directory.path(), &name, 10).unwrap().write("x").unwrap();
        assert_eq!(
            (read("tally.log").as_str(), read("tally.log.1").as_str()),
            ("x\n", "a line above the limit\n")
        );
    }

    #[test]
    fn s27_a_log_does_not_follow_links() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        std::fs::write(&victim, "").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join("tally.log")).unwrap();
        assert!(LogFile::open(directory.path(), &"tally".parse().unwrap(), 10).is_err());
    }
}
