//! Replaying a whole log: every entry, against the head that Evidence covers, the checkpoint that is served, the one
//! that was remembered, and the rules. The caller fetches bundles and brings them in order.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{
    checkpoint::{Checkpoint, HeadError, signed_checkpoint},
    entry::{Digest, Entry, EntryError},
    history::{Broken, History},
    note::{Ed25519Verify, NoteKey},
    tile::Bundle,
    tree::{Frontier, Hash, Head, leaf_hash},
};

/// What Evidence says of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// The log's key, with its name.
    pub key: NoteKey,
    /// The tree at that moment.
    pub head: Head,
}

/// A replay under way.
#[derive(Debug, Clone)]
pub struct Audit {
    attested: Attested,
    remembered: Vec<Checkpoint>,
    checkpoint: Checkpoint,
    tree: Frontier,
    history: History,
    /// Roots at the sizes that were promised, as the entries give them.
    roots: BTreeMap<u64, Hash>,
    /// After as many entries as the Evidence covers.
    covered: Option<History>,
    /// What was found first, and is told only if these are the log's entries.
    fault: Option<AuditError>,
}

/// A log that keeps its promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// The newest checkpoint.
    pub checkpoint: Checkpoint,
    /// What all entries come to.
    pub history: History,
    /// What those come to that the Evidence covers.
    pub covered: History,
}

/// Why a log is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuditError {
    /// The checkpoint is not signed by the key that the Evidence covers.
    #[error("the checkpoint that is served is not of the log's key: {0}")]
    Signature(#[source] HeadError),
    /// It is of another log than the remembered one.
    #[error("the log is {seen}, and {expected} is remembered: another mesh, or one that was founded anew")]
    OtherLog {
        /// Remembered.
        expected: String,
        /// Served.
        seen: String,
    },
    /// It is shorter than it was.
    #[error("the log has {seen} entries, and it had {known}: an old state was put back")]
    RolledBack {
        /// Before.
        known: u64,
        /// Now.
        seen: u64,
    },
    /// What is served is not what was signed.
    #[error("the entries that are served are not those of the head that is signed and attested")]
    Root,
    /// It was rewritten.
    #[error(
        "the log was rewritten: its first {size} entries are not those that were remembered or witnessed"
    )]
    Forked {
        /// How many were remembered.
        size: u64,
    },
    /// An entry that says nothing known.
    #[error("entry {index} cannot be read: {source}")]
    Entry {
        /// Which.
        index: u64,
        /// Why.
        source: EntryError,
    },
    /// An entry that must not be there.
    #[error(transparent)]
    Rule(#[from] Broken),
    /// The entries end with another key.
    #[error("the entries name another key of the log than the Evidence")]
    Key,
}

impl AuditError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Signature(_) => "LOG_SIGNATURE",
            Self::OtherLog { .. } => "LOG_OTHER",
            Self::RolledBack { .. } => "LOG_ROLLED_BACK",
            Self::Root => "LOG_ROOT",
            Self::Forked { .. } => "LOG_FORKED",
            Self::Entry { .. } => "LOG_ENTRY",
            Self::Rule(_) => "LOG_RULE",
            Self::Key => "LOG_KEY",
        }
    }
}

impl Audit {
    /// Begins with the checkpoint that is served now and those that must be of the same log: what was remembered,
    /// what witnesses cosigned.
    pub fn begin(
        attested: Attested,
        note: &[u8],
        remembered: Vec<Checkpoint>,
        ed25519: Ed25519Verify<'_>,
    ) -> Result<Self, AuditError> {
        let checkpoint = signed_checkpoint(note, &attested.key, ed25519).map_err(AuditError::Signature)?;
        if let Some(other) = remembered.iter().find(|known| known.origin != checkpoint.origin) {
            let (expected, seen) = (other.origin.clone(), checkpoint.origin);
            return Err(AuditError::OtherLog { expected, seen });
        }
        let remembered_size = remembered.iter().map(|known| known.head.size).max().unwrap_or(0);
        let (known, seen) = (remembered_size.max(attested.head.size), checkpoint.head.size);
        if seen < known {
            return Err(AuditError::RolledBack { known, seen });
        }
        Ok(Self {
            attested,
            remembered,
            checkpoint,
            tree: Frontier::default(),
            history: History::default(),
            roots: BTreeMap::new(),
            covered: None,
            fault: None,
        })
    }

    /// The bundles to bring, in this order.
    pub fn bundles(&self) -> impl Iterator<Item = Bundle> + use<> {
        Bundle::all(self.checkpoint.head.size)
    }

    /// Takes the next bundle. Gives its entries; that they are the log's is known at the end.
    pub fn take(&mut self, bundle: &Bundle, bytes: &[u8]) -> Result<Vec<Option<Entry>>, AuditError> {
        if bundle.positions().start != self.tree.size() {
            return Err(AuditError::Root);
        }
        let leaves = bundle.entries(bytes).map_err(|_| AuditError::Root)?;
        Ok(leaves.into_iter().map(|leaf| self.leaf(leaf)).collect())
    }

    fn leaf(&mut self, leaf: &[u8]) -> Option<Entry> {
        let index = self.tree.size();
        let entry = Entry::from_bytes(leaf);
        let broken = match &entry {
            Ok(entry) => self.history.take(entry).map_err(AuditError::from),
            Err(source) => Err(AuditError::Entry { index, source: source.clone() }),
        };
        if let (None, Err(fault)) = (&self.fault, broken) {
            self.fault = Some(fault);
        }
        self.tree.append(leaf_hash(leaf));
        let size = self.tree.size();
        if size == self.attested.head.size {
            self.roots.insert(size, self.tree.head().root);
            self.covered = Some(self.history.clone());
        }
        if self.remembered.iter().any(|known| known.head.size == size) {
            self.roots.insert(size, self.tree.head().root);
        }
        entry.ok()
    }

    /// What all of it comes to.
    pub fn finish(self) -> Result<Audited, AuditError> {
        let root = |head: &Head| self.roots.get(&head.size) == Some(&head.root);
        let covered = self.covered.filter(|_| root(&self.attested.head));
        let Some(covered) = covered.filter(|_| self.tree.head() == self.checkpoint.head) else {
            return Err(AuditError::Root);
        };
        let forked = |known: &&Checkpoint| known.head.size > 0 && !root(&known.head);
        if let Some(known) = self.remembered.iter().find(forked) {
            return Err(AuditError::Forked { size: known.head.size });
        }
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if covered.key != Some(Digest(*self.attested.key.key())) || covered.origin != self.checkpoint.origin {
            return Err(AuditError::Key);
        }
        Ok(Audited { checkpoint: self.checkpoint, history: self.history, covered })
    }
}
