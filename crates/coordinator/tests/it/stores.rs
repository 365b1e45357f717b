//! Secrets that lie in stores outside, end to end: a coordinator over real TLS, Keeps that attest, and a server that plays
//! Vault.

use std::time::Duration;

use attested_tls::key::TeeKey;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coordinator::service::TelemetryHints;
use evidence::Platform;
use mesh_api::ActivateRequest;
use serde_json::{Value, json};
use testkit::vault::{Mood, Vault};
use tonic::Status;

use crate::{
    marblerun,
    running::{Answer, Running, logs},
    service::join,
    world::{TALLY, keep_on, manifest, people},
};

const TOKEN: &str = "hvs.CANARY-e0b1aa-token";
const PASSWORD: &str = "CANARY-e0b1aa-password";
const KEY: [u8; 32] = *b"CANARY-e0b1aa-key-of-32-bytes-ok";

async fn vault() -> Vault {
    let vault = Vault::start(&["localhost"], None).await;
    vault.token(TOKEN, 0, false);
    vault.put("db", json!({ "password": PASSWORD }));
    vault
}

/// The tests' manifest, in which `tally` has a password and a key out of Vault.
fn stored(vault: &Vault) -> Value {
    let mut manifest = manifest();
    let env = &mut manifest["Marbles"]["tally"]["Parameters"]["Env"];
    env["PASSWORD"] = json!("{{ string .Secrets.password }}");
    env["KEY"] = json!("{{ hex .Secrets.sealed }}");
    manifest["SecretStores"] = json!({ "corp-vault": { "Vault": {
        "Address": vault.url(), "RootCA": vault.root(), "Auth": { "Token": "token" }
    } } });
    let secrets = &mut manifest["Secrets"];
    secrets["token"] = json!({ "Type": "plain", "UserDefined": true });
    let place = json!({ "Name": "corp-vault", "KV": { "Path": "db", "Field": "password" } });
    secrets["password"] = json!({ "Type": "plain", "Store": place });
    let ciphertext = vault.encrypt("mesh", &KEY);
    let place = json!({ "Name": "corp-vault", "Transit": { "Key": "mesh", "Ciphertext": ciphertext } });
    secrets["sealed"] = json!({ "Type": "symmetric-key", "Size": 256, "Store": place });
    let roles = &mut manifest["Roles"];
    roles["write"]["ResourceNames"] = json!(["question", "key", "token"]);
    roles["read"]["ResourceNames"] = json!(["salt", "password"]);
    manifest
}

async fn running(vault: &Vault, telemetry: TelemetryHints) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start_telling(b"bailey-coordinator", folder, telemetry).await;
    let answer = running.set_manifest(Some(&people().owner), &stored(vault).to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    running
}

async fn upload(running: &Running, token: &str) {
    let answer = running.write(Some(&people().writer), "token", token).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
}

async fn activate(running: &Running) -> Result<mesh_api::Parameters, Status> {
    let mut tally = join(running, keep_on(Platform::Snp), "tally", TALLY).await.unwrap();
    let answer = tally.activate(ActivateRequest {}).await?;
    Ok(answer.into_inner().parameters.unwrap())
}

/// A failure is remembered for a second, and then the store is asked again.
async fn activated(running: &Running) -> mesh_api::Parameters {
    for _ in 0..100 {
        if let Ok(parameters) = activate(running).await {
            return parameters;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it was not activated");
}

async fn check(running: &Running, who: &TeeKey) -> Answer {
    running.post(Some(who), "/api/v3/stores/check", "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marble_gets_what_lies_in_a_store_and_what_a_store_decrypts() {
    let vault = vault().await;
    let running = running(&vault, TelemetryHints::default()).await;
    upload(&running, TOKEN).await;
    let env = activate(&running).await.unwrap().env;
    assert_eq!((env["PASSWORD"].as_str(), env["KEY"].as_str()), (PASSWORD, hex::encode(KEY).as_str()));

    let asked = vault.asked().len();
    activate(&running).await.unwrap();
    assert_eq!(vault.asked().len(), asked, "what was fetched a moment ago is kept");

    vault.put("db", json!({ "password": "another" }));
    vault.token("hvs.other", 0, false);
    upload(&running, "hvs.other").await;
    assert_eq!(activate(&running).await.unwrap().env["PASSWORD"], "another", "not under another credential");
    let left = std::fs::read(running.directory.path().join("state.redb")).unwrap();
    assert!(!left.windows(PASSWORD.len()).any(|bytes| bytes == PASSWORD.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_refuses_those_who_need_it_and_nobody_else() {
    let vault = vault().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decisions");
    let sink = format!("file:{}", path.display()).parse().unwrap();
    let hints = TelemetryHints { decisions: Some(sink), ..TelemetryHints::default() };
    let running = running(&vault, hints).await;

    let refused = activate(&running).await.unwrap_err();
    assert_eq!(refused.details(), b"PARAMETERS_UNAVAILABLE");
    upload(&running, TOKEN).await;
    vault.becomes(Mood::Down);
    let refused = activate(&running).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.details()),
        (tonic::Code::Unavailable, &b"PARAMETERS_UNAVAILABLE"[..])
    );
    for word in ["vault", "password", "sealed", "localhost"] {
        assert!(!refused.message().contains(word), "the guest learns nothing of the store: {refused}");
    }
    let mut frontend =
        join(&running, keep_on(Platform::Snp), "frontend", crate::world::FRONTEND).await.unwrap();
    frontend.activate(ActivateRequest {}).await.unwrap();
    let salt = running.get(Some(&people().reader), "/api/v2/secrets?s=salt").await;
    assert_eq!(salt.status, 200);

    vault.becomes(Mood::Sealed);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    activate(&running).await.unwrap_err();
    vault.becomes(Mood::Well);
    assert_eq!(activated(&running).await.env["PASSWORD"], PASSWORD);

    let mut records = Vec::new();
    for _ in 0..100 {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect();
        records.retain(|record| record["kind"] == "activation" && record["codes"] != json!([]));
        if records.len() >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = |code: &str, words: &str| {
        records.iter().any(|record| {
            record["codes"] == json!([code]) && record["reason"].as_str().is_some_and(|it| it.contains(words))
        })
    };
    assert!(told("SECRET_STORE_CREDENTIAL", "nobody has uploaded it yet"), "{records:?}");
    assert!(told("SECRET_STORE_UNREACHABLE", "to mend it, see that the store runs"), "{records:?}");
    assert!(told("SECRET_STORE_UNAVAILABLE", "HTTP 503"), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s44_values_and_credentials_of_stores_are_nowhere_in_what_the_host_sees() {
    let vault = vault().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decisions");
    let sink = format!("file:{}", path.display()).parse().unwrap();
    let hints = TelemetryHints { decisions: Some(sink), ..TelemetryHints::default() };
    let running = running(&vault, hints).await;
    upload(&running, TOKEN).await;
    activate(&running).await.unwrap();
    vault.put("db", json!({ "password": 5 }));
    upload(&running, &format!("{TOKEN}\n")).await;
    activate(&running).await.unwrap_err();
    vault.revoke_all();
    assert_eq!(check(&running, &people().writer).await.status, 200);
    running.get(Some(&people().reader), "/api/v2/secrets?s=password").await;
    running.stop.cancel();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let told = std::fs::read(&path).unwrap();
    let logged = logs().lock().unwrap().clone();
    for seen in [told, logged] {
        for canary in [b"CANARY-e0b1aa".to_vec(), hex::encode(KEY).into_bytes()] {
            assert!(!seen.windows(canary.len()).any(|bytes| bytes == canary));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_secrets_are_read_by_those_who_may_and_asked_for_nobody_else() {
    let vault = vault().await;
    let running = running(&vault, TelemetryHints::default()).await;
    upload(&running, TOKEN).await;
    let path = "/api/v2/secrets?s=password";
    let refused = running.get(Some(&people().writer), path).await;
    assert_eq!(refused.code(), (403, "NOT_GRANTED".into()));
    assert_eq!(running.get(None, path).await.status, 401);
    assert_eq!(vault.asked().len(), 0, "nobody who may not read makes the coordinator ask");
    let answer = running.get(Some(&people().reader), path).await;
    let secret = &answer.json()["data"]["secrets"]["password"];
    let value = BASE64.encode(PASSWORD);
    assert_eq!((&secret["Private"], &secret["UserDefined"]), (&json!(value), &json!(false)));

    let written = running.write(Some(&people().writer), "password", "mine").await;
    assert_eq!(written.code(), (403, "NOT_GRANTED".into()));
    vault.becomes(Mood::Down);
    upload(&running, "hvs.another").await;
    let answer = running.get(Some(&people().reader), path).await;
    assert_eq!(answer.code(), (503, "SECRET_STORE_UNREACHABLE".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_the_stores_says_what_is_there_and_no_value() {
    let vault = vault().await;
    let running = running(&vault, TelemetryHints::default()).await;
    for (who, expected) in [(&people().stranger, 401), (&people().owner, 401)] {
        assert_eq!(check(&running, who).await.status, expected);
    }
    let look = async || check(&running, &people().writer).await.json()["data"]["stores"][0].clone();
    let before = look().await;
    assert_eq!((&before["name"], &before["kind"]), (&json!("corp-vault"), &json!("vault")));
    assert_eq!(
        (&before["available"], &before["fault"]["code"]),
        (&json!(false), &json!("SECRET_STORE_CREDENTIAL"))
    );
    upload(&running, TOKEN).await;
    let after = look().await;
    assert_eq!((&after["available"], &after["fault"]), (&json!(true), &Value::Null));
    let password = &after["secrets"][0];
    let expected = json!({
        "name": "password", "place": "KV secret/db, field password", "available": true, "version": 1, "fault": null
    });
    assert_eq!(*password, expected);
    assert!(!after.to_string().contains("CANARY"));
    // A secret that is not as declared is told before a Marble needs it.
    vault.put("db", json!({ "user": "x" }));
    assert_eq!(look().await["secrets"][0]["fault"]["code"], "SECRET_STORE_MISSING");
    assert_eq!(look().await["secrets"][1]["available"], true);

    let mut manifest = stored(&vault);
    manifest["Roles"]["read"]["ResourceNames"] = json!(["salt"]);
    let other = Running::start().await;
    other.set_manifest(Some(&people().owner), &manifest.to_string()).await;
    assert_eq!(check(&other, &people().reader).await.code(), (403, "NOT_GRANTED".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_program_gets_stored_secrets_too() {
    let vault = vault().await;
    let (mut manifest, from) = (marblerun::text(), stored(&vault));
    manifest["SecretStores"] = from["SecretStores"].clone();
    for name in ["token", "password"] {
        manifest["Secrets"][name] = from["Secrets"][name].clone();
    }
    manifest["Roles"]["write"]["ResourceNames"] = json!(["question", "key", "token"]);
    manifest["Marbles"]["native"]["Parameters"]["Env"]["PASSWORD"] = json!("{{ string .Secrets.password }}");
    let running = Running::start().await;
    let answer = running.set_manifest(Some(&people().owner), &manifest.to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let key = TeeKey::generate().unwrap();
    let refused = marblerun::activate(&running, &key, marblerun::request(&key)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.details()),
        (tonic::Code::Unavailable, &b"PARAMETERS_UNAVAILABLE"[..])
    );
    upload(&running, TOKEN).await;
    let given = marblerun::activate(&running, &key, marblerun::request(&key)).await.unwrap();
    assert_eq!(given.parameters.unwrap().env["PASSWORD"], PASSWORD.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manifest_forgets_what_was_fetched_under_the_one_before() {
    let vault = vault().await;
    vault.put("other", json!({ "password": "CANARY-e0b1aa-other" }));
    let mut manifest = stored(&vault);
    manifest["Roles"]["admin"] = json!({ "ResourceType": "Manifest", "Actions": ["UpdateManifest"] });
    manifest["Users"]["writer"]["Roles"] = json!(["write", "admin"]);
    let running = Running::start().await;
    let answer = running.set_manifest(Some(&people().owner), &manifest.to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    upload(&running, TOKEN).await;
    assert_eq!(activate(&running).await.unwrap().env["PASSWORD"], PASSWORD);
    manifest["Secrets"]["password"]["Store"]["KV"]["Path"] = json!("other");
    let text = BASE64.encode(manifest.to_string());
    let body = json!({ "manifest": text }).to_string();
    let answer = running.post(Some(&people().writer), "/api/v2/update", body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(activate(&running).await.unwrap().env["PASSWORD"], "CANARY-e0b1aa-other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_mesh_lets_the_coordinator_in_without_any_upload() {
    let running = Running::start().await;
    let root = running.verify([1; 32]).await.unwrap().root.into_vec();
    let vault = Vault::start(&["localhost"], Some(&root)).await;
    vault.put("db", json!({ "password": PASSWORD }));
    let mut manifest = stored(&vault);
    manifest["SecretStores"]["corp-vault"]["Vault"]["Auth"] =
        json!({ "Certificate": { "Secret": "to-vault", "Role": "mesh" } });
    manifest["Secrets"]["to-vault"] = json!({ "Type": "cert-ecdsa", "Size": 256, "Shared": true });
    manifest["Roles"]["read"]["ResourceNames"] = json!(["to-vault", "password"]);
    let answer = running.set_manifest(Some(&people().owner), &manifest.to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let reader = Some(&people().reader);
    let refused = running.get(reader, "/api/v2/secrets?s=password").await;
    assert_eq!(refused.code(), (502, "SECRET_STORE_DENIED".into()));
    let own = running.get(reader, "/api/v2/secrets?s=to-vault").await.json();
    let own = own["data"]["secrets"]["to-vault"]["Cert"].as_str().unwrap().to_owned();
    vault.client(&BASE64.decode(own).unwrap());
    assert_eq!(running.get(reader, "/api/v2/secrets?s=password").await.status, 200);
    assert_eq!(activate(&running).await.unwrap().env["PASSWORD"], PASSWORD);
}
