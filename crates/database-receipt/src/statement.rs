//! What a receipt says.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The version of statements that this code writes and reads.
pub const VERSION: u32 = 1;

/// What the database says of an answer. The order of the fields is the order in which they are signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Statement {
    /// [`VERSION`].
    pub version: u32,
    /// The name of the database.
    pub database: String,
    /// SHA-256 of the manifest that it began with: its lineage.
    pub first_manifest: Digest,
    /// SHA-256 of the manifest that the call was judged by.
    pub manifest: Digest,
    /// The number of that manifest in its lineage.
    pub epoch: u64,
    /// The party that called.
    pub caller: String,
    /// SHA-256 of the certificate that it showed.
    pub certificate: Digest,
    /// The algorithm.
    pub algorithm: String,
    /// SHA-256 of its SQL, as it is in the manifest.
    pub query: Digest,
    /// SHA-256 of its WebAssembly module.
    pub module: Option<Digest>,
    /// The arguments, in order, as PostgreSQL writes them.
    pub arguments: Vec<String>,
    /// [`crate::answer_digest`] of what left.
    pub answer: Digest,
    /// What each table held that was read, committed to without being told.
    pub data: Vec<Commitment>,
    /// All that the answer can rest on is in the sealed log up to here, as PostgreSQL writes positions (`0/16B3748`).
    pub log_position: String,
    /// What the answer cost of the caller's privacy budget: epsilon, a decimal number; none: there is no budget.
    pub epsilon: Option<String>,
    /// When, in seconds since 1970: the clock is the host's word.
    pub time: u64,
}

/// What a table held: SHA-256 over a salt, which the audit log has, and over the sorted SHA-256 values of its rows. Who
/// has the rows and the salt can compute it; who has not learns nothing from it, not even whether a guess is right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Commitment {
    /// The table.
    pub table: String,
    /// [`commitment`] of its rows.
    pub rows: Digest,
}

/// Computes a [`Commitment`].
pub struct Committing {
    table: String,
    context: aws_lc_rs::digest::Context,
}

impl Committing {
    /// For a table.
    pub fn new(salt: &[u8; 32], table: &str) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        context.update(b"bailey database rows v1\0");
        context.update(salt);
        context.update(&(table.len() as u64).to_be_bytes());
        context.update(table.as_bytes());
        Self { table: table.into(), context }
    }

    /// A row, by SHA-256 of the text that PostgreSQL gives for it (`SELECT sha256(convert_to(t::text, 'UTF8')) FROM table
    /// AS t ORDER BY 1`); rows come in ascending order of it.
    pub fn row(&mut self, digest: &[u8]) {
        self.context.update(digest);
    }

    /// What was committed to.
    pub fn finish(self) -> Commitment {
        Commitment { table: self.table, rows: Digest::read(self.context.finish().as_ref()) }
    }
}

impl Statement {
    /// What is signed: a label, then the statement as JSON without white space, its fields in their order.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = b"bailey database receipt v1\0".to_vec();
        // A structure of strings and numbers has a JSON form.
        bytes.extend(serde_json::to_vec(self).unwrap_or_default());
        bytes
    }
}
