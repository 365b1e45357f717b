//! Logs: files of sealed records, each chained to the one before. The first record of a log is everything, the others
//! are what changed; when these outgrow the first, a new log is begun.

use crate::{
    anchor::Head,
    cipher::{self, Purpose, SessionKey, SessionSalt, TAG, VERSION, VolumeId, VolumeKey},
    error::Error,
    host::{Host, HostFile},
    record::{self, FRAME, HEADER, Header, State},
};

/// The largest record: a volume of the largest size with the most files needs less.
pub(crate) const MAX_RECORD: u32 = 192 << 20;
const HEAD: &[u8] = b"bailey/volume/1/head";
const RECORD: &[u8] = b"bailey/volume/1/record";
const PREFIX: &str = "log-";

/// A log's file, after the number of its first commit.
pub(crate) fn name(first: u64) -> String {
    format!("{PREFIX}{first:016x}")
}

/// Whether a file is a log.
pub(crate) fn is_log(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Whether a file is a log, by its whole name.
pub(crate) fn is_log_name(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX).unwrap_or_default().as_bytes();
    digits.len() == 16 && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

fn aad(header: &[u8; 32], sequence: u64, previous: &[u8; 32]) -> Vec<u8> {
    [RECORD, header, &sequence.to_le_bytes(), previous].concat()
}

fn head(header: &[u8; 32], sequence: u64, previous: &[u8; 32], frame: &[u8], sealed: &[u8]) -> Head {
    let hash = cipher::hash(&[HEAD, header, &sequence.to_le_bytes(), previous, frame, sealed]);
    Head { sequence, hash }
}

/// The log that is written to.
pub(crate) struct Log {
    file: Box<dyn HostFile>,
    header: [u8; 32],
    first: u64,
    /// Where the next record goes.
    end: u64,
    /// Bytes of the first record, and of those after it.
    whole: u64,
    changes: u64,
}

/// Seals records: one for each session, since its counter may not begin again.
pub(crate) struct Sealer {
    id: VolumeId,
    salt: SessionSalt,
    key: SessionKey,
    counter: u64,
}

impl Sealer {
    pub(crate) fn new(key: &VolumeKey, id: VolumeId, salt: SessionSalt) -> Self {
        Self { id, salt, key: SessionKey::new(key, &id, &salt, Purpose::Log), counter: 0 }
    }

    fn seal(
        &mut self,
        header: &[u8; 32],
        previous: Head,
        mut plaintext: Vec<u8>,
    ) -> Result<(Vec<u8>, Head), Error> {
        let length = u32::try_from(plaintext.len() + TAG).ok().filter(|length| *length <= MAX_RECORD);
        let length = length.ok_or(Error::NoSpace)?;
        // Never again, even if this record is not written.
        let counter = self.counter;
        self.counter += 1;
        let sequence = previous.sequence + 1;
        let frame = record::frame(length, counter);
        let tag = self.key.seal(counter, &aad(header, sequence, &previous.hash), &mut plaintext);
        plaintext.extend(tag);
        let head = head(header, sequence, &previous.hash, &frame, &plaintext);
        Ok(([&frame[..], &plaintext].concat(), head))
    }
}

impl Log {
    /// Begins a log with a record of everything, after `previous`.
    pub(crate) fn begin(
        host: &dyn Host,
        sealer: &mut Sealer,
        previous: Head,
        everything: Vec<u8>,
    ) -> Result<(Self, Head), Error> {
        let header = Header {
            version: VERSION,
            id: sealer.id,
            first: previous.sequence + 1,
            previous: previous.hash,
            salt: sealer.salt,
        };
        let bytes = header.write();
        let hash = cipher::hash(&[&bytes]);
        let (sealed, head) = sealer.seal(&hash, previous, everything)?;
        let file = host.create(&name(header.first))?;
        file.write_at(0, &bytes)?;
        file.write_at(HEADER as u64, &sealed)?;
        file.sync()?;
        host.sync_names()?;
        let whole = sealed.len() as u64;
        Ok((
            Self { file, header: hash, first: header.first, end: HEADER as u64 + whole, whole, changes: 0 },
            head,
        ))
    }

    /// Writes a record of changes after `previous`. What fails is cut off again; if that fails too, the log is at an
    /// end that is not known, and the volume with it.
    pub(crate) fn append(
        &mut self,
        sealer: &mut Sealer,
        previous: Head,
        changes: Vec<u8>,
    ) -> Result<Head, AppendError> {
        let (sealed, head) = sealer.seal(&self.header, previous, changes).map_err(AppendError::Nothing)?;
        let written = self.file.write_at(self.end, &sealed).and_then(|()| self.file.sync());
        if let Err(error) = written {
            let cut = self.file.set_length(self.end).and_then(|()| self.file.sync());
            return Err(match cut {
                Ok(()) => AppendError::Nothing(error.into()),
                Err(_) => AppendError::Unknown(error.into()),
            });
        }
        self.end += sealed.len() as u64;
        self.changes += sealed.len() as u64;
        Ok(head)
    }

    /// Whether `head` is this log's first record.
    pub(crate) fn is_new(&self, head: Head) -> bool {
        self.first == head.sequence
    }

    /// Whether a new log is due.
    pub(crate) fn is_long(&self) -> bool {
        const MIN: u64 = 1 << 20;
        self.changes > MIN.max(2 * self.whole)
    }
}

/// Why a record was not written.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// The log is as it was.
    Nothing(Error),
    /// It may be there or not.
    Unknown(Error),
}

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a whole record.
    Whole,
    /// Within a record.
    Cut,
    /// With a record that is not authentic.
    Forged,
}

/// A log as it was read: up to one record after the one that is looked for.
pub(crate) struct Read {
    pub(crate) header: Header,
    /// Of every record, in order.
    pub(crate) heads: Vec<Head>,
    /// After the last of them.
    pub(crate) state: State,
    pub(crate) end: End,
}

/// Reads a log whose header is `header`, up to commit `until`.
pub(crate) fn read(
    file: &dyn HostFile,
    header_bytes: &[u8; HEADER],
    header: Header,
    key: &VolumeKey,
    until: u64,
) -> Result<Read, Error> {
    let length = file.length()?;
    let key = SessionKey::new(key, &header.id, &header.salt, Purpose::Log);
    let hash = cipher::hash(&[header_bytes]);
    let mut previous = Head { sequence: header.first.wrapping_sub(1), hash: header.previous };
    let mut read = Read { header, heads: Vec::new(), state: State::default(), end: End::Whole };
    let mut at = HEADER as u64;
    let mut sealed = Vec::new();
    while at < length && previous.sequence < until {
        let mut frame = [0; FRAME];
        if file.read_at(at, &mut frame)? < FRAME {
            read.end = End::Cut;
            break;
        }
        let parsed = record::parse_frame(&frame);
        let Ok((size @ 16..=MAX_RECORD, counter)) = parsed else {
            read.end = End::Forged;
            break;
        };
        if u64::from(size) > length - at - FRAME as u64 {
            read.end = End::Cut;
            break;
        }
        sealed.resize(size as usize, 0);
        if file.read_at(at + FRAME as u64, &mut sealed)? < sealed.len() {
            read.end = End::Cut;
            break;
        }
        let sequence = previous.sequence + 1;
        let (ciphertext, tag) = sealed.split_at(sealed.len() - TAG);
        let mut plaintext = vec![0; ciphertext.len()];
        let opened =
            key.open(counter, &aad(&hash, sequence, &previous.hash), ciphertext, tag, &mut plaintext);
        if opened.is_err() || read.state.apply(&plaintext).is_err() {
            read.end = End::Forged;
            break;
        }
        previous = head(&hash, sequence, &previous.hash, &frame, &sealed);
        read.heads.push(previous);
        at += FRAME as u64 + u64::from(size);
    }
    Ok(read)
}
