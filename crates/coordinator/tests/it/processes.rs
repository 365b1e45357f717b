//! Replicas that are processes of their own, so that they can be killed and paused.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use attested_tls::{clock, launch::CoordinatorConfiguration, service::unverified_client};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coordinator::service::{Coordinator, EtcdHints, HostHints, Listeners};
use emulator::vendor;
use evidence::Platform;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;
use testkit::tee::{EmulatedTee, NOW};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::Etcd,
    running::{Running, user},
    scale_out::{CODE, serves},
    world::{manifest, people},
};

/// What a process is told.
#[derive(Serialize, Deserialize)]
struct Order {
    machine: String,
    state: String,
    owner: [u8; 32],
    members: Vec<String>,
}

impl Order {
    fn configuration(&self) -> CoordinatorConfiguration {
        let owner = attested_tls::key::SpkiDigest(self.owner);
        CoordinatorConfiguration { owner, names: vec!["localhost".into(), "127.0.0.1".into()], tpm: None }
    }
}

fn machine(directory: &Path) -> Arc<vendor::Platform> {
    let now = OffsetDateTime::from_unix_timestamp(NOW.0).unwrap();
    Arc::new(vendor::Platform::open(directory, now).unwrap())
}

/// Not a test: a coordinator, until its standard input ends.
#[test]
#[ignore = "a process that other tests start"]
fn a_replica() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let order: Order = serde_json::from_str(&line).unwrap();
    let configuration = order.configuration();
    let machine = machine(Path::new(&order.machine));
    let tee = EmulatedTee::launch_on(machine, Platform::Tdx, CODE, &configuration.to_json());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let members = order.members.iter().map(|member| member.parse().unwrap()).collect();
        let hints = HostHints {
            state: order.state.into(),
            etcd: Some(EtcdHints { members, tls: None, address: None }),
            ..HostHints::default()
        };
        let coordinator = Coordinator::open(tee, configuration, &hints, clock::fixed(NOW)).unwrap();
        let client = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mesh = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = (client.local_addr().unwrap(), mesh.local_addr().unwrap());
        eprintln!("serving {} {}", addresses.0, addresses.1);
        let stop = CancellationToken::new();
        let ends = stop.clone();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_line(&mut String::new());
            ends.cancel();
        });
        let listeners = Listeners { client, mesh, marbles: None, metrics: None, broker: None };
        coordinator.serve(listeners, stop).await.unwrap();
    });
}

/// A process, and the way to it.
struct Process {
    child: Child,
    running: Running,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    async fn start(etcd: &Etcd, platform: &Path, directory: TempDir) -> Self {
        let order = Order {
            machine: platform.display().to_string(),
            state: directory.path().display().to_string(),
            owner: people().owner.digest().0,
            members: etcd.members.iter().map(|member| format!("http://{}", member.client)).collect(),
        };
        let tee =
            EmulatedTee::launch_on(machine(platform), Platform::Tdx, CODE, &order.configuration().to_json());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["processes::a_replica", "--exact", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        writeln!(stdin, "{}", serde_json::to_string(&order).unwrap()).unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let addresses = lines.find_map(|line| line.strip_prefix("serving ").map(str::to_owned));
        let addresses = addresses.expect("the replica ended before it served");
        std::thread::spawn(move || lines.for_each(drop));
        let (api, mesh) = addresses.split_once(' ').unwrap();
        let (api, mesh) = (api.parse().unwrap(), mesh.parse().unwrap());
        let stop = CancellationToken::new();
        let running = Running { api, mesh, marbles: api, metrics: api, broker: api, stop, tee, directory };
        Self { child, running }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// As a machine that loses power: what is on its disk stays.
    fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.running.directory, tempfile::tempdir().unwrap())
    }
}

async fn question(running: &Running) -> (u16, String) {
    let answer = running.get(Some(&people().writer), "/api/v2/secrets?s=question").await;
    if answer.status != 200 {
        return answer.code();
    }
    let value = answer.json()["data"]["secrets"]["question"]["Private"].as_str().unwrap().to_owned();
    (200, String::from_utf8(BASE64.decode(value).unwrap()).unwrap())
}

/// S-23: while it stood still the world went on, and a request was waiting for it.
#[tokio::test(flavor = "multi_thread")]
async fn s23_a_replica_that_stood_still_answers_nothing_stale() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let platform = tempfile::tempdir().unwrap();
    let one = Process::start(&etcd, platform.path(), tempfile::tempdir().unwrap()).await;
    serves(&one.running).await;
    let set = one.running.set_manifest(Some(&people().owner), &manifest().to_string()).await;
    assert_eq!(set.status, 200, "{:?}", set.json());
    let two = Process::start(&etcd, platform.path(), tempfile::tempdir().unwrap()).await;
    serves(&two.running).await;
    for (turn, stands) in [1, 6].into_iter().enumerate() {
        let (old, new) = (format!("old {turn}"), format!("new {turn}"));
        assert_eq!(one.running.write(Some(&people().writer), "question", &old).await.status, 200);
        assert_eq!(question(&two.running).await, (200, old));
        two.signal("-STOP");
        let waiting = question(&two.running);
        let write = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let written = one.running.write(Some(&people().writer), "question", &new).await;
            assert_eq!(written.status, 200, "{:?}", written.json());
            tokio::time::sleep(Duration::from_secs(stands)).await;
            two.signal("-CONT");
        };
        let (answer, ()) = tokio::join!(waiting, write);
        println!("after {stands} s of standing still: {answer:?}");
        assert!(answer == (200, new.clone()) || answer == (503, "CUT_OFF".into()), "{answer:?}");
        serves(&two.running).await;
        assert_eq!(question(&two.running).await, (200, new));
    }
}

/// Whoever is killed opens the log again with its own keys, and all that was acknowledged is in it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_processes_are_killed() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let platform = tempfile::tempdir().unwrap();
    let mut one = Process::start(&etcd, platform.path(), tempfile::tempdir().unwrap()).await;
    serves(&one.running).await;
    let set = one.running.set_manifest(Some(&people().owner), &manifest().to_string()).await;
    assert_eq!(set.status, 200, "{:?}", set.json());
    let mut two = Process::start(&etcd, platform.path(), tempfile::tempdir().unwrap()).await;
    serves(&two.running).await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    for round in 0..4 {
        let (killed, other) = if round % 2 == 0 { (one, two) } else { (two, one) };
        let ends = tokio_util::sync::CancellationToken::new();
        let load = load([&killed.running, &other.running], acknowledged.clone(), ends.clone());
        let kill = async {
            tokio::time::sleep(Duration::from_millis(700 + 131 * round)).await;
            killed.signal("-KILL");
            tokio::time::sleep(Duration::from_millis(500)).await;
            ends.cancel();
        };
        tokio::join!(load, kill);
        let directory = killed.kill();
        let back = Process::start(&etcd, platform.path(), directory).await;
        let took = serves(&back.running).await;
        println!("round {round}: {} acknowledged, back after {took:.2?}", acknowledged.load(SeqCst));
        for replica in [&back, &other] {
            let (_, found) = question(&replica.running).await;
            assert!(found.parse::<u64>().unwrap() >= acknowledged.load(SeqCst), "{found}");
        }
        (one, two) = (back, other);
    }
    assert!(acknowledged.load(SeqCst) > 4);
    // With nobody else about it needs nobody.
    drop(two.kill());
    let alone = Process::start(&etcd, platform.path(), one.kill()).await;
    serves(&alone.running).await;
    let (_, found) = question(&alone.running).await;
    assert!(found.parse::<u64>().unwrap() >= acknowledged.load(SeqCst));
}

/// Counts up in a secret, by whichever replica answers.
async fn load(replicas: [&Running; 2], acknowledged: Arc<AtomicU64>, ends: CancellationToken) {
    let identity = user(&people().writer);
    let config = unverified_client(Some(&identity), clock::fixed(NOW)).unwrap();
    let mut value = acknowledged.load(SeqCst) + 1;
    for turn in 0.. {
        if ends.is_cancelled() {
            return;
        }
        let body =
            json!({ "secrets": { "question": { "Key": BASE64.encode(value.to_string()) } } }).to_string();
        let asked =
            replicas[turn % 2].request_with(config.clone(), Method::POST, "/api/v2/secrets", body.into());
        if let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(8), asked).await
            && answer.status == 200
        {
            acknowledged.store(value, SeqCst);
            value += 1;
        }
    }
}
