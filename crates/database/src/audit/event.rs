//! What is recorded.

use serde::{Deserialize, Serialize};

use crate::identity::Caller;

/// Something that happened. Digests are lower-case hex.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The service began to serve, for the first time or after a restart.
    Started {
        /// The engine's version.
        engine: String,
        /// SHA-256 of the manifest in force.
        manifest: String,
        /// Its epoch.
        epoch: u64,
    },
    /// A party came in.
    Login {
        /// Who, and by what.
        caller: Who,
        /// Which way.
        interface: Interface,
    },
    /// Someone did not come in.
    LoginDenied {
        /// SHA-256 of the certificate, where there was one.
        certificate: Option<String>,
        /// Which way.
        interface: Interface,
        /// Why: a stable code.
        code: String,
        /// Why, in words.
        reason: String,
    },
    /// An algorithm was answered.
    Call {
        /// By whom.
        caller: Who,
        /// Its name.
        algorithm: String,
        /// The text forms of its arguments.
        arguments: Vec<String>,
        /// Rows that left.
        rows: u64,
        /// What was charged to the caller's budget.
        epsilon: f64,
        /// As that, of delta.
        delta: f64,
        /// Under which manifest.
        epoch: u64,
        /// Where a receipt commits to tables, the salt of these commitments.
        salt: Option<String>,
    },
    /// A request was refused.
    Denied {
        /// Whose.
        caller: Who,
        /// What it was.
        what: Refused,
        /// SQLSTATE or stable code.
        code: String,
        /// The true reason.
        reason: String,
    },
    /// A new manifest was proposed.
    Proposed {
        /// By whom.
        caller: Who,
        /// SHA-256 of manifest and migration.
        proposal: String,
    },
    /// A proposal was approved.
    Approved {
        /// By whom.
        caller: Who,
        /// Which.
        proposal: String,
    },
    /// A proposal was rejected.
    Rejected {
        /// By whom.
        caller: Who,
        /// Which.
        proposal: String,
    },
    /// A proposal ended without anyone's word.
    Lapsed {
        /// Which.
        proposal: String,
        /// `expired` or `superseded`.
        how: String,
    },
    /// A proposal became the manifest in force.
    Activated {
        /// Which.
        proposal: String,
        /// SHA-256 of the manifest.
        manifest: String,
        /// Its epoch.
        epoch: u64,
    },
    /// Rows of a party were deleted for good.
    Deleted {
        /// Whose.
        party: String,
        /// From where.
        table: String,
        /// How many.
        rows: u64,
    },
    /// Rows of a table became what they were at an earlier point.
    Restored {
        /// By which proposal.
        proposal: String,
        /// Of which table.
        table: String,
        /// As of when: a time, or a record of the sealed log.
        to: String,
        /// How many there were.
        before: u64,
        /// How many there are.
        rows: u64,
    },
    /// The state was brought to another TEE by its holders.
    Recovered {
        /// Who gave a share.
        holders: Vec<String>,
    },
    /// The key that shares of a recovery give was exchanged, since somebody who had one has none any more.
    Rekeyed {
        /// Who has a share of the new one.
        holders: Vec<String>,
    },
    /// The audit log was read.
    Exported {
        /// By whom.
        caller: Who,
        /// The first entry.
        from: u64,
        /// How many entries.
        entries: u64,
    },
}

/// Who it was, as an entry names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who {
    /// The party.
    pub party: String,
    /// SHA-256 of the leaf certificate.
    pub certificate: String,
    /// Its subject, which decides nothing.
    pub subject: String,
}

impl Who {
    /// A caller.
    pub fn of(caller: &Caller) -> Self {
        Self {
            party: caller.party().to_string(),
            certificate: hex::encode(caller.certificate()),
            subject: caller.subject().to_owned(),
        }
    }
}

/// Which way someone came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interface {
    /// PostgreSQL's protocol.
    Sql,
    /// The HTTPS API.
    Https,
}

/// What was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Refused {
    /// An SQL statement, by its first words and its digest: its text may hold rows.
    Statement {
        /// Such as `SELECT` or `COPY`.
        command: String,
        /// SHA-256 of its text.
        digest: String,
    },
    /// A message of PostgreSQL's protocol.
    Message {
        /// Its name.
        name: String,
    },
    /// A call of an algorithm.
    Algorithm {
        /// Its name, as it was asked for.
        name: String,
        /// The text forms of its arguments.
        arguments: Vec<String>,
    },
    /// A request of the HTTPS API.
    Request {
        /// Method and path.
        path: String,
    },
}
