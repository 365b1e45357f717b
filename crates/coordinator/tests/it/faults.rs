//! Three replicas on three members of etcd, under load, while members and replicas are killed, paused and cut off. Whatever
//! was acknowledged is there in the end; nothing was given twice. The pauses are printed, and asserted only loosely: they
//! are the machine's.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use attested_tls::{clock, service::unverified_client};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use evidence::Platform;
use hyper::Method;
use mesh_api::ActivateRequest;
use serde_json::json;
use testkit::tee::NOW;

use crate::{
    cluster::{Etcd, Wires},
    running::{Running, user},
    scale_out::{CODE, serves},
    service::join,
    world::{FRONTEND, keep_on, manifest, people},
};

const LIMIT: u64 = 25;
const WRITERS: usize = 3;
/// A request that takes longer is as good as refused.
const PATIENCE: Duration = Duration::from_secs(12);

/// What was asked, and what was acknowledged.
#[derive(Default)]
struct Tally {
    /// When anything was acknowledged, from the beginning.
    acknowledged: Mutex<Vec<Duration>>,
    /// By writer: the last value that was acknowledged.
    written: [AtomicU64; WRITERS],
    activated: AtomicU64,
    serials: Mutex<Vec<Vec<u8>>>,
    refused: AtomicU64,
    over: AtomicBool,
}

struct World {
    etcd: Etcd,
    replicas: Vec<Arc<Running>>,
    wires: Vec<Wires>,
    tally: Arc<Tally>,
    began: Instant,
}

impl World {
    async fn begin() -> Option<Self> {
        let etcd = Etcd::start(3).await?;
        let (mut replicas, mut wires) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (hints, wire) = etcd.wired().await;
            let running = Running::replica(CODE, tempfile::tempdir().unwrap(), hints).await;
            serves(&running).await;
            replicas.push(Arc::new(running));
            wires.push(wire);
        }
        let mut text = manifest();
        text["Marbles"]["frontend"]["MaxActivations"] = json!(LIMIT);
        for writer in 0..WRITERS {
            text["Secrets"][format!("w{writer}")] = json!({ "Type": "plain", "UserDefined": true });
        }
        let names: Vec<_> = (0..WRITERS).map(|writer| format!("w{writer}")).collect();
        for role in ["write", "read-own"] {
            text["Roles"][role]["ResourceNames"] = json!(names);
        }
        let set = replicas[0].set_manifest(Some(&people().owner), &text.to_string()).await;
        assert_eq!(set.status, 200, "{:?}", set.json());
        let world = Self { etcd, replicas, wires, tally: Arc::default(), began: Instant::now() };
        (0..WRITERS).for_each(|writer| drop(tokio::spawn(world.load(writer).write())));
        drop(tokio::spawn(world.load(0).activate()));
        Some(world)
    }

    fn load(&self, writer: usize) -> Load {
        Load { writer, replicas: self.replicas.clone(), tally: self.tally.clone(), began: self.began }
    }

    /// Lets things happen for a while.
    async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// The longest time since `from` in which nothing was acknowledged, until now.
    fn pause_since(&self, from: Duration) -> Duration {
        let mut times = self.tally.acknowledged.lock().unwrap().clone();
        times.retain(|time| *time > from);
        times.push(self.began.elapsed());
        times.sort_unstable();
        let before = std::iter::once(from).chain(times.iter().copied());
        before.zip(times.iter()).map(|(before, after)| *after - before).max().unwrap()
    }

    /// How long everyone waited for something to be acknowledged while this happened.
    async fn told(&self, what: &str, seconds: u64) {
        let from = self.began.elapsed();
        self.pass(seconds).await;
        let pause = self.pause_since(from);
        println!("{what}: the longest pause was {:.2} s", pause.as_secs_f64());
        assert!(pause < Duration::from_secs(30), "{what}: nothing was acknowledged for {pause:?}");
    }

    async fn lose_the_leader_by(&mut self, signal: &str, back: &str) {
        let leader = self.etcd.leader().await;
        self.etcd.members[leader].signal(signal);
        self.told(&format!("etcd's leader gets SIG{}", &signal[1..]), 6).await;
        if back.is_empty() {
            self.etcd.members[leader].kill();
            self.etcd.run(leader);
        } else {
            self.etcd.members[leader].signal(back);
        }
        self.etcd.leader().await;
        self.pass(1).await;
    }

    /// Everything that was acknowledged is there on every replica, and nothing was given twice.
    async fn end(self) {
        self.tally.over.store(true, SeqCst);
        for replica in &self.replicas {
            serves(replica).await;
        }
        for (writer, written) in self.tally.written.iter().enumerate() {
            let (acknowledged, mut found) = (written.load(SeqCst), BTreeSet::new());
            for replica in &self.replicas {
                let path = format!("/api/v2/secrets?s=w{writer}");
                let answer = replica.get(Some(&people().writer), &path).await.json();
                let value =
                    answer["data"]["secrets"][format!("w{writer}")]["Private"].as_str().unwrap().to_owned();
                let value = String::from_utf8(BASE64.decode(value).unwrap()).unwrap();
                found.insert(value.parse::<u64>().unwrap());
            }
            // One more may have been written than the writer heard of.
            assert!(found.iter().all(|it| *it >= acknowledged), "{found:?} of {acknowledged} acknowledged");
            println!("writer {writer}: {acknowledged} acknowledged, {found:?} found");
            assert!(acknowledged > 0);
        }
        let activated = self.tally.activated.load(SeqCst);
        assert!(activated <= LIMIT, "{activated} of {LIMIT}");
        let serials = self.tally.serials.lock().unwrap().clone();
        let different: BTreeSet<_> = serials.iter().collect();
        assert_eq!((different.len(), serials.len() as u64), (serials.len(), activated));
        let refused = self.tally.refused.load(SeqCst);
        println!("{activated} of {LIMIT} places were given, {refused} requests were refused or not answered");
        let mut lengths = BTreeSet::new();
        for replica in &self.replicas {
            let claims = replica.verify([7; 32]).await.unwrap();
            lengths.insert((claims.log_length, claims.log_head.into_array()));
        }
        assert_eq!(lengths.len(), 1, "all replicas are at the same place");
    }
}

/// Someone who asks replica after replica.
struct Load {
    writer: usize,
    replicas: Vec<Arc<Running>>,
    tally: Arc<Tally>,
    began: Instant,
}

impl Load {
    fn acknowledged(&self) {
        self.tally.acknowledged.lock().unwrap().push(self.began.elapsed());
    }

    async fn write(self) {
        let identity = user(&people().writer);
        let config = unverified_client(Some(&identity), clock::fixed(NOW)).unwrap();
        let name = format!("w{}", self.writer);
        for value in 1_u64.. {
            // Until someone acknowledges it.
            for turn in 0.. {
                if self.tally.over.load(SeqCst) {
                    return;
                }
                let replica = &self.replicas[(value as usize + turn + self.writer) % 3];
                let body =
                    json!({ "secrets": { &name: { "Key": BASE64.encode(value.to_string()) } } }).to_string();
                let asked =
                    replica.request_with(config.clone(), Method::POST, "/api/v2/secrets", body.into());
                match tokio::time::timeout(PATIENCE, asked).await {
                    Ok(Ok(answer)) if answer.status == 200 => break,
                    _ => drop(self.tally.refused.fetch_add(1, SeqCst)),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.tally.written[self.writer].store(value, SeqCst);
            self.acknowledged();
        }
    }

    async fn activate(self) {
        for turn in 0.. {
            if self.tally.over.load(SeqCst) {
                return;
            }
            let replica = &self.replicas[turn % 3];
            let asked = async {
                let mut keep = join(replica, keep_on(Platform::Snp), "frontend", FRONTEND).await.ok()?;
                keep.activate(ActivateRequest {}).await.ok()
            };
            let answer = tokio::time::timeout(PATIENCE, asked).await.ok().flatten();
            match answer {
                Some(answer) => {
                    let leaf = answer.into_inner().certificate.unwrap().chain.remove(0);
                    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
                    self.tally.serials.lock().unwrap().push(leaf.raw_serial().to_vec());
                    self.tally.activated.fetch_add(1, SeqCst);
                    self.acknowledged();
                }
                None => drop(self.tally.refused.fetch_add(1, SeqCst)),
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// The short form, for every change.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_members_and_replicas_are() {
    let Some(mut world) = World::begin().await else { return };
    world.told("nothing happens", 3).await;
    world.lose_the_leader_by("-KILL", "").await;
    world.lose_the_leader_by("-STOP", "-CONT").await;
    world.wires[1].cut();
    world.told("a replica is cut off from etcd", 8).await;
    world.wires[1].mend();
    serves(&world.replicas[1]).await;
    world.end().await;
}

/// The long form: `cargo xtask soak`. BAILEY_SOAK_ROUNDS says how often; 10 times, some ten minutes, unless it does.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes ten minutes: cargo xtask soak"]
async fn soak_nothing_acknowledged_is_lost_whatever_happens() {
    let Some(mut world) = World::begin().await else { return };
    let rounds = rounds();
    for round in 0..rounds {
        println!("round {round}");
        world.lose_the_leader_by("-KILL", "").await;
        world.lose_the_leader_by("-STOP", "-CONT").await;
        for replica in 0..3 {
            world.wires[replica].cut();
            world.told("a replica is cut off from etcd", 7).await;
            world.wires[replica].mend();
            serves(&world.replicas[replica]).await;
        }
        world.wires.iter().for_each(Wires::cut);
        world.pass(7).await;
        world.wires.iter().for_each(Wires::mend);
        world.told("all replicas were cut off, and are back", 10).await;
    }
    world.end().await;
}

#[expect(clippy::disallowed_methods, reason = "how long it takes is for whoever runs it to say")]
fn rounds() -> u32 {
    std::env::var("BAILEY_SOAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(10)
}
