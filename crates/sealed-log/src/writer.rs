//! Writes a log on. Each writer begins a file of its own, and ends at its first failure: what is behind the last
//! record that it synced is then for the next one to judge.

use volume::{Anchor, Head, Host, HostFile, Lock};

use crate::{
    cipher::{self, FileKey, LogKey},
    error::Error,
    format::{self, Entry, FRAME, FileMark, HEADER, Header, Place},
    history::{HISTORY, Heads},
    read::{Anchored, Contents},
};

/// How a log is written.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes after which a new file is begun.
    pub file_size: u64,
    /// Zeros that are written behind a record where the file ends, so that the disk need not record a new length with
    /// each of the next: that is half of what syncing a small record costs.
    pub reserve: usize,
    /// Bytes before the base that stay, with what is needed to read them from an earlier base
    /// ([`Cursor::open_at`](crate::Cursor::open_at)). Nothing that goes on needs them. Files of a key before go all the same.
    pub keep: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { file_size: 64 << 20, reserve: 1 << 20, keep: 0 }
    }
}

struct Current {
    file: Box<dyn HostFile>,
    key: FileKey,
    hash: [u8; 32],
    first: u64,
    base: u64,
    end: u64,
    /// Up to here the file has bytes.
    length: u64,
}

/// The one who writes a log.
pub struct Writer {
    host: Box<dyn Host>,
    _lock: Box<dyn Lock>,
    key: LogKey,
    anchor: Box<dyn Anchor>,
    options: Options,
    current: Current,
    /// The last record that is synced; sequence 0 before the first.
    head: Head,
    anchored: Option<Head>,
    files: Vec<FileMark>,
    base: u64,
    /// Bytes of records since the base was last moved.
    grown: u64,
    ended: bool,
    buffer: Vec<u8>,
}

/// Before the first record.
const NOTHING: Head = Head { sequence: 0, hash: [0; 32] };

impl Writer {
    /// Goes on with the log that [`read`](crate::read) found: anchors its last record, if it was not yet, removes what
    /// is before its base, and begins a file with `mark`.
    ///
    /// # Errors
    /// Of the host and the anchor.
    pub fn begin(
        host: Box<dyn Host>,
        key: &LogKey,
        contents: Contents,
        anchor: Box<dyn Anchor>,
        mark: u64,
        options: Options,
    ) -> Result<Self, Error> {
        let anchored = match contents.anchored {
            Anchored::Never => None,
            Anchored::At(head) => Some(head),
            Anchored::Unknown => contents.head,
        };
        let (head, files) = match contents.anchored {
            // What was never acknowledged is not gone on with.
            Anchored::Never => (None, Vec::new()),
            _ => (contents.head, contents.files),
        };
        if head != anchored {
            head.map_or(Ok(()), |to| anchor.advance(anchored, to))?;
        }
        let base = files.first().map_or(1, |file| file.first);
        let previous = head.unwrap_or(NOTHING);
        let current = begin_file(&*host, key, previous, base, mark)?;
        let mut writer = Self {
            host,
            _lock: contents.lock,
            key: key.clone(),
            anchor,
            options,
            head: previous,
            anchored: head,
            files,
            base,
            grown: 0,
            ended: false,
            buffer: Vec::new(),
            current,
        };
        writer.entered(mark);
        writer.remove_old()?;
        Ok(writer)
    }

    fn entered(&mut self, mark: u64) {
        let first = self.current.first;
        // A file without a record was replaced.
        self.files.retain(|file| file.first < first);
        self.files.push(FileMark { first, mark });
    }

    /// Removes what stands behind the file that is written, and what is before the base and not to be kept.
    fn remove_old(&self) -> Result<(), Error> {
        let mut files: Vec<u64> = self.host.list()?.iter().filter_map(|name| format::number(name)).collect();
        files.sort_unstable_by(|one, other| other.cmp(one));
        let floor = self.floor(files.iter().copied().filter(|first| *first < self.base));
        for first in files.into_iter().filter(|first| *first < floor || *first > self.current.first) {
            self.host.remove(&format::name(first))?;
        }
        self.host.sync_names()?;
        Ok(())
    }

    /// From where files stay: so many bytes before the base as are to be kept, and before them what is needed to read
    /// them. `files`: those before the base, newest first.
    fn floor(&self, files: impl Iterator<Item = u64>) -> u64 {
        let (mut floor, mut room) = (self.base, self.options.keep);
        for first in files {
            if room == 0 && first < floor {
                break;
            }
            let Some((length, base)) = self.own(first) else {
                floor = floor.max(first + 1);
                break;
            };
            if room > 0 {
                floor = base;
            }
            room = room.saturating_sub(length);
        }
        floor
    }

    /// The length of a file of this key, and from where it was read when it was begun; `None`: it is another key's, or
    /// cannot be read.
    fn own(&self, first: u64) -> Option<(u64, u64)> {
        let file = self.host.open(&format::name(first), true).ok()?;
        let mut bytes = [0; HEADER];
        file.read_at(0, &mut bytes).ok().filter(|read| *read == HEADER)?;
        let (header, _) = Header::open(&bytes, &self.key.alone(), first).ok()?;
        Some((file.length().ok()?, header.base))
    }

    /// The last record that is on disk; `None` before the first.
    pub fn head(&self) -> Option<Head> {
        (self.head.sequence > 0).then_some(self.head)
    }

    /// The last record that is anchored.
    pub fn anchored(&self) -> Option<Head> {
        self.anchored
    }

    /// Bytes of records since the writer began, or the last checkpoint.
    pub fn grown(&self) -> u64 {
        self.grown
    }

    /// The first record of what is kept.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Seals entries into one record and returns when it is on disk. It is not acknowledged before it is anchored.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; or the host's, and then the writer has ended.
    pub fn append(&mut self, entries: &[Entry<'_>]) -> Result<Head, Error> {
        if self.ended {
            return Err(Error::Ended);
        }
        self.buffer.clear();
        self.buffer.resize(FRAME, 0);
        entries.iter().try_for_each(|entry| format::write_entry(*entry, &mut self.buffer))?;
        let place = Place { header: &self.current.hash, first: self.current.first, previous: self.head };
        let head = place.seal(&self.current.key, &mut self.buffer)?;
        let (length, end) = (self.buffer.len(), self.current.end + self.buffer.len() as u64);
        if end > self.current.length && length < self.options.reserve {
            self.buffer.resize(length + self.options.reserve, 0);
        }
        // From here on the nonce is used: a failure ends the writer.
        let written = self
            .current
            .file
            .write_at(self.current.end, &self.buffer)
            .and_then(|()| self.current.file.sync());
        if let Err(error) = written {
            self.ended = true;
            return Err(error.into());
        }
        self.current.length = self.current.length.max(self.current.end + self.buffer.len() as u64);
        self.current.end = end;
        self.grown += length as u64;
        self.head = head;
        Ok(head)
    }

    /// Moves the anchor to the last record. May be called again after [`Error::AnchorUnreachable`].
    ///
    /// # Errors
    /// Of the anchor; [`Error::Superseded`] ends the writer.
    pub fn anchor(&mut self) -> Result<(), Error> {
        if self.ended {
            return Err(Error::Ended);
        }
        let Some(head) = self.head() else { return Ok(()) };
        if self.anchored == Some(head) {
            return Ok(());
        }
        match self.anchor.advance(self.anchored, head).map_err(Error::from) {
            Ok(()) => self.anchored = Some(head),
            Err(error) => {
                self.ended = error == Error::Superseded;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Whether the file is long enough for a new one.
    pub fn is_full(&self) -> bool {
        self.current.end >= self.options.file_size
    }

    /// Begins a new file with `mark`.
    ///
    /// # Errors
    /// Of the host, and then the writer has ended.
    pub fn rotate(&mut self, mark: u64) -> Result<(), Error> {
        if self.ended {
            return Err(Error::Ended);
        }
        // A file is called after its first record, so one without a record would be replaced: it serves as it is.
        let unused = self.current.first == self.head.sequence + 1 && self.current.base == self.base;
        if unused && self.files.last().is_some_and(|file| file.mark == mark) {
            return Ok(());
        }
        match begin_file(&*self.host, &self.key, self.head, self.base, mark) {
            Ok(current) => self.current = current,
            Err(error) => {
                self.ended = true;
                return Err(error);
            }
        }
        self.entered(mark);
        Ok(())
    }

    /// Begins a new file, with `mark`, under another key, which must know this one as the one before. Returns the number
    /// of its first record.
    ///
    /// # Errors
    /// Of the host, and then the writer has ended.
    pub fn rekey(&mut self, key: &LogKey, mark: u64) -> Result<u64, Error> {
        if self.ended {
            return Err(Error::Ended);
        }
        match begin_file(&*self.host, key, self.head, self.base, mark) {
            Ok(current) => (self.current, self.key) = (current, key.clone()),
            Err(error) => {
                self.ended = true;
                return Err(error);
            }
        }
        self.entered(mark);
        Ok(self.current.first)
    }

    /// The first record of the file that is written.
    pub fn file(&self) -> u64 {
        self.current.first
    }

    /// The base that a checkpoint would have.
    fn next_base(&self, needed: u64, holding: u64) -> u64 {
        // A base that no record stands behind yet would have nothing that the anchor knows.
        let holding = holding.min(self.head.sequence);
        let fits = |file: &&FileMark| file.mark <= needed && file.first <= holding;
        self.files.iter().rev().find(fits).map_or(self.base, |file| file.first)
    }

    /// Before [`Writer::checkpoint`], with the same: keeps the heads that would be forgotten, in a record of its own, so
    /// that whoever kept one can still hold it against this log. It is to be anchored.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn remember(&mut self, needed: u64, holding: u64, heads: &mut Heads) -> Result<(), Error> {
        let base = self.next_base(needed, holding);
        if base == self.base {
            return Ok(());
        }
        heads.keep_before(&*self.host, base)?;
        let bytes = heads.entry();
        if !bytes.is_empty() {
            heads.push(self.append(&[Entry { kind: HISTORY, bytes: &bytes }])?);
        }
        Ok(())
    }

    /// Anchors what there is, makes the newest file whose mark is at most `needed`, and which begins not after the
    /// record `holding`, the base, begins a file with `mark`, and removes what is before the base and not to be kept. Returns whether
    /// anything was cut.
    ///
    /// # Errors
    /// As [`Writer::anchor`] and [`Writer::rotate`].
    pub fn checkpoint(&mut self, needed: u64, holding: u64, mark: u64) -> Result<bool, Error> {
        self.anchor()?;
        let base = self.next_base(needed, holding);
        self.grown = 0;
        if base == self.base {
            return Ok(false);
        }
        self.base = base;
        self.rotate(mark)?;
        self.files.retain(|file| file.first >= base);
        self.remove_old()?;
        Ok(true)
    }
}

fn begin_file(host: &dyn Host, key: &LogKey, previous: Head, base: u64, mark: u64) -> Result<Current, Error> {
    let header = Header {
        id: key.id(),
        first: previous.sequence + 1,
        previous: previous.hash,
        salt: cipher::salt()?,
        base,
        mark,
    };
    let key = FileKey::new(key, &header.id, &header.salt);
    let bytes = header.write(&key);
    let file = host.create(&format::name(header.first))?;
    file.write_at(0, &bytes)?;
    file.sync()?;
    host.sync_names()?;
    Ok(Current {
        file,
        key,
        hash: cipher::hash(&[&bytes]),
        first: header.first,
        base,
        end: HEADER as u64,
        length: HEADER as u64,
    })
}
