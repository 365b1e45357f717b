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
//! rehearsed when it is made: the whole of it is done in a transaction that is then rolled back. Rows that are to be
//! restored are looked up then, and counted for those who may know.

mod activation;
mod error;
mod proposal;
mod refused;
mod restoration;
mod routes;
mod schema;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use attested_tls::clock::Clock;
pub use database_manifest::{Digest, InForce, Proposal, ProposalState as State, ProposalStatus as Status};
use database_manifest::{Manifest, Migration, PartyName, Plan, Restoration, Rows};
use tokio::sync::{Mutex, watch};
use tokio_postgres::{Client, Transaction};

use crate::{
    Rules,
    audit::{self, Event, Who},
    engine::{Engine, SUPERUSER},
    identity::Caller,
    installation,
    restore::History,
};
use activation::activate;
use proposal::{digest_of, new_of};
use restoration::Then;

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
    /// What looks up the past is decided before the transaction that it is for, and nothing else meanwhile.
    deciding: Mutex<()>,
    history: Option<Arc<History>>,
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
        let (client, deciding) = (Mutex::new(Some(client)), Mutex::default());
        Ok(Self { engine, rules, clock, client, deciding, history: None })
    }

    /// With what rows are restored from.
    #[must_use]
    pub fn with_history(self, history: Arc<History>) -> Self {
        Self { history: Some(history), ..self }
    }

    /// The rules in force, now and when they change.
    #[must_use]
    pub fn rules(&self) -> watch::Receiver<Arc<Rules>> {
        self.rules.subscribe()
    }

    /// Takes a proposal, after it was rehearsed.
    ///
    /// # Errors
    /// That the caller may not, or that it could never be activated; then the audit log says so.
    pub async fn propose(&self, caller: &Caller, proposal: &Proposal) -> Result<Status, ChangeError> {
        let proposed = self.proposed(caller, proposal).await;
        self.recorded(caller, || "POST /v1/proposals".to_owned(), proposed).await
    }

    async fn proposed(&self, caller: &Caller, proposal: &Proposal) -> Result<Status, ChangeError> {
        self.approver(caller)?;
        let rules = self.current();
        let digest = proposal.digest();
        let new = new_of(proposal)?;
        let plan = plan_of(&rules, proposal, new.as_ref())?;
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
        if let Some(obstacle) = plan.obstacles.first() {
            return Err(ChangeError::Obstacle(obstacle.clone()));
        }
        let rows = match (&new, &proposal.restore) {
            (None, Some(restoration)) => self.look_up(&rules, restoration).await?,
            (Some(new), _) => self.rehearse(&rules, new, proposal).await.map(|()| BTreeMap::new())?,
            (None, None) => return Err(ChangeError::Stored),
        };
        let expires = now.saturating_add_unsigned(rules.manifest.updates.expiry.as_secs());
        self.within(async |transaction: &Transaction<'_>| {
            self.unchanged(&rules)?;
            proposal::store(transaction, &digest, proposal, caller, &rows, (now, expires)).await?;
            let event = Event::Proposed { caller: Who::of(caller), proposal: digest.to_string() };
            audit::append(transaction, &[event], now).await?;
            Ok(())
        })
        .await?;
        self.status(caller, &digest).await
    }

    /// Takes an approver's word; with the last that is needed, the proposal is activated.
    ///
    /// # Errors
    /// That the caller may not, that the proposal is no longer pending and why, or that PostgreSQL does not take it; then
    /// the audit log says so.
    pub async fn decide(
        &self,
        caller: &Caller,
        digest: &Digest,
        decision: Decision,
    ) -> Result<Status, ChangeError> {
        let decided = self.decided(caller, digest, decision).await;
        self.recorded(caller, || format!("POST /v1/proposals/{digest}/{}", decision.word()), decided).await
    }

    async fn decided(
        &self,
        caller: &Caller,
        digest: &Digest,
        decision: Decision,
    ) -> Result<Status, ChangeError> {
        self.approver(caller)?;
        let _one = self.deciding.lock().await;
        let now = self.now();
        let (stored, mut votes) = self
            .within(async |transaction: &Transaction<'_>| {
                lapse(transaction, now).await?;
                let stored = proposal::find(transaction, digest).await?;
                let stored = stored.ok_or(ChangeError::Unknown(*digest))?;
                Ok((stored, proposal::votes(transaction, digest).await?))
            })
            .await?;
        if stored.state != State::Pending {
            return Err(ChangeError::Over { state: stored.state });
        }
        let rules = self.current();
        let new = new_of(&stored.proposal)?;
        let plan = plan_of(&rules, &stored.proposal, new.as_ref())?;
        votes.approving.insert(caller.party().clone());
        let then = match &stored.proposal.restore {
            Some(restoration) if decision == Decision::Approve && plan.agreed(&votes.approving) => {
                Some((Then::open(self.history()?, restoration).await?, restoration))
            }
            _ => None,
        };
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
                } else if let (true, Some(new)) = (plan.agreed(&votes.approving), &new) {
                    let active = activate(transaction, &rules, new, &stored.proposal, now).await?;
                    events.extend(active.events);
                    audit::append(transaction, &events, now).await?;
                    return Ok((Some(active.rules), active.erased));
                } else if let Some((then, restoration)) = &then {
                    let live = (&*self.engine, &*rules.manifest);
                    events.extend(then.replace(transaction, live, digest, restoration, now).await?);
                    // Last, since whoever records anything waits from here on until the end.
                    audit::append(transaction, &events, now).await?;
                    return Ok((None, restoration.tables.iter().cloned().collect()));
                }
                audit::append(transaction, &events, now).await?;
                Ok((None, BTreeSet::new()))
            })
            .await;
        if let Some((then, _)) = then {
            then.close().await;
        }
        let (active, cleared) = outcome?;
        if let Some(rules) = active {
            self.rules.send_replace(Arc::new(rules));
        }
        self.clear(&cleared).await;
        self.status(caller, digest).await
    }

    /// What became of a proposal.
    ///
    /// # Errors
    /// That there is none.
    pub async fn status(&self, caller: &Caller, digest: &Digest) -> Result<Status, ChangeError> {
        let now = self.now();
        let rules = self.current();
        self.within(async |transaction: &Transaction<'_>| {
            lapse(transaction, now).await?;
            let stored = proposal::find(transaction, digest).await?.ok_or(ChangeError::Unknown(*digest))?;
            proposal::status(transaction, stored, &rules, caller).await
        })
        .await
    }

    /// All proposals, the newest first, at most 200.
    ///
    /// # Errors
    /// That PostgreSQL does not answer.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Status>, ChangeError> {
        let now = self.now();
        let rules = self.current();
        self.within(async |transaction: &Transaction<'_>| {
            lapse(transaction, now).await?;
            let mut all = Vec::new();
            for stored in proposal::newest(transaction).await? {
                all.push(proposal::status(transaction, stored, &rules, caller).await?);
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
    async fn rehearse(&self, rules: &Rules, new: &Manifest, it: &Proposal) -> Result<(), ChangeError> {
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

    /// Whether rows of then can be had, and how many.
    async fn look_up(&self, rules: &Rules, it: &Restoration) -> Result<BTreeMap<String, Rows>, ChangeError> {
        let (tables, then) = (it.tables()?, Then::open(self.history()?, it).await?);
        let live = self.engine.session(SUPERUSER).await?;
        let rows = then.compare(&live, &self.engine, &rules.manifest, &tables).await;
        then.close().await;
        rows
    }

    fn history(&self) -> Result<&History, ChangeError> {
        self.history.as_deref().ok_or(ChangeError::NoHistory)
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
fn plan_of(rules: &Rules, proposal: &Proposal, new: Option<&Manifest>) -> Result<Plan, ChangeError> {
    if proposal.base != Digest(rules.manifest.digest) {
        return Err(ChangeError::Base { expected: Digest(rules.manifest.digest), seen: proposal.base });
    }
    let Some(new) = new else {
        let restoration = proposal.restoration()?.ok_or(ChangeError::Stored)?;
        return Ok(Plan::of_restoration(&rules.manifest, restoration)?);
    };
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
