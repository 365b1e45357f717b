//! Algorithms in a PostgreSQL: what leaves, what it costs, what is told.

use std::sync::Arc;

use appraisal::UnixTime;
use attested_tls::clock::{self, Clock};
use database::{
    Rules,
    algorithms::{Algorithms, Answer, Denied, Given, Parts, Wishes},
    audit::{self, Audit, Event},
    authority::{Authority, Current},
    engine::{Engine, SUPERUSER, Settings},
    identity::{Anchors, Caller},
    installation,
    lsn::{Lsn, SealedPosition},
    reads::Replicas,
};
use database_manifest::{AlgorithmName, Manifest};
use database_receipt::CertificateDer;
use serde_json::{Value, json};
use testkit::parties::Parties;
use tokio::sync::watch;

use crate::postgres::{DATABASE, prepared};

#[path = "algorithms/banks.rs"]
mod banks;
#[path = "algorithms/budget.rs"]
mod budget;
#[path = "algorithms/https.rs"]
mod https;
#[path = "algorithms/modules.rs"]
mod modules;
#[path = "algorithms/output.rs"]
mod output;
#[path = "algorithms/receipts.rs"]
mod receipts;
#[path = "algorithms/replicas.rs"]
mod replicas;
#[path = "algorithms/sealed.rs"]
mod sealed;

const NOW: i64 = 1_800_000_000;

/// A database with its algorithms.
struct Database {
    engine: Arc<Engine>,
    settings: Settings,
    parties: Parties,
    algorithms: Algorithms,
    rules: watch::Sender<Arc<Rules>>,
    sealed: watch::Sender<Lsn>,
    time: watch::Sender<i64>,
    root: CertificateDer<'static>,
    // It goes last.
    _folder: tempfile::TempDir,
}

/// With the manifest of the test parties, changed by `change`, and payments: ten accounts in `ten`, nine in `nine`.
async fn database(change: impl FnOnce(&mut Value)) -> Option<Database> {
    let (settings, folder) = prepared()?;
    let parties = Parties::new();
    let mut document = parties.manifest();
    document["Name"] = json!(DATABASE);
    change(&mut document);
    let manifest =
        Manifest::parse(document.to_string().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    let engine = Arc::new(Engine::start(&settings).await.unwrap());
    let mut client = engine.session(SUPERUSER).await.unwrap();
    installation::install(&mut client, &manifest, UnixTime(NOW)).await.unwrap();
    let payments = "INSERT INTO payments (account, city, amount) \
         SELECT 'account ' || i, 'ten', i * 10 FROM generate_series(1, 10) AS i UNION ALL \
         SELECT 'account ' || i, 'nine', 5 FROM generate_series(1, 9) AS i";
    client.batch_execute(payments).await.unwrap();
    let (key, root) = key();
    let rules = watch::Sender::new(Arc::new(Rules::first(manifest)));
    let sealed = watch::Sender::new(Lsn(u64::MAX));
    let time = watch::Sender::new(NOW);
    let algorithms = served(&engine, &rules, sealed.subscribe(), &time, key).await;
    Some(Database { engine, settings, parties, algorithms, rules, sealed, time, root, _folder: folder })
}

async fn served(
    engine: &Arc<Engine>,
    rules: &watch::Sender<Arc<Rules>>,
    sealed: SealedPosition,
    time: &watch::Sender<i64>,
    key: Current,
) -> Algorithms {
    served_with(engine, Replicas::default(), rules, sealed, time, key).await
}

async fn served_with(
    engine: &Arc<Engine>,
    replicas: Replicas,
    rules: &watch::Sender<Arc<Rules>>,
    sealed: SealedPosition,
    time: &watch::Sender<i64>,
    key: Current,
) -> Algorithms {
    let times = time.subscribe();
    let clock: Clock = Arc::new(move || UnixTime(*times.borrow()));
    Algorithms::new(Parts {
        engine: Arc::clone(engine),
        replicas,
        rules: rules.subscribe(),
        sealed,
        audit: Audit::open(engine, clock::fixed(UnixTime(NOW))).await.unwrap(),
        key,
        clock,
    })
}

fn key() -> (Current, CertificateDer<'static>) {
    let authority = Authority::generate(true, UnixTime(NOW)).unwrap();
    let certified = authority
        .certify(&attested_tls::key::TeeKey::generate().unwrap(), &["localhost".into()], true, UnixTime(NOW))
        .unwrap();
    (Current::new(certified), authority.certificate().clone())
}

impl Database {
    fn caller(&self, party: &str) -> Caller {
        let anchors = Anchors::new(&self.algorithms.rules().manifest).unwrap();
        let (_, authority) = self.parties.all().into_iter().find(|(name, _)| *name == party).unwrap();
        let holder = authority.issue("someone");
        anchors.caller(&[CertificateDer::from(holder.der)], UnixTime(NOW)).unwrap()
    }

    async fn call(&self, name: &str, arguments: &[&str]) -> Result<Answer, Denied> {
        let arguments = arguments.iter().map(|&it| it.into()).collect();
        self.algorithms.call(&self.caller("analyst"), &algorithm(name), arguments, false).await
    }

    async fn wishing(&self, name: &str, arguments: &[&str], wishes: Wishes) -> Result<Answer, Denied> {
        let arguments = Given::InOrder(arguments.iter().map(|&it| it.into()).collect());
        self.algorithms.call_with(&self.caller("analyst"), &algorithm(name), arguments, wishes).await
    }

    /// Another, charged answer.
    async fn fresh(&self, name: &str) -> Result<Answer, Denied> {
        self.wishing(name, &[], Wishes { fresh: true, ..Wishes::default() }).await
    }

    async fn audited(&self) -> Vec<Event> {
        let client = self.engine.session(SUPERUSER).await.unwrap();
        let (lines, _) = audit::read(&client, 1).await.unwrap();
        lines.iter().filter_map(audit::Line::read).collect()
    }

    /// Killed as a whole, and started again.
    async fn killed(mut self) -> Self {
        self.engine.kill();
        self.engine.exited().await;
        self.engine = Arc::new(Engine::start(&self.settings).await.unwrap());
        let (key, root) = key();
        self.algorithms = served(&self.engine, &self.rules, self.sealed.subscribe(), &self.time, key).await;
        Self { root, ..self }
    }
}

fn algorithm(name: &str) -> AlgorithmName {
    AlgorithmName::new(name).unwrap()
}

fn one(answer: &Answer) -> &str {
    assert_eq!(answer.rows.len(), 1);
    answer.rows[0][0].as_deref().unwrap()
}
