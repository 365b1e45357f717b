//! Opening: which of the host's logs has the commit that the anchor names, and what else they could be.

use std::collections::BTreeMap;

use crate::{
    anchor::{Anchor, Head},
    cipher::{self, SessionSalt, VERSION, VolumeId, VolumeKey},
    error::Error,
    host::{Host, HostFile},
    log::{self, End, Read},
    record::{HEADER, Header, Malformed, State},
    slots::Slots,
    tree::{Kind, NodeId, Tree},
    volume::{CHUNK, Content},
};

/// The file of chunks.
pub(crate) const DATA: &str = "data";
/// Crashes leave at most one log beside the one in use.
const MAX_LOGS: usize = 8;

/// The tree that a log's records describe, with what is in use.
pub(crate) struct Restored {
    pub(crate) tree: Tree<Content>,
    pub(crate) sessions: BTreeMap<u32, SessionSalt>,
    pub(crate) slots: Slots,
    /// Bytes of content.
    pub(crate) used: u64,
    /// How long the data file must be.
    pub(crate) data_end: u64,
}

pub(crate) fn restore(mut state: State) -> Result<Restored, Malformed> {
    let (mut used, mut data_end, mut taken) = (0, 0, Vec::new());
    for chunk in state.chunks.values().flat_map(BTreeMap::values) {
        if !state.sessions.contains_key(&chunk.session) {
            return Err(Malformed);
        }
        used += u64::from(chunk.length);
        data_end = data_end.max(u64::from(chunk.slot) * CHUNK as u64 + u64::from(chunk.length));
        taken.push(chunk.slot);
    }
    // The places between them are listed: not more than a volume can have.
    if data_end > 4 * crate::MAX_SIZE {
        return Err(Malformed);
    }
    let slots = Slots::with(taken.into_iter()).ok_or(Malformed)?;
    let nodes = state
        .nodes
        .into_iter()
        .map(|(id, plain)| {
            let kind = if plain.directory {
                Kind::Directory(state.names.remove(&id).unwrap_or_default())
            } else {
                let chunks = state.chunks.remove(&id).unwrap_or_default();
                Kind::File(Content { size: plain.size, chunks })
            };
            (id, (kind, plain.times))
        })
        .collect::<BTreeMap<NodeId, _>>();
    // Chunks of what is no file, and names in what is no directory.
    if state.chunks.values().any(|chunks| !chunks.is_empty())
        || state.names.values().any(|names| !names.is_empty())
    {
        return Err(Malformed);
    }
    let tree = Tree::restore(nodes, state.next).ok_or(Malformed)?;
    Ok(Restored { tree, sessions: state.sessions, slots, used, data_end })
}

/// What is on the host's disk, as far as it is acknowledged.
pub(crate) enum Found {
    /// Nothing that counts: the volume is to be made.
    Nothing,
    /// The state at `head`, which is the anchor's, or the one after it.
    State { head: Head, anchored: Head, state: State },
}

/// A log whose header is ours.
struct Candidate {
    name: String,
    bytes: [u8; HEADER],
    header: Header,
    file: Box<dyn HostFile>,
}

/// Finds the state to go on from. With `read_only`, what is not acknowledged does not count.
pub(crate) fn find(
    host: &dyn Host,
    anchor: &dyn Anchor,
    key: &VolumeKey,
    read_only: bool,
) -> Result<Found, Error> {
    let id = cipher::volume_id(key);
    let anchored = anchor.current()?;
    let mut names: Vec<String> = host.list()?;
    names.retain(|name| log::is_log(name));
    if names.len() > MAX_LOGS {
        return Err(Error::Tampered("number of logs"));
    }
    names.sort();
    let mut faults = Vec::new();
    let mut candidates = Vec::new();
    for name in names {
        match candidate(host, &name, &id)? {
            Ok(candidate) => candidates.push(candidate),
            Err(fault) => faults.push(fault),
        }
    }
    let Some(anchored) = anchored else {
        return nothing(host, &candidates, faults);
    };
    let until = if read_only { anchored.sequence } else { anchored.sequence.saturating_add(2) };
    let mut found: Option<(Head, State)> = None;
    let mut best = 0;
    for Candidate { bytes, header, file, .. } in &candidates {
        if header.first > anchored.sequence {
            continue;
        }
        let read = log::read(&**file, bytes, *header, key, until)?;
        if let Some(newest) = read.heads.last() {
            best = best.max(newest.sequence);
        }
        match position(&read, anchored) {
            Ok(head) => found = Some((head, read.state)),
            Err(fault) => faults.push(fault),
        }
    }
    let Some((mut head, mut state)) = found else {
        return Err(worst(faults, best, anchored, &candidates));
    };
    if !read_only && head == anchored {
        // A log that was begun after the anchor's commit, and not acknowledged.
        for Candidate { bytes, header, file, .. } in &candidates {
            if header.first == anchored.sequence + 1 && header.previous == anchored.hash {
                let read = log::read(&**file, bytes, *header, key, until)?;
                if let Some(first) = read.heads.first() {
                    (head, state) = (*first, read.state);
                    if read.heads.len() > 1 {
                        let found = anchored.sequence + 2;
                        return Err(Error::AheadOfAnchor { found, anchored: anchored.sequence });
                    }
                }
            }
        }
    }
    if head.sequence > anchored.sequence + 1 {
        return Err(Error::AheadOfAnchor { found: head.sequence, anchored: anchored.sequence });
    }
    Ok(Found::State { head, anchored, state })
}

/// Reads a file's header. The outer error is the host's.
fn candidate(host: &dyn Host, name: &str, id: &VolumeId) -> Result<Result<Candidate, Error>, Error> {
    let file = host.open(name, true)?;
    let mut bytes = [0; HEADER];
    if file.read_at(0, &mut bytes)? < HEADER {
        return Ok(Err(Error::Truncated("log")));
    }
    let Ok(header) = Header::parse(&bytes) else {
        return Ok(Err(Error::Tampered("log's header")));
    };
    Ok(if header.version != VERSION {
        Err(Error::FormatUnknown(header.version))
    } else if header.id != *id {
        Err(Error::Swapped)
    } else if log::name(header.first) != name {
        Err(Error::Renamed)
    } else {
        Ok(Candidate { name: name.to_owned(), bytes, header, file })
    })
}

/// The newest head of a log that has the anchor's.
fn position(read: &Read, anchored: Head) -> Result<Head, Error> {
    let at = read.heads.iter().find(|head| head.sequence == anchored.sequence);
    match (at, read.heads.last()) {
        (Some(at), Some(newest)) if at.hash == anchored.hash => Ok(*newest),
        (Some(_), _) => Err(Error::Forked(anchored.sequence)),
        (None, newest) => Err(match read.end {
            End::Cut => Error::Truncated("log"),
            End::Forged => Error::Tampered("log"),
            End::Whole => Error::RolledBack {
                found: newest.map_or(read.header.first - 1, |head| head.sequence),
                anchored: anchored.sequence,
            },
        }),
    }
}

/// What to say when no log has the anchor's commit.
fn worst(faults: Vec<Error>, best: u64, anchored: Head, candidates: &[Candidate]) -> Error {
    let ahead =
        candidates.iter().map(|log| log.header.first).max().filter(|first| *first > anchored.sequence);
    let rank = |fault: &Error| match fault {
        Error::Forked(_) => 0,
        Error::Tampered(_) => 1,
        Error::Truncated(_) => 2,
        Error::RolledBack { .. } => 4,
        _ => 3,
    };
    match (faults.into_iter().min_by_key(rank), ahead) {
        (Some(Error::RolledBack { .. }), _) => Error::RolledBack { found: best, anchored: anchored.sequence },
        (Some(fault), _) => fault,
        (None, Some(found)) => Error::AheadOfAnchor { found, anchored: anchored.sequence },
        (None, None) => Error::Missing,
    }
}

/// The anchor knows of no volume: neither may the host, but for one that was being made when the power went.
fn nothing(host: &dyn Host, candidates: &[Candidate], faults: Vec<Error>) -> Result<Found, Error> {
    let data = match host.open(DATA, true) {
        Ok(data) => data.length()?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error.into()),
    };
    let ours = candidates.iter().any(|log| log.header.first > 1);
    let foreign = faults.into_iter().find(|fault| !matches!(fault, Error::Truncated(_) | Error::Tampered(_)));
    match foreign {
        Some(fault) => Err(fault),
        None if ours || data > 0 => Err(Error::Unanchored),
        None => Ok(Found::Nothing),
    }
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}
