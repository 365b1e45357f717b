//! The state on another machine: so many shares open it, fewer or wrong ones change nothing.

use std::sync::Arc;

use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use database::audit::{Event, Line};
use emulator::vendor;
use serde_json::{Value, json};
use testkit::tee::NOW;
use time::OffsetDateTime;

use super::{Served, World};

pub struct Holders(Vec<PrivateDecryptingKey>);

impl Holders {
    pub fn new() -> Self {
        Self((0..3).map(|_| PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap()).collect())
    }

    pub fn named(&self, manifest: &mut Value) {
        let pem = |key: &PrivateDecryptingKey| {
            let body = STANDARD.encode(key.public_key().as_der().unwrap().as_ref());
            format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
        };
        let holders =
            self.0.iter().enumerate().map(|(index, key)| (format!("holder_{index}"), pem(key).into()));
        let holders: serde_json::Map<String, Value> = holders.collect();
        manifest["Recovery"] = json!({ "Holders": holders, "Threshold": 2 });
    }

    /// A holder's share, as the holder decrypts it.
    pub fn share(&self, described: &Value, index: usize) -> Vec<u8> {
        let share = described["Holders"][format!("holder_{index}")]["Share"].as_str().unwrap();
        let share = STANDARD.decode(share).unwrap();
        let key = OaepPrivateDecryptingKey::new(self.0[index].clone()).unwrap();
        let mut out = vec![0; key.min_output_size()];
        key.decrypt(&OAEP_SHA256_MGF1SHA256, &share, &mut out, None).unwrap().to_vec()
    }
}

pub fn elsewhere() -> Arc<vendor::Platform> {
    let directory = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::from_unix_timestamp(NOW.0).unwrap();
    Arc::new(vendor::Platform::open(directory.path(), now).unwrap())
}

pub async fn give(served: &Served, share: &[u8]) -> (u16, Value) {
    let body = json!({ "Share": STANDARD.encode(share) }).to_string();
    served.json(None, "POST /v1/recovery", &body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn s46_shares_open_the_state_elsewhere_with_another_root_and_wrong_ones_change_nothing() {
    let holders = Holders::new();
    let Some(world) = World::with(|manifest| holders.named(manifest)) else { return };
    let served = world.start().await;
    served.serving().await;
    let bank = served.session(&world.parties.bank_b).await;
    bank.batch_execute("INSERT INTO notes VALUES (1, 'kept')").await.unwrap();
    served.stopped().await;
    let files = |name: &str| std::fs::read(world.hints().state.join(name)).unwrap();
    let (key, authority) = (files("key"), files("authority"));

    let served = world.start_on(elsewhere()).await;
    let described = loop {
        let (_, described) = served.json(None, "GET /v1/recovery", "").await;
        if described["Recovering"] == json!(true) {
            break described;
        }
    };
    assert_eq!((&described["Threshold"], &described["Remaining"]), (&json!(2), &json!(2)));
    let mut wrong = holders.share(&described, 1);
    wrong[7] ^= 1;
    let (status, refusal) = give(&served, &wrong).await;
    assert_eq!((status, refusal["Code"].as_str()), (400, Some("RECOVERY_SHARE_UNKNOWN")));
    assert_eq!(give(&served, &holders.share(&described, 0)).await.1["Remaining"], json!(1));
    let (_, refusal) = give(&served, &holders.share(&described, 0)).await;
    assert_eq!(refusal["Code"], json!("RECOVERY_SHARE_REPEATED"));
    assert_eq!(files("key"), key, "nothing was changed");
    let (status, _) = served.asked(None, "GET /v1/audit", "").await;
    assert_eq!(status, 404, "nothing else is served");
    assert_eq!(give(&served, &holders.share(&described, 2)).await.1["Remaining"], json!(0));
    served.opened().await;
    let (_, described) = served.json(None, "GET /v1/recovery", "").await;
    assert_eq!(described["Recovering"], json!(false));
    let auditor = served.session(&world.parties.auditor).await;
    let body: String = auditor.query_one("SELECT body FROM notes", &[]).await.unwrap().get(0);
    assert_eq!(body, "kept");
    assert_ne!(files("authority"), authority, "the CA's key is in no share: there is a new root");
    let person = world.parties.auditor.issue("person");
    let (_, export) = served.json(Some(&person), "GET /v1/audit", "").await;
    let lines: Vec<Line> = serde_json::from_value(export["Lines"].clone()).unwrap();
    let recovered = lines.iter().filter_map(Line::read).find_map(|event| match event {
        Event::Recovered { holders } => Some(holders),
        _ => None,
    });
    assert_eq!(recovered.unwrap(), ["holder_0", "holder_2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_another_lineage_open_nothing_and_may_come_again() {
    let holders = Holders::new();
    let Some(world) = World::with(|manifest| holders.named(manifest)) else { return };
    let Some(other) = World::with(|manifest| holders.named(manifest)) else { return };
    for world in [&world, &other] {
        let served = world.start().await;
        served.serving().await;
        served.stopped().await;
    }
    // The host puts the log of another database in the place of this one's, with that one's shares.
    let (own, foreign) = (world.hints().state, other.hints().state);
    std::fs::remove_dir_all(own.join("log")).unwrap();
    std::fs::rename(foreign.join("log"), own.join("log")).unwrap();
    std::fs::copy(foreign.join("shares.json"), own.join("shares.json")).unwrap();
    let served = world.start_on(elsewhere()).await;
    let described = loop {
        let (_, described) = served.json(None, "GET /v1/recovery", "").await;
        if described["Recovering"] == json!(true) {
            break described;
        }
    };
    let claims = served.json(None, "GET /v1/recovery", "").await.1;
    assert_eq!(claims["Remaining"], json!(2));
    assert_eq!(give(&served, &holders.share(&described, 0)).await.0, 200);
    let (status, refusal) = give(&served, &holders.share(&described, 1)).await;
    assert_eq!((status, refusal["Code"].as_str()), (400, Some("RECOVERY_REFUSED")));
    let (_, described) = served.json(None, "GET /v1/recovery", "").await;
    assert_eq!(described["Remaining"], json!(2), "all come again");
    served.stopped().await;
}
