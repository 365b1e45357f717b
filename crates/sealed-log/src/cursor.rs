//! Reads records in order, each only after the one that it is bound to. What it gives is authentic; whether it is the
//! newest, only an anchor can say.

use std::collections::BTreeSet;

use volume::{Head, Host, HostFile};

use crate::{
    cipher::{self, FileKey, LogKey, TAG},
    error::Error,
    format::{self, FRAME, FileMark, HEADER, Header, Place},
    history::{HISTORY, Heads, Held},
};

/// How what there is ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// With a whole record.
    Whole,
    /// Within a record: one that is being written, or was when power was lost.
    Cut,
    /// With bytes that are not a record.
    Forged,
}

/// One step of reading.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record's number and hash, and its plaintext.
    Record(Head, Plaintext<'a>),
    /// There is no more; a later call looks again.
    End(Tail),
}

/// A record's entries.
#[derive(Debug, PartialEq, Eq)]
pub struct Plaintext<'a>(u64, &'a [u8]);

impl<'a> Plaintext<'a> {
    /// One after the other.
    ///
    /// # Errors
    /// [`Error::Malformed`]: what was sealed was no list of entries.
    pub fn entries(&self) -> impl Iterator<Item = Result<format::Entry<'a>, Error>> + use<'a> {
        let sequence = self.0;
        format::entries(self.1).map(move |entry| entry.map_err(|_| Error::Malformed(sequence)))
    }
}

/// Bytes that are read from the host at once.
const READ_AHEAD: usize = 1 << 20;

struct Current {
    file: Box<dyn HostFile>,
    key: FileKey,
    /// SHA-256 of its header.
    hash: [u8; 32],
    header: Header,
    /// Where the next record begins.
    at: u64,
    /// What was read from `start` on.
    buffer: Vec<u8>,
    start: u64,
}

impl Current {
    fn open(host: &dyn Host, key: &LogKey, first: u64) -> Result<Self, Error> {
        let file = host.open(&format::name(first), true)?;
        let mut bytes = [0; HEADER];
        if file.read_at(0, &mut bytes)? < HEADER {
            return Err(Error::Cut(first));
        }
        let (header, key) = Header::open(&bytes, key, first)?;
        let hash = cipher::hash(&[&bytes]);
        Ok(Self { file, key, hash, header, at: HEADER as u64, buffer: Vec::new(), start: HEADER as u64 })
    }

    /// `length` bytes from `at` on; fewer where the file ends.
    fn bytes(&mut self, at: u64, length: usize) -> Result<&mut [u8], Error> {
        let skip = at.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = skip.filter(|skip| *skip <= self.buffer.len()).unwrap_or(self.buffer.len());
        if skip + length <= self.buffer.len() {
            return Ok(&mut self.buffer[skip..skip + length]);
        }
        // What is there already moves to the front, and only what is behind it is read.
        self.buffer.drain(..skip);
        self.start = at;
        let (kept, there) = (self.buffer.len(), self.file.length()?.saturating_sub(at));
        let wanted = length.max(READ_AHEAD).min(usize::try_from(there).unwrap_or(usize::MAX));
        if wanted > kept {
            self.buffer.resize(wanted, 0);
            let read = self.file.read_at(at + kept as u64, &mut self.buffer[kept..])?;
            self.buffer.truncate(kept + read);
        }
        let end = self.buffer.len().min(length);
        Ok(&mut self.buffer[..end])
    }
}

/// Reads a log from where its last file says that reading begins.
pub struct Cursor {
    key: LogKey,
    current: Option<Current>,
    head: Option<Head>,
    /// Numbers of the files there are, in order.
    files: Vec<u64>,
    passed: Vec<FileMark>,
    /// What the first record is bound to.
    begin: Option<Head>,
    heads: Heads,
}

/// Whether a file is of the key before, and the one before it of the key of now.
fn is_older(key: &LogKey, before: Option<&Current>, file: &Current) -> bool {
    before.is_some_and(|before| before.header.id == key.id()) && file.header.id != key.id()
}

fn list(host: &dyn Host) -> Result<Vec<u64>, Error> {
    let mut files: Vec<u64> = host.list()?.iter().filter_map(|name| format::number(name)).collect();
    files.sort_unstable();
    Ok(files)
}

/// From where a log can be read, oldest first: from its base, and from bases of before whose files its writer kept. By
/// the word of the host, as far as it shows files of this key.
///
/// # Errors
/// Of the host.
pub fn bases(host: &dyn Host, key: &LogKey) -> Result<Vec<u64>, Error> {
    let (mut files, mut bases) = (BTreeSet::new(), BTreeSet::new());
    for first in list(host)?.into_iter().rev() {
        match Current::open(host, &key.alone(), first) {
            Ok(current) => {
                files.insert(first);
                bases.insert(current.header.base);
            }
            // Perhaps one that is being begun.
            Err(_) if files.is_empty() => {}
            Err(_) => break,
        }
    }
    Ok(bases.intersection(&files).copied().collect())
}

impl Cursor {
    /// Begins at the base that the last file names. A last file whose header was not wholly written is none.
    ///
    /// # Errors
    /// With what is wrong with the files that are needed, by name.
    pub fn open(host: &dyn Host, key: &LogKey) -> Result<Self, Error> {
        let mut files = list(host)?;
        let mut unread = None;
        let base = loop {
            let Some(last) = files.last().copied() else { break None };
            match Current::open(host, key, last) {
                Ok(current) => break Some(current.header.base),
                // A file that was being begun when power was lost: at most one, and after all others.
                Err(error @ (Error::Cut(_) | Error::Tampered(_))) if unread.is_none() => {
                    unread = Some(error);
                    files.pop();
                }
                Err(error) => return Err(error),
            }
        };
        let Some(base) = base else {
            return Ok(Self {
                key: key.clone(),
                current: None,
                head: None,
                files: Vec::new(),
                passed: Vec::new(),
                begin: None,
                heads: Heads::default(),
            });
        };
        Self::begin(host, key, files, base)
    }

    /// Begins at an earlier base, one of [`bases`]. Whether it is one of the same log shows when it is read on to a head
    /// of that.
    ///
    /// # Errors
    /// As [`Cursor::open`].
    pub fn open_at(host: &dyn Host, key: &LogKey, base: u64) -> Result<Self, Error> {
        Self::begin(host, key, list(host)?, base)
    }

    fn begin(host: &dyn Host, key: &LogKey, mut files: Vec<u64>, base: u64) -> Result<Self, Error> {
        files.retain(|first| *first >= base);
        if files.first() != Some(&base) {
            return Err(Error::Cut(base));
        }
        let current = Current::open(host, key, base)?;
        let head = Head { sequence: base - 1, hash: current.header.previous };
        Ok(Self {
            key: key.clone(),
            passed: vec![FileMark { first: base, mark: current.header.mark }],
            current: Some(current),
            head: Some(head),
            files,
            begin: Some(head),
            heads: Heads::default(),
        })
    }

    /// The last record that was read; before the first, what it is bound to. `None`: there are no files.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// The files that were begun to be read, in order.
    pub fn files(&self) -> &[FileMark] {
        &self.passed
    }

    /// What the first record that was read is bound to, and the history since.
    pub(crate) fn history(&self) -> (Option<Head>, &Heads) {
        (self.begin, &self.heads)
    }

    /// Whether a head is in the history that was read.
    pub fn holds(&self, head: Head) -> Held {
        if self.begin == Some(head) { Held::Contained } else { self.heads.holds(head) }
    }

    /// Looks which files there are now. The one that is being read may have been replaced by a longer copy of it, or be
    /// gone, and then it is read to its end.
    ///
    /// # Errors
    /// Of the host.
    pub fn refresh(&mut self, host: &dyn Host) -> Result<(), Error> {
        let Some(current) = &mut self.current else {
            *self = Self::open(host, &self.key.clone())?;
            return Ok(());
        };
        if let Ok(file) = host.open(&format::name(current.header.first), true) {
            current.file = file;
        }
        self.files = list(host)?;
        Ok(())
    }

    /// The next record.
    ///
    /// # Errors
    /// A file that does not continue what was read, or is missing before another one: what the host did, by name.
    pub fn next(&mut self, host: &dyn Host) -> Result<Step<'_>, Error> {
        let Some(head) = self.head else { return Ok(Step::End(Tail::Whole)) };
        let next = head.sequence + 1;
        let is_here = self.current.as_ref().is_some_and(|current| current.header.first == next);
        // The next file counts before what stands behind the last record of this one: that is a record which was
        // never acknowledged, or was not shown to the writer of the next.
        if !is_here && self.files.binary_search(&next).is_ok() {
            match Current::open(host, &self.key, next) {
                Ok(current) if current.header.previous != head.hash => return Err(Error::Forked(next)),
                // A key that was given up for another does not come back.
                Ok(current) if is_older(&self.key, self.current.as_ref(), &current) => {
                    return Err(Error::Swapped);
                }
                Ok(current) => {
                    let base = current.header.base;
                    self.passed.push(FileMark { first: next, mark: current.header.mark });
                    self.passed.retain(|file| file.first >= base);
                    self.heads.forget_before(base);
                    self.current = Some(current);
                }
                // The last one may be in the making.
                Err(Error::Cut(_) | Error::Tampered(_)) if self.files.last() == Some(&next) => {}
                Err(error) => return Err(error),
            }
        }
        let later = self.files.last().is_some_and(|last| *last > next);
        let Some(current) = &mut self.current else { return Ok(Step::End(Tail::Whole)) };
        let tail = |tail| match tail {
            Tail::Forged if later => Err(Error::Tampered(next)),
            _ if later => Err(Error::Cut(next)),
            tail => Ok(Step::End(tail)),
        };
        let at = current.at;
        let frame = current.bytes(at, FRAME)?;
        let Some(frame) = frame.first_chunk::<FRAME>().copied() else {
            return tail(if frame.is_empty() { Tail::Whole } else { Tail::Cut });
        };
        let Some(length) = format::length(frame) else {
            // Zeros are what is reserved for records to come.
            current.buffer.clear();
            return tail(if frame == [0; FRAME] { Tail::Whole } else { Tail::Forged });
        };
        if current.bytes(at + FRAME as u64, length)?.len() < length {
            current.buffer.clear();
            return tail(Tail::Cut);
        }
        let start = usize::try_from(at + FRAME as u64 - current.start).map_err(|_| Error::Cut(next))?;
        let place = Place { header: &current.hash, first: current.header.first, previous: head };
        let opened = place.open(&current.key, &frame, &mut current.buffer[start..start + length]);
        let Ok((head, _)) = opened else {
            // Opening has overwritten it: a later call reads it again.
            current.buffer.clear();
            return tail(Tail::Forged);
        };
        current.at += (FRAME + length) as u64;
        self.head = Some(head);
        self.heads.push(head);
        let plain = &current.buffer[start..start + length - TAG];
        if plain.first() == Some(&HISTORY.0) {
            let own = format::entries(plain).next().and_then(Result::ok);
            let read = own.map(|own| self.heads.carry_on(own.bytes));
            return match read {
                Some(Ok(())) => Ok(Step::Record(head, Plaintext(head.sequence, &[]))),
                _ => Err(Error::Malformed(next)),
            };
        }
        Ok(Step::Record(head, Plaintext(head.sequence, plain)))
    }
}
