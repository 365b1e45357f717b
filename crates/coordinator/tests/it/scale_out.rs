//! Several coordinators on one log in a real etcd.

use std::time::{Duration, Instant};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use evidence::Platform;
use mesh_api::ActivateRequest;
use serde_json::Value;

use crate::{
    cluster::Etcd,
    running::Running,
    service::join,
    world::{FRONTEND, keep_on, manifest, people},
};

const CODE: &[u8] = b"bailey-coordinator";

/// One that answers.
async fn replica(etcd: &Etcd) -> Running {
    let running = Running::replica(CODE, tempfile::tempdir().unwrap(), etcd.hints()).await;
    serves(&running).await;
    running
}

/// Waits until it answers; how long that took.
async fn serves(running: &Running) -> Duration {
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
