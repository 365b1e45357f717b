//! A database of a mesh and its replicas: they attest, run queries, and take over with everything that was acknowledged.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use attested_tls::claims::DatabaseMode;
use database::service::{HostHints, Promotion, ServiceError};
use evidence::Platform;
use serde_json::json;
use tempfile::TempDir;
use testkit::{copying::Copying, tee::EmulatedTee};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_postgres::{Client, Config, NoTls};

use super::{
    CODE, Served, Way, World,
    crashes::{kill9, postmaster},
    mesh::{ended, note, notes, world},
    open,
};
use crate::{
    instances::{Network, Weather},
    postgres::memory,
};

/// One instance of the world's database, with folders of its own.
struct Instance {
    served: Served,
    hints: HostHints,
    promotion: Promotion,
    memory: TempDir,
}

impl std::ops::Deref for Instance {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

impl Instance {
    fn log(&self) -> PathBuf {
        self.hints.state.join("log")
    }

    /// A session in its PostgreSQL, past everything that keeps others out.
    async fn postgres(&self) -> Client {
        let place = std::fs::read_dir(self.memory.path()).unwrap().map(|it| it.unwrap().path());
        let socket = place.map(|it| it.join("socket")).find(|it| it.is_dir()).unwrap();
        let mut config = Config::new();
        config.host_path(socket).user("bailey").dbname("shared");
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// It is told to take over; the code of why it does not.
    async fn takes_over(&self) -> Result<(), String> {
        let taken = tokio::time::timeout(Duration::from_secs(120), self.promotion.ask()).await;
        taken.expect("an answer").expect("it follows").map_err(|error| error.code().to_owned())
    }
}

async fn instance(world: &World, name: &str, reads: Option<TcpListener>, replicas: &[&Network]) -> Instance {
    let (memory, promotion) = (memory(), Promotion::default());
    open(memory.path());
    let hints = HostHints {
        state: world.state.path().join(name),
        memory: memory.path().to_owned(),
        replicas: replicas.iter().map(|it| it.address.to_string()).collect(),
        promotion: promotion.clone(),
        ..world.hints()
    };
    let configuration = world.configuration();
    let tee = EmulatedTee::launch(Platform::Tdx, CODE, &configuration.to_json());
    let served = world.launched_reading(tee, configuration, hints.clone(), reads).await;
    Instance { served, hints, promotion, memory }
}

async fn follower(world: &World, name: &str) -> Instance {
    let reads = TcpListener::bind("127.0.0.1:0").await.unwrap();
    instance(world, name, Some(reads), &[]).await
}

/// What an analyst is told over HTTPS.
async fn called(way: &Way, world: &World, name: &str) -> (u16, serde_json::Value) {
    let (analyst, request) = (world.parties.analyst.issue("person"), format!("POST /v1/algorithms/{name}"));
    let arguments = if name == "volume" { json!({ "least": 0 }) } else { json!({}) };
    let body = json!({ "Arguments": arguments, "Fresh": true }).to_string();
    way.json(Some(&analyst), &request, &body).await
}

/// How often the payments were read in a replica's PostgreSQL.
async fn ran(there: &Client) -> i64 {
    let ran = "SELECT sum(seq_scan + idx_scan)::bigint FROM pg_stat_user_tables WHERE relname = 'payments'";
    there.query_one(ran, &[]).await.unwrap().get(0)
}

/// Asks until it was the replica that answered.
async fn runs_there(there: &Client, so_far: i64, ask: impl AsyncFn()) {
    let running = async {
        while ran(there).await == so_far {
            ask().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), running).await.expect("it ran there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_attests_that_it_is_one_runs_queries_and_turns_sql_clients_away() {
    let Some((world, mesh)) = world(|_| {}).await else { return };
    let reads = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let network = Network::to(reads.local_addr().unwrap()).await;
    let primary = instance(&world, "primary", None, &[&network]).await;
    let claims = primary.serving().await;
    let bank = primary.session(&world.parties.bank_a).await;
    for account in 1..=10 {
        let payment =
            format!("INSERT INTO payments (account, city, amount) VALUES ('account {account}', 'ten', 1)");
        bank.batch_execute(&payment).await.unwrap();
    }
    let replica = instance(&world, "replica", Some(reads), &[]).await;
    let _copying = Copying::from(&primary.log(), &replica.log());
    let seen = replica.stands(DatabaseMode::Replica).await;
    assert_eq!((seen.anchor, seen.first), (claims.anchor, claims.first));
    let state = seen.state.unwrap();
    assert_eq!((state.name.as_str(), state.epoch, state.log_sequence > 0), ("shared", 0, true));
    assert!(replica.attempt(&world.parties.auditor.issue("person")).await.is_err(), "no SQL there");
    let (status, _) = called(&replica, &world, "volume").await;
    assert_eq!(status, 404, "nor algorithms over HTTPS");

    let there = replica.postgres().await;
    runs_there(&there, 0, async || {
        let (status, answer) = called(&primary, &world, "volume").await;
        assert_eq!((status, &answer["Rows"]), (200, &json!([["ten", "10"]])), "wherever it ran");
    })
    .await;
    // They know each other in the next epoch of their mesh too.
    mesh.update(&world).await;
    mesh.counts(2, 2).await;
    let so_far = ran(&there).await;
    runs_there(&there, so_far, async || assert_eq!(called(&primary, &world, "volume").await.0, 200)).await;
    network.turns(Weather::Cut);
    bank.batch_execute("INSERT INTO payments (account, city, amount) VALUES ('account 1', 'ten', 1)")
        .await
        .unwrap();
    let (status, answer) = called(&primary, &world, "volume").await;
    assert_eq!((status, &answer["Rows"]), (200, &json!([["ten", "11"]])), "without it as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_replica_that_was_evicted_ends_and_reads_nothing_more() {
    let Some((world, mesh)) = world(|_| {}).await else { return };
    let primary = instance(&world, "primary", None, &[]).await;
    primary.serving().await;
    let first = mesh.counts(1, 1).await[0]["instance"].clone();
    let replica = follower(&world, "replica").await;
    let _copying = Copying::from(&primary.log(), &replica.log());
    replica.stands(DatabaseMode::Replica).await;
    let both = mesh.counts(2, 1).await;
    mesh.evict(both.iter().find(|one| one["instance"] != first).unwrap()).await;
    assert_eq!(ended(replica.served).await.code(), "EVICTED");
    note(&primary, &world, 1).await.expect("who writes was not meant");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mesh_there_are_no_replicas_and_no_failover() {
    let Some(world) = World::new() else { return };
    let alone = follower(&world, "replica").await;
    assert_eq!(ended(alone.served).await.code(), "REPLICA_ALONE");
    let network = Network::to(([127, 0, 0, 1], 9).into()).await;
    let with = instance(&world, "primary", None, &[&network]).await;
    assert_eq!(ended(with.served).await.code(), "REPLICA_ALONE");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_replica_that_has_not_everything_takes_nothing_over_and_fences_nobody() {
    let Some((world, _mesh)) = world(|_| {}).await else { return };
    let primary = instance(&world, "primary", None, &[]).await;
    primary.serving().await;
    note(&primary, &world, 1).await.unwrap();
    let replica = follower(&world, "replica").await;
    let copying = Copying::from(&primary.log(), &replica.log());
    replica.stands(DatabaseMode::Replica).await;
    // Its host stops copying.
    drop(copying);
    note(&primary, &world, 2).await.unwrap();
    assert_eq!(replica.takes_over().await, Err("REPLICA_BEHIND".into()));
    note(&primary, &world, 3).await.expect("nobody was fenced");
    assert_eq!(replica.claims().await.mode, DatabaseMode::Replica, "and it follows on");
    // Nor does one that is started on such a copy.
    let stale = instance(&world, "replica-again", None, &[]).await;
    drop(Copying::from(&replica.log(), &stale.log()));
    let refused = ended(stale.served).await.code().to_owned();
    assert!(["LOG_ROLLED_BACK", "LOG_MISSING"].contains(&refused.as_str()), "{refused}");
    note(&primary, &world, 4).await.expect("nobody was fenced");

    let _copying = Copying::from(&primary.log(), &replica.log());
    assert_eq!(replica.takes_over().await, Ok(()));
    assert_eq!(ended(primary.served).await.code(), "VOLUME_TAKEN");
    replica.serving().await;
    assert_eq!(notes(&replica, &world).await, [1, 2, 3, 4]);
}

/// Writes until nobody answers; which notes were acknowledged.
async fn write(
    way: Way,
    holder: testkit::parties::Holder,
    base: usize,
    counted: Arc<AtomicUsize>,
) -> Vec<i64> {
    let mut acknowledged = Vec::new();
    let Ok(session) = way.attempt(&holder).await else { return acknowledged };
    for number in 0.. {
        let id = i64::try_from(base + number).unwrap();
        if session.batch_execute(&format!("INSERT INTO notes VALUES ({id}, 'x')")).await.is_err() {
            break;
        }
        acknowledged.push(id);
        counted.fetch_add(1, SeqCst);
    }
    acknowledged
}

/// How a primary is lost.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// kill -9.
    Killed,
    /// It runs on, and nobody told it.
    Forgotten,
}

const WRITERS: usize = 8;

/// Loses one primary after the other under load; each time its replica takes over with all that was acknowledged.
async fn failovers(losses: &[Loss]) {
    let Some((world, _mesh)) = world(|_| {}).await else { return };
    let mut acknowledged = BTreeSet::new();
    let mut primary = instance(&world, "instance-0", None, &[]).await;
    primary.serving().await;
    for (round, loss) in losses.iter().enumerate() {
        let replica = follower(&world, &format!("instance-{}", round + 1)).await;
        let _copying = Copying::from(&primary.log(), &replica.log());
        replica.stands(DatabaseMode::Replica).await;
        for _ in (0..4).take_while(|_| round < 2) {
            assert_eq!(called(&primary, &world, "total").await.0, 200);
        }
        let (mut writers, counted) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for writer in 0..WRITERS {
            let base = (round * WRITERS + writer) * 1_000_000;
            let holder = world.parties.bank_b.issue("writer");
            writers.spawn(write(primary.served.way.clone(), holder, base, Arc::clone(&counted)));
        }
        let busy = async {
            while counted.load(SeqCst) < 60 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), busy).await.expect("they write");
        if let Loss::Killed = loss {
            kill9(postmaster(primary.memory.path()));
        }
        replica.takes_over().await.unwrap();
        let fenced = matches!(loss, Loss::Forgotten);
        acknowledged.extend(writers.join_all().await.into_iter().flatten());
        let Instance { served, hints, memory, .. } = primary;
        let error = ended(served).await;
        assert!(!fenced || error.code() == "VOLUME_TAKEN", "{}", error.code());
        replica.serving().await;
        let present: BTreeSet<i64> = notes(&replica, &world).await.into_iter().collect();
        let lost: Vec<_> = acknowledged.difference(&present).collect();
        assert!(lost.is_empty(), "{loss:?}: {} acknowledged notes are lost: {lost:?}", lost.len());

        // The former one comes back on its own copy, and takes nothing.
        let configuration = world.configuration();
        let tee = EmulatedTee::launch(Platform::Tdx, CODE, &configuration.to_json());
        let hints = HostHints { promotion: Promotion::default(), ..hints };
        let former = world.launched_reading(tee, configuration, hints, None).await;
        note(&replica, &world, -i64::try_from(round).unwrap() - 1).await.expect("the new one writes");
        let refused: ServiceError = ended(former).await;
        assert!(["LOG_ROLLED_BACK", "LOG_FORKED"].contains(&refused.code()), "{}", refused.code());
        note(&replica, &world, -i64::try_from(round).unwrap() - 1000).await.expect("nobody was fenced");
        drop(memory);
        primary = replica;
    }
    // Ten answers in all, whoever gave them.
    let given = losses.len().min(2) * 4;
    for number in given..12 {
        let (status, answer) = called(&primary, &world, "total").await;
        let expected = if number < 10 { 200 } else { 429 };
        assert_eq!(status, expected, "{number}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_primary_that_runs_on_is_fenced_and_nothing_that_was_acknowledged_is_lost() {
    failovers(&[Loss::Forgotten]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_under_load_is_replaced_and_no_budget_comes_back() {
    failovers(&[Loss::Killed]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo xtask soak"]
async fn soak_primaries_are_lost_one_after_the_other() {
    let losses: Vec<Loss> = [Loss::Killed, Loss::Forgotten].into_iter().cycle().take(12).collect();
    failovers(&losses).await;
}
