//! Proposals as they are written, stored and shown.

use std::{collections::BTreeSet, fmt, str::FromStr};

use aws_lc_rs::digest::{Context, SHA256, digest};
use database_manifest::{Manifest, Migration, PartyName, Plan};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Row, Transaction};

use super::{ChangeError, Event, Rules, Who, plan_of};
use crate::identity::Caller;

/// SHA-256 of a manifest or of a proposal; 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Digest {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is to become of the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// The manifest that it starts from: the one in force.
    pub base: Digest,
    /// The new manifest, its exact text.
    pub manifest: String,
    /// SQL that leads from one schema to the other.
    #[serde(default)]
    pub migration: String,
    /// Parties whose rows are deleted.
    #[serde(default)]
    pub erase: Vec<String>,
}

impl Proposal {
    /// What approvers sign with their word: SHA-256 of `bailey/database-proposal/1`, base, SHA-256 of the manifest,
    /// SHA-256 of the migration, and SHA-256 of each name to erase.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut context = Context::new(&SHA256);
        context.update(b"bailey/database-proposal/1");
        context.update(&self.base.0);
        for part in [&self.manifest, &self.migration].into_iter().chain(&self.erase) {
            context.update(digest(&SHA256, part.as_bytes()).as_ref());
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        Digest(out)
    }

    pub(super) fn migration(&self, current: &Manifest) -> Result<Migration, ChangeError> {
        Ok(Migration::read(&self.migration, current)?)
    }

    pub(super) fn erase(&self) -> Result<BTreeSet<PartyName>, ChangeError> {
        self.erase
            .iter()
            .map(|name| PartyName::new(name).ok_or_else(|| ChangeError::Erase(name.clone())))
            .collect()
    }
}

/// How it stands with a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It may be decided.
    Pending,
    /// It took effect.
    Active,
    /// So many are against it that it cannot be.
    Rejected,
    /// Another one took effect.
    Superseded,
    /// Nobody decided it in time.
    Expired,
}

impl State {
    const ALL: [Self; 5] = [Self::Pending, Self::Active, Self::Rejected, Self::Superseded, Self::Expired];

    fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Rejected => "rejected",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
        }
    }

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Pending => "PROPOSAL_PENDING",
            Self::Active => "PROPOSAL_ACTIVE",
            Self::Rejected => "PROPOSAL_REJECTED",
            Self::Superseded => "PROPOSAL_SUPERSEDED",
            Self::Expired => "PROPOSAL_EXPIRED",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// An approver's word. A later one of the same party counts instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// For it.
    Approve,
    /// Against it.
    Reject,
}

impl Decision {
    pub(super) fn event(self, caller: &Caller, digest: &Digest) -> Event {
        let (caller, proposal) = (Who::of(caller), digest.to_string());
        match self {
            Self::Approve => Event::Approved { caller, proposal },
            Self::Reject => Event::Rejected { caller, proposal },
        }
    }
}

/// A proposal as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Its digest, by which it is approved.
    pub proposal: Digest,
    /// How it stands.
    pub state: State,
    /// The new manifest's digest.
    pub manifest: Digest,
    /// The party that proposed it.
    pub proposer: String,
    /// Until when it may be decided, in seconds since 1970.
    pub expires: i64,
    /// Who is for it.
    pub approved: BTreeSet<String>,
    /// Who is against it.
    pub rejected: BTreeSet<String>,
    /// What it means, in words; of a pending one only.
    pub plan: Option<String>,
    /// The whole of it.
    pub content: Proposal,
}

/// A row of `bailey.proposals`.
pub(super) struct Stored {
    pub(super) digest: Digest,
    pub(super) proposal: Proposal,
    pub(super) state: State,
    proposer: String,
    expires: i64,
}

const COLUMNS: &str = "digest, base, manifest, migration, erase, state, proposer, expires";

fn read(row: &Row) -> Result<Stored, ChangeError> {
    let digest = |index: usize| Digest::of_bytes(row.get(index)).ok_or(ChangeError::Stored);
    let state: &str = row.get(5);
    Ok(Stored {
        digest: digest(0)?,
        proposal: Proposal {
            base: digest(1)?,
            manifest: row.get(2),
            migration: row.get(3),
            erase: row.get(4),
        },
        state: State::ALL.into_iter().find(|it| it.word() == state).ok_or(ChangeError::Stored)?,
        proposer: row.get(6),
        expires: row.get(7),
    })
}

pub(super) async fn find(
    transaction: &Transaction<'_>,
    digest: &Digest,
) -> Result<Option<Stored>, ChangeError> {
    let query = format!("SELECT {COLUMNS} FROM bailey.proposals WHERE digest = $1");
    transaction.query_opt(&query, &[&digest.0.as_slice()]).await?.as_ref().map(read).transpose()
}

pub(super) async fn newest(transaction: &Transaction<'_>) -> Result<Vec<Stored>, ChangeError> {
    let query = format!("SELECT {COLUMNS} FROM bailey.proposals ORDER BY number DESC LIMIT 200");
    transaction.query(&query, &[]).await?.iter().map(read).collect()
}

/// Stores a new one; the same one, proposed again after it ended, starts anew.
pub(super) async fn store(
    transaction: &Transaction<'_>,
    digest: &Digest,
    proposal: &Proposal,
    caller: &Caller,
    (now, expires): (i64, i64),
) -> Result<(), ChangeError> {
    let key = digest.0.as_slice();
    transaction.execute("DELETE FROM bailey.decisions WHERE proposal = $1", &[&key]).await?;
    transaction.execute("DELETE FROM bailey.proposals WHERE digest = $1", &[&key]).await?;
    let insert = "INSERT INTO bailey.proposals (digest, base, manifest, migration, erase, proposer, made, expires) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let Proposal { base, manifest, migration, erase } = proposal;
    let party = caller.party().as_str();
    transaction
        .execute(insert, &[&key, &base.0.as_slice(), manifest, migration, erase, &party, &now, &expires])
        .await?;
    Ok(())
}

pub(super) async fn end(
    transaction: &Transaction<'_>,
    digest: &Digest,
    state: State,
    now: i64,
) -> Result<(), ChangeError> {
    let update = "UPDATE bailey.proposals SET state = $2, decided = $3 WHERE digest = $1";
    transaction.execute(update, &[&digest.0.as_slice(), &state.word(), &now]).await?;
    Ok(())
}

/// Who is for it, and who against.
#[derive(Debug, Default)]
pub(super) struct Votes {
    pub(super) approving: BTreeSet<PartyName>,
    pub(super) rejecting: BTreeSet<PartyName>,
}

pub(super) async fn vote(
    transaction: &Transaction<'_>,
    digest: &Digest,
    caller: &Caller,
    decision: Decision,
    now: i64,
) -> Result<Votes, ChangeError> {
    let upsert = "INSERT INTO bailey.decisions (proposal, party, certificate, approves, made) \
                  VALUES ($1, $2, $3, $4, $5) ON CONFLICT (proposal, party) \
                  DO UPDATE SET certificate = $3, approves = $4, made = $5";
    let approves = decision == Decision::Approve;
    let (party, certificate) = (caller.party().as_str(), caller.certificate());
    transaction
        .execute(upsert, &[&digest.0.as_slice(), &party, &certificate.as_slice(), &approves, &now])
        .await?;
    votes(transaction, digest).await
}

async fn votes(transaction: &Transaction<'_>, digest: &Digest) -> Result<Votes, ChangeError> {
    let query = "SELECT party, approves FROM bailey.decisions WHERE proposal = $1";
    let mut votes = Votes::default();
    for row in transaction.query(query, &[&digest.0.as_slice()]).await? {
        let party = PartyName::new(row.get(0)).ok_or(ChangeError::Stored)?;
        let side = if row.get(1) { &mut votes.approving } else { &mut votes.rejecting };
        side.insert(party);
    }
    Ok(votes)
}

pub(super) async fn status(
    transaction: &Transaction<'_>,
    stored: Stored,
    rules: &Rules,
) -> Result<Status, ChangeError> {
    let Stored { digest: key, proposal, state, proposer, expires } = stored;
    let votes = votes(transaction, &key).await?;
    let words = |parties: BTreeSet<PartyName>| parties.into_iter().map(|party| party.to_string()).collect();
    let plan = || -> Option<Plan> {
        let new = Manifest::parse(proposal.manifest.as_bytes()).ok()?;
        plan_of(rules, &proposal, &new).ok()
    };
    let plan = (state == State::Pending).then(plan).flatten().map(|plan| plan.to_string());
    let mut manifest = [0; 32];
    manifest.copy_from_slice(digest(&SHA256, proposal.manifest.as_bytes()).as_ref());
    Ok(Status {
        proposal: key,
        state,
        manifest: Digest(manifest),
        proposer,
        expires,
        approved: words(votes.approving),
        rejected: words(votes.rejecting),
        plan,
        content: proposal,
    })
}
