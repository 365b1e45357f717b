//! Proposals as they are stored and counted.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use database_manifest::{
    Digest, Manifest, PartyName, Plan, Proposal, ProposalState as State, ProposalStatus as Status, Rows,
};
use tokio_postgres::{Row, Transaction};

use super::{ChangeError, Event, Rules, Who, plan_of, restoration::shown_to};
use crate::identity::Caller;

/// An approver's word. A later one of the same party counts instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// For it.
    Approve,
    /// Against it.
    Reject,
}

impl Decision {
    /// As it is asked for.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }

    pub(super) fn event(self, caller: &Caller, digest: &Digest) -> Event {
        let (caller, proposal) = (Who::of(caller), digest.to_string());
        match self {
            Self::Approve => Event::Approved { caller, proposal },
            Self::Reject => Event::Rejected { caller, proposal },
        }
    }
}

pub(super) fn digest_of(bytes: &[u8]) -> Option<Digest> {
    bytes.try_into().ok().map(Digest)
}

/// A row of `bailey.proposals`.
pub(super) struct Stored {
    pub(super) digest: Digest,
    pub(super) proposal: Proposal,
    pub(super) state: State,
    proposer: String,
    expires: i64,
    rows: BTreeMap<String, Rows>,
}

const COLUMNS: &str = "digest, base, manifest, migration, erase, state, proposer, expires, restore, rows";

fn read(row: &Row) -> Result<Stored, ChangeError> {
    let digest = |index: usize| digest_of(row.get(index)).ok_or(ChangeError::Stored);
    let state: &str = row.get(5);
    let restore = row.get::<_, Option<&str>>(8).map(serde_json::from_str).transpose();
    Ok(Stored {
        digest: digest(0)?,
        proposal: Proposal {
            base: digest(1)?,
            manifest: row.get(2),
            migration: row.get(3),
            erase: row.get(4),
            restore: restore.map_err(|_| ChangeError::Stored)?,
        },
        state: State::ALL.into_iter().find(|it| it.word() == state).ok_or(ChangeError::Stored)?,
        proposer: row.get(6),
        expires: row.get(7),
        rows: serde_json::from_str(row.get(9)).map_err(|_| ChangeError::Stored)?,
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
    rows: &BTreeMap<String, Rows>,
    (now, expires): (i64, i64),
) -> Result<(), ChangeError> {
    let key = digest.0.as_slice();
    transaction.execute("DELETE FROM bailey.decisions WHERE proposal = $1", &[&key]).await?;
    transaction.execute("DELETE FROM bailey.proposals WHERE digest = $1", &[&key]).await?;
    let insert = "INSERT INTO bailey.proposals \
                  (digest, base, manifest, migration, erase, proposer, made, expires, restore, rows) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let Proposal { base, manifest, migration, erase, restore } = proposal;
    let (base, party) = (base.0.as_slice(), caller.party().as_str());
    let restore = restore.as_ref().map(serde_json::to_string).transpose().map_err(|_| ChangeError::Stored)?;
    let rows = serde_json::to_string(rows).map_err(|_| ChangeError::Stored)?;
    transaction
        .execute(insert, &[&key, &base, manifest, migration, erase, &party, &now, &expires, &restore, &rows])
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

pub(super) async fn votes(transaction: &Transaction<'_>, digest: &Digest) -> Result<Votes, ChangeError> {
    let query = "SELECT party, approves FROM bailey.decisions WHERE proposal = $1";
    let mut votes = Votes::default();
    for row in transaction.query(query, &[&digest.0.as_slice()]).await? {
        let party = PartyName::new(row.get(0)).ok_or(ChangeError::Stored)?;
        let side = if row.get(1) { &mut votes.approving } else { &mut votes.rejecting };
        side.insert(party);
    }
    Ok(votes)
}

/// The manifest that is proposed; `None`: rows are restored, and the one in force stays.
pub(super) fn new_of(proposal: &Proposal) -> Result<Option<Manifest>, ChangeError> {
    match proposal.restoration()? {
        Some(_) => Ok(None),
        None => Ok(Some(Manifest::parse(proposal.manifest.as_bytes())?)),
    }
}

pub(super) async fn status(
    transaction: &Transaction<'_>,
    stored: Stored,
    rules: &Rules,
    caller: &Caller,
) -> Result<Status, ChangeError> {
    let Stored { digest: key, proposal, state, proposer, expires, rows } = stored;
    let votes = votes(transaction, &key).await?;
    let words = |parties: BTreeSet<PartyName>| parties.into_iter().map(|party| party.to_string()).collect();
    let plan = || -> Option<Plan> { plan_of(rules, &proposal, new_of(&proposal).ok()?.as_ref()).ok() };
    let plan = (state == State::Pending).then(plan).flatten().map(|plan| plan.to_string());
    let manifest = match &proposal.restore {
        Some(_) => proposal.base,
        None => {
            let mut manifest = [0; 32];
            manifest.copy_from_slice(digest(&SHA256, proposal.manifest.as_bytes()).as_ref());
            Digest(manifest)
        }
    };
    Ok(Status {
        proposal: key,
        state,
        manifest,
        proposer,
        expires,
        approved: words(votes.approving),
        rejected: words(votes.rejecting),
        plan,
        rows: shown_to(&rules.manifest, caller.party(), rows),
        content: proposal,
    })
}
