//! The log that anyone can check: which entries an event makes, by itself and the state before it, and the tree that
//! they are in. The entries themselves are the store's, beside the records; a state has the tree's right edge, and of
//! each 256 entries, which are a tile, their hash and the record where they begin: 40 bytes, so that no tile takes more
//! than reading one of them, and what the host changed is found before it is served.

use std::{collections::BTreeMap, sync::Arc};

use attested_tls::anchor::Position;
use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use manifest::{Action, Manifest, ManifestDigest, ResourceAction, ResourcePath};
use rpds::VectorSync;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use transparency::{
    Bundle, Checkpoint, Commitment, Digest, Entry, Fact, Frontier, Hash, Head, History, Names, Note, NoteKey,
    Opening, Release, SECRETS_PER_ENTRY, Signer, TILE_WIDTH, Tile, leaf_hash, node_hash,
};
use zeroize::Zeroizing;

use super::{
    Caller, Event, IdentityKey, Mesh, Refusal, State, event, resources, secrets, stored::Stored,
    workloads::Packaged,
};

/// A mesh's log: its name, its key, its head.
#[derive(Clone)]
pub struct Log {
    origin: Arc<str>,
    /// From which openings of secrets' names follow.
    salt: Zeroizing<[u8; 32]>,
    key: LogKey,
    tree: Frontier,
    /// How many records the state comes from.
    records: u64,
    /// In which record the first entry of each tile is.
    begins: VectorSync<u64>,
    /// The roots of full tiles.
    full: VectorSync<Hash>,
}

/// The store has not the entries that the tree is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "entries of the transparency log were changed or are missing: the state was damaged or tampered with"
)]
pub struct EntriesDamaged;

/// Signs checkpoints. It stays in the TEE that made it, as CA keys do (S-46).
#[derive(Clone)]
struct LogKey {
    public: [u8; 32],
    /// Absent where another TEE made it.
    seed: Option<Zeroizing<[u8; 32]>>,
}

/// A key of the log in an event.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedLogKey {
    /// Ed25519's seed, sealed to the TEE that made it.
    pub key: ByteBuf,
    /// The point.
    pub public: ByteArray<32>,
}

/// A log in a snapshot.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogRecord {
    origin: String,
    salt: ByteArray<32>,
    key: SealedLogKey,
    size: u64,
    roots: Vec<ByteArray<32>>,
    records: u64,
    begins: Vec<u64>,
    full: Vec<ByteArray<32>>,
}

impl Log {
    /// The log of a mesh that begins with this root.
    pub(super) fn begin(
        root: &[u8],
        salt: ByteArray<32>,
        key: &SealedLogKey,
        identity: &IdentityKey,
    ) -> Result<Self, String> {
        Ok(Self {
            origin: History::origin_of(&Digest::of(root)).into(),
            salt: Zeroizing::new(salt.into_array()),
            key: LogKey::open(key, identity)?,
            tree: Frontier::default(),
            records: 0,
            begins: VectorSync::default(),
            full: VectorSync::default(),
        })
    }

    /// After a recovery.
    pub(super) fn with_key(&mut self, key: &SealedLogKey, identity: &IdentityKey) -> Result<(), String> {
        self.key = LogKey::open(key, identity)?;
        Ok(())
    }

    /// Takes the entries of the next record. Gives what is to be stored with it: the index of the first of them in
    /// eight bytes, and the entries as a bundle has them; nothing, where there are none.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<Vec<u8>, String> {
        let (first, record) = (self.tree.size(), self.records);
        self.records += 1;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let entries: Vec<_> = entries.iter().map(Entry::to_bytes).collect();
        for entry in &entries {
            if self.tree.size().is_multiple_of(TILE_WIDTH) {
                self.begins.push_back_mut(record);
            }
            let tiles = self.tree.append(leaf_hash(entry)).into_iter().filter(|node| node.level == 1);
            tiles.for_each(|node| self.full.push_back_mut(node.hash));
        }
        let bytes = Bundle::bytes(entries.iter().map(Vec::as_slice)).map_err(|error| error.to_string())?;
        Ok([&first.to_be_bytes()[..], &bytes].concat())
    }

    /// The records beside which the entries of tile `index`, of 256 leaves, lie.
    pub fn records_of(&self, index: u64) -> Option<std::ops::Range<u64>> {
        let index = usize::try_from(index).ok()?;
        let (from, last) = (self.begins.get(index)?, self.begins.get(index.checked_add(1)?));
        Some(*from..last.map_or(self.records, |last| last + 1))
    }

    /// The entries of tile `index`, out of what was stored with its records; they are those that the tree is of.
    pub fn entries_of(&self, index: u64, stored: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, EntriesDamaged> {
        let first = index.checked_mul(TILE_WIDTH).ok_or(EntriesDamaged)?;
        let end = first.saturating_add(TILE_WIDTH).min(self.tree.size());
        let mut entries = Vec::new();
        for stored in stored {
            let (at, bundle) = stored.split_first_chunk::<8>().ok_or(EntriesDamaged)?;
            let mut rest = bundle;
            for at in u64::from_be_bytes(*at)..=u64::MAX {
                let Some((length, after)) = rest.split_first_chunk::<2>() else { break };
                let (entry, after) =
                    after.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(EntriesDamaged)?;
                if (first..end).contains(&at) {
                    if at != first + entries.len() as u64 {
                        return Err(EntriesDamaged);
                    }
                    entries.push(entry.to_vec());
                }
                rest = after;
            }
        }
        let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
        if first + leaves.len() as u64 == end && self.is_tile(index, leaves) {
            Ok(entries)
        } else {
            Err(EntriesDamaged)
        }
    }

    /// Whether these are the leaves of a tile: by its root, or where it is not full by the right edge of the tree.
    fn is_tile(&self, index: u64, leaves: Vec<Hash>) -> bool {
        let full = usize::try_from(index).ok().and_then(|index| self.full.get(index));
        if let Some(root) = full {
            return reduced(leaves) == Some(*root);
        }
        let mut edge = Frontier::default();
        leaves.into_iter().for_each(|leaf| drop(edge.append(leaf)));
        self.tree.roots().ends_with(edge.roots())
    }

    /// The hashes of a tile above the leaves; `None` where the tree has not grown to it.
    pub fn tile(&self, tile: &Tile) -> Option<Vec<Hash>> {
        let span = TILE_WIDTH.checked_pow(u32::from(tile.level.checked_sub(1)?))?;
        let span = usize::try_from(span).ok()?;
        let hash = |index: u64| {
            let from = usize::try_from(index).ok()?.checked_mul(span)?;
            let below = (from..from.checked_add(span)?).map(|index| self.full.get(index).copied());
            below.collect::<Option<_>>().and_then(reduced)
        };
        if tile.is_of(self.tree.size()) { tile.positions().map(hash).collect() } else { None }
    }

    /// The log's name in checkpoints: it follows from the first root, and stays when there is another.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The public part, Ed25519, of the key that signs checkpoints.
    pub fn key(&self) -> &[u8; 32] {
        &self.key.public
    }

    /// Size and root.
    pub fn head(&self) -> Head {
        self.tree.head()
    }

    /// The key as notes name it.
    pub fn note_key(&self) -> Result<NoteKey, Refusal> {
        let named = NoteKey::new(&self.origin, Signer::Log, self.key.public);
        named.map_err(|error| Refusal::Internal(error.to_string()))
    }

    /// The head as a signed note. The same head gives the same bytes.
    pub fn checkpoint(&self) -> Result<Note, Refusal> {
        self.sign(&Checkpoint { origin: self.origin.to_string(), head: self.head() })
    }

    /// A checkpoint of this log, its newest or an earlier one, as a signed note.
    pub fn sign(&self, checkpoint: &Checkpoint) -> Result<Note, Refusal> {
        let (key, text) = (self.note_key()?, checkpoint.text());
        let signature = self.key.sign(key.message(&text, 0).as_bytes())?;
        Ok(Note { signatures: vec![key.signature(0, &signature)], text })
    }

    /// The same key's signature (Ed25519) over where the state log is; no note begins as that does.
    pub fn sign_position(&self, position: &Position) -> Result<[u8; 64], Refusal> {
        self.key.sign(&position.to_be_signed())
    }

    fn opening(&self, name: &str) -> Opening {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.salt.as_slice());
        let mut opening = [0; 32];
        opening.copy_from_slice(hmac::sign(&key, name.as_bytes()).as_ref());
        Digest(opening)
    }

    fn commitments<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<Commitment> {
        names.into_iter().map(|name| self.opening(name).commitment(name)).collect()
    }

    pub(super) fn to_record(&self, identity: &IdentityKey) -> Result<LogRecord, Refusal> {
        let Self { origin, salt, key, tree, records, begins, full } = self;
        Ok(LogRecord {
            origin: origin.to_string(),
            salt: ByteArray::new(**salt),
            key: key.seal(identity)?,
            size: tree.size(),
            roots: tree.roots().iter().copied().map(ByteArray::new).collect(),
            records: *records,
            begins: begins.iter().copied().collect(),
            full: full.iter().copied().map(ByteArray::new).collect(),
        })
    }

    pub(super) fn from_record(record: LogRecord, identity: &IdentityKey) -> Result<Self, String> {
        let hashes = |hashes: Vec<ByteArray<32>>| hashes.into_iter().map(ByteArray::into_array);
        Ok(Self {
            origin: record.origin.into(),
            salt: Zeroizing::new(record.salt.into_array()),
            key: LogKey::open(&record.key, identity)?,
            tree: Frontier::from_parts(record.size, hashes(record.roots).collect())
                .ok_or("a tree that is none")?,
            records: record.records,
            begins: record.begins.into_iter().collect(),
            full: hashes(record.full).collect(),
        })
    }
}

/// The root of so many hashes, a power of two.
fn reduced(mut row: Vec<Hash>) -> Option<Hash> {
    while row.len() > 1 {
        row = row.chunks(2).map(|pair| node_hash(&pair[0], pair.get(1).unwrap_or(&[0; 32]))).collect();
    }
    row.pop()
}

impl LogKey {
    fn open(sealed: &SealedLogKey, identity: &IdentityKey) -> Result<Self, String> {
        let seed = identity.open_log_key(&sealed.key);
        let seed = seed.map(|seed| <[u8; 32]>::try_from(seed.as_slice()).map(Zeroizing::new)).transpose();
        Ok(Self {
            public: sealed.public.into_array(),
            seed: seed.map_err(|_| "the log's key has not 32 bytes")?,
        })
    }

    fn seed(&self) -> Result<&[u8; 32], Refusal> {
        let seed = self.seed.as_deref();
        seed.ok_or_else(|| Refusal::Internal("the log's key is of another TEE".into()))
    }

    fn seal(&self, identity: &IdentityKey) -> Result<SealedLogKey, Refusal> {
        let key = ByteBuf::from(identity.seal_log_key(self.seed()?)?);
        Ok(SealedLogKey { key, public: ByteArray::new(self.public) })
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Refusal> {
        let failed = || Refusal::Internal("the log's key cannot be used".into());
        let pair = Ed25519KeyPair::from_seed_unchecked(self.seed()?).map_err(|_| failed())?;
        pair.sign(message).as_ref().try_into().map_err(|_| failed())
    }
}

/// A new key of the log.
pub(super) fn new_key(identity: &IdentityKey) -> Result<SealedLogKey, Refusal> {
    let failed = || Refusal::Internal("a key of the log could not be made".into());
    let seed = Zeroizing::new(secrets::random32()?);
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| failed())?;
    let public = pair.public_key().as_ref().try_into().map_err(|_| failed())?;
    LogKey { public, seed: Some(seed) }.seal(identity)
}

/// The entries of an event, by the state before it. Each event is decided on here: those that make none change nothing
/// that anyone has to know of, or come too often.
pub(super) fn entries(event: &Event, before: Option<&State>) -> Vec<Entry> {
    if let Event::Founded { root, log_key, emulated, at, .. } = event {
        let root = Digest::of(&root.certificate);
        let fact = Fact::Founded {
            origin: History::origin_of(&root),
            root,
            key: Digest(log_key.public.into_array()),
            emulated: *emulated,
        };
        return vec![Entry::new(*at, fact)];
    }
    let Some(before) = before else { return Vec::new() };
    let (at, facts) = facts(event, before);
    facts.into_iter().map(|fact| Entry::new(at, fact)).collect()
}

fn facts(event: &Event, before: &State) -> (i64, Vec<Fact>) {
    let log = before.log();
    let pending = || before.mesh().and_then(Mesh::proposed).map(|pending| Digest(pending.digest.0));
    match event {
        Event::Founded { at, .. }
        | Event::Renewed { at, .. }
        | Event::VolumeOpened { at, .. }
        | Event::VolumeAdvanced { at, .. } => (*at, Vec::new()),
        Event::CounterRaised { .. } | Event::Anchored { .. } => (0, Vec::new()),
        Event::AnchorReset { holders, length, at } => {
            (*at, vec![Fact::AnchorReset { holders: holders.iter().collect(), records: *length }])
        }
        Event::ManifestSet { manifest, epoch, at, .. } => {
            let set = |(updaters, threshold)| Fact::ManifestSet {
                manifest: Digest(ManifestDigest::of(manifest).0),
                epoch: epoch.number,
                intermediate: Digest::of(&epoch.intermediate.certificate),
                updaters,
                threshold,
            };
            (*at, agreement(manifest).map(set).into_iter().collect())
        }
        Event::VersionsRaised { user, versions, epoch, at, .. } => (
            *at,
            vec![Fact::VersionsRaised {
                user: user.clone(),
                versions: versions.iter().collect(),
                epoch: epoch.number,
                intermediate: Digest::of(&epoch.intermediate.certificate),
            }],
        ),
        Event::UpdateProposed { user, manifest, downgrades, deadline, at } => {
            let known = |name: &&String| {
                before.mesh().is_some_and(|mesh| mesh.manifest().packages().contains_key(name.as_str()))
            };
            let proposed = Fact::UpdateProposed {
                user: user.clone(),
                manifest: Digest(ManifestDigest::of(manifest).0),
                downgrades: downgrades.iter().filter(known).collect(),
                deadline: *deadline,
            };
            (*at, vec![proposed])
        }
        Event::UpdateAcknowledged { user, at } => {
            let agreed = |manifest| Fact::UpdateAcknowledged { user: user.clone(), manifest };
            (*at, pending().map(agreed).into_iter().collect())
        }
        Event::UpdateCancelled { user, at } => {
            let off = |manifest| Fact::UpdateCancelled { user: user.clone(), manifest };
            (*at, pending().map(off).into_iter().collect())
        }
        Event::ManifestUpdated { user, epoch, root_secret, recovery_secret, at, .. } => {
            let proposed = before.mesh().and_then(Mesh::proposed);
            let updated = proposed.and_then(|proposed| {
                let (updaters, threshold) = agreement(&proposed.bytes)?;
                Some(Fact::ManifestUpdated {
                    user: user.clone(),
                    manifest: Digest(proposed.digest.0),
                    epoch: epoch.number,
                    intermediate: Digest::of(&epoch.intermediate.certificate),
                    updaters,
                    threshold,
                    root_secret_rotated: root_secret.is_some(),
                    recovery_changed: recovery_secret.is_some(),
                })
            });
            (*at, updated.into_iter().collect())
        }
        Event::SecretsWritten { user, secrets, at, until: _ } => {
            let written = |secrets| Fact::SecretsWritten { user: user.clone(), secrets };
            (*at, few(log.commitments(secrets.keys().map(String::as_str)), written))
        }
        Event::SecretsRead { user, names, at } => {
            let read = |secrets| Fact::SecretsRead { user: user.clone(), secrets };
            (*at, few(log.commitments(names.iter().map(String::as_str)), read))
        }
        Event::Activated {
            marble,
            instance,
            epoch,
            seat,
            delivered,
            at,
            certificates: _,
            release,
            package,
        } => {
            let (epoch, instance) = (*epoch, Digest(instance.into_array()));
            let activated = Fact::Activated {
                marble: marble.clone(),
                instance,
                platform: seat.platform.to_string(),
                emulated: before.emulated() || seat.emulated,
                epoch,
            };
            let names = delivered.keys().map(String::as_str);
            let released =
                |secrets| Fact::SecretsReleased { marble: marble.clone(), instance, epoch, secrets };
            let ran = |package: &Packaged| Fact::PackageRun {
                marble: marble.clone(),
                instance,
                epoch,
                package: Digest(package.digest.into_array()),
                release: release.as_ref().zip(package.signer.clone()).map(|(release, signer)| Release {
                    name: release.name.clone(),
                    version: release.version.clone(),
                    signer,
                }),
            };
            let mut facts = vec![activated];
            facts.extend(package.as_ref().map(ran));
            facts.extend(few(log.commitments(names), released));
            (*at, facts)
        }
        Event::Recovered { holders, root, log_key, epoch, emulated, at, .. } => (
            *at,
            vec![Fact::Recovered {
                holders: holders.iter().collect(),
                root: Digest::of(&root.certificate),
                key: Digest(log_key.public.into_array()),
                epoch: epoch.number,
                intermediate: Digest::of(&epoch.intermediate.certificate),
                emulated: *emulated,
            }],
        ),
        Event::RolledBack { missing, epoch, at, .. } => {
            let undo = before.mesh().and_then(Mesh::undo);
            let back = |undo: &super::rollback::Undo| Fact::RolledBack {
                manifest: Digest(undo.manifest.digest().0),
                epoch: epoch.number,
                intermediate: Digest::of(&epoch.intermediate.certificate),
                missing: missing.iter().collect(),
            };
            (*at, undo.map(back).into_iter().collect())
        }
        Event::RecoveryRehearsed { holders, at } => {
            (*at, vec![Fact::RecoveryRehearsed { holders: holders.iter().collect() }])
        }
        Event::ReplicaJoined { replica, platform, machine, at } => {
            let replica = Digest(replica.into_array());
            (*at, vec![Fact::ReplicaJoined { replica, platform: platform.clone(), machine: machine.clone() }])
        }
        Event::SecretsRotated { user, generated, at } => {
            let rotated = |secrets| Fact::SecretsRotated { user: user.clone(), secrets };
            (*at, few(log.commitments(generated.keys().map(String::as_str)), rotated))
        }
        Event::SecretsExpired { versions, at } => {
            let names = versions.keys().map(String::as_str);
            (*at, few(log.commitments(names), |secrets| Fact::SecretsExpired { secrets }))
        }
        Event::Evicted { user, machine, instances, generated, exposed, withheld, at, .. } => {
            let machine = machine.as_deref().map(|machine| Digest::of(machine.as_bytes()));
            let evicted = |instances| Fact::Evicted { user: user.clone(), machine, instances };
            let gone = instances.iter().map(|evicted| Digest(evicted.instance.into_array())).collect();
            let mut facts = few(gone, evicted);
            if facts.is_empty() {
                facts.push(evicted(Vec::new()));
            }
            let rotated = |secrets| Fact::SecretsRotated { user: user.clone(), secrets };
            facts.extend(few(log.commitments(generated.keys().map(String::as_str)), rotated));
            let exposed = log.commitments(exposed.keys().map(String::as_str));
            facts.extend(few(exposed, |secrets| Fact::SecretsExposed { secrets, withheld: *withheld }));
            (*at, facts)
        }
        Event::ResourceStored { user, path, at, version: _, value: _ } => {
            let resources = log.commitments([path.uri().as_str()]);
            (*at, vec![Fact::ResourcesWritten { user: user.clone(), resources }])
        }
        Event::ResourceDeleted { user, path, at } => {
            let resources = log.commitments([path.uri().as_str()]);
            (*at, vec![Fact::ResourcesDeleted { user: user.clone(), resources }])
        }
        Event::ResourceRead { user, path, at } => {
            let resources = log.commitments([path.uri().as_str()]);
            (*at, vec![Fact::ResourcesRead { user: user.clone(), resources }])
        }
        Event::ReferenceAdded { user, statement, at, signers, series: _ } => {
            let added = Fact::ReferenceAdded {
                user: user.clone(),
                statement: Digest::of(statement),
                signers: signers.iter().collect(),
            };
            (*at, vec![added])
        }
        Event::ReferenceRemoved { user, id, at } => {
            let statement = Digest(id.into_array());
            (*at, vec![Fact::ReferenceRemoved { user: user.clone(), statement }])
        }
    }
}

/// Who must agree to an update of a manifest, and how many.
fn agreement(manifest: &[u8]) -> Option<(Names, u64)> {
    let manifest = Manifest::parse(manifest).ok()?;
    let threshold = u64::try_from(manifest.update_threshold()).unwrap_or(u64::MAX);
    Some((manifest.updaters().map(|user| user.name.to_string()).collect(), threshold))
}

/// As many facts as it takes to name all secrets.
fn few(secrets: Vec<Commitment>, fact: impl Fn(Vec<Commitment>) -> Fact) -> Vec<Fact> {
    secrets.chunks(SECRETS_PER_ENTRY).map(|some| fact(some.to_vec())).collect()
}

/// What a user downloads is told in the log.
pub fn download_secrets(
    state: &State,
    caller: &Caller,
    names: &[String],
    stored: &Stored,
    now: appraisal::UnixTime,
) -> Result<(Event, BTreeMap<String, secrets::Readable>), Refusal> {
    let values = secrets::read(state, caller, names, stored, now)?;
    let user = secrets::user(state.running()?, caller)?.name.to_string();
    let read = Event::SecretsRead { user, names: values.keys().cloned().collect(), at: event::seconds(now) };
    Ok((read, values))
}

/// What the log calls secrets that a user may read or write, and resources by their URIs, and what shows it.
pub fn openings(
    state: &State,
    caller: &Caller,
    names: &[String],
) -> Result<BTreeMap<String, (Commitment, Opening)>, Refusal> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    if names.is_empty() {
        return Err(Refusal::NoSecrets);
    }
    let open = |name: &String| {
        if let Some(path) = name.strip_prefix("kbs:///").and_then(|path| path.parse::<ResourcePath>().ok()) {
            resources::granted(mesh, caller, ResourceAction::ListResources, path.repository())?;
            let opening = state.log().opening(name);
            return Ok((name.clone(), (opening.commitment(name), opening)));
        }
        secrets::granted(mesh, user, Action::WriteSecret, name)
            .or_else(|_| secrets::granted(mesh, user, Action::ReadSecret, name))?;
        let opening = state.log().opening(name);
        Ok((name.clone(), (opening.commitment(name), opening)))
    };
    names.iter().map(open).collect()
}
