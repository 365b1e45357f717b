//! The bytes of files, and what of them is parsed before and after opening.

use volume::Head;

use crate::{
    cipher::{self, FileKey, FileSalt, LogId, LogKey, TAG},
    error::Error,
    history,
};

/// Version of the format.
const VERSION: u32 = 1;
/// The most bytes of entries that one record holds, with 5 for each entry.
pub const MAX_RECORD: usize = 16 << 20;

const MAGIC: &[u8; 8] = b"BLYLOG\r\n";
const HEADER_LABEL: &[u8] = b"bailey/sealed-log/1/header";
const RECORD: &[u8] = b"bailey/sealed-log/1/record";
const HEAD: &[u8] = b"bailey/sealed-log/1/head";
const PREFIX: &str = "log-";

/// What an entry means, to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(pub u8);

/// A part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it means.
    pub kind: Kind,
    /// Its content.
    pub bytes: &'a [u8],
}

/// A file of a log: from which record on, and the caller's mark: what it gave when the file was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMark {
    /// The number of its first record.
    pub first: u64,
    /// The caller's.
    pub mark: u64,
}

/// A file's name, after the number of its first record.
pub(crate) fn name(first: u64) -> String {
    format!("{PREFIX}{first:016x}")
}

/// The number of the first record, in a file's name; `None` where it is not a log's file.
pub fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// It is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }
}

/// The first bytes of a file: which log, from which record on, after what, under which key, and where reading of the
/// log begins when this is its last file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: LogId,
    pub(crate) first: u64,
    pub(crate) previous: [u8; 32],
    pub(crate) salt: FileSalt,
    pub(crate) base: u64,
    pub(crate) mark: u64,
}

const PLAIN: usize = 116;
/// Of a [`Header`] with its tag.
pub(crate) const HEADER: usize = PLAIN + TAG;

impl Header {
    /// Its bytes, authenticated.
    pub(crate) fn write(&self, key: &FileKey) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let parts: [&[u8]; 8] = [
            MAGIC,
            &VERSION.to_le_bytes(),
            &self.id,
            &self.first.to_le_bytes(),
            &self.previous,
            &self.salt,
            &self.base.to_le_bytes(),
            &self.mark.to_le_bytes(),
        ];
        let mut at = 0;
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let tag = key.seal(0, &[HEADER_LABEL, &out[..PLAIN]].concat(), &mut []);
        out[PLAIN..].copy_from_slice(&tag);
        out
    }

    /// What stands there, authentic or not.
    fn parse(bytes: &[u8; HEADER]) -> Result<(u32, Self), Malformed> {
        let mut reader = Reader(bytes);
        if reader.bytes(MAGIC.len())? != MAGIC {
            return Err(Malformed);
        }
        let version = reader.u32()?;
        let header = Self {
            id: reader.array()?,
            first: reader.u64()?,
            previous: reader.array()?,
            salt: reader.array()?,
            base: reader.u64()?,
            mark: reader.u64()?,
        };
        // Records are numbered from 1.
        if header.first == 0 || header.base == 0 || header.base > header.first {
            return Err(Malformed);
        }
        Ok((version, header))
    }

    /// The header of the file that is called after `first`, and its key.
    pub(crate) fn open(bytes: &[u8; HEADER], key: &LogKey, first: u64) -> Result<(Self, FileKey), Error> {
        let (version, header) = Self::parse(bytes).map_err(|Malformed| Error::Tampered(first))?;
        if version != VERSION {
            return Err(Error::FormatUnknown(version));
        }
        let key = key.named(&header.id).ok_or(Error::Swapped)?;
        let key = FileKey::new(&key, &header.id, &header.salt);
        let (plain, tag) = bytes.split_at(PLAIN);
        let mut tag = tag.to_vec();
        key.open(0, &[HEADER_LABEL, plain].concat(), &mut tag).map_err(|_| Error::Tampered(first))?;
        if header.first != first {
            return Err(Error::Renamed);
        }
        Ok((header, key))
    }
}

/// What stands before a record: its length with the tag.
pub(crate) const FRAME: usize = 4;

/// The length of a record with its tag; `None` where no record has it.
pub(crate) fn length(frame: [u8; FRAME]) -> Option<usize> {
    let length = usize::try_from(u32::from_le_bytes(frame)).ok()?;
    (length > TAG && length <= MAX_RECORD + TAG).then_some(length)
}

/// A record's place: in which file, and after what.
pub(crate) struct Place<'a> {
    /// SHA-256 of the file's header.
    pub(crate) header: &'a [u8; 32],
    pub(crate) first: u64,
    pub(crate) previous: Head,
}

impl Place<'_> {
    pub(crate) fn sequence(&self) -> u64 {
        self.previous.sequence + 1
    }

    fn aad(&self) -> Vec<u8> {
        [RECORD, self.header, &self.sequence().to_le_bytes(), &self.previous.hash].concat()
    }

    /// Counted from 1: the header has 0.
    fn counter(&self) -> u64 {
        self.sequence() - self.first + 1
    }

    fn head(&self, frame: &[u8], sealed: &[u8]) -> Head {
        let sequence = self.sequence();
        let parts = [HEAD, self.header, &sequence.to_le_bytes(), &self.previous.hash, frame, sealed];
        Head { sequence, hash: cipher::hash(&parts) }
    }

    /// Makes of a buffer that has a record's plaintext after [`FRAME`] free bytes the record.
    pub(crate) fn seal(&self, key: &FileKey, buffer: &mut Vec<u8>) -> Result<Head, Error> {
        let plain = buffer.len() - FRAME;
        if plain == 0 || plain > MAX_RECORD {
            return Err(Error::TooLarge);
        }
        let length = u32::try_from(plain + TAG).map_err(|_| Error::TooLarge)?;
        let tag = key.seal(self.counter(), &self.aad(), &mut buffer[FRAME..]);
        buffer.extend(tag);
        buffer[..FRAME].copy_from_slice(&length.to_le_bytes());
        let (frame, sealed) = buffer.split_at(FRAME);
        Ok(self.head(frame, sealed))
    }

    /// The other way; `frame` is that of `sealed`, which is opened in place.
    pub(crate) fn open<'a>(
        &self,
        key: &FileKey,
        frame: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<(Head, &'a [u8]), cipher::Forged> {
        let head = self.head(frame, sealed);
        let plain = key.open(self.counter(), &self.aad(), sealed)?;
        Ok((head, plain))
    }
}

/// Writes an entry into a record's plaintext.
pub(crate) fn write_entry(entry: Entry<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let length = u32::try_from(entry.bytes.len()).map_err(|_| Error::TooLarge)?;
    out.push(entry.kind.0);
    out.extend(length.to_le_bytes());
    out.extend(entry.bytes);
    Ok(())
}

/// The entries of a record's plaintext.
pub(crate) struct Entries<'a>(Reader<'a>);

pub(crate) fn entries(plain: &[u8]) -> Entries<'_> {
    Entries(Reader(plain))
}

impl<'a> Entries<'a> {
    fn one(&mut self) -> Result<Entry<'a>, Malformed> {
        let [kind] = self.0.array()?;
        let length = usize::try_from(self.0.u32()?).map_err(|_| Malformed)?;
        Ok(Entry { kind: Kind(kind), bytes: self.0.bytes(length)? })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.0.is_empty() {
            return None;
        }
        let entry = self.one();
        if entry.is_err() {
            self.0.0 = &[];
        }
        Some(entry)
    }
}

/// What [`parse`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// The bytes begin with a file's header.
    pub header: bool,
    /// They begin with a frame that a record can have.
    pub frame: bool,
    /// They are a record's plaintext, with so many entries.
    pub entries: Option<usize>,
    /// They are digests of so many batches of heads.
    pub batches: Option<usize>,
}

/// Everything that is parsed of a log, without its cryptography: for fuzzing.
pub fn parse(bytes: &[u8]) -> Parsed {
    Parsed {
        header: bytes.first_chunk().is_some_and(|header| Header::parse(header).is_ok()),
        frame: bytes.first_chunk().is_some_and(|frame| length(*frame).is_some()),
        entries: entries(bytes).collect::<Result<Vec<_>, _>>().ok().map(|entries| entries.len()),
        batches: history::parse(bytes).ok().map(|batches| batches.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let id = LogKey::new([1; 32]).id();
        Header { id, first: 7, previous: [2; 32], salt: [3; 32], base: 5, mark: 9 }
    }

    #[test]
    fn a_header_is_read_as_it_was_written_and_every_bit_of_it_counts() {
        let (key, header) = (LogKey::new([1; 32]), header());
        let bytes = header.write(&FileKey::new(&key, &header.id, &header.salt));
        assert_eq!(Header::open(&bytes, &key, 7).map(|opened| opened.0), Ok(header));
        assert_eq!(Header::open(&bytes, &key, 8).err(), Some(Error::Renamed));
        assert_eq!(Header::open(&bytes, &LogKey::new([2; 32]), 7).err(), Some(Error::Swapped));
        for bit in 0..HEADER * 8 {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::open(&other, &key, 7).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_beginning_of_a_plaintext_is_whole_or_refused() {
        let (mut plain, mut ends) = (Vec::new(), vec![0]);
        for bytes in [&b"one"[..], b"", b"three"] {
            write_entry(Entry { kind: Kind(4), bytes }, &mut plain).unwrap();
            ends.push(plain.len());
        }
        for length in 0..=plain.len() {
            assert_eq!(parse(&plain[..length]).entries.is_some(), ends.contains(&length), "{length}");
        }
        assert_eq!(parse(&plain).entries, Some(3));
    }

    #[test]
    fn names_are_numbers() {
        assert_eq!(number(&name(u64::MAX)), Some(u64::MAX));
        for bad in ["log-", "log-1", "lock", "log-000000000000000g", "log-00000000000000001"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
