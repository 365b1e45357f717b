//! Approved computations: who calls one with which arguments, what it reads, what of the result leaves, what that costs.
//!
//! ```text
//!  call ─▶ caller? arguments? ─▶ rate, budget (locked) ─▶ query as bailey_reader ─▶ module ─▶ output rules ─▶ noise
//!                                                                                                             │
//!       answer leaves ◀─ audit ◀─ receipt ◀─ sealed up to here ◀─ charge and answer committed as one ◀────────┘
//! ```
//!
//! An answer that cost something was charged before it left, and a failure after data was read is charged as well: that
//! it failed is an answer. Callers learn of such failures one sentence, see [`Denied`].

mod answer;
pub mod api;
mod arguments;
mod compute;
mod decimal;
mod ledger;
mod noise;
mod output;
mod places;
mod plan;
mod query;
mod wasm;

use std::sync::Arc;

use attested_tls::clock::Clock;
use database_manifest::{Algorithm, AlgorithmName, Manifest};
use database_receipt::{Digest, Receipt, Statement, VERSION};
use tokio::sync::watch;
use tokio_postgres::{Client, GenericClient, Transaction};

use crate::{
    audit::{Audit, Event, Refused, Who},
    authority::Current,
    engine::{Engine, SUPERUSER},
    identity::Caller,
    installation::READER,
    lsn::{Lsn, SealedPosition},
    reads::Replicas,
    rules::Rules,
};

pub use answer::{Answer, Denied, Reason};
pub use arguments::Given;
pub use ledger::install;
pub use query::TIME as LONGEST_QUERY;
pub use wasm::{ModuleError, Row, read_rows};

use ledger::{Account, Cost, Paid};
use places::Places;
use query::Found;

/// Whether every algorithm of a manifest can run: modules are of their form, PostgreSQL takes the queries, which give what
/// the manifest says. Nothing is read. `client` is in the transaction that made the tables.
///
/// # Errors
/// Which cannot, and why.
pub async fn check(client: &Transaction<'_>, manifest: &Manifest) -> Result<(), Unusable> {
    let path = format!("SET LOCAL search_path = {}", query::SEARCH_PATH);
    // Where this fails, so does what follows.
    let _ = client.batch_execute(&path).await;
    for (name, algorithm) in &manifest.algorithms {
        let unusable = |reason: String| Unusable { name: name.clone(), reason };
        if let Some(wasm) = &algorithm.wasm {
            wasm::check(wasm).map_err(|error| unusable(error.to_string()))?;
        }
        if let Err(reason) = query::prepare(client, algorithm).await {
            return Err(unusable(match reason {
                Reason::Engine(error) => said(error),
                other => other.to_string(),
            }));
        }
    }
    let _ = client.batch_execute("SET LOCAL search_path = DEFAULT").await;
    Ok(())
}

/// PostgreSQL's own words: of a query that was not run they hold nothing of any row.
fn said(error: tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |it| it.message().to_owned())
}

/// An algorithm of a manifest that could not run.
#[derive(Debug, thiserror::Error)]
#[error("algorithm {name} cannot run: {reason}")]
pub struct Unusable {
    /// Which.
    pub name: AlgorithmName,
    /// Why.
    pub reason: String,
}

/// What calls need.
pub struct Parts {
    /// Where queries run.
    pub engine: Arc<Engine>,
    /// Where they run instead, as long as these show as much.
    pub replicas: Replicas,
    /// The manifest in force.
    pub rules: watch::Receiver<Arc<Rules>>,
    /// Up to where the log is sealed: nothing that is not in it leaves.
    pub sealed: SealedPosition,
    /// Where calls and denials are recorded.
    pub audit: Audit,
    /// The key of the certificate that the database shows: it signs receipts.
    pub key: Current,
    /// The time.
    pub clock: Clock,
}

/// Answers calls. Clones share all.
#[derive(Clone)]
pub struct Algorithms(Arc<Shared>);

struct Shared {
    parts: Parts,
    places: Places,
}

/// What a caller asks for beside the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wishes {
    /// A receipt: the tables that were read are hashed for it, which takes as long as reading them.
    pub receipt: bool,
    /// A new noisy answer, and its charge, where the same request was answered before.
    pub fresh: bool,
}

impl Algorithms {
    /// From these.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Shared { parts, places: Places::default() }))
    }

    /// The manifest in force.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.0.parts.rules.borrow())
    }

    /// Answers a call, with arguments in their text forms. It records the call, or its denial, in the audit log.
    ///
    /// # Errors
    /// [`Denied`]
    pub async fn call(
        &self,
        caller: &Caller,
        name: &AlgorithmName,
        arguments: Vec<String>,
        want_receipt: bool,
    ) -> Result<Answer, Denied> {
        let wishes = Wishes { receipt: want_receipt, fresh: false };
        self.call_with(caller, name, Given::InOrder(arguments), wishes).await
    }

    /// As [`Self::call`], with all wishes.
    ///
    /// # Errors
    /// [`Denied`]
    pub async fn call_with(
        &self,
        caller: &Caller,
        name: &AlgorithmName,
        arguments: Given,
        wishes: Wishes,
    ) -> Result<Answer, Denied> {
        let asked = arguments.texts();
        // A caller that goes away stops nothing: what was charged is recorded, and what failed after data was read too.
        let (this, who, name) = (self.clone(), caller.clone(), name.clone());
        let answering = tokio::spawn(async move {
            let answered = this.0.answered(&who, &name, arguments, wishes).await.map_err(Denied::from);
            match answered {
                Ok(answer) => Ok(answer),
                Err(denied) => this.0.denied(&who, &name, asked, denied).await,
            }
        });
        answering
            .await
            .unwrap_or_else(|_| Err(Reason::Result("the call ended without a result".into()).into()))
    }
}

/// A call whose caller and arguments were looked at.
struct Call<'a> {
    caller: &'a Caller,
    name: &'a AlgorithmName,
    algorithm: &'a Algorithm,
    arguments: Vec<String>,
    wishes: Wishes,
    rules: &'a Rules,
}

impl Shared {
    async fn answered(
        &self,
        caller: &Caller,
        name: &AlgorithmName,
        arguments: Given,
        wishes: Wishes,
    ) -> Result<Answer, Reason> {
        let rules = Arc::clone(&self.parts.rules.borrow());
        let algorithm = rules.manifest.algorithms.get(name).filter(|it| it.callers.contains(caller.party()));
        let Some(algorithm) = algorithm else {
            return Err(Reason::NotACaller {
                party: caller.party().to_string(),
                algorithm: name.to_string(),
            });
        };
        let arguments = arguments::check(&algorithm.arguments, arguments)?;
        let _place = self.places.take(caller.party()).await?;
        let call = Call { caller, name, algorithm, arguments, wishes, rules: &rules };
        let paid = self.paid(&call).await?;
        // What was agreed while the query ran counts for what leaves now.
        if self.parts.rules.borrow().epoch != rules.epoch {
            return Err(Reason::Changed);
        }
        let mut answer = Answer { columns: columns(algorithm), rows: paid.rows.clone(), receipt: None };
        if wishes.receipt {
            answer.receipt = Some(self.receipt(&call, &paid, &answer)?);
        }
        self.record(recorded(&call, &paid)).await?;
        Ok(answer)
    }

    /// The answer, paid for where it costs something, and all of it sealed.
    async fn paid(&self, call: &Call<'_>) -> Result<Paid, Reason> {
        let mut client = self.session(SUPERUSER).await?;
        let output = &call.algorithm.output;
        let paid = match (output.rate, output.privacy) {
            (None, None) => self.found(call, &client).await?,
            (rate, privacy) => {
                let (party, name) = (call.caller.party().as_str(), call.name.as_str());
                let account = Account::open(&mut client, party, name).await?;
                if let Some(rate) = rate {
                    account.count(rate, (self.parts.clock)().0).await?;
                }
                let (paid, failed) = match privacy {
                    None => self.found(call, account.session()).await.map(|it| (Some(it), None))?,
                    Some(budget) => self.charged(call, &account, budget).await?,
                };
                account.close().await?;
                match (paid, failed) {
                    (Some(paid), _) => paid,
                    (None, failed) => return Err(failed.unwrap_or(Reason::Budget)),
                }
            }
        };
        self.sealed(&client).await?;
        Ok(paid)
    }

    /// From the answers that were paid for, or anew and charged. A failure of the query is charged like an answer.
    async fn charged(
        &self,
        call: &Call<'_>,
        account: &Account<'_>,
        budget: database_manifest::Privacy,
    ) -> Result<(Option<Paid>, Option<Reason>), Reason> {
        let request = request(call);
        if !call.wishes.fresh
            && let Some(paid) = account.paid(&request).await?
        {
            let free = Paid { epsilon: "0".into(), delta: "0".into(), ..paid };
            return Ok((Some(free), None));
        }
        let (epsilon, delta) = account.charge(budget, &Cost::of(&call.algorithm.output.columns)).await?;
        match self.found(call, account.session()).await {
            Err(failed) => Ok((None, Some(failed))),
            Ok(found) => {
                let paid = Paid { epsilon, delta, ..found };
                account.keep(&request, &paid).await?;
                Ok((Some(paid), None))
            }
        }
    }

    /// Runs the query. `client` is a superuser's session, which tells where the log is.
    async fn found(&self, call: &Call<'_>, client: &impl GenericClient) -> Result<Paid, Reason> {
        let salt = call.wishes.receipt.then(salt).transpose()?;
        let found = match self.elsewhere(call, salt.as_ref()).await {
            Some(found) => found?,
            None => {
                let mut reader = self.session(READER).await?;
                self.run(&mut reader, call, salt.as_ref()).await?
            }
        };
        // What the query saw was committed before: the position now is no earlier.
        let position = position(client).await?.to_string();
        let salt = salt.map(hex::encode);
        let (epsilon, delta) = ("0".into(), "0".into());
        Ok(Paid { rows: found.rows, data: found.data, salt, position, epsilon, delta })
    }

    /// The same on a replica that shows whatever a session here would: nobody sees a commit before it is sealed. `None`:
    /// there is none, or it was lost, or it has other rules by now.
    async fn elsewhere(&self, call: &Call<'_>, salt: Option<&[u8; 32]>) -> Option<Result<Found, Reason>> {
        let sealed = *self.parts.sealed.borrow();
        let (mut reader, chosen) = self.parts.replicas.session(sealed, self.parts.engine.database()).await?;
        let ran = tokio::select! {
            ran = self.run(&mut reader, call, salt) => ran,
            () = chosen.lost() => {
                chosen.give_up();
                return None;
            }
        };
        match ran {
            // Its host decides when it ends a session, and how fast it is.
            Err(Reason::Engine(error)) if error.as_db_error().is_none() => chosen.give_up(),
            Err(Reason::Time(_)) => chosen.give_up(),
            // What it replays can be in the way of a query. Where the query itself is at fault, it is so here too.
            Err(Reason::Engine(_) | Reason::Changed) => {}
            ran => return Some(ran),
        }
        None
    }

    async fn run(
        &self,
        reader: &mut Client,
        call: &Call<'_>,
        salt: Option<&[u8; 32]>,
    ) -> Result<Found, Reason> {
        query::run(reader, call.rules.epoch, call.algorithm, &call.arguments, salt).await
    }

    async fn session(&self, role: &str) -> Result<Client, Reason> {
        self.parts.engine.session(role).await.map_err(|error| Reason::Session(error.to_string()))
    }

    /// Waits until all that was committed so far is sealed: the answer may rest on any of it.
    async fn sealed(&self, client: &Client) -> Result<(), Reason> {
        let position = position(client).await?;
        let mut sealed = self.parts.sealed.clone();
        let waiting = sealed.wait_for(|it| *it >= position);
        match tokio::time::timeout(query::TIME, waiting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Reason::Record("nobody seals the log".into())),
            Err(_) => Err(Reason::Record(format!("the log is not sealed up to {position}"))),
        }
    }

    fn receipt(&self, call: &Call<'_>, paid: &Paid, answer: &Answer) -> Result<Receipt, Reason> {
        let statement = Statement {
            version: VERSION,
            database: call.rules.manifest.name.clone(),
            first_manifest: Digest(call.rules.first),
            manifest: Digest(call.rules.manifest.digest),
            epoch: call.rules.epoch,
            caller: call.caller.party().to_string(),
            certificate: Digest(call.caller.certificate()),
            algorithm: call.name.to_string(),
            query: Digest::of(call.algorithm.sql.as_bytes()),
            module: call.algorithm.wasm.as_ref().map(|it| Digest(it.digest)),
            arguments: call.arguments.clone(),
            answer: answer.digest(),
            data: paid.data.clone(),
            log_position: paid.position.clone(),
            epsilon: call.algorithm.output.privacy.map(|_| paid.epsilon.clone()),
            time: (self.parts.clock)().0.unsigned_abs(),
        };
        let key = self.parts.key.certified();
        let signature = key.sign(&statement.signed_bytes());
        let signature = signature.map_err(|error| Reason::Receipt(error.to_string()))?;
        let certificates = key.chain().to_vec();
        Ok(Receipt { statement, certificates, signature })
    }

    async fn record(&self, event: Event) -> Result<(), Reason> {
        self.parts.audit.record(event).await.map(drop).map_err(|error| Reason::Record(error.to_string()))
    }

    /// Records a denial. A caller learns the same whether that succeeds or not.
    async fn denied(
        &self,
        caller: &Caller,
        name: &AlgorithmName,
        mut arguments: Vec<String>,
        denied: Denied,
    ) -> Result<Answer, Denied> {
        // An entry has a size; a denied call need not have one.
        for argument in &mut arguments {
            argument.truncate(argument.floor_char_boundary(RECORDED));
        }
        arguments.truncate(RECORDED_ARGUMENTS);
        let event = Event::Denied {
            caller: Who::of(caller),
            what: Refused::Algorithm { name: name.to_string(), arguments },
            code: denied.code().into(),
            reason: denied.told(),
        };
        if let Err(error) = self.record(event).await {
            tracing::error!(%error, "a denial is not recorded");
        }
        Err(denied)
    }
}

/// Bytes of a denied call's argument that are recorded, and how many arguments.
const RECORDED: usize = 200;
const RECORDED_ARGUMENTS: usize = 32;

fn columns(algorithm: &Algorithm) -> Vec<(String, database_manifest::SqlType)> {
    algorithm.output.columns.iter().map(|it| (it.name.clone(), it.sql_type)).collect()
}

fn recorded(call: &Call<'_>, paid: &Paid) -> Event {
    Event::Call {
        caller: Who::of(call.caller),
        algorithm: call.name.to_string(),
        arguments: call.arguments.clone(),
        rows: paid.rows.len() as u64,
        epsilon: paid.epsilon.parse().unwrap_or(f64::NAN),
        delta: paid.delta.parse().unwrap_or(f64::NAN),
        epoch: call.rules.epoch,
        salt: paid.salt.clone(),
    }
}

/// What makes two requests the same: the party, the manifest, the algorithm, the arguments.
fn request(call: &Call<'_>) -> [u8; 32] {
    let mut bytes = call.rules.manifest.digest.to_vec();
    let texts = [call.caller.party().as_str(), call.name.as_str()];
    for text in texts.into_iter().chain(call.arguments.iter().map(String::as_str)) {
        bytes.extend((text.len() as u64).to_be_bytes());
        bytes.extend(text.as_bytes());
    }
    Digest::of(&bytes).0
}

fn salt() -> Result<[u8; 32], Reason> {
    let mut salt = [0; 32];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| Reason::Receipt("no randomness".into()))?;
    Ok(salt)
}

async fn position(client: &impl GenericClient) -> Result<Lsn, Reason> {
    let row =
        client.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.map_err(Reason::Engine)?;
    let text: &str = row.get(0);
    text.parse().map_err(|_| Reason::Result("a position of the log".into()))
}

#[cfg(test)]
mod tests;
