//! Queries that run on replicas: they see nothing older and do nothing else, and nobody waits long for one that is gone.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use database::{
    installation::READER,
    reads::{PROTOCOL, Peers, Reads, Replicas, Reply, Request},
};
use tempfile::TempDir;
use testkit::copying::Copying;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::sync::{CancellationToken, DropGuard};
use volume::MemoryAnchor;

use super::*;
use crate::{
    instances::{Mesh, Network, Weather},
    replica::{Standby, standby},
    sealer::{self, begin},
};

/// A database whose log is sealed, with the payments of the other tests.
struct Scene {
    primary: sealer::Running,
    log: TempDir,
    anchor: MemoryAnchor,
    parties: Parties,
    rules: watch::Sender<Arc<Rules>>,
    time: watch::Sender<i64>,
    mesh: Mesh,
}

/// A replica that runs queries for others.
struct Serving {
    standby: Standby,
    network: Network,
    _stop: DropGuard,
}

async fn scene() -> Option<Scene> {
    let (log, anchor) = (tempfile::tempdir().unwrap(), MemoryAnchor::default());
    let primary = begin(log.path(), anchor.clone()).await?;
    let parties = Parties::new();
    let mut document = parties.manifest();
    document["Name"] = json!(DATABASE);
    let manifest = Manifest::parse(document.to_string().as_bytes()).unwrap();
    let mut client = primary.session().await;
    installation::install(&mut client, &manifest, UnixTime(NOW)).await.unwrap();
    let payments = "INSERT INTO payments (account, city, amount) \
        SELECT 'account ' || i, 'ten', i * 10 FROM generate_series(1, 10) AS i";
    client.batch_execute(payments).await.unwrap();
    let rules = watch::Sender::new(Arc::new(Rules::first(manifest)));
    let (time, mesh) = (watch::Sender::new(NOW), Mesh::new());
    Some(Scene { primary, log, anchor, parties, rules, time, mesh })
}

impl Scene {
    async fn replica(&self, log: &Path) -> Serving {
        let standby = standby(log, &self.anchor).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let reads = Reads {
            engine: Arc::clone(&standby.engine),
            credentials: self.mesh.credentials("database"),
            clock: clock::fixed(UnixTime(NOW)),
        };
        let ending = stop.clone();
        tokio::spawn(async move { reads.serve(&listener, ending).await });
        Serving { standby, network: Network::to(address).await, _stop: stop.drop_guard() }
    }

    /// What answers calls with these replicas.
    async fn algorithms(&self, replicas: &[&Serving]) -> Algorithms {
        let peers =
            Peers { credentials: self.mesh.credentials("database"), clock: clock::fixed(UnixTime(NOW)) };
        let addresses = replicas.iter().map(|it| it.network.address.to_string()).collect();
        let (engine, sealed) = (Arc::clone(&self.primary.engine), self.primary.sealer.position());
        let replicas = Replicas::new(addresses, peers);
        served_with(&engine, replicas, &self.rules, sealed, &self.time, key().0).await
    }

    fn analyst(&self) -> Caller {
        let anchors = Anchors::new(&self.rules.borrow().manifest).unwrap();
        let holder = self.parties.analyst.issue("someone");
        anchors.caller(&[CertificateDer::from(holder.der)], UnixTime(NOW)).unwrap()
    }

    async fn pays(&self) {
        let client = self.primary.session().await;
        client.batch_execute(PAYMENT).await.unwrap();
    }
}

const PAYMENT: &str = "INSERT INTO payments (account, city, amount) VALUES ('account 1', 'ten', 1)";

/// The sum of all payments in `ten`: 550 and one for each [`PAYMENT`].
async fn total(algorithms: &Algorithms, analyst: &Caller) -> u64 {
    let answer = algorithms.call(analyst, &algorithm("volume"), vec!["0".into()], false).await.unwrap();
    assert_eq!(answer.rows.len(), 1);
    answer.rows[0][1].as_deref().unwrap().parse().unwrap()
}

/// Waits until a query on a replica has this many rows, or more, to tell of.
async fn told(serving: &Serving, query: &str, least: i64) {
    let client = serving.standby.engine.session(SUPERUSER).await.unwrap();
    let told = async {
        while client.query_one(query, &[]).await.unwrap().get::<_, i64>(0) < least {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.unwrap_or_else(|_| panic!("{query}"));
}

/// Waits until a replica has counted that so many queries ran there.
async fn counted(serving: &Serving, least: i64) {
    let query = "SELECT sum(seq_scan + idx_scan)::bigint FROM pg_stat_user_tables WHERE relname = 'payments'";
    told(serving, query, least).await;
}

/// Waits until a replica shows all that is sealed now.
async fn replayed(scene: &Scene, serving: &Serving) {
    let sealed = scene.primary.sealer.position().borrow().0;
    let query = "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint";
    told(serving, query, i64::try_from(sealed).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_run_queries_in_turn_and_show_what_the_primary_would() {
    let Some(scene) = scene().await else { return };
    let (one, two) = (scene.replica(scene.log.path()).await, scene.replica(scene.log.path()).await);
    let (alone, routed) = (scene.algorithms(&[]).await, scene.algorithms(&[&one, &two]).await);
    let analyst = scene.analyst();
    for payments in 0..6 {
        let before = alone.call(&analyst, &algorithm("volume"), vec!["0".into()], false).await.unwrap();
        let answer = routed.call(&analyst, &algorithm("volume"), vec!["0".into()], false).await.unwrap();
        assert_eq!(answer, before, "byte for byte");
        replayed(&scene, &one).await;
        replayed(&scene, &two).await;
        assert_eq!(total(&routed, &analyst).await, 550 + payments, "what was acknowledged is there");
        scene.pays().await;
    }
    counted(&one, 1).await;
    counted(&two, 1).await;

    // What is charged, recorded and signed is the primary's affair, wherever the query ran.
    let wishes = Wishes { receipt: true, fresh: true };
    for _ in 0..10 {
        let given = Given::InOrder(Vec::new());
        let answer = routed.call_with(&analyst, &algorithm("total"), given, wishes).await.unwrap();
        let receipt = answer.receipt.unwrap();
        let position: Lsn = receipt.statement.log_position.parse().unwrap();
        let replayed = one.standby.replica.followed().borrow().position;
        assert!(position.0 > 0 && replayed.0 > 0 && receipt.statement.data.len() == 1);
    }
    let given = Given::InOrder(Vec::new());
    let spent = routed.call_with(&analyst, &algorithm("total"), given, wishes).await.unwrap_err();
    assert_eq!(spent.code(), "BUDGET_SPENT");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_replica_that_does_not_get_the_log_is_not_asked_for_older_data() {
    let Some(scene) = scene().await else { return };
    let copied = tempfile::tempdir().unwrap();
    let copying = Copying::from(scene.log.path(), copied.path());
    let replica = scene.replica(copied.path()).await;
    let (routed, analyst) = (scene.algorithms(&[&replica]).await, scene.analyst());
    scene.pays().await;
    replayed(&scene, &replica).await;
    assert_eq!(total(&routed, &analyst).await, 551);
    counted(&replica, 1).await;
    drop(copying);
    for payments in 2..4 {
        scene.pays().await;
        assert_eq!(total(&routed, &analyst).await, 550 + payments);
    }
    assert!(replica.network.connections() >= 2, "it was asked, and had not replayed it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_answering_during_a_query_costs_time_alone() {
    let Some(scene) = scene().await else { return };
    let replica = scene.replica(scene.log.path()).await;
    let (routed, analyst) = (scene.algorithms(&[&replica]).await, scene.analyst());
    // A lock of the primary is one on the replica, so that the query waits there.
    let locking = scene.primary.session().await;
    locking.batch_execute("BEGIN; LOCK TABLE payments IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let noted = scene.primary.session().await;
    noted.batch_execute("CREATE TABLE t (a int)").await.unwrap();
    replayed(&scene, &replica).await;
    let calling = tokio::spawn(async move { total(&routed, &analyst).await });
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'bailey_reader' AND wait_event_type = 'Lock'";
    told(&replica, waits, 1).await;
    replica.network.turns(Weather::Still);
    locking.batch_execute("ROLLBACK").await.unwrap();
    let answered = tokio::time::timeout(Duration::from_secs(120), calling).await.expect("an answer");
    assert_eq!(answered.unwrap(), 550);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_or_cut_off_under_load_replicas_cost_no_answer_and_show_none_that_is_older() {
    let Some(scene) = scene().await else { return };
    let copied = tempfile::tempdir().unwrap();
    let copying = Copying::from(scene.log.path(), copied.path());
    let killed = scene.replica(scene.log.path()).await;
    let cut = scene.replica(scene.log.path()).await;
    let late = scene.replica(copied.path()).await;
    let routed = scene.algorithms(&[&killed, &cut, &late]).await;
    let (acknowledged, answers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let done = Arc::new(AtomicBool::new(false));
    let mut working = JoinSet::new();
    for _ in 0..3 {
        let (client, done) = (scene.primary.session().await, Arc::clone(&done));
        let acknowledged = Arc::clone(&acknowledged);
        working.spawn(async move {
            while !done.load(SeqCst) {
                client.batch_execute(PAYMENT).await.unwrap();
                acknowledged.fetch_add(1, SeqCst);
            }
        });
    }
    for _ in 0..3 {
        let (algorithms, analyst, done) = (routed.clone(), scene.analyst(), Arc::clone(&done));
        let (acknowledged, answers) = (Arc::clone(&acknowledged), Arc::clone(&answers));
        working.spawn(async move {
            while !done.load(SeqCst) {
                let least = 550 + acknowledged.load(SeqCst);
                let seen = total(&algorithms, &analyst).await;
                assert!(seen >= least, "{seen} is older than {least}");
                answers.fetch_add(1, SeqCst);
            }
        });
    }
    let more = async || {
        let enough = answers.load(SeqCst) + 12;
        let answering = async {
            while answers.load(SeqCst) < enough {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), answering).await.expect("answers go on");
    };
    more().await;
    killed.standby.engine.kill();
    more().await;
    cut.network.turns(Weather::Cut);
    more().await;
    cut.network.turns(Weather::Fair);
    more().await;
    drop(copying);
    more().await;
    cut.network.turns(Weather::Still);
    more().await;
    done.store(true, SeqCst);
    while let Some(worked) = working.join_next().await {
        worked.unwrap();
    }
    for replica in [&killed, &cut, &late] {
        assert!(replica.network.connections() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_other_rules_are_not_computed_with() {
    let Some(scene) = scene().await else { return };
    let replica = scene.replica(scene.log.path()).await;
    let (alone, routed) = (scene.algorithms(&[]).await, scene.algorithms(&[&replica]).await);
    // A change that this instance does not know of yet.
    let other =
        "INSERT INTO bailey.manifests SELECT 1, digest, digest, text, activated FROM bailey.manifests";
    scene.primary.session().await.batch_execute(other).await.unwrap();
    for algorithms in [alone, routed] {
        let denied = algorithms.call(&scene.analyst(), &algorithm("volume"), vec!["0".into()], false).await;
        assert_eq!(denied.unwrap_err().code(), "RULES_CHANGED");
    }
}

/// A session through a replica's listener, as whoever one says.
async fn session(
    address: std::net::SocketAddr,
    credentials: &database::reads::Credentials,
    (marble, protocol): (&str, &[u8]),
) -> Result<Client, Box<dyn std::error::Error>> {
    let credential = Arc::clone(&credentials.borrow());
    let clock = clock::fixed(UnixTime(NOW));
    let config = attested_tls::marble::client_config(&credential, marble, clock).unwrap();
    let mut config = Arc::unwrap_or_clone(config);
    config.alpn_protocols = if protocol.is_empty() { vec![] } else { vec![protocol.to_vec()] };
    let stream = TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut tls = connector.connect(attested_tls::marble::server_name(), stream).await?;
    let request = Request { position: Lsn(0), patience: Duration::ZERO };
    tls.write_all(&request.to_bytes()).await?;
    let mut reply = [0; Reply::LENGTH];
    tls.read_exact(&mut reply).await?;
    assert!(Reply::from_bytes(reply)?.ready);
    let mut config = Config::new();
    config.user(SUPERUSER).dbname("postgres").options("-c default_transaction_read_only=off");
    let (client, connection) = config.connect_raw(tls, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_of_the_same_marble_read_there_and_nobody_does_anything_else() {
    let Some(scene) = scene().await else { return };
    let replica = scene.replica(scene.log.path()).await;
    let address = replica.network.address;
    let ours = scene.mesh.credentials("database");
    let reader = session(address, &ours, ("database", PROTOCOL)).await.unwrap();
    let row = reader.query_one("SELECT session_user::text, current_database()::text", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), (READER, DATABASE), "whoever it asked to be");
    for statement in [
        "INSERT INTO payments (account, city, amount) VALUES ('x', 'x', 1)",
        "SELECT text FROM bailey.manifests",
        "SELECT pg_promote()",
        "SELECT pg_read_file('postgresql.conf')",
        "SET ROLE bailey",
    ] {
        let refused = reader.batch_execute(statement).await.unwrap_err();
        let code = refused.code().unwrap().code().to_owned();
        assert!(["42501", "25006"].contains(&code.as_str()), "{statement}: {refused}");
    }
    // Another Marble of the mesh, an instance of another mesh, and another protocol of the same one.
    let other = scene.mesh.credentials("frontend");
    assert!(session(address, &other, ("database", PROTOCOL)).await.is_err());
    let foreign = Mesh::new().credentials("database");
    assert!(session(address, &foreign, ("database", PROTOCOL)).await.is_err());
    for protocol in [b"h2".as_slice(), b""] {
        assert!(session(address, &ours, ("database", protocol)).await.is_err());
    }
}
