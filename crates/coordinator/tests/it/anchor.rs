//! Old and forked copies of the state, against a TPM (swtpm) and against heads that clients hold.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    time::Instant,
};

use attested_tls::{
    anchor::AnchorKind,
    claims::CoordinatorMode,
    clock,
    launch::{CoordinatorConfiguration, RequiredTpm},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coordinator::service::{Coordinator, HostHints, StartError};
use evidence::Platform;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    swtpm::Swtpm,
    tee::{EmulatedTee, NOW},
};
use tpm_anchor::{Address, TpmError};

use crate::{
    observability::metrics,
    recovery::Holder,
    running::{Answer, Running},
    world::{manifest, people},
};

const CODE: &[u8] = b"bailey-coordinator";
const OTHER: &[u8] = b"bailey-coordinator on another machine";

/// Between coordinators and a TPM, as a kernel's resource manager is, and as a host may be.
struct Bus {
    /// 0 carries; 1 drops steps; 2 drops the answers to steps and everything after.
    mood: Arc<AtomicU8>,
    socket: PathBuf,
    _folder: TempDir,
}

impl Bus {
    fn to(tpm: &Swtpm) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("bus.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mood = Arc::new(AtomicU8::new(0));
        let inner = tpm.address().parse::<Address>().unwrap().connect().unwrap();
        let (inner, moods) = (Arc::new(Mutex::new(inner)), mood.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (inner, mood) = (inner.clone(), moods.clone());
                std::thread::spawn(move || {
                    carry(stream, &mood, |command| inner.lock().unwrap().exchange(command))
                });
            }
        });
        Self { mood, socket, _folder: folder }
    }

    fn address(&self) -> Address {
        Address::Unix(self.socket.clone())
    }

    fn becomes(&self, mood: u8) {
        self.mood.store(mood, SeqCst);
    }
}

fn carry(
    mut stream: UnixStream,
    mood: &AtomicU8,
    mut tpm: impl FnMut(&[u8]) -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let mut command = vec![0; 10];
        stream.read_exact(&mut command)?;
        command.resize(u32::from_be_bytes(command[2..6].try_into().unwrap()) as usize, 0);
        stream.read_exact(&mut command[10..])?;
        let extends = command[6..10] == [0, 0, 1, 0x36];
        match (mood.load(SeqCst), extends) {
            (1, true) => return Ok(()),
            (2, true) => {
                tpm(&command)?;
                return Ok(());
            }
            (2, false) => return Ok(()),
            _ => stream.write_all(&tpm(&command)?)?,
        }
    }
}

async fn anchored(directory: TempDir, bus: &Bus) -> Running {
    Running::start_anchored(CODE, directory, bus.address()).await
}

async fn founded(bus: &Bus) -> Running {
    let running = anchored(tempfile::tempdir().unwrap(), bus).await;
    let answer = running.set_manifest(Some(&people().owner), &manifest().to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    running
}

async fn write(running: &Running, value: &str) -> Answer {
    running.write(Some(&people().writer), "question", value).await
}

async fn read(running: &Running) -> Answer {
    running.get(Some(&people().writer), "/api/v2/secrets?s=question").await
}

async fn serves(running: &Running, value: &str) {
    let answer = read(running).await.json();
    assert_eq!(answer["data"]["secrets"]["question"]["Private"], BASE64.encode(value), "{answer}");
}

/// Says so everywhere, and serves nobody.
pub async fn serves_nothing(running: &Running, code: &str) {
    let status = running.get(None, "/api/v2/status").await.json();
    assert_eq!(
        (&status["data"]["code"], &status["data"]["unfit"]["code"]),
        (&json!(1), &json!(code)),
        "{status}"
    );
    assert!(status["data"]["message"].as_str().unwrap().contains("Nothing is served"), "{status}");
    for path in ["/api/v2/manifest", "/api/v2/secrets?s=question", "/api/v2/update", "/api/v3/head"] {
        assert_eq!(running.get(Some(&people().writer), path).await.code(), (503, code.into()), "{path}");
    }
    assert_eq!(write(running, "never").await.code(), (503, code.into()));
    assert_eq!(running.get(None, "/readyz").await.code(), (503, "NOT_READY".into()));
    let owner = running.set_manifest(Some(&people().owner), &manifest().to_string()).await;
    assert_eq!(owner.code(), (503, code.into()));
    let claims = running.verify([9; 32]).await.unwrap();
    assert_eq!((claims.mode, claims.epoch, claims.anchors.len()), (CoordinatorMode::RolledBack, 0, 0));
    assert!(claims.log_signature.is_empty() && claims.manifest.is_none());
    let metrics = metrics(running).await;
    assert!(metrics.contains("coordinator_state_unfit 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_an_old_state_put_back_is_served_to_nobody() {
    let Some(swtpm) = Swtpm::start() else { return };
    let bus = Bus::to(&swtpm);
    let running = founded(&bus).await;
    let claims = running.verify([1; 32]).await.unwrap();
    assert_eq!(claims.anchors[0].kind, AnchorKind::TpmNv);
    assert!(claims.anchors[0].key.is_some());
    let yesterday = running.left();
    assert_eq!(write(&running, "today").await.status, 200);
    let today = running.left();
    drop(running);

    serves_nothing(&anchored(yesterday, &bus).await, "STATE_ROLLED_BACK").await;
    // The mend: the newer state.
    let running = anchored(today, &bus).await;
    serves(&running, "today").await;
    assert_eq!(write(&running, "tomorrow").await.status, 200);
    let metrics = metrics(&running).await;
    assert!(metrics.contains("coordinator_state_unfit 0"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_crash_between_disk_and_tpm_locks_nobody_out() {
    let Some(swtpm) = Swtpm::start() else { return };
    let bus = Bus::to(&swtpm);
    for mood in [1, 2] {
        let running = founded(&bus).await;
        let before = running.left();
        bus.becomes(mood);
        assert!(write(&running, "in flight").await.status.is_server_error());
        // Nothing is served that the anchor may not cover.
        assert_eq!(read(&running).await.code(), (503, "ANCHOR_LOST".into()));
        let crashed = running.left();
        bus.becomes(0);
        drop(running);
        let running = anchored(crashed, &bus).await;
        serves(&running, "in flight").await;
        assert_eq!(write(&running, "after").await.status, 200);
        // It has landed: what was before it is old now.
        serves_nothing(&anchored(before, &bus).await, "STATE_ROLLED_BACK").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_of_two_clones_of_one_state_at_most_one_commits() {
    let Some(swtpm) = Swtpm::start() else { return };
    let bus = Bus::to(&swtpm);
    let first = founded(&bus).await;
    let second = anchored(first.left(), &bus).await;
    let (one, other) = tokio::join!(write(&first, "one"), write(&second, "other"));
    let done = [one, other].iter().filter(|answer| answer.status == 200).count();
    assert!(done <= 1, "both were answered");
    // The other way round, one after the other: who comes second has lost, and says so.
    let first = founded(&bus).await;
    let second = anchored(first.left(), &bus).await;
    assert_eq!(write(&second, "second").await.status, 200);
    assert!(write(&first, "first").await.status.is_server_error());
    serves_nothing(&first, "STATE_ROLLED_BACK").await;
}

/// What this anchor does not cover: a TPM that is itself put back, as an emulated one can be.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_state_with_an_old_tpm_passes() {
    let Some(swtpm) = Swtpm::start() else { return };
    let bus = Bus::to(&swtpm);
    let running = founded(&bus).await;
    assert_eq!(write(&running, "yesterday").await.status, 200);
    let (state, tpm) = (running.left(), swtpm.saved());
    assert_eq!(write(&running, "today").await.status, 200);
    let head = running.get(None, "/api/v3/head").await.json();
    drop(running);
    let swtpm = swtpm.restored(tpm.path());
    let bus = Bus::to(&swtpm);
    let running = anchored(state, &bus).await;
    assert_eq!(running.get(None, "/readyz").await.status, 200);
    // Another anchor covers it: somebody who holds a head.
    assert_eq!(show(&running, &head).await.code(), (503, "STATE_ROLLED_BACK".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tpm_says_nothing_about_the_state() {
    let (Some(swtpm), Some(other)) = (Swtpm::start(), Swtpm::start()) else { return };
    let running = founded(&Bus::to(&swtpm)).await;
    serves_nothing(&anchored(running.left(), &Bus::to(&other)).await, "ANCHOR_LOST").await;
}

#[test]
fn a_required_tpm_that_is_not_there_is_said() {
    let start = |key: Option<[u8; 32]>, tpm: Option<&str>| {
        let folder = tempfile::tempdir().unwrap();
        let configuration = CoordinatorConfiguration {
            owner: *people().owner.digest(),
            names: vec!["localhost".into()],
            tpm: Some(RequiredTpm { key }),
        };
        let tee = EmulatedTee::launch(Platform::Tdx, CODE, &configuration.to_json());
        let tpm = tpm.map(|address| address.parse().unwrap());
        let hints = HostHints { state: folder.path().into(), tpm, ..HostHints::default() };
        Coordinator::open(tee, configuration, &hints, clock::fixed(NOW)).err().unwrap()
    };
    assert!(matches!(start(None, None), StartError::NoTpm));
    let absent = start(None, Some("/dev/there-is-no-tpm"));
    assert!(matches!(absent, StartError::Tpm(TpmError::Transport { .. })), "{absent:?}");
    let Some(swtpm) = Swtpm::start() else { return };
    let other = start(Some([1; 32]), Some(&swtpm.address()));
    assert!(matches!(other, StartError::Tpm(TpmError::OtherTpm { .. })), "{other:?}");
}

/// With recovery keys; what was before the newest state, and the holders' shares.
pub async fn with_holders(running: &Running, holders: &[Holder]) -> Vec<Vec<u8>> {
    let mut text = manifest();
    let keys: BTreeMap<_, _> = holders.iter().map(|holder| (holder.name, &holder.pem)).collect();
    text["RecoveryKeys"] = json!(keys);
    text["Config"] = json!({ "RecoveryThreshold": 2 });
    let answer = running.set_manifest(Some(&people().owner), &text.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let secrets = answer.json()["data"]["RecoverySecrets"].clone();
    holders.iter().map(|holder| holder.decrypt(&secrets)).collect()
}

pub async fn upload(running: &Running, holder: &Holder, share: &[u8], accepted: Option<u64>) -> Answer {
    let mut body = json!({
        "recoverySecret": BASE64.encode(share), "recoverySecretSignature": BASE64.encode(holder.sign(share)),
    });
    if let Some(length) = accepted {
        body["acceptLoss"] = json!(length);
    }
    running.post(None, "/api/v2/recover", body.to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_holders_accept_a_loss_and_never_by_oversight() {
    let Some(swtpm) = Swtpm::start() else { return };
    let bus = Bus::to(&swtpm);
    let holders = ["alice", "bob", "carol"].map(Holder::new);
    let running = anchored(tempfile::tempdir().unwrap(), &bus).await;
    let shares = with_holders(&running, &holders).await;
    assert_eq!(write(&running, "yesterday").await.status, 200);
    let (yesterday, root) = (running.left(), running.verify([1; 32]).await.unwrap().root);
    assert_eq!(write(&running, "today").await.status, 200);
    let today = running.left();
    drop(running);

    let running = anchored(yesterday, &bus).await;
    serves_nothing(&running, "STATE_ROLLED_BACK").await;
    let status = running.get(None, "/api/v2/status").await.json();
    assert_eq!(status["data"]["missingRecoverySecrets"], 2);
    let length = status["data"]["unfit"]["records"].as_u64().unwrap();
    for accepted in [None, Some(length + 1)] {
        let answer = upload(&running, &holders[0], &shares[0], accepted).await;
        assert_eq!(answer.code(), (409, "LOSS_NOT_ACCEPTED".into()));
    }
    let wrong = upload(&running, &holders[0], &shares[1], Some(length)).await;
    assert_eq!(wrong.code(), (422, "SHARE_WRONG".into()));
    assert_eq!(upload(&running, &holders[0], &shares[0], Some(length)).await.json()["data"]["remaining"], 1);
    serves_nothing(&running, "STATE_ROLLED_BACK").await;
    let last = upload(&running, &holders[2], &shares[2], Some(length)).await;
    assert_eq!(last.json()["data"]["remaining"], 0, "{}", last.json());

    serves(&running, "yesterday").await;
    let claims = running.verify([2; 32]).await.unwrap();
    assert_eq!((claims.mode, claims.epoch), (CoordinatorMode::Running, 2));
    assert_ne!(claims.root, root, "nobody takes it for the mesh that had more");
    let log = running.get(None, "/api/v2/update").await.json().to_string();
    assert!(log.contains("State anchored anew") && log.contains("alice") && log.contains("carol"), "{log}");
    assert_eq!(write(&running, "tomorrow").await.status, 200);
    // It has a chain of its own; and of the copy that was given up, the chain is gone.
    let newest = running.left();
    drop(running);
    serves(&anchored(newest, &bus).await, "tomorrow").await;
    serves_nothing(&anchored(today, &bus).await, "ANCHOR_LOST").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_recovery_by_other_code_asks_the_tpm_too() {
    let Some(swtpm) = Swtpm::start() else { return };
    let bus = Bus::to(&swtpm);
    let holders = ["alice", "bob", "carol"].map(Holder::new);
    let running = anchored(tempfile::tempdir().unwrap(), &bus).await;
    let shares = with_holders(&running, &holders).await;
    let yesterday = running.left();
    assert_eq!(write(&running, "today").await.status, 200);
    let (today, length) = (running.left(), running.verify([1; 32]).await.unwrap().log_length);
    drop(running);

    // A newer program on the same machine: the newest state needs no word, an older one does.
    let running = Running::start_anchored(OTHER, yesterday, bus.address()).await;
    assert_eq!(upload(&running, &holders[0], &shares[0], None).await.json()["data"]["remaining"], 1);
    let refused = upload(&running, &holders[1], &shares[1], None).await;
    assert_eq!(refused.code(), (409, "LOSS_NOT_ACCEPTED".into()));
    drop(running);
    let running = Running::start_anchored(OTHER, today, bus.address()).await;
    upload(&running, &holders[0], &shares[0], None).await;
    let last = upload(&running, &holders[1], &shares[1], None).await;
    assert_eq!(last.json()["data"]["remaining"], 0, "{}", last.json());
    let claims = running.verify([2; 32]).await.unwrap();
    serves(&running, "today").await;
    assert_eq!((claims.anchors.len(), claims.log_length), (1, length + 2));
    let (newest, moved) = (running.left(), running.left());
    drop(running);
    serves(&Running::start_anchored(OTHER, newest, bus.address()).await, "today").await;

    // Another machine, with another TPM: a new chain, and a line that says so.
    let Some(other) = Swtpm::start() else { return };
    let elsewhere = Bus::to(&other);
    let running = Running::start_anchored(b"on a third", moved, elsewhere.address()).await;
    upload(&running, &holders[1], &shares[1], None).await;
    let last = upload(&running, &holders[2], &shares[2], None).await;
    assert_eq!(last.json()["data"]["remaining"], 0, "{}", last.json());
    serves(&running, "today").await;
    let key = running.verify([3; 32]).await.unwrap().anchors[0].key;
    assert!(key.is_some() && key != claims.anchors[0].key);
    let log = running.get(None, "/api/v2/update").await.json().to_string();
    assert!(log.contains("State anchored anew"), "{log}");
}

/// Hands a head to a coordinator, as it was got from one.
pub async fn show(running: &Running, head: &Value) -> Answer {
    let data = &head["data"];
    let body = json!({ "length": data["length"], "head": data["head"], "signature": data["signature"] });
    running.post(None, "/api/v3/head", body.to_string()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_client_that_holds_a_newer_head_ends_the_service() {
    let running = Running::with_manifest().await;
    let claims = running.verify([1; 32]).await.unwrap();
    assert!(claims.anchors.is_empty(), "nothing outside of this host: the Evidence says so");
    let (yesterday, old) = (running.left(), running.get(None, "/api/v3/head").await.json());
    assert_eq!(write(&running, "today").await.status, 200);
    let (today, new) = (running.left(), running.get(None, "/api/v3/head").await.json());
    assert_eq!(show(&running, &old).await.json()["data"]["continued"], true);
    assert_eq!(show(&running, &new).await.json()["data"]["continued"], true);
    drop(running);

    let running = Running::start_in(yesterday).await;
    assert_eq!(show(&running, &old).await.json()["data"]["continued"], true);
    // Words of strangers do nothing.
    let mut unsigned = new.clone();
    unsigned["data"]["length"] = json!(1_000_000);
    let mut foreign = new.clone();
    foreign["data"]["signature"] =
        Running::with_manifest().await.get(None, "/api/v3/head").await.json()["data"]["signature"].take();
    for nothing in [unsigned, foreign] {
        assert_eq!(show(&running, &nothing).await.code(), (422, "POSITION_UNSIGNED".into()));
    }
    assert_eq!(running.get(None, "/readyz").await.status, 200);
    assert_eq!(show(&running, &new).await.code(), (503, "STATE_ROLLED_BACK".into()));
    serves_nothing(&running, "STATE_ROLLED_BACK").await;
    drop(running);

    let running = Running::start_in(today).await;
    serves(&running, "today").await;
    assert_eq!(show(&running, &new).await.json()["data"]["continued"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_client_of_the_other_branch_ends_the_service() {
    let running = Running::with_manifest().await;
    let fork = Running::start_in(running.left()).await;
    for running in [&running, &fork] {
        assert_eq!(write(running, "the same").await.status, 200);
    }
    let same_length = running.get(None, "/api/v3/head").await.json();
    assert_eq!(write(&fork, "more").await.status, 200);
    // Shorter than what the fork has, and not on its way.
    assert_eq!(show(&fork, &same_length).await.code(), (503, "STATE_FORKED".into()));
    serves_nothing(&fork, "STATE_FORKED").await;
    serves(&running, "the same").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_chain_in_a_tpm_costs_a_commit() {
    let Some(swtpm) = Swtpm::start() else { return };
    let bus = Bus::to(&swtpm);
    for running in [Running::with_manifest().await, founded(&bus).await] {
        let anchors = running.verify([1; 32]).await.unwrap().anchors.len();
        let begun = Instant::now();
        for _ in 0..50 {
            assert_eq!(write(&running, "x").await.status, 200);
        }
        println!("one commit after the other, {anchors} anchors: {:?} each", begun.elapsed() / 50);
    }
}
