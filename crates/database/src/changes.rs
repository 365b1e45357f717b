//! How the rules change: one proposes, several approve, and what they agreed on takes effect in one transaction with its
//! entries in the audit log.
//!
//! ```text
//!            approve (threshold, and each owner who is touched)
//! pending ───────────────────────────────────────────────▶ active
//!    ├── reject (so many, or one whose word is needed) ──▶ rejected
//!    ├── another proposal became active ────────────────▶ superseded
//!    └── its time is over ──────────────────────────────▶ expired
//! ```
//!
//! A proposal names the manifest that it starts from; what its approvers saw is what is activated, or nothing. It is
//! rehearsed when it is made: the whole of it is done in a transaction that is then rolled back.

mod activation;
mod error;
mod proposal;
mod routes;
mod schema;

use std::{collections::BTreeSet, sync::Arc};

use attested_tls::clock::Clock;
pub use database_manifest::{Digest, InForce, Proposal, ProposalState as State, ProposalStatus as Status};
use database_manifest::{Manifest, Migration, PartyName, Plan};
use tokio::sync::{Mutex, watch};
use tokio_postgres::{Client, Transaction};

use crate::{
    Rules,
    audit::{self, Event, Who},
    engine::{Engine, SUPERUSER},
    identity::Caller,
    installation,
};
use activation::activate;
use proposal::digest_of;

pub use error::ChangeError;
pub use proposal::Decision;
pub use routes::routes;

/// Proposals that may wait at a time.
const MOST_PENDING: i64 = 50;

/// Takes proposals and decisions, and puts into effect what was agreed on.
pub struct Changes {
    engine: Arc<Engine>,
    rules: watch::Sender<Arc<Rules>>,
    clock: Clock,
    /// One at a time: what is decided is decided about one state.
    client: Mutex<Option<Client>>,
}

impl Changes {
    /// Starts from the manifest that the database holds; see [`installation::install`].
    ///
    /// # Errors
    /// That there is none, or PostgreSQL does not answer.
    pub async fn open(engine: Arc<Engine>, clock: Clock) -> Result<Self, ChangeError> {
        let client = engine.session(SUPERUSER).await?;
        let rules = installation::rules(&client).await?;
        let (rules, _) = watch::channel(Arc::new(rules));
        Ok(Self { engine, rules, clock, client: Mutex::new(Some(client)) })
    }

    /// The rules in force, now and when they change.
    #[must_use]
    pub fn rules(&self) -> watch::Receiver<Arc<Rules>> {
        self.rules.subscribe()
    }

    /// Takes a proposal, after it was rehearsed.
    ///
    /// # Errors
    /// That the caller may not, or that it could never be activated.
    pub async fn propose(&self, caller: &Caller, proposal: &Proposal) -> Result<Status, ChangeError> {
        self.approver(caller)?;
        let rules = self.current();
        let digest = proposal.digest();
        let new = Manifest::parse(proposal.manifest.as_bytes())?;
        let plan = plan_of(&rules, proposal, &new)?;
        let now = self.now();
        self.within(async |transaction: &Transaction<'_>| {
            lapse(transaction, now).await?;
            if proposal::find(transaction, &digest)
                .await?
                .is_some_and(|stored| stored.state == State::Pending)
            {
                return Err(ChangeError::Exists(digest));
            }
            let pending = "SELECT count(*) FROM bailey.proposals WHERE state = 'pending'";
            if transaction.query_one(pending, &[]).await?.get::<_, i64>(0) >= MOST_PENDING {
                return Err(ChangeError::TooMany);
            }
            Ok(())
        })
        .await?;
        self.rehearse(&rules, &new, proposal, &plan).await?;
        let expires = now.saturating_add_unsigned(rules.manifest.updates.expiry.as_secs());
        self.within(async |transaction: &Transaction<'_>| {
            self.unchanged(&rules)?;
            proposal::store(transaction, &digest, proposal, caller, (now, expires)).await?;
            let event = Event::Proposed { caller: Who::of(caller), proposal: digest.to_string() };
            audit::append(transaction, &[event], now).await?;
            Ok(())
        })
        .await?;
        self.status(&digest).await
    }

    /// Takes an approver's word; with the last that is needed, the proposal is activated.
    ///
    /// # Errors
    /// That the caller may not, that the proposal is no longer pending and why, or that PostgreSQL does not take it.
    pub async fn decide(
        &self,
        caller: &Caller,
        digest: &Digest,
        decision: Decision,
    ) -> Result<Status, ChangeError> {
        self.approver(caller)?;
        let now = self.now();
        let stored = self
            .within(async |transaction: &Transaction<'_>| {
                lapse(transaction, now).await?;
                proposal::find(transaction, digest).await?.ok_or(ChangeError::Unknown(*digest))
            })
            .await?;
        if stored.state != State::Pending {
            return Err(ChangeError::Over { state: stored.state });
        }
        let rules = self.current();
        let new = Manifest::parse(stored.proposal.manifest.as_bytes())?;
        let plan = plan_of(&rules, &stored.proposal, &new)?;
        let outcome = self
            .within(async |transaction: &Transaction<'_>| {
                self.unchanged(&rules)?;
                // Somebody may have decided since we looked.
                let state = proposal::find(transaction, digest).await?.map(|stored| stored.state);
                if let Some(state) = state.filter(|state| *state != State::Pending) {
                    return Err(ChangeError::Over { state });
                }
                let votes = proposal::vote(transaction, digest, caller, decision, now).await?;
                let mut events = vec![decision.event(caller, digest)];
                if plan.refused(&votes.rejecting) {
                    proposal::end(transaction, digest, State::Rejected, now).await?;
                } else if plan.agreed(&votes.approving) {
                    let active = activate(transaction, &rules, &new, &stored.proposal, now).await?;
                    events.extend(active.events);
                    audit::append(transaction, &events, now).await?;
                    return Ok(Some((active.rules, active.erased)));
                }
                audit::append(transaction, &events, now).await?;
                Ok(None)
            })
            .await?;
        if let Some((rules, erased)) = outcome {
            self.rules.send_replace(Arc::new(rules));
            self.clear(&erased).await;
        }
        self.status(digest).await
    }

    /// What became of a proposal.
    ///
    /// # Errors
    /// That there is none.
    pub async fn status(&self, digest: &Digest) -> Result<Status, ChangeError> {
        let now = self.now();
        let rules = self.current();
        self.within(async |transaction: &Transaction<'_>| {
            lapse(transaction, now).await?;
            let stored = proposal::find(transaction, digest).await?.ok_or(ChangeError::Unknown(*digest))?;
            proposal::status(transaction, stored, &rules).await
        })
        .await
    }

    /// All proposals, the newest first, at most 200.
    ///
    /// # Errors
    /// That PostgreSQL does not answer.
    pub async fn list(&self) -> Result<Vec<Status>, ChangeError> {
        let now = self.now();
        let rules = self.current();
        self.within(async |transaction: &Transaction<'_>| {
            lapse(transaction, now).await?;
            let mut all = Vec::new();
            for stored in proposal::newest(transaction).await? {
                all.push(proposal::status(transaction, stored, &rules).await?);
            }
            Ok(all)
        })
        .await
    }

    /// The manifest in force, with its lineage.
    ///
    /// # Errors
    /// That PostgreSQL does not answer.
    pub async fn in_force(&self) -> Result<InForce, ChangeError> {
        let rows = self
            .within(async |transaction: &Transaction<'_>| {
                let query = "SELECT digest, convert_from(text, 'UTF8') FROM bailey.manifests ORDER BY epoch";
                Ok(transaction.query(query, &[]).await?)
            })
            .await?;
        let lineage: Vec<_> = rows.iter().filter_map(|row| digest_of(row.get(0))).collect();
        let (newest, digest) = rows.last().zip(lineage.last().copied()).ok_or(ChangeError::Stored)?;
        let epoch = rows.len() as u64 - 1;
        Ok(InForce { manifest: newest.get(1), digest, epoch, lineage })
    }

    /// Does all of it, and takes it back.
    async fn rehearse(
        &self,
        rules: &Rules,
        new: &Manifest,
        it: &Proposal,
        plan: &Plan,
    ) -> Result<(), ChangeError> {
        if let Some(obstacle) = plan.obstacles.first() {
            return Err(ChangeError::Obstacle(obstacle.clone()));
        }
        let now = self.now();
        let mut guard = self.client.lock().await;
        let client = connected(&self.engine, &mut guard).await?;
        let transaction = client.transaction().await?;
        let limits = "SET LOCAL lock_timeout = '5s'; SET LOCAL statement_timeout = '60s'";
        transaction.batch_execute(limits).await?;
        let result = activate(&transaction, rules, new, it, now).await.map(drop);
        transaction.rollback().await?;
        result
    }

    /// Deleted rows stay in PostgreSQL's files until these are written anew.
    async fn clear(&self, tables: &BTreeSet<String>) {
        let mut guard = self.client.lock().await;
        for table in tables {
            let vacuum = format!("VACUUM (FULL) public.{table}");
            let done = match connected(&self.engine, &mut guard).await {
                Ok(client) => client.batch_execute(&vacuum).await.map_err(ChangeError::from),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                tracing::warn!(table, code = error.code(), "deleted rows are still in the table's files");
            }
        }
    }

    /// One transaction; an error takes all of it back.
    async fn within<T>(
        &self,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        let mut guard = self.client.lock().await;
        let client = connected(&self.engine, &mut guard).await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute("LOCK TABLE bailey.proposals IN EXCLUSIVE MODE").await?;
        let done = work(&transaction).await?;
        transaction.commit().await?;
        Ok(done)
    }

    fn current(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.borrow())
    }

    /// What was looked at before the transaction is still in force.
    fn unchanged(&self, rules: &Arc<Rules>) -> Result<(), ChangeError> {
        if Arc::ptr_eq(&self.rules.borrow(), rules) {
            Ok(())
        } else {
            Err(ChangeError::Over { state: State::Superseded })
        }
    }

    fn approver(&self, caller: &Caller) -> Result<(), ChangeError> {
        let rules = self.rules.borrow();
        if rules.manifest.updates.approves(caller.party()) {
            return Ok(());
        }
        Err(ChangeError::NotAnApprover(caller.party().clone()))
    }

    fn now(&self) -> i64 {
        (self.clock)().0
    }
}

/// The session, made anew where it ended.
async fn connected<'c>(
    engine: &Engine,
    client: &'c mut Option<Client>,
) -> Result<&'c mut Client, ChangeError> {
    if client.as_ref().is_none_or(Client::is_closed) {
        *client = None;
    }
    match client {
        Some(client) => Ok(client),
        None => Ok(client.insert(engine.session(SUPERUSER).await?)),
    }
}

/// What the proposal means, from the manifest in force.
fn plan_of(rules: &Rules, proposal: &Proposal, new: &Manifest) -> Result<Plan, ChangeError> {
    if proposal.base != Digest(rules.manifest.digest) {
        return Err(ChangeError::Base { expected: Digest(rules.manifest.digest), seen: proposal.base });
    }
    let migration = Migration::read(&proposal.migration, &rules.manifest)?;
    Ok(Plan::between(Some(&rules.manifest), new, &migration, &erased(proposal)?))
}

/// Parties whose rows are deleted.
fn erased(proposal: &Proposal) -> Result<BTreeSet<PartyName>, ChangeError> {
    let names = proposal.erase.iter();
    names.map(|name| PartyName::new(name).ok_or_else(|| ChangeError::Erase(name.clone()))).collect()
}

/// Ends proposals whose time is over.
async fn lapse(transaction: &Transaction<'_>, now: i64) -> Result<(), ChangeError> {
    let update = "UPDATE bailey.proposals SET state = 'expired', decided = $1 \
                  WHERE state = 'pending' AND expires <= $1 RETURNING digest";
    let rows = transaction.query(update, &[&now]).await?;
    let lapsed =
        |digest: Digest| Event::Lapsed { proposal: digest.to_string(), how: State::Expired.to_string() };
    let events: Vec<_> = rows.iter().filter_map(|row| digest_of(row.get(0))).map(lapsed).collect();
    if !events.is_empty() {
        audit::append(transaction, &events, now).await?;
    }
    Ok(())
}
