//! The machine is gone: holders of recovery keys bring the state back into another TEE.

use std::collections::BTreeMap;

use attested_tls::claims::CoordinatorMode;
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{
        KeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
        PrivateDecryptingKey, PublicEncryptingKey,
    },
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    running::{Answer, Running},
    world::{manifest, people},
};

const OTHER: &[u8] = b"bailey-coordinator on another machine";

/// Someone who keeps a recovery key.
pub struct Holder {
    pub name: &'static str,
    pair: KeyPair,
    der: Vec<u8>,
    pub pem: String,
}

impl Holder {
    pub fn new(name: &'static str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let der = der.as_ref().to_vec();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let body = BASE64.encode(public.as_ref());
        let lines: String =
            body.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
        Self {
            name,
            pair,
            der,
            pem: format!("-----BEGIN PUBLIC KEY-----\n{lines}-----END PUBLIC KEY-----\n"),
        }
    }

    pub fn decrypt(&self, secrets: &Value) -> Vec<u8> {
        let encrypted = BASE64.decode(secrets[self.name].as_str().unwrap()).unwrap();
        let key = PrivateDecryptingKey::from_pkcs8(&self.der).unwrap();
        let key = OaepPrivateDecryptingKey::new(key).unwrap();
        let mut out = vec![0; key.min_output_size()];
        key.decrypt(&OAEP_SHA256_MGF1SHA256, &encrypted, &mut out, None).unwrap().to_vec()
    }

    pub fn sign(&self, share: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), share, &mut signature).unwrap();
        signature
    }
}

pub async fn upload(running: &Running, share: &[u8], signature: &[u8]) -> Answer {
    let body = json!({
        "recoverySecret": BASE64.encode(share), "recoverySecretSignature": BASE64.encode(signature),
    });
    running.post(None, "/api/v2/recover", body.to_string()).await
}

/// A state under recovery keys, left behind by the coordinator that sealed it; the root that it had.
pub async fn left_behind(holders: &[Holder], threshold: u64) -> (TempDir, Value, Vec<u8>) {
    let running = Running::start().await;
    let mut text = manifest();
    let keys: BTreeMap<_, _> = holders.iter().map(|holder| (holder.name, &holder.pem)).collect();
    text["RecoveryKeys"] = json!(keys);
    text["Config"] = json!({ "RecoveryThreshold": threshold });
    let answer = running.set_manifest(Some(&people().owner), &text.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let secrets = answer.json()["data"]["RecoverySecrets"].clone();
    assert_eq!(running.write(Some(&people().writer), "question", "how many?").await.status, 200);
    let root = running.verify([1; 32]).await.unwrap().root.into_vec();
    assert_eq!(running.get(None, "/api/v2/recover/public-key").await.code().1, "RECOVERY_NOT_PENDING");
    (running.left(), secrets, root)
}

#[tokio::test(flavor = "multi_thread")]
async fn s46_enough_holders_bring_back_data_and_never_the_identity() {
    let holders = ["alice", "bob", "carol"].map(Holder::new);
    let (directory, secrets, old_root) = left_behind(&holders, 2).await;
    let shares: Vec<_> = holders.iter().map(|holder| holder.decrypt(&secrets)).collect();
    let running = Running::start_as(OTHER, directory).await;
    assert_eq!(running.get(None, "/api/v2/status").await.json()["data"]["code"], 1);
    let claims = running.verify([2; 32]).await.unwrap();
    assert_eq!((claims.mode, claims.epoch, &claims.manifest), (CoordinatorMode::Recovering, 0, &None));
    for path in ["/api/v2/manifest", "/api/v2/update", "/api/v2/secrets?s=question"] {
        assert_eq!(running.get(Some(&people().writer), path).await.code(), (503, "RECOVERY_PENDING".into()));
    }
    // Not even the owner begins anew over a state that can be recovered.
    let overwritten = running.set_manifest(Some(&people().owner), &manifest().to_string()).await;
    assert_eq!(overwritten.code(), (503, "RECOVERY_PENDING".into()));

    let [alice, bob, carol] = &holders;
    let wrong = upload(&running, &shares[1], &alice.sign(&shares[1])).await;
    assert_eq!(wrong.code(), (422, "SHARE_WRONG".into()));
    assert!(wrong.json()["message"].as_str().unwrap().contains("alice"), "{}", wrong.json());
    let unsigned = upload(&running, &shares[1], b"nonsense").await;
    assert_eq!(unsigned.code(), (422, "SHARE_NOT_SIGNED".into()));
    assert_eq!(upload(&running, &[7; 33], b"nonsense").await.code(), (422, "SHARE_UNKNOWN".into()));
    assert_eq!(upload(&running, &[7; 512], b"nonsense").await.code(), (422, "SHARE_UNKNOWN".into()));

    let first = upload(&running, &shares[0], &alice.sign(&shares[0])).await;
    assert_eq!((first.status.as_u16(), &first.json()["data"]["remaining"]), (200, &json!(1)));
    let again = upload(&running, &shares[0], &alice.sign(&shares[0])).await;
    assert_eq!(again.code(), (409, "SHARE_REPEATED".into()));
    let wrong = upload(&running, &shares[1], &carol.sign(&shares[1])).await;
    assert_eq!(wrong.code(), (422, "SHARE_WRONG".into()), "and what came before still counts");

    // Bob's share is encrypted for this coordinator alone.
    let answer = running.get(None, "/api/v2/recover/public-key").await.json();
    let key = BASE64.decode(answer["data"]["ephemeralPublicKey"].as_str().unwrap()).unwrap();
    let key = OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&key).unwrap()).unwrap();
    let mut encrypted = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA256_MGF1SHA256, &shares[1], &mut encrypted, None).unwrap();
    let last = upload(&running, &encrypted, &bob.sign(&shares[1])).await;
    assert_eq!(
        (last.status.as_u16(), &last.json()["data"]["remaining"]),
        (200, &json!(0)),
        "{}",
        last.json()
    );

    assert_eq!(running.get(None, "/api/v2/status").await.json()["data"]["code"], 3);
    let secret = running.get(Some(&people().writer), "/api/v2/secrets?s=question").await.json();
    assert_eq!(secret["data"]["secrets"]["question"]["Private"], BASE64.encode("how many?"));
    let claims = running.verify([3; 32]).await.unwrap();
    assert_eq!((claims.mode, claims.epoch), (CoordinatorMode::Running, 2));
    assert_ne!(claims.root.into_vec(), old_root, "shares give no CA key, so the root is new");
    let log = running.get(None, "/api/v2/update").await.json().to_string();
    assert!(log.contains("State recovered") && log.contains("alice") && log.contains("bob"), "{log}");

    // From now on it opens by itself here, and nowhere else.
    let directory = running.left();
    let running = Running::start_as(OTHER, directory).await;
    assert_eq!(running.get(None, "/api/v2/status").await.json()["data"]["code"], 3);
    let directory = running.left();
    let running = Running::start_in(directory).await;
    assert_eq!(running.get(None, "/api/v2/status").await.json()["data"]["code"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_holder_has_the_whole_secret_and_no_holder_means_no_recovery() {
    let holders = [Holder::new("alice")];
    let (directory, secrets, _) = left_behind(&holders, 0).await;
    let share = holders[0].decrypt(&secrets);
    let running = Running::start_as(OTHER, directory).await;
    let answer = upload(&running, &share, &holders[0].sign(&share)).await;
    assert_eq!(answer.json()["data"]["remaining"], 0, "{}", answer.json());

    let running = Running::with_manifest().await;
    let directory = running.left();
    let running = Running::start_as(OTHER, directory).await;
    assert_eq!(
        upload(&running, &share, &holders[0].sign(&share)).await.code(),
        (503, "RECOVERY_IMPOSSIBLE".into())
    );
    let refused = running.set_manifest(Some(&people().owner), &manifest().to_string()).await;
    assert_eq!(refused.code(), (503, "RECOVERY_IMPOSSIBLE".into()));
    assert_eq!(running.get(None, "/readyz").await.code(), (503, "NOT_READY".into()));
}
