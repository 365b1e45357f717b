//! What each party has spent, in PostgreSQL and so in the sealed log: a charge and the noisy answer that it paid for are
//! committed as one, before the answer leaves. A party's calls of one algorithm that cost something happen one after
//! another: the account is locked from before the query runs until the charge is durable.

use database_manifest::{Column, Mechanism, Privacy, Rate};
use database_receipt::Commitment;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Error, GenericClient, Transaction};

use super::Reason;

/// Decimal numbers add up exactly in `numeric`: ten times 0.1 is 1, and an eleventh is too much.
const SCHEMA: &str = "\
CREATE SCHEMA IF NOT EXISTS bailey;
REVOKE ALL ON SCHEMA bailey FROM PUBLIC;
CREATE TABLE IF NOT EXISTS bailey.spent (
    party text, algorithm text, epsilon numeric NOT NULL DEFAULT 0, delta numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (party, algorithm)
);
CREATE TABLE IF NOT EXISTS bailey.calls (party text NOT NULL, algorithm text NOT NULL, at bigint NOT NULL);
CREATE INDEX IF NOT EXISTS calls_at ON bailey.calls (party, algorithm, at);
CREATE TABLE IF NOT EXISTS bailey.noisy_answers (request bytea PRIMARY KEY, answer text NOT NULL);";

/// Makes the tables, where they are not there yet; as superuser.
///
/// # Errors
/// When PostgreSQL refuses.
pub async fn install(client: &impl GenericClient) -> Result<(), Error> {
    client.batch_execute(SCHEMA).await
}

/// What a call costs: decimal numbers, as the manifest has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    epsilon: Vec<String>,
    delta: Vec<String>,
}

impl Cost {
    /// Of the noise of these columns: losses add up.
    pub fn of(columns: &[Column]) -> Self {
        let mut cost = Self::default();
        for noise in columns.iter().filter_map(|column| column.noise) {
            cost.epsilon.push(noise.epsilon.to_string());
            if let Mechanism::Gaussian { delta } = noise.mechanism {
                cost.delta.push(delta.to_string());
            }
        }
        cost
    }
}

/// A noisy answer that was paid for: asked again, it is given again, whatever the data are by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paid {
    /// What left.
    pub rows: Vec<Vec<Option<String>>>,
    /// What it rests on, where that was asked for then.
    pub data: Vec<Commitment>,
    /// Salt of these commitments, in hexadecimal.
    pub salt: Option<String>,
    /// The position of the log that it rests on.
    pub position: String,
    /// What it cost.
    pub epsilon: String,
    /// As that, of delta.
    pub delta: String,
}

/// A party's account for one algorithm, locked.
pub struct Account<'a> {
    transaction: Transaction<'a>,
    party: &'a str,
    algorithm: &'a str,
}

impl<'a> Account<'a> {
    /// Waits until no other call of this party is in it. `client` is a superuser's session.
    ///
    /// # Errors
    /// [`Reason::Engine`]
    pub async fn open(client: &'a mut Client, party: &'a str, algorithm: &'a str) -> Result<Self, Reason> {
        let transaction = client.transaction().await.map_err(Reason::Engine)?;
        let opened = "INSERT INTO bailey.spent (party, algorithm) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        transaction.execute(opened, &[&party, &algorithm]).await.map_err(Reason::Engine)?;
        let locked = "SELECT 1 FROM bailey.spent WHERE party = $1 AND algorithm = $2 FOR UPDATE";
        transaction.query_one(locked, &[&party, &algorithm]).await.map_err(Reason::Engine)?;
        Ok(Self { transaction, party, algorithm })
    }

    /// The session that it is locked in.
    pub fn session(&self) -> &Transaction<'a> {
        &self.transaction
    }

    /// Counts the call, unless there were too many. Calls from a future that a turned clock left behind count too.
    ///
    /// # Errors
    /// [`Reason::Rate`]
    pub async fn count(&self, rate: Rate, now: i64) -> Result<(), Reason> {
        let seconds = rate.per.as_secs();
        let since = now.saturating_sub(i64::try_from(seconds).unwrap_or(i64::MAX));
        let forget = "DELETE FROM bailey.calls WHERE party = $1 AND algorithm = $2 AND at <= $3";
        self.transaction
            .execute(forget, &[&self.party, &self.algorithm, &since])
            .await
            .map_err(Reason::Engine)?;
        let count = "SELECT count(*) FROM bailey.calls WHERE party = $1 AND algorithm = $2";
        let row = self
            .transaction
            .query_one(count, &[&self.party, &self.algorithm])
            .await
            .map_err(Reason::Engine)?;
        if row.get::<_, i64>(0).unsigned_abs() >= rate.calls {
            return Err(Reason::Rate { calls: rate.calls, seconds });
        }
        let note = "INSERT INTO bailey.calls VALUES ($1, $2, $3)";
        self.transaction
            .execute(note, &[&self.party, &self.algorithm, &now])
            .await
            .map_err(Reason::Engine)?;
        Ok(())
    }

    /// The answer that this request was paid for.
    ///
    /// # Errors
    /// [`Reason::Engine`]
    pub async fn paid(&self, request: &[u8; 32]) -> Result<Option<Paid>, Reason> {
        let query = "SELECT answer FROM bailey.noisy_answers WHERE request = $1";
        let row = self.transaction.query_opt(query, &[&request.as_slice()]).await.map_err(Reason::Engine)?;
        let fault = |_| Reason::Result("an answer that was kept cannot be read".into());
        row.map(|row| serde_json::from_str(row.get(0)).map_err(fault)).transpose()
    }

    /// Charges the account, in this transaction. The sums of epsilon and delta of this call are given back.
    ///
    /// # Errors
    /// [`Reason::Budget`]: the account does not hold it.
    pub async fn charge(&self, budget: Privacy, cost: &Cost) -> Result<(String, String), Reason> {
        let (epsilon, delta) = (budget.epsilon.to_string(), budget.delta.to_string());
        let charge = "\
            WITH cost AS (SELECT
                (SELECT coalesce(sum(it::numeric), 0) FROM unnest($3::text[]) AS it) AS epsilon,
                (SELECT coalesce(sum(it::numeric), 0) FROM unnest($4::text[]) AS it) AS delta)
            UPDATE bailey.spent SET epsilon = spent.epsilon + cost.epsilon, delta = spent.delta + cost.delta FROM cost
            WHERE party = $1 AND algorithm = $2
                AND spent.epsilon + cost.epsilon <= $5::text::numeric AND spent.delta + cost.delta <= $6::text::numeric
            RETURNING cost.epsilon::text, cost.delta::text";
        let row = self
            .transaction
            .query_opt(charge, &[&self.party, &self.algorithm, &cost.epsilon, &cost.delta, &epsilon, &delta])
            .await
            .map_err(Reason::Engine)?;
        row.map(|row| (row.get(0), row.get(1))).ok_or(Reason::Budget)
    }

    /// Keeps an answer for when it is asked for again.
    ///
    /// # Errors
    /// [`Reason::Engine`]
    pub async fn keep(&self, request: &[u8; 32], paid: &Paid) -> Result<(), Reason> {
        let text = serde_json::to_string(paid).map_err(|error| Reason::Result(error.to_string()))?;
        let keep = "INSERT INTO bailey.noisy_answers VALUES ($1, $2) ON CONFLICT (request) DO UPDATE SET answer = $2";
        self.transaction.execute(keep, &[&request.as_slice(), &text]).await.map_err(Reason::Engine)?;
        Ok(())
    }

    /// Makes all of it durable: when this returns, it is in the sealed log.
    ///
    /// # Errors
    /// [`Reason::Engine`]
    pub async fn close(self) -> Result<(), Reason> {
        self.transaction.commit().await.map_err(Reason::Engine)
    }
}
