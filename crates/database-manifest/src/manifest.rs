//! The manifest in which every reference is resolved and nothing means "not yet checked".

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{Algorithm, AlgorithmName, PartyName, TableName};

/// What the parties of a database have agreed.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// SHA-256 of `text`: its identity.
    pub digest: [u8; 32],
    /// The exact bytes.
    pub text: Arc<[u8]>,
    /// What people call the database; also the database that clients connect to.
    pub name: String,
    /// Whose certificates come in.
    pub parties: BTreeMap<PartyName, Party>,
    /// SQL statements that make the tables, types, views and indexes of the schema `public`, as they were understood:
    /// written out anew from what was read, so that nothing else is run than what was checked.
    pub schema: String,
    /// The same, one by one, each with what it makes or changes.
    pub statements: Vec<Statement>,
    /// What may be done with each table of the schema.
    pub tables: BTreeMap<TableName, Table>,
    /// What may be computed.
    pub algorithms: BTreeMap<AlgorithmName, Algorithm>,
    /// Who changes the manifest.
    pub updates: Updates,
    /// Who brings the database back on another machine.
    pub recovery: Option<Recovery>,
    /// Who reads the audit log.
    pub audit: Audit,
    /// What notices an old copy of the state.
    pub freshness: Freshness,
    /// No table may grow when the data takes more than this, in bytes.
    pub max_size: u64,
    /// Bytes of the sealed log before its last base backup that stay on the host's disk, so that rows of then can be
    /// brought back.
    pub history: u64,
}

impl Manifest {
    /// The tables that have rows: all but views.
    pub fn tables_with_rows(&self) -> impl Iterator<Item = &TableName> {
        self.tables.iter().filter(|(_, table)| !table.is_view).map(|(name, _)| name)
    }
}

/// A statement of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The table, view or type that it makes or is about.
    pub subject: String,
    /// Tables and views that it reads or refers to.
    pub mentions: BTreeSet<String>,
    /// The statement without semicolon.
    pub sql: String,
}

/// Whoever shows a certificate that one of the anchors verifies, and nobody else.
#[derive(Debug, Clone)]
pub struct Party {
    /// Roots that issue this party's certificates. No two parties share a key of them.
    pub anchors: Vec<Anchor>,
    /// SHA-256 of leaf certificates (DER) that count no more.
    pub revoked: BTreeSet<[u8; 32]>,
    /// The longest validity that a leaf may have.
    pub max_validity: Option<Duration>,
}

/// A root certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: [u8; 32],
}

/// What may be done with a table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Whose approval a change needs that touches the table; none: nobody's in particular.
    pub owner: Option<PartyName>,
    /// Who inserts rows, without seeing any.
    pub writers: BTreeSet<PartyName>,
    /// Who reads all rows.
    pub readers: BTreeSet<PartyName>,
    /// The column that says whom a row is about: groups are counted in it.
    pub unit: Option<String>,
    /// The column that gets the name of the party that inserts, whatever the party writes there.
    pub stamp: Option<String>,
    /// It is a view: it has no rows of its own.
    pub is_view: bool,
}

/// Who changes the manifest: `threshold` of the approvers, and one of each party whose table or algorithm is touched.
#[derive(Debug, Clone)]
pub struct Updates {
    /// Parties that approve.
    pub approvers: BTreeSet<PartyName>,
    /// How many of them.
    pub threshold: usize,
    /// How long a proposal may be decided.
    pub expiry: Duration,
}

/// Who brings the database back: `threshold` of the holders.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// RSA public keys (SubjectPublicKeyInfo, DER) that shares are encrypted to, by the holder's name.
    pub holders: BTreeMap<String, Vec<u8>>,
    /// How many of them.
    pub threshold: usize,
}

/// Who reads the audit log.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// Parties that read it.
    pub readers: BTreeSet<PartyName>,
}

/// What notices an old copy of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// A commit is acknowledged when the anchor has moved at most this long before; zero: to exactly this commit.
    pub max_lag: Duration,
    /// Whether the database refuses to run with no anchor but the receipts that its clients keep.
    pub anchor_required: bool,
}
