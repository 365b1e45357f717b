//! Framing of the emulated platform's sockets: a length (u32, big-endian, at most [`MAX_FRAME`]) and as
//! many bytes of CBOR. Each value has one spelling only: whatever is not the encoding that [`encode`]
//! would give (trailing bytes, longer integers, other key order) is refused, so that two readers can
//! never see different things in the same bytes.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};
use zeroize::{Zeroize, Zeroizing};

/// The most that a frame may carry, in bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// CBOR nests no deeper than this in either protocol.
const MAX_DEPTH: usize = 16;

/// A first capacity that holds every message with a key in it, so that growing leaves no copies behind.
const INITIAL_CAPACITY: usize = 1024;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The announced length is above the limit.
    #[error("a frame of {length} bytes is announced, at most {limit} are allowed")]
    TooLarge {
        /// What the length field says.
        length: usize,
        /// [`MAX_FRAME`].
        limit: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[from] io::Error),
}

/// Why the bytes of a frame are not a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not CBOR, or not a message of this protocol.
    #[error("not a message of this protocol: {0}")]
    Malformed(String),
    /// A message in another spelling than the one that is allowed.
    #[error("the message is not in its one encoding")]
    NotCanonical,
}

/// Reads one frame; `None` when the stream ended before it began.
///
/// # Errors
/// When the frame is too large or cut short, or the stream fails.
pub fn read(reader: &mut impl Read) -> Result<Option<Zeroizing<Vec<u8>>>, FrameError> {
    let mut prefix = [0u8; 4];
    match read_prefix(reader, &mut prefix)? {
        0 => return Ok(None),
        4 => {}
        _ => return Err(FrameError::Truncated),
    }
    let length = checked_length(prefix)?;
    let mut payload = Zeroizing::new(vec![0; length]);
    reader.read_exact(&mut payload).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Truncated,
        _ => FrameError::Io(error),
    })?;
    Ok(Some(payload))
}

/// Writes one frame in one piece.
///
/// # Errors
/// When the payload is too large or the stream fails.
pub fn write(writer: &mut impl Write, payload: &[u8]) -> Result<(), FrameError> {
    writer.write_all(&framed(payload)?)?;
    Ok(writer.flush()?)
}

/// The payload with its length before it.
///
/// # Errors
/// When the payload is too large.
pub fn framed(payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let too_large = || FrameError::TooLarge { length: payload.len(), limit: MAX_FRAME };
    let length = u32::try_from(payload.len()).map_err(|_| too_large())?;
    checked_length(length.to_be_bytes())?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 + payload.len()));
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// The one encoding of a message.
///
/// # Errors
/// When the value cannot be written as CBOR (a path that is not UTF-8).
pub fn encode<T: Serialize>(message: &T) -> Result<Zeroizing<Vec<u8>>, DecodeError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(INITIAL_CAPACITY));
    ciborium::into_writer(message, &mut *bytes).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    Ok(bytes)
}

/// Reads a message, strictly.
///
/// # Errors
/// When the bytes are not a `T`, or a `T` in another encoding than [`encode`] gives.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let message: T = ciborium::de::from_reader_with_recursion_limit(bytes, MAX_DEPTH)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if *encode(&message)? != bytes {
        return Err(DecodeError::NotCanonical);
    }
    Ok(message)
}

/// Collects frames from a stream that is read piecemeal, without ever blocking for the rest of one.
#[derive(Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
}

impl FrameBuffer {
    /// Appends what was read.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next whole frame out.
    ///
    /// # Errors
    /// When the next frame announces too large a length: nothing after it can be understood.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(prefix) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let end = 4 + checked_length(*prefix)?;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let payload = self.bytes[4..end].to_vec();
        self.bytes.drain(..end);
        Ok(Some(payload))
    }
}

impl Drop for FrameBuffer {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

fn checked_length(prefix: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > MAX_FRAME { Err(FrameError::TooLarge { length, limit: MAX_FRAME }) } else { Ok(length) }
}

fn read_prefix(reader: &mut impl Read, prefix: &mut [u8; 4]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < prefix.len() {
        match reader.read(&mut prefix[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_the_round_trip() {
        let mut stream = Vec::new();
        write(&mut stream, b"one").unwrap();
        write(&mut stream, b"").unwrap();
        let mut reader = stream.as_slice();
        assert_eq!(**read(&mut reader).unwrap().unwrap(), *b"one");
        assert!(read(&mut reader).unwrap().unwrap().is_empty());
        assert!(read(&mut reader).unwrap().is_none());
    }

    #[test]
    fn s43_oversized_and_truncated_frames_are_refused() {
        let oversized = u32::try_from(MAX_FRAME + 1).unwrap().to_be_bytes();
        assert!(matches!(read(&mut oversized.as_slice()), Err(FrameError::TooLarge { .. })));
        assert!(matches!(write(&mut Vec::new(), &vec![0; MAX_FRAME + 1]), Err(FrameError::TooLarge { .. })));
        assert!(matches!(read(&mut [0, 0].as_slice()), Err(FrameError::Truncated)));
        assert!(matches!(read(&mut [0, 0, 0, 9, 1].as_slice()), Err(FrameError::Truncated)));
    }

    #[test]
    fn a_buffer_gives_frames_only_when_whole() {
        let mut buffer = FrameBuffer::default();
        buffer.extend(&[0, 0, 0]);
        assert!(buffer.next_frame().unwrap().is_none());
        buffer.extend(&[2, b'a']);
        assert!(buffer.next_frame().unwrap().is_none());
        buffer.extend(b"b\0\0\0\0\xff");
        assert_eq!(buffer.next_frame().unwrap().unwrap(), b"ab");
        assert_eq!(buffer.next_frame().unwrap().unwrap(), b"");
        assert!(buffer.next_frame().unwrap().is_none());
        buffer.extend(&[0xff; 3]);
        assert!(matches!(buffer.next_frame(), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn s43_a_value_has_one_encoding() {
        assert_eq!(decode::<u8>(&[7]).unwrap(), 7);
        assert!(matches!(decode::<u8>(&[0x18, 7]), Err(DecodeError::NotCanonical)));
        assert!(matches!(decode::<u8>(&[7, 7]), Err(DecodeError::NotCanonical)));
        assert!(matches!(decode::<u8>(&[]), Err(DecodeError::Malformed(_))));
    }
}
