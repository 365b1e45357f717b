//! The drill: shares are proved to work, and nothing is changed; whatever would make a recovery fail makes the drill
//! fail, too.

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ciborium::Value as Cbor;
use coordinator::core::{Rehearsal, State, recovery::Descriptor, rehearsed};
use hyper::Method;
use redb::{Database, ReadableDatabase, TableDefinition};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::tee::NOW;
use zeroize::Zeroizing;

use crate::{
    recovery::{Holder, left_behind},
    running::{Answer, Running},
    world::{caller, code, founded, later, manifest, people, set_manifest, step},
};

const PATH: &str = "/api/v3/recovery/rehearsal";

async fn upload(running: &Running, share: &[u8], signature: &[u8]) -> Answer {
    let body = json!({
        "recoverySecret": BASE64.encode(share), "recoverySecretSignature": BASE64.encode(signature),
    });
    running.post(None, PATH, body.to_string()).await
}

async fn give(running: &Running, holder: &Holder, secrets: &Value) -> Answer {
    let share = holder.decrypt(secrets);
    upload(running, &share, &holder.sign(&share)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn enough_holders_prove_their_shares_and_nothing_changes() {
    let holders = ["alice", "bob", "carol"].map(Holder::new);
    let (directory, secrets, root) = left_behind(&holders, 2).await;
    let running = Running::start_in(directory).await;
    let before = running.verify([1; 32]).await.unwrap();
    let [alice, bob, _] = &holders;
    let share = alice.decrypt(&secrets);
    assert_eq!(upload(&running, &share, b"nonsense").await.code(), (422, "SHARE_NOT_SIGNED".into()));
    assert_eq!(upload(&running, &share, &bob.sign(&share)).await.code(), (422, "SHARE_WRONG".into()));
    assert_eq!(upload(&running, &[7; 33], b"nonsense").await.code(), (422, "SHARE_UNKNOWN".into()));
    assert_eq!(upload(&running, &[7; 512], b"nonsense").await.code(), (422, "SHARE_UNKNOWN".into()));
    assert_eq!(running.post(None, PATH, "{}").await.code(), (400, "BODY_MALFORMED".into()));

    assert_eq!(running.post(None, PATH, vec![b'x'; 2 << 20]).await.code().0, 413);
    let wrong = running.request(None, Method::PUT, PATH, Vec::new()).await;
    assert_eq!(wrong.code(), (405, "METHOD_NOT_ALLOWED".into()));

    let first = give(&running, alice, &secrets).await.json();
    assert_eq!((&first["data"]["remaining"], &first["data"]["given"]), (&json!(1), &json!(["alice"])));
    assert_eq!(give(&running, alice, &secrets).await.code(), (409, "SHARE_REPEATED".into()));
    let standing = running.get(None, PATH).await.json();
    assert_eq!(standing["data"]["holders"], json!(["alice", "bob", "carol"]));

    // Bob's is encrypted for this coordinator alone.
    let key = running.get(None, &format!("{PATH}/public-key")).await.json();
    let key = BASE64.decode(key["data"]["ephemeralPublicKey"].as_str().unwrap()).unwrap();
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&key).unwrap()).unwrap();
    let share = bob.decrypt(&secrets);
    let mut encrypted = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA256_MGF1SHA256, &share, &mut encrypted, None).unwrap();
    let last = upload(&running, &encrypted, &bob.sign(&share)).await.json();
    assert_eq!(last["data"]["remaining"], 0, "{last}");

    let after = running.verify([2; 32]).await.unwrap();
    assert_eq!((after.epoch, &after.manifest, after.mode), (before.epoch, &before.manifest, before.mode));
    assert_eq!((after.root.into_vec(), after.log_length), (root, before.log_length + 1));
    let log = running.get(None, "/api/v2/update").await.json()["data"]["updateLog"].clone();
    let last = log.as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    assert!(last.contains("Recovery rehearsed") && last.contains(r#"["alice","bob"]"#), "{last}");
    // What came in is gone, and the log opens again with the new event in it.
    let standing = running.get(None, PATH).await.json();
    assert_eq!((&standing["data"]["remaining"], &standing["data"]["given"]), (&json!(2), &json!([])));
    let directory = running.left();
    assert_eq!(Running::start_in(directory).await.get(None, "/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_recovery_keys_there_is_nothing_to_rehearse() {
    let running = Running::start().await;
    assert_eq!(running.get(None, PATH).await.code(), (404, "MANIFEST_NOT_SET".into()));
    let running = Running::with_manifest().await;
    for path in [PATH.to_owned(), format!("{PATH}/public-key")] {
        assert_eq!(running.get(None, &path).await.code(), (409, "RECOVERY_KEYS_MISSING".into()), "{path}");
    }
    assert_eq!(upload(&running, &[7; 33], b"").await.code(), (409, "RECOVERY_KEYS_MISSING".into()));
    let directory = running.left();
    let elsewhere = Running::start_as(b"another", directory).await;
    assert_eq!(elsewhere.get(None, PATH).await.code(), (503, "RECOVERY_IMPOSSIBLE".into()));
}

/// What the host can change: the record beside the log.
fn changed(directory: &TempDir, change: impl FnOnce(&mut Vec<(Cbor, Cbor)>)) {
    const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
    let database = Database::open(directory.path().join("state.redb")).unwrap();
    let record = {
        let transaction = database.begin_read().unwrap();
        let keys = transaction.open_table(KEYS).unwrap();
        keys.get("recovery").unwrap().unwrap().value().to_vec()
    };
    let mut record: Cbor = ciborium::from_reader(record.as_slice()).unwrap();
    change(record.as_map_mut().unwrap());
    let mut bytes = Vec::new();
    ciborium::into_writer(&record, &mut bytes).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(KEYS).unwrap().insert("recovery", bytes.as_slice()).unwrap();
    transaction.commit().unwrap();
}

fn field<'c>(map: &'c mut [(Cbor, Cbor)], name: &str) -> &'c mut Cbor {
    &mut map.iter_mut().find(|(key, _)| key.as_text() == Some(name)).unwrap().1
}

fn descriptor(record: &mut [(Cbor, Cbor)]) -> &mut Vec<(Cbor, Cbor)> {
    field(record, "descriptor").as_map_mut().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s46_what_the_host_changed_beside_the_log_makes_the_drill_fail() {
    let holders = ["alice", "bob"].map(Holder::new);
    let (directory, secrets, _) = left_behind(&holders, 2).await;
    let copy = || {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(directory.path().join("state.redb"), copy.path().join("state.redb")).unwrap();
        copy
    };

    // Fewer holders would do.
    let fewer = copy();
    changed(&fewer, |record| *field(descriptor(record), "threshold") = 1.into());
    let running = Running::start_in(fewer).await;
    assert_eq!(give(&running, &holders[0], &secrets).await.code(), (422, "RECOVERY_FAILED".into()));

    // Another holder.
    let other = copy();
    changed(&other, |record| {
        let holders = field(descriptor(record), "holders").as_map_mut().unwrap();
        holders[0].0 = Cbor::Text("mallory".into());
    });
    let running = Running::start_in(other).await;
    assert_eq!(running.get(None, PATH).await.code(), (422, "RECOVERY_FAILED".into()));

    // The right shares would open nothing.
    let sealed = copy();
    changed(&sealed, |record| *field(record, "data_key") = Cbor::Bytes(vec![7; 60]));
    let running = Running::start_in(sealed).await;
    assert_eq!(give(&running, &holders[0], &secrets).await.status, 200);
    let last = give(&running, &holders[1], &secrets).await;
    assert_eq!(last.code(), (422, "RECOVERY_FAILED".into()));
    let log = running.get(None, "/api/v2/update").await.json().to_string();
    assert!(!log.contains("rehearsed"), "{log}");

    // Nobody any more.
    let nonsense = copy();
    changed(&nonsense, Vec::clear);
    let running = Running::start_in(nonsense).await;
    assert_eq!(running.get(None, PATH).await.code(), (422, "RECOVERY_FAILED".into()));
}

fn under_keys(holder: &Holder) -> (State, Descriptor) {
    let mut text = manifest();
    text["RecoveryKeys"] = json!({ holder.name: holder.pem });
    let (state, people) = (founded(), people());
    let bytes = text.to_string().into_bytes();
    let set = set_manifest(&state, people.owner.digest(), &caller(&people.owner), bytes, NOW);
    let (event, shares) = set.unwrap();
    (step(state, event), shares.unwrap().descriptor)
}

#[test]
fn a_rehearsal_ends_after_an_hour_and_with_new_shares() {
    let holder = Holder::new("alice");
    let (state, descriptor) = under_keys(&holder);
    let rehearsal = Rehearsal::begin(&state, Some(descriptor.clone()), NOW).unwrap();
    assert!(rehearsal.goes_on(Some(&descriptor), later(3599)));
    assert!(!rehearsal.goes_on(Some(&descriptor), later(3600)));
    let (_, others) = under_keys(&holder);
    assert!(!rehearsal.goes_on(Some(&others), NOW), "the same holder, another share");
    assert!(!rehearsal.goes_on(None, NOW));
}

#[test]
fn only_the_secret_of_the_state_itself_concludes_a_rehearsal() {
    let holder = Holder::new("alice");
    let (state, descriptor) = under_keys(&holder);
    let secret = state.mesh().unwrap().recovery_secret().unwrap().clone();
    let mut rehearsal = Rehearsal::begin(&state, Some(descriptor), NOW).unwrap();
    assert!(rehearsal.secret().is_none());
    rehearsal.upload(Zeroizing::new(secret.to_vec()), &holder.sign(secret.as_slice())).unwrap();
    assert_eq!(rehearsal.secret().as_ref(), Some(&secret));
    assert!(rehearsed(&state, &secret, vec!["alice".into()], NOW).is_ok());
    // As when the manifest was updated meanwhile.
    let (other, _) = under_keys(&holder);
    assert_eq!(code(rehearsed(&other, &secret, vec!["alice".into()], NOW)), "RECOVERY_FAILED");
    assert_eq!(code(rehearsed(&founded(), &secret, Vec::new(), NOW)), "MANIFEST_NOT_SET");
}
