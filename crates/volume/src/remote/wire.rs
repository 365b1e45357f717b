//! Requests and answers. All numbers are little-endian; a frame is its length (u32) and so many bytes.
//!
//! ```text
//! request  operation u8 ‖ volume 16 ‖ offset u64 ‖ length of the file's name u8 ‖ name ‖ bytes
//! answer   0 ‖ bytes, or why not u8
//! ```

use std::io::{self, ErrorKind, Read};

/// Most bytes that are read or written at once; who wants more asks again.
pub(super) const PIECE: usize = 256 << 10;
/// No frame is longer.
pub(super) const MAX_FRAME: usize = PIECE + 256;
const HEAD: usize = 1 + 16 + 8 + 1;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// Names of the volume's files, each followed by a line feed.
    List,
    /// How many bytes the file has, u64.
    Length,
    /// Makes it, empty.
    Create,
    Remove,
    SyncNames,
    /// With the offset 1, beside others who only read.
    Lock,
    Unlock,
    /// `bytes` is how many, u32.
    Read,
    Write,
    /// To `offset`.
    SetLength,
    Sync,
}

const OPERATIONS: [Operation; 11] = [
    Operation::List,
    Operation::Length,
    Operation::Create,
    Operation::Remove,
    Operation::SyncNames,
    Operation::Lock,
    Operation::Unlock,
    Operation::Read,
    Operation::Write,
    Operation::SetLength,
    Operation::Sync,
];

/// Why not: its place here, and 1, is its number.
const FAULTS: [ErrorKind; 5] = [
    ErrorKind::Other,
    ErrorKind::NotFound,
    ErrorKind::StorageFull,
    ErrorKind::PermissionDenied,
    ErrorKind::WouldBlock,
];

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) operation: Operation,
    pub(super) volume: [u8; 16],
    pub(super) offset: u64,
    pub(super) file: &'a str,
    pub(super) bytes: &'a [u8],
}

impl<'a> Request<'a> {
    /// The whole frame. Names are ours, and shorter than 256 bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let name = self.file.as_bytes();
        let length = HEAD + name.len() + self.bytes.len();
        let mut out = Vec::with_capacity(4 + length);
        out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        let number = OPERATIONS.iter().position(|known| *known == self.operation);
        out.push(number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX));
        out.extend(self.volume);
        out.extend(self.offset.to_le_bytes());
        out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.extend(name);
        out.extend(self.bytes);
        out
    }

    /// What a frame holds.
    pub(super) fn parse(frame: &'a [u8]) -> Option<Self> {
        let (head, rest) = frame.split_at_checked(HEAD)?;
        let operation = *OPERATIONS.get(usize::from(head[0]))?;
        let (name, bytes) = rest.split_at_checked(usize::from(head[HEAD - 1]))?;
        Some(Self {
            operation,
            volume: head[1..17].try_into().ok()?,
            offset: u64::from_le_bytes(head[17..25].try_into().ok()?),
            file: str::from_utf8(name).ok()?,
            bytes,
        })
    }
}

/// The whole frame of an answer.
pub(super) fn answered(result: &io::Result<Vec<u8>>) -> Vec<u8> {
    let (status, bytes) = match result {
        Ok(bytes) => (0, bytes.as_slice()),
        Err(error) => {
            let kind = match error.kind() {
                ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
                kind => kind,
            };
            let fault = FAULTS.iter().position(|known| *known == kind).unwrap_or(0);
            (u8::try_from(fault + 1).unwrap_or(1), &[][..])
        }
    };
    let length = u32::try_from(1 + bytes.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], &[status], bytes].concat()
}

/// What an answer says.
pub(super) fn answer(frame: &[u8]) -> io::Result<&[u8]> {
    let malformed = || io::Error::from(ErrorKind::InvalidData);
    match frame.split_first().ok_or_else(malformed)? {
        (0, bytes) => Ok(bytes),
        (fault, []) => {
            let kind = FAULTS.get(usize::from(*fault) - 1).ok_or_else(malformed)?;
            Err((*kind).into())
        }
        _ => Err(malformed()),
    }
}

/// The next frame, of at most `most` bytes; `None` at the end of the stream.
pub(super) fn frame(stream: &mut (impl Read + ?Sized), most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => stream.read_exact(&mut length[1..])?,
    }
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > most {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame)?;
    Ok(Some(frame))
}
