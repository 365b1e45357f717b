//! The log that anyone can check: which entries an event makes, by itself and the state before it, and the right edge
//! of the tree that they are in. The entries themselves are the store's, beside the records; a state has their head.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use manifest::{Action, Manifest, ManifestDigest, Marble, Reference, SecretName};
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use transparency::{
    Checkpoint, Commitment, Digest, Entry, Fact, Frontier, Head, History, Names, Node, Note, NoteKey,
    Opening, SECRETS_PER_ENTRY, Signer, leaf_hash,
};
use zeroize::Zeroizing;

use super::{Caller, Event, IdentityKey, Mesh, Refusal, State, event, secrets};

/// A mesh's log: its name, its key, its head.
#[derive(Clone)]
pub struct Log {
    origin: Arc<str>,
    /// From which openings of secrets' names follow.
    salt: Zeroizing<[u8; 32]>,
    key: LogKey,
    tree: Frontier,
}

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
}

/// By what the log grew: to be stored in the transaction of the records that it comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Growth {
    /// The index of the first of the entries.
    pub first: u64,
    /// Leaves, in order.
    pub entries: Vec<Vec<u8>>,
    /// Hashes above the leaves that tiles have by them.
    pub nodes: Vec<Node>,
}

impl Growth {
    /// Adds what came right after it.
    pub fn extend(&mut self, next: Self) {
        if self.entries.is_empty() {
            *self = next;
            return;
        }
        self.entries.extend(next.entries);
        self.nodes.extend(next.nodes);
    }
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
        })
    }

    /// After a recovery.
    pub(super) fn with_key(&mut self, key: &SealedLogKey, identity: &IdentityKey) -> Result<(), String> {
        self.key = LogKey::open(key, identity)?;
        Ok(())
    }

    pub(super) fn append(&mut self, entries: &[Entry]) -> Growth {
        let mut growth = Growth { first: self.tree.size(), ..Growth::default() };
        for entry in entries {
            let bytes = entry.to_bytes();
            growth.nodes.extend(self.tree.append(leaf_hash(&bytes)));
            growth.entries.push(bytes);
        }
        growth
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
        let checkpoint = Checkpoint { origin: self.origin.to_string(), head: self.head() };
        let (key, text) = (self.note_key()?, checkpoint.text());
        let signature = self.key.sign(key.message(&text, 0).as_bytes())?;
        Ok(Note { signatures: vec![key.signature(0, &signature)], text })
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
        let Self { origin, salt, key, tree } = self;
        Ok(LogRecord {
            origin: origin.to_string(),
            salt: ByteArray::new(**salt),
            key: key.seal(identity)?,
            size: tree.size(),
            roots: tree.roots().iter().copied().map(ByteArray::new).collect(),
        })
    }

    pub(super) fn from_record(record: LogRecord, identity: &IdentityKey) -> Result<Self, String> {
        let roots = record.roots.into_iter().map(ByteArray::into_array).collect();
        Ok(Self {
            origin: record.origin.into(),
            salt: Zeroizing::new(record.salt.into_array()),
            key: LogKey::open(&record.key, identity)?,
            tree: Frontier::from_parts(record.size, roots).ok_or("a tree that is none")?,
        })
    }
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
        Event::Founded { at, .. } | Event::Renewed { at, .. } => (*at, Vec::new()),
        Event::CounterRaised { .. } => (0, Vec::new()),
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
        Event::SecretsWritten { user, secrets, at } => {
            let written = |secrets| Fact::SecretsWritten { user: user.clone(), secrets };
            (*at, few(log.commitments(secrets.keys().map(String::as_str)), written))
        }
        Event::SecretsRead { user, names, at } => {
            let read = |secrets| Fact::SecretsRead { user: user.clone(), secrets };
            (*at, few(log.commitments(names.iter().map(String::as_str)), read))
        }
        Event::Activated { marble, instance, platform, emulated, at } => {
            let epoch = before.mesh().map_or(0, Mesh::epoch);
            let instance = Digest(instance.into_array());
            let activated = Fact::Activated {
                marble: marble.clone(),
                instance,
                platform: platform.to_string(),
                emulated: *emulated,
                epoch,
            };
            let known = before.mesh().and_then(|mesh| mesh.manifest().marble(marble));
            let names = known.map(released).unwrap_or_default();
            let names = names.iter().map(|name| name.as_str());
            let released =
                |secrets| Fact::SecretsReleased { marble: marble.clone(), instance, epoch, secrets };
            let mut facts = vec![activated];
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
        Event::RecoveryRehearsed { holders, at } => {
            (*at, vec![Fact::RecoveryRehearsed { holders: holders.iter().collect() }])
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

/// The secrets that an instance gets: those that its parameters and the servers of its connections refer to.
fn released(marble: &Marble) -> BTreeSet<&SecretName> {
    let named = marble.parameters.references().filter_map(|reference| match reference {
        Reference::Secret { name, .. } => Some(name),
        _ => None,
    });
    let served = marble.tls.iter().flat_map(|tag| &tag.incoming);
    named.chain(served.filter_map(|incoming| incoming.certificate.as_ref())).collect()
}

/// What a user downloads is told in the log.
pub fn download_secrets(
    state: &State,
    caller: &Caller,
    names: &[String],
    now: appraisal::UnixTime,
) -> Result<(Event, BTreeMap<String, secrets::Readable>), Refusal> {
    let values = secrets::read(state, caller, names)?;
    let user = secrets::user(state.running()?, caller)?.name.to_string();
    let read = Event::SecretsRead { user, names: values.keys().cloned().collect(), at: event::seconds(now) };
    Ok((read, values))
}

/// What the log calls secrets that a user may read or write, and what shows it.
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
        secrets::granted(mesh, user, Action::WriteSecret, name)
            .or_else(|_| secrets::granted(mesh, user, Action::ReadSecret, name))?;
        let opening = state.log().opening(name);
        Ok((name.clone(), (opening.commitment(name), opening)))
    };
    names.iter().map(open).collect()
}
