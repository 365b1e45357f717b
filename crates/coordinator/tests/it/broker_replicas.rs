//! Guests of several coordinators that share their state in etcd.

use std::time::{Duration, Instant};

use evidence::Platform;
use serde_json::Value;

use crate::{
    broker::{Pod, SECRET, auth, brokered, explained, resource, send, session_of},
    cluster::Etcd,
    running::Running,
    scale_out::{CODE, serves},
    world::people,
};

async fn replicas(etcd: &Etcd, manifest: &Value) -> [Running; 2] {
    let replica = async || {
        let running = Running::replica(CODE, tempfile::tempdir().unwrap(), etcd.hints()).await;
        serves(&running).await;
        running
    };
    let both = [replica().await, replica().await];
    let answer = both[0].set_manifest(Some(&people().owner), &manifest.to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(both[0].write(Some(&people().writer), "db", SECRET).await.status, 200);
    both
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_of_one_replica_is_a_guest_of_all() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let [one, two] = replicas(&etcd, &brokered()).await;
    // Each step of the handshake at another one.
    let pod = Pod::on(Platform::Snp);
    let challenge = auth(&one, "0.4.0", pod.tee()).await;
    let (cookie, nonce) = (challenge.cookie(), challenge.json()["nonce"].as_str().unwrap().to_owned());
    let attested = send(&two, &cookie, &pod.attestation(&nonce)).await;
    assert_eq!(attested.status, 200, "{:?}", attested.json());
    for running in [&one, &two] {
        let answer = resource(running, &cookie, "default/key/db").await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let jwe = rcar::Jwe::parse(&answer.body).unwrap();
        assert_eq!(pod.key.decrypt(&jwe).unwrap().as_slice(), SECRET.as_bytes());
    }
    // What one replica refuses to release, that one explains.
    let denied = resource(&one, &cookie, "default/key/none").await;
    assert_eq!(denied.status, 403);
    let known = explained(&one, Some(&people().writer), &session_of(&denied)).await;
    assert_eq!(known["releases"][0]["resource"], "default/key/none");
}

#[tokio::test(flavor = "multi_thread")]
async fn s14_a_nonce_is_good_once_in_all_replicas() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let [one, two] = replicas(&etcd, &brokered()).await;
    let pod = Pod::on(Platform::Tdx);
    let challenge = auth(&one, "0.4.0", pod.tee()).await;
    let (cookie, nonce) = (challenge.cookie(), challenge.json()["nonce"].as_str().unwrap().to_owned());
    let attestation = pod.attestation(&nonce);
    assert_eq!(send(&one, &cookie, &attestation).await.status, 200);
    assert_eq!(send(&two, &cookie, &attestation).await.error(), (409, "NonceUsed".into()));
    // Both at once: one of them, and not the other.
    for _ in 0..5 {
        let challenge = auth(&one, "0.4.0", pod.tee()).await;
        let (cookie, nonce) = (challenge.cookie(), challenge.json()["nonce"].as_str().unwrap().to_owned());
        let attestation = pod.attestation(&nonce);
        let (here, there) =
            tokio::join!(send(&one, &cookie, &attestation), send(&two, &cookie, &attestation));
        let mut statuses = [here.status.as_u16(), there.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s39_what_etcd_keeps_of_a_session_is_sealed() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let [one, _] = replicas(&etcd, &brokered()).await;
    let pod = Pod::on(Platform::Snp);
    let (cookie, attested) = pod.attest(&one).await;
    assert_eq!(attested.status, 200);
    let client = etcd::Client::new(&etcd.hints().members, None).unwrap();
    let from = b"bailey/1/broker/".to_vec();
    let before = Some(b"bailey/1/broker0".to_vec());
    let range = etcd::Range { from, before, limit: 10, ..Default::default() };
    let kept = client.range(range, Duration::from_secs(5)).await.unwrap().pairs;
    assert_eq!(kept.len(), 2, "a nonce that was shown, and a session");
    let key = pod.key.public().to_json()["x"].as_str().unwrap().to_owned();
    let value = cookie.strip_prefix("kbs-session-id=").unwrap().to_owned();
    for pair in &kept {
        for told in ["kata", "submods", key.as_str(), value.as_str()] {
            let holds = |bytes: &[u8]| bytes.windows(told.len()).any(|window| window == told.as_bytes());
            assert!(!holds(&pair.key) && !holds(&pair.value), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s23_a_replica_that_is_cut_off_releases_nothing() {
    let Some(etcd) = Etcd::start(1).await else { return };
    let [one, _] = replicas(&etcd, &brokered()).await;
    let (hints, wires) = etcd.wired().await;
    let two = Running::replica(CODE, tempfile::tempdir().unwrap(), hints).await;
    serves(&two).await;
    let pod = Pod::on(Platform::Snp);
    let (cookie, attested) = pod.attest(&two).await;
    assert_eq!(attested.status, 200);
    wires.cut();
    let asked = Instant::now();
    assert_eq!(resource(&two, &cookie, "default/key/db").await.error(), (503, "Unavailable".into()));
    assert_eq!(auth(&two, "0.4.0", pod.tee()).await.error(), (503, "Unavailable".into()));
    assert!(asked.elapsed() < Duration::from_secs(20));
    assert_eq!(resource(&one, &cookie, "default/key/db").await.status, 200, "the other one serves it");
}
