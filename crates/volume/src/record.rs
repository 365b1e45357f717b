//! What a record of the log says, as bytes. All numbers are little-endian. A record is authentic before it is parsed;
//! it is parsed strictly all the same.
//!
//! | tag | entry | fields |
//! |---|---|---|
//! | 1 | session | number u32, salt 32 |
//! | 2 | node | id u64, kind u8 (0 directory, 1 file), size u64, accessed, modified, changed u64 each |
//! | 3 | node gone | id u64 |
//! | 4 | name | directory u64, length u8, name, node u64 |
//! | 5 | name gone | directory u64, length u8, name |
//! | 6 | chunk | node u64, index u32, slot u32, length u32, session u32, counter u64, tag 16 |
//! | 7 | chunk gone | node u64, index u32 |
//! | 8 | next node | id u64 |

use std::collections::BTreeMap;

use crate::{
    cipher::{SessionSalt, TAG},
    tree::{MAX_NAME, NodeId, Time, Times},
    volume::CHUNK,
};

/// Where a chunk is, and what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Place in the data file, in units of [`CHUNK`].
    pub(crate) slot: u32,
    /// Bytes of it.
    pub(crate) length: u32,
    /// Which key sealed it.
    pub(crate) session: u32,
    /// Under which nonce.
    pub(crate) counter: u64,
    pub(crate) tag: [u8; TAG],
}

/// A node without its names and chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) directory: bool,
    pub(crate) size: u64,
    pub(crate) times: Times,
}

/// One entry of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Session(u32, SessionSalt),
    Node(NodeId, Plain),
    NodeGone(NodeId),
    Name(NodeId, String, NodeId),
    NameGone(NodeId, String),
    Chunk(NodeId, u32, Chunk),
    ChunkGone(NodeId, u32),
    Next(u64),
}

impl Item {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Session(number, salt) => {
                out.push(1);
                out.extend(number.to_le_bytes());
                out.extend(salt);
            }
            Self::Node(id, plain) => {
                out.push(2);
                out.extend(id.0.to_le_bytes());
                out.push(u8::from(!plain.directory));
                let Times { accessed, modified, changed } = plain.times;
                for number in [plain.size, accessed.0, modified.0, changed.0] {
                    out.extend(number.to_le_bytes());
                }
            }
            Self::NodeGone(id) => {
                out.push(3);
                out.extend(id.0.to_le_bytes());
            }
            Self::Name(directory, name, id) => {
                out.push(4);
                write_name(*directory, name, out);
                out.extend(id.0.to_le_bytes());
            }
            Self::NameGone(directory, name) => {
                out.push(5);
                write_name(*directory, name, out);
            }
            Self::Chunk(id, index, chunk) => {
                out.push(6);
                out.extend(id.0.to_le_bytes());
                for number in [*index, chunk.slot, chunk.length, chunk.session] {
                    out.extend(number.to_le_bytes());
                }
                out.extend(chunk.counter.to_le_bytes());
                out.extend(chunk.tag);
            }
            Self::ChunkGone(id, index) => {
                out.push(7);
                out.extend(id.0.to_le_bytes());
                out.extend(index.to_le_bytes());
            }
            Self::Next(next) => {
                out.push(8);
                out.extend(next.to_le_bytes());
            }
        }
    }
}

fn write_name(directory: NodeId, name: &str, out: &mut Vec<u8>) {
    out.extend(directory.0.to_le_bytes());
    // The tree holds no longer names than 255 bytes.
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend(name.as_bytes());
}

/// The bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn node(&mut self) -> Result<NodeId, Malformed> {
        Ok(NodeId(self.u64()?))
    }

    fn name(&mut self) -> Result<(NodeId, String), Malformed> {
        let directory = self.node()?;
        let length = usize::from(self.u8()?);
        let name = std::str::from_utf8(self.bytes(length)?).map_err(|_| Malformed)?;
        let plain = !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']) && length <= MAX_NAME;
        if plain { Ok((directory, name.to_owned())) } else { Err(Malformed) }
    }

    fn item(&mut self) -> Result<Item, Malformed> {
        Ok(match self.u8()? {
            1 => Item::Session(self.u32()?, self.array()?),
            2 => {
                let id = self.node()?;
                let directory = match self.u8()? {
                    0 => true,
                    1 => false,
                    _ => return Err(Malformed),
                };
                let size = self.u64()?;
                let times = Times {
                    accessed: Time(self.u64()?),
                    modified: Time(self.u64()?),
                    changed: Time(self.u64()?),
                };
                Item::Node(id, Plain { directory, size, times })
            }
            3 => Item::NodeGone(self.node()?),
            4 => {
                let (directory, name) = self.name()?;
                Item::Name(directory, name, self.node()?)
            }
            5 => {
                let (directory, name) = self.name()?;
                Item::NameGone(directory, name)
            }
            6 => {
                let (id, index) = (self.node()?, self.u32()?);
                let (slot, length, session) = (self.u32()?, self.u32()?, self.u32()?);
                if length == 0 || length as usize > CHUNK {
                    return Err(Malformed);
                }
                let (counter, tag) = (self.u64()?, self.array()?);
                Item::Chunk(id, index, Chunk { slot, length, session, counter, tag })
            }
            7 => Item::ChunkGone(self.node()?, self.u32()?),
            8 => Item::Next(self.u64()?),
            _ => return Err(Malformed),
        })
    }
}

/// What all records so far say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) sessions: BTreeMap<u32, SessionSalt>,
    pub(crate) nodes: BTreeMap<NodeId, Plain>,
    pub(crate) names: BTreeMap<NodeId, BTreeMap<String, NodeId>>,
    pub(crate) chunks: BTreeMap<NodeId, BTreeMap<u32, Chunk>>,
    pub(crate) next: u64,
}

impl State {
    /// Applies a record.
    pub(crate) fn apply(&mut self, record: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader(record);
        while !reader.0.is_empty() {
            match reader.item()? {
                Item::Session(number, salt) => {
                    self.sessions.insert(number, salt);
                }
                Item::Node(id, plain) => {
                    self.nodes.insert(id, plain);
                }
                Item::NodeGone(id) => {
                    self.nodes.remove(&id);
                    self.names.remove(&id);
                    self.chunks.remove(&id);
                }
                Item::Name(directory, name, id) => {
                    self.names.entry(directory).or_default().insert(name, id);
                }
                Item::NameGone(directory, name) => {
                    self.names.entry(directory).or_default().remove(&name);
                }
                Item::Chunk(id, index, chunk) => {
                    self.chunks.entry(id).or_default().insert(index, chunk);
                }
                Item::ChunkGone(id, index) => {
                    self.chunks.entry(id).or_default().remove(&index);
                }
                Item::Next(next) => self.next = next,
            }
        }
        Ok(())
    }
}

/// The first bytes of a log: which volume, from which commit on, after what, under which session's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) id: [u8; 16],
    pub(crate) first: u64,
    pub(crate) previous: [u8; 32],
    pub(crate) salt: SessionSalt,
}

/// Of a [`Header`].
pub(crate) const HEADER: usize = 100;
const MAGIC: &[u8; 8] = b"BLYVOL\r\n";

impl Header {
    pub(crate) fn write(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let parts: [&[u8]; 6] = [
            MAGIC,
            &self.version.to_le_bytes(),
            &self.id,
            &self.first.to_le_bytes(),
            &self.previous,
            &self.salt,
        ];
        let mut at = 0;
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        out
    }

    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        if reader.bytes(MAGIC.len())? != MAGIC {
            return Err(Malformed);
        }
        let header = Self {
            version: reader.u32()?,
            id: reader.array()?,
            first: reader.u64()?,
            previous: reader.array()?,
            salt: reader.array()?,
        };
        // Commits are numbered from 1.
        if header.first == 0 { Err(Malformed) } else { Ok(header) }
    }
}

/// What stands before a record: its length with the tag, and the nonce's counter.
pub(crate) const FRAME: usize = 12;

/// The frame of a record.
pub(crate) fn frame(length: u32, counter: u64) -> [u8; FRAME] {
    let mut out = [0; FRAME];
    out[..4].copy_from_slice(&length.to_le_bytes());
    out[4..].copy_from_slice(&counter.to_le_bytes());
    out
}

/// The other way.
pub(crate) fn parse_frame(bytes: &[u8; FRAME]) -> Result<(u32, u64), Malformed> {
    let mut reader = Reader(bytes);
    Ok((reader.u32()?, reader.u64()?))
}

/// What [`parse`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// The bytes begin with a log's header.
    pub header: bool,
    /// They are a record's plaintext, and mean a tree.
    pub tree: bool,
}

/// Everything that is parsed of a volume, without its cryptography: for fuzzing.
pub fn parse(bytes: &[u8]) -> Parsed {
    let header = bytes.first_chunk().is_some_and(|header| Header::parse(header).is_ok());
    let mut state = State::default();
    let tree = state.apply(bytes).is_ok() && crate::open::restore(state).is_ok();
    Parsed { header, tree }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<Item> {
        let times = Times { accessed: Time(1), modified: Time(2), changed: Time(3) };
        let chunk = Chunk { slot: 9, length: 5, session: 2, counter: 77, tag: [4; TAG] };
        vec![
            Item::Session(2, [8; 32]),
            Item::Node(NodeId(1), Plain { directory: true, size: 0, times }),
            Item::Node(NodeId(2), Plain { directory: false, size: 5, times }),
            Item::Name(NodeId(1), "name".into(), NodeId(2)),
            Item::Chunk(NodeId(2), 0, chunk),
            Item::Next(3),
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        items().iter().for_each(|item| item.write(&mut bytes));
        let mut reader = Reader(&bytes);
        for item in items() {
            assert_eq!(reader.item(), Ok(item));
        }
        assert!(parse(&bytes).tree);
    }

    #[test]
    fn every_beginning_of_a_record_is_whole_or_refused() {
        let (mut bytes, mut ends) = (Vec::new(), vec![0]);
        for item in items() {
            item.write(&mut bytes);
            ends.push(bytes.len());
        }
        for length in 0..bytes.len() {
            assert_eq!(State::default().apply(&bytes[..length]).is_ok(), ends.contains(&length), "{length}");
        }
    }

    #[test]
    fn entries_that_cannot_be_are_refused() {
        let name = |name: &str| {
            let mut bytes = Vec::new();
            Item::Name(NodeId(1), name.into(), NodeId(2)).write(&mut bytes);
            bytes
        };
        for bad in [name(""), name(".."), name("a/b"), name("a\0"), vec![0], vec![9], vec![2; 42]] {
            assert_eq!(State::default().apply(&bad), Err(Malformed), "{bad:?}");
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = Header { version: 1, id: [1; 16], first: 7, previous: [2; 32], salt: [3; 32] };
        assert_eq!(Header::parse(&header.write()), Ok(header));
        let mut other = header.write();
        other[0] ^= 1;
        assert_eq!(Header::parse(&other), Err(Malformed));
    }
}
