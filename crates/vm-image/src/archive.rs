//! An initial RAM disk: a cpio archive as the kernel reads it (Linux, `Documentation/driver-api/early-userspace/
//! buffer-format.rst`, "newc"). The same files give the same bytes: no times, no owners, sorted by name.

use std::collections::BTreeMap;

const MAGIC: &[u8] = b"070701";
const LAST: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_755;
const DATA: u32 = 0o100_444;
const PROGRAM: u32 = 0o100_555;
/// `/dev/console`, character device 5:1: what the kernel opens for the first process before anything is mounted.
const CONSOLE: (&str, u32, [u32; 2]) = ("dev/console", 0o020_600, [5, 1]);

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is read.
    Data,
    /// It is run.
    Program,
}

/// Files by their path, without a slash in front.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    files: BTreeMap<String, (Kind, Vec<u8>)>,
}

impl Archive {
    /// Adds a file, in the place of one of the same path.
    pub fn insert(&mut self, path: impl Into<String>, kind: Kind, contents: Vec<u8>) {
        self.files.insert(path.into(), (kind, contents));
    }

    /// Paths and sizes of the files, sorted.
    pub fn files(&self) -> impl Iterator<Item = (&str, usize)> {
        self.files.iter().map(|(path, (_, contents))| (path.as_str(), contents.len()))
    }

    /// The archive, with the folders that its files are in, and `folders` beside them.
    pub fn to_bytes(&self, folders: &[&str]) -> Vec<u8> {
        let mut out = Writer::default();
        let mut all: BTreeMap<&str, (u32, [u32; 2], &[u8])> = BTreeMap::new();
        let names = self.files.keys().map(String::as_str).chain([CONSOLE.0]);
        for folder in names.flat_map(parents).chain(folders.iter().copied()) {
            all.insert(folder, (DIRECTORY, [0; 2], &[]));
        }
        all.insert(CONSOLE.0, (CONSOLE.1, CONSOLE.2, &[]));
        for (path, (kind, contents)) in &self.files {
            let mode = if *kind == Kind::Program { PROGRAM } else { DATA };
            all.insert(path, (mode, [0; 2], contents));
        }
        for (path, (mode, device, contents)) in all {
            out.entry(path, mode, device, contents);
        }
        out.entry(LAST, 0, [0; 2], &[]);
        out.bytes
    }
}

/// The folders that a path is in, outermost first.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    entries: u32,
}

impl Writer {
    fn entry(&mut self, path: &str, mode: u32, device: [u32; 2], contents: &[u8]) {
        let number = if path == LAST { 0 } else { self.entries + 1 };
        self.entries += 1;
        let size = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        // Number, mode, user, group, links, time, size, device of the file (2), device (2), length of the name, checksum.
        let fields = [
            number,
            mode,
            0,
            0,
            1,
            0,
            size(contents.len()),
            0,
            0,
            device[0],
            device[1],
            size(path.len() + 1),
            0,
        ];
        self.bytes.extend_from_slice(MAGIC);
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_laid_out_as_the_kernel_documents() {
        let mut archive = Archive::default();
        archive.insert("init", Kind::Program, b"abc".to_vec());
        archive.insert("lib/modules/a.ko", Kind::Data, b"module".to_vec());
        let text = archive.to_bytes(&["proc"]);
        let text = String::from_utf8(text).unwrap();
        let names: Vec<_> =
            text.split("070701").skip(1).map(|entry| entry[104..].split('\0').next().unwrap()).collect();
        assert_eq!(
            names,
            ["dev", "dev/console", "init", "lib", "lib/modules", "lib/modules/a.ko", "proc", LAST]
        );
        // Mode, user, group, links, time, size, devices, length of the name, checksum; name; contents: each padded.
        assert!(
            text.contains(
                "0000816d00000000000000000000000100000000000000030000000000000000000000000000000000000005\
                               00000000init\0\0abc\0"
            ),
            "{text}"
        );
        assert!(text.len().is_multiple_of(4));
    }
}
