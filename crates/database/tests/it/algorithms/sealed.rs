//! Budgets in the sealed log: what a host does to its disk brings nothing back.

use std::path::Path;

use volume::MemoryAnchor;

use super::*;
use crate::sealer::{Running, begin, found};

/// The algorithms of a database whose log is sealed, by the rules that it holds.
struct Sealed {
    running: Running,
    algorithms: Algorithms,
    caller: Caller,
    _held: watch::Sender<Arc<Rules>>,
}

impl Sealed {
    async fn over(running: Running, parties: &Parties) -> Self {
        let rules = installation::rules(&running.session().await).await.unwrap();
        let anchors = Anchors::new(&rules.manifest).unwrap();
        let chain = [CertificateDer::from(parties.analyst.issue("someone").der)];
        let caller = anchors.caller(&chain, UnixTime(NOW)).unwrap();
        let rules = watch::Sender::new(Arc::new(rules));
        let sealed = running.sealer.position();
        let algorithms = served(&running.engine, &rules, sealed, &watch::Sender::new(NOW), key().0).await;
        Self { running, algorithms, caller, _held: rules }
    }

    async fn fresh(&self) -> Result<Answer, Denied> {
        let wishes = Wishes { fresh: true, ..Wishes::default() };
        self.algorithms.call_with(&self.caller, &algorithm("total"), Given::InOrder(Vec::new()), wishes).await
    }
}

fn copied(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_budget_does_not_come_back_after_a_loss_of_power_or_with_an_old_disk() {
    let (log, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let Some(running) = begin(log.path(), anchor.clone()).await else { return };
    let parties = Parties::new();
    let mut document = parties.manifest();
    document["Name"] = json!(DATABASE);
    let manifest =
        Manifest::parse(document.to_string().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    installation::install(&mut running.session().await, &manifest, UnixTime(NOW)).await.unwrap();
    let sealed = Sealed::over(running, &parties).await;
    for _ in 0..5 {
        sealed.fresh().await.unwrap();
    }
    let old = copied(log.path());
    for _ in 0..5 {
        sealed.fresh().await.unwrap();
    }
    assert_eq!(sealed.fresh().await.unwrap_err().code(), "BUDGET_SPENT");
    sealed.running.dies().await;

    let memory = tempfile::tempdir().unwrap();
    let refused = found(old.path(), &anchor, &memory.path().join("data")).err().expect("refused");
    assert_eq!(refused.code(), "LOG_ROLLED_BACK", "with five answers left");
    let running = begin(log.path(), anchor.clone()).await.unwrap();
    let sealed = Sealed::over(running, &parties).await;
    assert_eq!(sealed.fresh().await.unwrap_err().code(), "BUDGET_SPENT", "nothing but the log was left");
}
