//! A database with the parties of the example manifest, and callers of theirs.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use appraisal::UnixTime;
use attested_tls::clock::Clock;
use database::{
    changes::{Changes, Digest, Proposal},
    engine::SUPERUSER,
    identity::{Anchors, Caller},
    installation::{self, install},
};
use database_manifest::{Manifest, PartyName};
use serde_json::Value;
use testkit::parties::{Authority, Parties};
use tokio_postgres::Client;

use crate::postgres::{Running, postgres};

/// When the tests happen.
pub const NOW: i64 = 1_800_000_000;

pub struct Scene {
    pub running: Running,
    pub parties: Parties,
    pub changes: Arc<Changes>,
    pub document: Value,
    time: Arc<AtomicI64>,
}

impl Scene {
    /// With the example manifest as `change` leaves it.
    pub async fn with(change: impl FnOnce(&mut Value)) -> Option<Self> {
        let running = postgres().await?;
        let parties = Parties::new();
        let mut document = parties.manifest();
        // The test's server has this database.
        document["Name"] = Value::from(crate::postgres::DATABASE);
        change(&mut document);
        let manifest = manifest(&document);
        let mut client = running.session(SUPERUSER).await.expect("a session");
        install(&mut client, &manifest, UnixTime(NOW)).await.unwrap_or_else(|error| panic!("{error}"));
        let time = Arc::new(AtomicI64::new(NOW));
        let clock: Clock = {
            let time = Arc::clone(&time);
            Arc::new(move || UnixTime(time.load(Ordering::SeqCst)))
        };
        let changes = Arc::new(Changes::open(running.engine(), clock).await.expect("rules"));
        Some(Self { running, parties, changes, document, time })
    }

    pub async fn new() -> Option<Self> {
        Self::with(|_| ()).await
    }

    /// Time goes on.
    pub fn later(&self, seconds: i64) {
        self.time.fetch_add(seconds, Ordering::SeqCst);
    }

    /// A session as that party.
    pub async fn session(&self, party: &str) -> Client {
        let role = installation::role(&PartyName::new(party).expect("a name"));
        self.running.session(&role).await.unwrap_or_else(|error| panic!("{party}: {error}"))
    }

    /// Someone with a certificate of that authority.
    pub fn caller(&self, authority: &Authority) -> Caller {
        let anchors = Anchors::new(&self.changes.rules().borrow().manifest).expect("anchors");
        let chain = [authority.issue("someone").der.into()];
        anchors.caller(&chain, UnixTime(NOW)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A proposal of the manifest as `change` leaves it, from the one in force.
    pub fn proposal(&self, migration: &str, change: impl FnOnce(&mut Value)) -> Proposal {
        let mut document = self.document.clone();
        change(&mut document);
        Proposal {
            base: Digest(self.changes.rules().borrow().manifest.digest),
            manifest: document.to_string(),
            migration: migration.to_owned(),
            erase: Vec::new(),
            restore: None,
        }
    }

    /// The kinds of all entries in the audit log.
    pub async fn audited(&self) -> Vec<Value> {
        let client = self.running.session(SUPERUSER).await.expect("a session");
        let rows =
            client.query("SELECT event FROM bailey.audit ORDER BY sequence", &[]).await.expect("entries");
        rows.iter().map(|row| serde_json::from_str(row.get(0)).expect("JSON")).collect()
    }
}

pub fn manifest(document: &Value) -> Manifest {
    Manifest::parse(document.to_string().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"))
}
