//! What a mesh's entries say: JSON with one spelling, `{"v":1,"at":SECONDS,"fact":{"kind":…}}`. Names of secrets are
//! never in it, only commitments to them: whoever has a right to a secret gets its opening from the coordinator, and
//! may show it to others.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// No entry is longer: bytes.
pub const MAX_ENTRY: usize = 8 * 1024;

/// More commitments go into a further entry.
pub const SECRETS_PER_ENTRY: usize = 64;

/// So many bytes of names are in one entry.
const MAX_NAMES: usize = 3 * 1024;

const VERSION: u8 = 1;

/// One fact of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    v: u8,
    /// By the coordinator's clock, seconds since 1970.
    pub at: i64,
    /// What happened.
    pub fact: Fact,
}

/// What can happen. Digests are SHA-256; of certificates, of their DER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fact {
    /// The mesh began.
    Founded {
        /// The log's name.
        origin: String,
        /// The root CA.
        root: Digest,
        /// The Ed25519 key that signs checkpoints.
        key: Digest,
        /// Whether the coordinator's platform is emulated.
        emulated: bool,
    },
    /// The first manifest came into force.
    ManifestSet {
        /// The manifest.
        manifest: Digest,
        /// Always 1.
        epoch: u64,
        /// The CA of the epoch.
        intermediate: Digest,
        /// Users whose agreement to an update counts.
        updaters: Names,
        /// How many of them must agree.
        threshold: u64,
    },
    /// Security versions of packages rose.
    VersionsRaised {
        /// By whom.
        user: String,
        /// To what.
        versions: Versions,
        /// The epoch that began by it.
        epoch: u64,
        /// Its CA.
        intermediate: Digest,
    },
    /// A manifest was proposed.
    UpdateProposed {
        /// By whom.
        user: String,
        /// What.
        manifest: Digest,
        /// Packages of the manifest in force whose security version may fall by it.
        downgrades: Names,
        /// Until when, seconds since 1970.
        deadline: i64,
    },
    /// Another user agreed.
    UpdateAcknowledged {
        /// Who.
        user: String,
        /// To what.
        manifest: Digest,
    },
    /// The proposal is off.
    UpdateCancelled {
        /// By whom; null where its deadline passed.
        user: Option<String>,
        /// What was proposed.
        manifest: Digest,
    },
    /// The proposed manifest came into force.
    ManifestUpdated {
        /// Whose agreement was the last that was needed.
        user: String,
        /// The manifest.
        manifest: Digest,
        /// The epoch that began by it.
        epoch: u64,
        /// Its CA.
        intermediate: Digest,
        /// Users whose agreement to the next update counts.
        updaters: Names,
        /// How many of them must agree.
        threshold: u64,
        /// Whether secrets of single instances are others from now on.
        root_secret_rotated: bool,
        /// Whether there are new recovery shares.
        recovery_changed: bool,
    },
    /// Users uploaded secrets.
    SecretsWritten {
        /// Who.
        user: String,
        /// Which.
        secrets: Vec<Commitment>,
    },
    /// A user downloaded secrets.
    SecretsRead {
        /// Who.
        user: String,
        /// Which.
        secrets: Vec<Commitment>,
    },
    /// A program became an instance of a Marble.
    Activated {
        /// Which Marble.
        marble: String,
        /// The digest of the instance's key, or of its UUID.
        instance: Digest,
        /// What it runs on.
        platform: String,
        /// Whether its platform or the coordinator's is emulated.
        emulated: bool,
        /// In which epoch.
        epoch: u64,
    },
    /// An instance was given secrets, right after its activation.
    SecretsReleased {
        /// Of which Marble.
        marble: String,
        /// Which instance.
        instance: Digest,
        /// In which epoch.
        epoch: u64,
        /// Which.
        secrets: Vec<Commitment>,
    },
    /// An instance runs a package out of a registry, right after its activation.
    PackageRun {
        /// Of which Marble.
        marble: String,
        /// Which instance.
        instance: Digest,
        /// In which epoch.
        epoch: u64,
        /// SHA-256 of the package's manifest.
        package: Digest,
        /// What it was signed as; null where the mesh's manifest names it by its digest.
        release: Option<Release>,
    },
    /// Holders brought the state back on another machine: there is a new root, a new key of the log, a new epoch.
    Recovered {
        /// Whose shares.
        holders: Names,
        /// The new root CA.
        root: Digest,
        /// The new key that signs checkpoints.
        key: Digest,
        /// The epoch that began by it.
        epoch: u64,
        /// Its CA.
        intermediate: Digest,
        /// Whether the new platform is emulated.
        emulated: bool,
    },
    /// Holders proved that their shares would bring the state back.
    RecoveryRehearsed {
        /// Whose.
        holders: Names,
    },
    /// Marbles that ran before an update did not run again in time: what was in force before it is again.
    RolledBack {
        /// What is in force again.
        manifest: Digest,
        /// The epoch that began by it.
        epoch: u64,
        /// Its CA.
        intermediate: Digest,
        /// Those Marbles.
        missing: Names,
    },
    /// Another coordinator, which is the same measured code, is given what opens the state.
    ReplicaJoined {
        /// SHA-256 of the SubjectPublicKeyInfo of its key.
        replica: Digest,
        /// What it runs on.
        platform: String,
        /// What the platform's vendor calls that machine, where Evidence says so.
        machine: Option<String>,
    },
    /// New values of secrets were made; by an eviction, right after it.
    SecretsRotated {
        /// By whom.
        user: String,
        /// Which.
        secrets: Vec<Commitment>,
    },
    /// Uploaded values became too old, and were wiped.
    SecretsExpired {
        /// Which.
        secrets: Vec<Commitment>,
    },
    /// Instances were sent away for good.
    Evicted {
        /// By whom.
        user: String,
        /// SHA-256 of the machine's name, where all that runs on it was sent away.
        machine: Option<Digest>,
        /// Which, as they were activated; at most as many as there can be secrets in an entry.
        instances: Vec<Digest>,
    },
    /// Uploaded secrets that instances which were evicted could have read: their users must replace them.
    SecretsExposed {
        /// Which.
        secrets: Vec<Commitment>,
        /// Whether they are delivered no more until then.
        withheld: bool,
    },
    /// The state was not the newest, or nobody could know; holders accepted that what came after so many records is
    /// lost.
    AnchorReset {
        /// Whose shares.
        holders: Names,
        /// How many records of the state log were left.
        records: u64,
    },
    /// A user uploaded resources of the broker.
    ResourcesWritten {
        /// Who.
        user: String,
        /// Which: commitments to their URIs.
        resources: Vec<Commitment>,
    },
    /// A user deleted resources of the broker, all versions of them.
    ResourcesDeleted {
        /// Who.
        user: String,
        /// Which.
        resources: Vec<Commitment>,
    },
    /// A user downloaded resources of the broker.
    ResourcesRead {
        /// Who.
        user: String,
        /// Which.
        resources: Vec<Commitment>,
    },
    /// A statement about reference values counts from now on, as far as the manifest lets it.
    ReferenceAdded {
        /// Who brought it.
        user: String,
        /// Its bytes.
        statement: Digest,
        /// Who signed it, by the manifest's names.
        signers: Names,
    },
    /// A statement about reference values counts no more.
    ReferenceRemoved {
        /// Who took it away.
        user: String,
        /// Its bytes.
        statement: Digest,
    },
}

/// What a signature says of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The package's name, `registry/repository`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Who signed it, by the mesh's manifest.
    pub signer: String,
}

/// 32 bytes, in hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = EntryError;

    fn try_from(text: String) -> Result<Self, EntryError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes).map_err(|_| EntryError::Digest)?;
        Ok(Self(bytes))
    }
}

impl std::str::FromStr for Digest {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        text.to_owned().try_into()
    }
}

/// Stands for a secret's name.
pub type Commitment = Digest;

/// Shows that a commitment stands for a name: SHA-256 of `bailey/secret-name/1`, the opening, and the name.
pub type Opening = Digest;

impl Opening {
    /// The commitment to `name`. The opening is 32 secret bytes of this name alone, so that it tells nothing of others.
    pub fn commitment(&self, name: &str) -> Commitment {
        let label = Sha256::new().chain_update(b"bailey/secret-name/1");
        Digest(label.chain_update(self.0).chain_update(name).finalize().into())
    }
}

/// Names, as many as fit into an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// In order.
    pub names: Vec<String>,
    /// How many more there are.
    pub more: u64,
}

impl<N: Into<String>> FromIterator<N> for Names {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> Self {
        let (mut kept, mut room) = (Self::default(), MAX_NAMES);
        for name in names.into_iter().map(Into::into) {
            match room.checked_sub(written(&name)) {
                Some(left) if kept.more == 0 => {
                    room = left;
                    kept.names.push(name);
                }
                _ => kept.more += 1,
            }
        }
        kept
    }
}

/// Security versions of packages, as many as fit into an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// By package.
    pub versions: BTreeMap<String, u16>,
    /// How many more there are.
    pub more: u64,
}

impl<'n> FromIterator<(&'n String, &'n u16)> for Versions {
    fn from_iter<I: IntoIterator<Item = (&'n String, &'n u16)>>(versions: I) -> Self {
        let (mut kept, mut room) = (Self::default(), MAX_NAMES);
        for (name, version) in versions {
            match room.checked_sub(written(name) + 8) {
                Some(left) if kept.more == 0 => {
                    room = left;
                    kept.versions.insert(name.clone(), *version);
                }
                _ => kept.more += 1,
            }
        }
        kept
    }
}

/// How long a name is in JSON, at most; a character is six bytes if it is escaped.
fn written(name: &str) -> usize {
    3 + name.bytes().map(|byte| if byte < b' ' { 6 } else { 2 }).sum::<usize>()
}

/// Why bytes are no entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EntryError {
    /// Not the JSON that is expected.
    #[error("not an entry of a mesh's log: {0}")]
    Malformed(String),
    /// Another version of the format.
    #[error("an entry of version {0}, and {VERSION} is known")]
    Version(u8),
    /// The same could be said in other bytes.
    #[error("an entry that is not in its one spelling")]
    Spelling,
    /// Too long.
    #[error("an entry of {0} bytes, and {MAX_ENTRY} are allowed")]
    TooLong(usize),
    /// Not a digest.
    #[error("not 64 hexadecimal digits")]
    Digest,
}

impl Entry {
    /// A fact and when it was decided.
    pub fn new(at: i64, fact: Fact) -> Self {
        Self { v: VERSION, at, fact }
    }

    /// The bytes of the leaf.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("writing plain data to memory cannot fail")
    }

    /// Reads a leaf, strictly.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY {
            return Err(EntryError::TooLong(bytes.len()));
        }
        let entry: Self =
            serde_json::from_slice(bytes).map_err(|error| EntryError::Malformed(error.to_string()))?;
        if entry.v != VERSION {
            return Err(EntryError::Version(entry.v));
        }
        if entry.to_bytes() == bytes { Ok(entry) } else { Err(EntryError::Spelling) }
    }
}
