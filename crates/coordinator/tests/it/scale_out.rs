//! Several coordinators on one log in a real etcd.

use std::time::{Duration, Instant};

use appraisal::binding::Role;
use attested_tls::{
    anchor::AnchorKind,
    clock,
    launch::{CoordinatorConfiguration, RequiredTpm},
};
use attester::Tee;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coordinator::{
    core::replica::{Own, expectations},
    service::{Coordinator, EtcdHints, HostHints, StartError},
};
use evidence::{Endorsements, Evidence, Platform, ReportData};
use mesh_api::ActivateRequest;
use serde_json::Value;
use testkit::tee::{EmulatedTee, NOW};

use crate::{
    anchor::{serves_nothing, show, upload, with_holders},
    cluster::Etcd,
    recovery::Holder,
    running::Running,
    service::join,
    world::{FRONTEND, keep_on, manifest, people},
};

pub const CODE: &[u8] = b"bailey-coordinator";

/// One that answers.
async fn replica(etcd: &Etcd) -> Running {
    let running = Running::replica(CODE, tempfile::tempdir().unwrap(), etcd.hints()).await;
    serves(&running).await;
    running
}

/// Waits until it answers; how long that took.
pub async fn serves(running: &Running) -> Duration {
    let began = Instant::now();
    loop {
        let answer = running.get(None, "/api/v2/status").await;
        if answer.status == 200 && answer.json()["data"]["code"] != 1 {
            return began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", answer.json());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn question(running: &Running) -> Value {
    let answer = running.get(Some(&people().writer), "/api/v2/secrets?s=question").await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    answer.json()["data"]["secrets"]["question"]["Private"].clone()
}

async fn activate(running: &Running) -> Result<(), Vec<u8>> {
    let mut keep = join(running, keep_on(Platform::Snp), "frontend", FRONTEND).await.unwrap();
    keep.activate(ActivateRequest {}).await.map(drop).map_err(|status| status.details().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_one_replica_did_all_others_know_at_once() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let replicas = [replica(&etcd).await, replica(&etcd).await, replica(&etcd).await];
    let [one, two, three] = &replicas;
    assert_eq!(one.set_manifest(Some(&people().owner), &manifest().to_string()).await.status, 200);
    let root = one.verify([1; 32]).await.unwrap().root;
    for other in [two, three] {
        let claims = other.verify([2; 32]).await.unwrap();
        assert_eq!((claims.root, claims.epoch), (root.clone(), 1), "one root, one epoch");
    }
    // No pause between a write here and a read there.
    for round in 0..10 {
        let value = format!("question {round}");
        let (write, read) = (&replicas[round % 3], &replicas[(round + 1) % 3]);
        let written = write.write(Some(&people().writer), "question", &value).await;
        assert_eq!(written.status, 200, "{:?}", written.json());
        assert_eq!(question(read).await, BASE64.encode(&value), "{round}");
    }
    // Two places, whoever gives them.
    assert_eq!(activate(one).await, Ok(()));
    assert_eq!(activate(two).await, Ok(()));
    assert_eq!(activate(three).await, Err(b"ACTIVATIONS_EXHAUSTED".to_vec()));
}

/// S-23: it stops within its lease, whatever it is asked, and comes back with what happened meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn s23_a_replica_that_is_cut_off_stops_serving_within_its_lease() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let one = replica(&etcd).await;
    assert_eq!(one.set_manifest(Some(&people().owner), &manifest().to_string()).await.status, 200);
    let (hints, wires) = etcd.wired().await;
    let two = Running::replica(CODE, tempfile::tempdir().unwrap(), hints).await;
    serves(&two).await;
    assert_eq!(one.write(Some(&people().writer), "question", "before").await.status, 200);
    assert_eq!(question(&two).await, BASE64.encode("before"));

    wires.cut();
    let cut = Instant::now();
    assert_eq!(one.write(Some(&people().writer), "question", "meanwhile").await.status, 200);
    // Not even while its lease lasts does it answer with what is old: it cannot confirm it.
    let asked = two.get(Some(&people().writer), "/api/v2/secrets?s=question").await;
    assert_eq!(asked.code(), (503, "CUT_OFF".into()));
    while two.get(None, "/readyz").await.status == 200 {
        assert!(cut.elapsed() < Duration::from_secs(6), "a lease lasts 5 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let writer = Some(&people().writer);
    for path in ["/readyz", "/api/v2/status", "/api/v2/manifest", "/api/v2/secrets?s=question", "/status"] {
        let asked = Instant::now();
        assert_eq!(two.get(writer, path).await.code(), (503, "CUT_OFF".into()), "{path}");
        assert!(asked.elapsed() < Duration::from_secs(2), "at once");
    }
    assert_eq!(two.write(writer, "question", "lost").await.code(), (503, "CUT_OFF".into()));
    assert!(join(&two, keep_on(Platform::Snp), "tally", crate::world::TALLY).await.is_err());
    assert_eq!(two.get(None, "/livez").await.status, 200);
    assert_eq!(replica_serving(&two).await, "0");

    wires.mend();
    serves(&two).await;
    assert_eq!(question(&two).await, BASE64.encode("meanwhile"));
    assert_eq!(replica_serving(&two).await, "1");
}

async fn replica_serving(running: &Running) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(running.metrics).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("coordinator_replica_serving "));
    line.unwrap().to_owned()
}

/// S-16: etcd is put back from an old backup, under a replica that runs and under one that starts again.
#[tokio::test(flavor = "multi_thread")]
async fn s16_a_log_from_an_old_backup_is_refused() {
    let Some(mut etcd) = Etcd::start(1).await else { return };
    let one = replica(&etcd).await;
    assert_eq!(one.set_manifest(Some(&people().owner), &manifest().to_string()).await.status, 200);
    etcd.members[0].kill();
    let (data, before) = etcd.data(0);
    copy(&data, &before);
    etcd.run(0);
    etcd.leader().await;
    serves(&one).await;
    // What is seen is noted once a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(one.write(Some(&people().writer), "question", "since").await.status, 200);

    etcd.members[0].kill();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&before, &data);
    etcd.run(0);
    etcd.leader().await;
    let began = Instant::now();
    while one.get(None, "/readyz").await.code().1 != "STATE_ROLLED_BACK" {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", one.get(None, "/readyz").await.json());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = one.get(Some(&people().writer), "/api/v2/secrets?s=question").await;
    assert_eq!(answer.code(), (503, "STATE_ROLLED_BACK".into()));
    let started = tokio::spawn(Running::replica(CODE, copied(&one), etcd.hints())).await;
    assert!(started.is_err(), "it started on a log that is shorter than what it had seen");
}

/// The host put etcd back and took the replica's note away: a client that holds a newer head is what is left.
#[tokio::test(flavor = "multi_thread")]
async fn s16_a_replica_is_stopped_by_a_head_that_a_client_holds_and_goes_on_when_holders_accept_the_loss() {
    let Some(mut etcd) = Etcd::start(1).await else { return };
    let holders = ["alice", "bob", "carol"].map(Holder::new);
    let (one, two) = (replica(&etcd).await, replica(&etcd).await);
    let shares = with_holders(&one, &holders).await;
    let claims = one.verify([1; 32]).await.unwrap();
    assert_eq!(
        claims.anchors.iter().map(|it| (it.kind, it.key)).collect::<Vec<_>>(),
        [(AnchorKind::Etcd, None)]
    );
    // Heads of states that the other one never was in contradict nothing.
    for value in ["a", "b", "c"] {
        assert_eq!(one.write(Some(&people().writer), "question", value).await.status, 200);
        let head = one.get(None, "/api/v3/head").await.json();
        assert_eq!(one.write(Some(&people().writer), "question", "yesterday").await.status, 200);
        assert_eq!(show(&two, &head).await.status, 200);
    }
    drop(two);
    etcd.members[0].kill();
    let (data, before) = etcd.data(0);
    copy(&data, &before);
    etcd.run(0);
    etcd.leader().await;
    serves(&one).await;
    assert_eq!(one.write(Some(&people().writer), "question", "today").await.status, 200);
    let head = one.get(None, "/api/v3/head").await.json();

    let folder = copied(&one);
    std::fs::remove_file(folder.path().join("replica.seen")).unwrap();
    drop(one);
    etcd.members[0].kill();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&before, &data);
    etcd.run(0);
    etcd.leader().await;
    let one = Running::replica(CODE, folder, etcd.hints()).await;
    serves(&one).await;
    assert_eq!(show(&one, &head).await.code(), (503, "STATE_ROLLED_BACK".into()));
    serves_nothing(&one, "STATE_ROLLED_BACK").await;
    let status = one.get(None, "/api/v2/status").await.json();
    let length = status["data"]["unfit"]["records"].as_u64().unwrap();
    let refused = upload(&one, &holders[0], &shares[0], None).await;
    assert_eq!(refused.code(), (409, "LOSS_NOT_ACCEPTED".into()));
    assert_eq!(upload(&one, &holders[0], &shares[0], Some(length)).await.json()["data"]["remaining"], 1);
    let last = upload(&one, &holders[2], &shares[2], Some(length)).await;
    assert_eq!(last.json()["data"]["remaining"], 0, "{}", last.json());
    serves(&one).await;
    assert_eq!(question(&one).await, BASE64.encode("yesterday"));
    assert_ne!(one.verify([2; 32]).await.unwrap().root, claims.root);
    let two = replica(&etcd).await;
    assert_eq!(question(&two).await, BASE64.encode("yesterday"));
}

/// A TPM is one machine's.
#[test]
fn a_tpm_is_not_required_of_replicas() {
    let configuration = CoordinatorConfiguration {
        owner: *people().owner.digest(),
        names: vec!["localhost".into()],
        tpm: Some(RequiredTpm { key: None }),
    };
    let state = tempfile::tempdir().unwrap();
    let members = vec!["http://127.0.0.1:1".parse().unwrap()];
    let hints = HostHints {
        state: state.path().into(),
        etcd: Some(EtcdHints { members, tls: None, address: None }),
        ..HostHints::default()
    };
    let tee = EmulatedTee::launch(Platform::Tdx, CODE, &configuration.to_json());
    let refused = Coordinator::open(tee, configuration, &hints, clock::fixed(NOW));
    assert!(matches!(refused, Err(StartError::TpmShared)));
}

/// What one replica keeps for itself.
fn copied(running: &Running) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for file in ["replica.keys", "replica.seen"] {
        std::fs::copy(running.directory.path().join(file), directory.path().join(file)).unwrap();
    }
    directory
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

/// Neither another program, nor the same one launched for another owner, nor a Keep is given the keys.
#[tokio::test(flavor = "multi_thread")]
async fn s46_keys_are_handed_to_nothing_but_the_same_coordinator() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let one = replica(&etcd).await;
    assert_eq!(one.set_manifest(Some(&people().owner), &manifest().to_string()).await.status, 200);
    let other =
        Running::replica(b"bailey-coordinator, changed", tempfile::tempdir().unwrap(), etcd.hints()).await;
    let same = replica(&etcd).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(other.get(None, "/api/v2/status").await.json()["data"]["code"], 1, "it has the keys");
    assert_eq!(same.get(None, "/api/v2/status").await.json()["data"]["code"], 3);
    let log = String::from_utf8_lossy(&crate::running::logs().lock().unwrap()).into_owned();
    assert!(log.contains("REPLICA_NOT_OPENED") && log.contains("MEASUREMENT_MISMATCH"));

    // A Keep that attests as what it is finds nobody who would hand anything over.
    let keep = keep_on(Platform::Snp);
    let channel = crate::service::join_as(&one, keep.clone(), "tally", crate::world::TALLY).await.unwrap();
    let asked = mesh_api::replicas_client::ReplicasClient::new(channel);
    let refused = { asked }.hand_over(mesh_api::HandOverRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
    // And as a replica it is not what this coordinator is; nor is the same program, launched otherwise.
    let replica = |tee| crate::service::join_in_role(&one, tee, Role::Replica);
    let refused = replica(keep_on(Platform::Tdx)).await.unwrap_err();
    assert_eq!(refused.codes(), ["MEASUREMENT_MISMATCH"], "{refused:?}");
    let owner = CoordinatorConfiguration {
        owner: *people().stranger.digest(),
        names: vec!["localhost".into()],
        tpm: None,
    };
    let refused = replica(EmulatedTee::launch(Platform::Tdx, CODE, &owner.to_json())).await.unwrap_err();
    assert_eq!(refused.codes(), ["LAUNCH_CONFIGURATION_MISMATCH"], "{refused:?}");
    assert!(replica(one.tee.clone()).await.is_ok());
    let log = one.get(None, "/api/v2/update").await.json()["data"]["updateLog"].to_string();
    assert_eq!(log.matches("Coordinator replica joined").count(), 1, "{log}");
}

/// A manifest may let emulated platforms run Marbles; a genuine coordinator gives none of them its keys for that.
#[test]
fn s46_emulated_roots_of_the_manifest_are_not_for_replicas() {
    let tee = EmulatedTee::launch(Platform::Tdx, CODE, b"");
    let raw = tee.evidence(&ReportData([0; 64])).unwrap();
    let evidence = Evidence::parse(&raw.evidence).unwrap();
    let endorsements = Endorsements::from_bytes(&raw.endorsements).unwrap();
    let verifier = attested_tls::statement::verifier();
    let state = crate::world::running();
    let roots = |emulated| {
        let own = Own::of(&evidence, &endorsements, emulated, &verifier, NOW).unwrap();
        expectations(Some(&state), &own, Platform::Tdx).unwrap().policy.emulated_roots
    };
    assert!(roots(false).is_empty());
    let ours = &testkit::tee::machine().roots().intel.0;
    assert_eq!(roots(true).iter().map(|root| &root.certificate().0).collect::<Vec<_>>(), [ours]);
}

/// All machines are new, and holders upload their shares to whichever replica they reach.
#[tokio::test(flavor = "multi_thread")]
async fn shares_that_are_uploaded_to_one_replica_count_on_all() {
    use crate::recovery::{Holder, upload};
    let Some(etcd) = Etcd::start(1).await else { return };
    let holders = [Holder::new("alice"), Holder::new("bob")];
    let mut text = manifest();
    text["RecoveryKeys"] = serde_json::json!({ "alice": holders[0].pem, "bob": holders[1].pem });
    let one = replica(&etcd).await;
    let answer = one.set_manifest(Some(&people().owner), &text.to_string()).await;
    let secrets = answer.json()["data"]["RecoverySecrets"].clone();
    assert_eq!(one.write(Some(&people().writer), "question", "kept").await.status, 200);
    let root = one.verify([1; 32]).await.unwrap().root;
    drop(one);
    tokio::time::sleep(Duration::from_millis(500)).await;

    let machine = || Running::replica(b"on other machines", tempfile::tempdir().unwrap(), etcd.hints());
    let (two, three) = (machine().await, machine().await);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let shares = holders.each_ref().map(|holder| holder.decrypt(&secrets));
    let answer = upload(&two, &shares[0], &holders[0].sign(&shares[0])).await;
    assert_eq!(answer.json()["data"]["remaining"], 1, "{:?}", answer.json());
    assert_eq!(three.get(None, "/api/v2/status").await.json()["data"]["missingRecoverySecrets"], 1);
    let answer = upload(&three, &shares[1], &holders[1].sign(&shares[1])).await;
    assert_eq!(answer.json()["data"]["remaining"], 0, "{:?}", answer.json());
    // The other one is given the keys.
    serves(&two).await;
    assert_eq!(question(&two).await, BASE64.encode("kept"));
    let (two, three) = (two.verify([2; 32]).await.unwrap(), three.verify([3; 32]).await.unwrap());
    assert!(two.root == three.root && two.root != root, "one new root");
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_is_spoken_to_over_tls_and_knows_who_asks() {
    use crate::cluster::Authority;
    let Some(etcd) = Etcd::start(1).await else { return };
    let (ours, other) = (Authority::new(), Authority::new());
    let etcd = etcd.with_tls(&ours);
    let (known, unknown) = (ours.issue(), other.issue());
    let tls = |root: &Authority, (certificate, key): &(String, String)| {
        let own = Some((certificate.as_bytes(), key.as_bytes()));
        etcd::Tls::from_pem(root.root.as_bytes(), own).unwrap()
    };
    let start = |tls| Running::replica(CODE, tempfile::tempdir().unwrap(), etcd.hints_with(tls));
    // It may take a moment to listen.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let running = start(tls(&ours, &known)).await;
    serves(&running).await;
    assert_eq!(running.set_manifest(Some(&people().owner), &manifest().to_string()).await.status, 200);
    assert!(tokio::spawn(start(tls(&other, &known))).await.is_err(), "another root than etcd's");
    assert!(
        tokio::spawn(start(tls(&ours, &unknown))).await.is_err(),
        "a certificate that etcd does not know"
    );
}
