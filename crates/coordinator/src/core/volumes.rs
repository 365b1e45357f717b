//! Volumes of Marbles: each one's key, and its newest commit. The key is made when an instance first asks for it, and
//! stays for as long as the mesh does, through updates of the manifest and recovery; a volume that a manifest no longer
//! names is given to nobody, and to whom it was given again comes back with what it held.
//!
//! One instance at a time may move a volume's head: the one that opened it last.
//!
//! A database has one volume: the key of its sealed log follows from the volume's, and the head is the log's newest record
//! that was acknowledged. Its records may be anchored in groups, so its head may pass over some.

use appraisal::UnixTime;
use attested_tls::channel::AttestedPeer;
use rpds::RedBlackTreeMapSync;
use serde_bytes::ByteArray;
use zeroize::Zeroizing;

use super::{
    Event, Mesh, Refusal, State,
    activation::{Runs, admissible},
    event, secrets,
};

/// A commit of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Counted from 1.
    pub sequence: u64,
    /// Over it and all before it.
    pub hash: [u8; 32],
}

/// Marble and volume.
type Name = (String, String);

#[derive(Clone)]
struct Kept {
    key: Zeroizing<[u8; 32]>,
    holder: [u8; 32],
    head: Option<Head>,
}

/// Those that were ever opened.
#[derive(Clone, Default)]
pub(super) struct Volumes(RedBlackTreeMapSync<Name, Kept>);

/// Marble, volume, key, holder, head.
pub(super) type Record = Vec<(String, String, ByteArray<32>, ByteArray<32>, Option<(u64, ByteArray<32>)>)>;

impl Volumes {
    pub(super) fn opened(&mut self, name: Name, holder: [u8; 32], key: [u8; 32]) {
        let head = self.0.get(&name).and_then(|kept| kept.head);
        self.0.insert_mut(name, Kept { key: Zeroizing::new(key), holder, head });
    }

    pub(super) fn advanced(&mut self, name: &Name, head: Head) -> Result<(), String> {
        let kept = self.0.get(name).ok_or("a commit of a volume that was never opened")?;
        self.0.insert_mut(name.clone(), Kept { head: Some(head), ..kept.clone() });
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.0.size()
    }

    pub(super) fn record(&self) -> Record {
        let line = |((marble, volume), kept): (&Name, &Kept)| {
            let head = kept.head.map(|head| (head.sequence, ByteArray::new(head.hash)));
            (marble.clone(), volume.clone(), ByteArray::new(*kept.key), ByteArray::new(kept.holder), head)
        };
        self.0.iter().map(line).collect()
    }
}

impl From<Record> for Volumes {
    fn from(record: Record) -> Self {
        let kept = record.into_iter().map(|(marble, volume, key, holder, head)| {
            let head = head.map(|(sequence, hash)| Head { sequence, hash: hash.into_array() });
            let key = Zeroizing::new(key.into_array());
            ((marble, volume), Kept { key, holder: holder.into_array(), head })
        });
        Self(kept.collect())
    }
}

/// What an instance gets of a volume.
pub struct OpenedVolume {
    /// The key.
    pub key: Zeroizing<[u8; 32]>,
    /// Its newest commit; `None`: there is none yet.
    pub head: Option<Head>,
}

/// A key for a volume that has none.
pub fn new_volume_key() -> Result<Zeroizing<[u8; 32]>, Refusal> {
    secrets::random32().map(Zeroizing::new)
}

/// How a volume is used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its Keep reads it.
    ReadOnly,
    /// Its Keep has each commit remembered.
    Commits,
    /// Its database has the newest of a group of records remembered.
    Groups,
}

/// The volume of that name in the manifest, for a peer that is appraised by the manifest in force.
fn volume<'s>(
    state: &'s State,
    peer: &AttestedPeer,
    appraised_in: u64,
    name: &str,
) -> Result<(&'s Mesh, Name, Kind), Refusal> {
    let (mesh, marble, runs) = admissible(state, peer, appraised_in)?;
    let kind = match runs {
        Runs::Database => (name == mesh_api::DATABASE_VOLUME).then_some(Kind::Groups),
        Runs::Workload(workload, _) => {
            let mut volumes = workload.config.iter().flat_map(|config| &config.parsed.volumes);
            let volume = volumes.find(|volume| volume.name == name);
            volume.map(|volume| if volume.read_only { Kind::ReadOnly } else { Kind::Commits })
        }
    };
    let (marble, volume) = (marble.name.to_string(), name.to_owned());
    match kind {
        Some(kind) => Ok((mesh, (marble, volume), kind)),
        None => Err(Refusal::UnknownVolume { marble, volume }),
    }
}

/// Where a volume's head is, for a peer that may be given its key.
pub fn volume_head(
    state: &State,
    peer: &AttestedPeer,
    appraised_in: u64,
    name: &str,
) -> Result<Option<Head>, Refusal> {
    let (mesh, name, _) = volume(state, peer, appraised_in, name)?;
    Ok(mesh.volumes().0.get(&name).and_then(|kept| kept.head))
}

/// Gives the key of a volume to an instance of its Marble. `fresh` becomes the key of one that has none.
pub fn open_volume(
    state: &State,
    peer: &AttestedPeer,
    appraised_in: u64,
    (name, read_only): (&str, bool),
    fresh: &Zeroizing<[u8; 32]>,
    now: UnixTime,
) -> Result<(Option<Event>, OpenedVolume), Refusal> {
    let (mesh, name, kind) = volume(state, peer, appraised_in, name)?;
    let (marble, volume) = name.clone();
    if !mesh.is_instance(&peer.key.0, &marble, now) {
        return Err(Refusal::NotActivated { marble });
    }
    if kind == Kind::ReadOnly && !read_only {
        return Err(Refusal::VolumeReadOnly { marble, volume });
    }
    let kept = mesh.volumes().0.get(&name);
    let key = kept.map_or_else(|| fresh.clone(), |kept| kept.key.clone());
    let head = kept.and_then(|kept| kept.head);
    let known = kept.is_some_and(|kept| read_only || kept.holder == peer.key.0);
    let event = (!known).then(|| Event::VolumeOpened {
        marble,
        volume,
        instance: ByteArray::new(peer.key.0),
        key: ByteArray::new(*key),
        at: event::seconds(now),
    });
    Ok((event, OpenedVolume { key, head }))
}

/// Moves a volume's head, for the instance that opened it last. The manifest may have been updated since: then the peer
/// must meet the new one, on a new connection. Nothing is changed where the head is there already.
pub fn advance_volume(
    state: &State,
    peer: &AttestedPeer,
    appraised_in: u64,
    name: &str,
    (from, to): (Option<Head>, Head),
    now: UnixTime,
) -> Result<Option<Event>, Refusal> {
    let (mesh, name, kind) = volume(state, peer, appraised_in, name)?;
    let (marble, volume) = name.clone();
    let kept = mesh.volumes().0.get(&name).filter(|kept| kept.holder == peer.key.0);
    let Some(kept) = kept else { return Err(Refusal::VolumeTaken { marble, volume }) };
    if kind == Kind::ReadOnly {
        return Err(Refusal::VolumeReadOnly { marble, volume });
    }
    if kept.head == Some(to) {
        return Ok(None);
    }
    // A head follows the one before it: nobody skips a commit that another one could be at. A log is held against its
    // anchor as a chain, and so may pass over records.
    let before = from.map_or(0, |from| from.sequence);
    let follows = match kind {
        Kind::Groups => to.sequence > before,
        Kind::ReadOnly | Kind::Commits => before.checked_add(1) == Some(to.sequence),
    };
    if kept.head != from || !follows {
        return Err(Refusal::VolumeMoved { marble, volume });
    }
    Ok(Some(Event::VolumeAdvanced {
        marble,
        volume,
        sequence: to.sequence,
        hash: ByteArray::new(to.hash),
        at: event::seconds(now),
    }))
}
