//! kill -9 of each process, and of all, under 32 writing clients: every acknowledged commit is there.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use attested_tls::clock;
use database::service::{Listeners, serve};
use emulator::vendor;
use evidence::Platform;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use testkit::tee::{EmulatedTee, NOW};
use time::OffsetDateTime;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{CODE, Way, World};

const CLIENTS: usize = 32;
/// Commits before anything is killed.
const BEFORE: usize = 200;

/// Writes until nobody answers; which notes were acknowledged.
async fn write(
    way: Way,
    holder: testkit::parties::Holder,
    client: usize,
    counted: Arc<AtomicUsize>,
) -> Vec<i64> {
    let mut acknowledged = Vec::new();
    let Ok(session) = way.attempt(&holder).await else { return acknowledged };
    for number in 0.. {
        let id = i64::try_from(client * 1_000_000 + number).unwrap();
        if session.batch_execute(&format!("INSERT INTO notes VALUES ({id}, 'x')")).await.is_err() {
            break;
        }
        acknowledged.push(id);
        counted.fetch_add(1, SeqCst);
    }
    acknowledged
}

/// Lets 32 clients write, does `kill` when they are at it, and gives what was acknowledged.
async fn killed_under_load(world: &World, way: &Way, base: usize, kill: impl FnOnce()) -> BTreeSet<i64> {
    let (mut writers, counted) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for client in 0..CLIENTS {
        let holder = world.parties.bank_b.issue("writer");
        writers.spawn(write(way.clone(), holder, base + client, Arc::clone(&counted)));
    }
    let busy = async {
        while counted.load(SeqCst) < BEFORE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), busy).await.expect("they write");
    kill();
    writers.join_all().await.into_iter().flatten().collect()
}

async fn present(world: &World, way: &Way) -> BTreeSet<i64> {
    let auditor = way.session(&world.parties.auditor).await;
    let rows = auditor.query("SELECT id FROM notes", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn holds_all(present: &BTreeSet<i64>, acknowledged: &BTreeSet<i64>) {
    let lost: Vec<_> = acknowledged.difference(present).collect();
    assert!(lost.is_empty(), "{} acknowledged commits are lost: {lost:?}", lost.len());
}

/// PostgreSQL's first process, of the one server below a folder.
pub(super) fn postmaster(memory: &Path) -> i32 {
    let place =
        std::fs::read_dir(memory).unwrap().map(|it| it.unwrap().path()).find(|it| it.is_dir()).unwrap();
    let file = std::fs::read_to_string(place.join("data/postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

/// A child of it whose title has these words.
fn titled(parent: i32, words: &str) -> i32 {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let title = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let child = stat
            .rsplit(')')
            .next()
            .is_some_and(|it| it.split_whitespace().nth(1) == Some(&parent.to_string()));
        child && String::from_utf8_lossy(&title).contains(words)
    };
    pids.find(is_it).unwrap_or_else(|| panic!("no process {words:?}"))
}

pub fn kill9(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_postgresql_a_backend_or_the_walsender_loses_no_acknowledged_commit() {
    let Some(world) = World::new() else { return };
    let mut acknowledged = BTreeSet::new();
    for (round, words) in ["", "party_bank_b", "walsender"].into_iter().enumerate() {
        let served = world.start().await;
        served.serving().await;
        let first = postmaster(world.memory.path());
        let kill = || kill9(if words.is_empty() { first } else { titled(first, words) });
        acknowledged.extend(killed_under_load(&world, &served, round * CLIENTS, kill).await);
        let ended = tokio::time::timeout(Duration::from_secs(60), served.ended()).await.expect("it ends");
        ended.expect_err("and says why");
        let served = world.start().await;
        served.serving().await;
        holds_all(&present(&world, &served).await, &acknowledged);
        served.stopped().await;
    }
}

/// What a process is told.
#[derive(Serialize, Deserialize)]
struct Order {
    machine: PathBuf,
    hints: [PathBuf; 3],
    configuration: String,
}

fn machine(directory: &Path) -> Arc<vendor::Platform> {
    let now = OffsetDateTime::from_unix_timestamp(NOW.0).unwrap();
    Arc::new(vendor::Platform::open(directory, now).unwrap())
}

/// Not a test: a database, until it is killed.
#[test]
#[ignore = "a process that other tests start"]
fn a_database() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let order: Order = serde_json::from_str(&line).unwrap();
    let [state, manifest, memory] = order.hints;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let code = order.configuration.as_bytes();
        let tee = EmulatedTee::launch_on(machine(&order.machine), Platform::Tdx, CODE, code);
        let configuration = attested_tls::launch::DatabaseConfiguration::from_json(code).unwrap();
        let hints = database::service::HostHints {
            state,
            manifest: Some(manifest),
            memory,
            binaries: None,
            tpm: None,
            coordinator: None,
            replicas: Vec::new(),
            promotion: database::service::Promotion::default(),
        };
        let listeners = Listeners {
            sql: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            api: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            reads: None,
        };
        eprintln!(
            "listening {} {}",
            listeners.sql.local_addr().unwrap(),
            listeners.api.local_addr().unwrap()
        );
        let stop = CancellationToken::new();
        serve(tee, configuration, hints, listeners, clock::fixed(NOW), stop).await.unwrap();
    });
}

struct Process {
    child: Child,
    way: Way,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(world: &World, platform: &Path) -> Self {
        let hints = world.hints();
        let configuration = String::from_utf8(world.configuration().to_json()).unwrap();
        let order = Order {
            machine: platform.to_owned(),
            hints: [hints.state, hints.manifest.unwrap(), hints.memory],
            configuration,
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["service::crashes::a_database", "--exact", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{}", serde_json::to_string(&order).unwrap()).unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line =
            lines.map_while(Result::ok).find(|line| line.starts_with("listening ")).expect("it listens");
        let mut words = line.split(' ').skip(1).map(|it| it.parse().unwrap());
        let (sql, api) = (words.next().unwrap(), words.next().unwrap());
        let tee = EmulatedTee::launch(Platform::Tdx, CODE, order.configuration.as_bytes());
        Self { child, way: Way { sql, api, reference: tee.reference() } }
    }

    async fn serving(&self, world: &World) {
        let holder = world.parties.auditor.issue("person");
        let waiting = async {
            while tokio::time::timeout(Duration::from_secs(5), self.way.attempt(&holder))
                .await
                .is_ok_and(|it| it.is_err())
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), waiting).await.expect("it serves");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_whole_service_loses_no_acknowledged_commit_and_leaves_no_postgresql() {
    let Some(world) = World::new() else { return };
    let platform = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..2 {
        let mut process = Process::start(&world, platform.path());
        process.serving(&world).await;
        holds_all(&present(&world, &process.way).await, &acknowledged);
        let first = postmaster(world.memory.path());
        let (pid, way) = (process.child.id().cast_signed(), process.way.clone());
        acknowledged.extend(killed_under_load(&world, &way, round * CLIENTS, || kill9(pid)).await);
        let _ = process.child.wait();
        let gone = async {
            while std::fs::read_to_string(format!("/proc/{first}/stat")).is_ok_and(|it| !it.contains(") Z "))
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("PostgreSQL is gone with it");
    }
    let process = Process::start(&world, platform.path());
    process.serving(&world).await;
    holds_all(&present(&world, &process.way).await, &acknowledged);
    assert!(acknowledged.len() >= 2 * BEFORE);
}
