//! The client against a server that plays Vault's documented API over real TLS (`testkit::vault`). Not yet run against
//! a real server: none can be had where these tests were written.

use std::sync::Arc;

use attested_tls::{clock, service::UserIdentity};
use manifest::{Manifest, SecretSource, StoredPlace};
use secret_store::{Credential, SecretStore, StoreError, StoreKey, open};
use serde_json::{Value, json};
use testkit::{
    tee::NOW,
    vault::{Mood, NAMESPACE, Vault},
};
use zeroize::Zeroizing;

const TOKEN: &str = "hvs.the-token";

fn text(text: &str) -> Credential {
    Credential::Text(Zeroizing::new(text.as_bytes().to_vec()))
}

/// A manifest with one store `s`, and a stored secret `x`.
fn manifest(store: Value, place: Value) -> Manifest {
    let mut place = place;
    place["Name"] = json!("s");
    let document = json!({
        "Packages": { "app": { "UniqueID": "1a".repeat(32) } },
        "Marbles": { "web": { "Package": "app" } },
        "SecretStores": { "s": { "Vault": store } },
        "Secrets": {
            "credential": { "Type": "plain", "UserDefined": true },
            "client": { "Type": "cert-ecdsa", "Size": 256, "UserDefined": true },
            "x": { "Type": "plain", "Store": place }
        }
    });
    Manifest::parse(document.to_string().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"))
}

fn place(place: Value) -> StoredPlace {
    let store = json!({ "Address": "https://localhost", "RootCA": ROOT, "Auth": { "Token": "credential" } });
    match &manifest(store, place).secrets()["x"].source {
        SecretSource::Stored(at) => at.place.clone(),
        other => panic!("{other:?}"),
    }
}

const ROOT: &str = include_str!("../../manifest/tests/data/root-a.pem");

fn client(store: Value, credential: Credential) -> Arc<dyn SecretStore> {
    let manifest = manifest(store, json!({ "KV": { "Path": "a", "Field": "b" } }));
    open(&manifest.stores()["s"], credential, clock::fixed(NOW), None).unwrap()
}

fn by_token(server: &Vault) -> Value {
    json!({ "Address": server.url(), "RootCA": server.root(), "Auth": { "Token": "credential" } })
}

fn by_role(server: &Vault) -> Value {
    let auth = json!({ "AppRole": { "RoleId": "role", "SecretId": "credential" } });
    json!({ "Address": server.url(), "RootCA": server.root(), "Auth": auth })
}

/// A server with a token and a secret.
async fn served() -> Vault {
    let server = Vault::start(&["localhost"], None).await;
    server.token(TOKEN, 0, false);
    server.put("db", json!({ "password": "first" }));
    server.put("db", json!({ "password": "second", "port": 5432, "blob": "AP8=" }));
    server
}

fn kv(field: &str) -> StoredPlace {
    place(json!({ "KV": { "Path": "db", "Field": field } }))
}

async fn value(store: &dyn SecretStore, place: &StoredPlace) -> Result<(Vec<u8>, Option<u64>), StoreError> {
    store.fetch(place).await.map(|fetched| (fetched.value.to_vec(), fetched.version))
}

async fn refusal(server: &Vault, place: StoredPlace) -> StoreError {
    client(by_token(server), text(TOKEN)).fetch(&place).await.unwrap_err()
}

#[tokio::test]
async fn fields_of_both_engines_are_read() {
    let server = served().await;
    server.put_unversioned("old/place", json!({ "key": "unversioned" }));
    server.put("a b", json!({ "x": "y" }));
    let store = client(by_token(&server), text(&format!("{TOKEN}\n")));
    assert_eq!(value(&*store, &kv("password")).await.unwrap(), (b"second".to_vec(), Some(2)));
    let first = place(json!({ "KV": { "Path": "db", "Field": "password", "Version": 1 } }));
    assert_eq!(value(&*store, &first).await.unwrap(), (b"first".to_vec(), Some(1)));
    let blob = place(json!({ "KV": { "Path": "db", "Field": "blob", "Encoding": "base64" } }));
    assert_eq!(value(&*store, &blob).await.unwrap().0, [0, 255]);
    let old = place(json!({ "KV": { "Mount": "kv", "Path": "old/place", "Field": "key", "Engine": 1 } }));
    assert_eq!(value(&*store, &old).await.unwrap(), (b"unversioned".to_vec(), None));
    store.check().await.unwrap();
}

#[tokio::test]
async fn transit_decrypts_what_stands_in_the_manifest_and_what_comes_with_a_request() {
    let server = served().await;
    let ciphertext = server.encrypt("mesh", &[1, 2, 3]);
    let store = client(by_token(&server), text(TOKEN));
    let at = |key: &str| place(json!({ "Transit": { "Key": key, "Ciphertext": ciphertext } }));
    assert_eq!(value(&*store, &at("mesh")).await.unwrap(), (vec![1, 2, 3], None));
    let key = |key: &str| StoreKey::Transit { mount: "transit".into(), key: key.into() };
    assert_eq!(store.decrypt(&key("mesh"), ciphertext.as_bytes()).await.unwrap().to_vec(), [1, 2, 3]);
    let other = StoreError::Rejected { status: 400 };
    assert_eq!(value(&*store, &at("other")).await.unwrap_err(), other);
    assert_eq!(store.decrypt(&key("mesh"), b"vault:v1:AAAA").await.unwrap_err(), other);
}

#[tokio::test]
async fn s30_the_server_is_known_by_the_manifests_roots_and_its_name() {
    let server = served().await;
    let mut wrong = by_token(&server);
    wrong["RootCA"] = json!(Vault::start(&["localhost"], None).await.root());
    let error = client(wrong, text(TOKEN)).fetch(&kv("password")).await.unwrap_err();
    assert!(matches!(error, StoreError::Untrusted(_)), "{error:?}");

    let other = Vault::start(&["vault.example.org"], None).await;
    other.token(TOKEN, 0, false);
    let error = refusal(&other, kv("password")).await;
    assert_eq!(error, StoreError::Untrusted("its certificate is for another name"));
    assert_eq!(server.asked().len() + other.asked().len(), 0, "no token was sent");
}

#[tokio::test]
async fn tokens_that_the_server_does_not_know_are_denied() {
    let server = served().await;
    let denied = client(by_token(&server), text("hvs.other"));
    assert_eq!(denied.fetch(&kv("password")).await.unwrap_err(), StoreError::Denied);
    assert_eq!(denied.check().await.unwrap_err(), StoreError::Denied);
    let store = client(by_token(&server), text(TOKEN));
    store.fetch(&kv("password")).await.unwrap();
    server.revoke_all();
    assert_eq!(store.fetch(&kv("password")).await.unwrap_err(), StoreError::Denied);
}

#[tokio::test]
async fn a_role_logs_in_once_and_again_when_its_token_is_revoked() {
    let server = served().await;
    server.role("role", "the-secret-id");
    let logins = || server.asked().iter().filter(|asked| asked.ends_with("login")).count();
    let wrong = client(by_role(&server), text("another"));
    assert_eq!(wrong.fetch(&kv("password")).await.unwrap_err(), StoreError::Denied);
    assert_eq!(logins(), 1, "a login is not repeated");
    let store = client(by_role(&server), text("the-secret-id"));
    for _ in 0..3 {
        store.fetch(&kv("password")).await.unwrap();
    }
    assert_eq!(logins(), 2);
    server.revoke_all();
    store.fetch(&kv("password")).await.unwrap();
    assert_eq!(logins(), 3);
}

#[tokio::test]
async fn a_token_that_ends_soon_is_renewed() {
    let server = served().await;
    server.token("hvs.short", 1, true);
    let store = client(by_token(&server), text("hvs.short"));
    store.keep().await.unwrap();
    assert_eq!(server.asked().len(), 0, "there is nothing to keep");
    store.fetch(&kv("password")).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    store.keep().await.unwrap();
    assert!(server.asked().contains(&"POST /v1/auth/token/renew-self".to_owned()), "{:?}", server.asked());
}

#[tokio::test]
async fn a_certificate_logs_in() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["client".into()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["mesh".into()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &rcgen::Issuer::from_params(&params, &key)).unwrap();
    let server = Vault::start(&["localhost"], Some(root.der())).await;
    server.put("db", json!({ "password": "second" }));
    let auth = json!({ "Certificate": { "Secret": "client", "Role": "mesh" } });
    let store = json!({ "Address": server.url(), "RootCA": server.root(), "Auth": auth });
    let identity = || UserIdentity {
        chain: vec![leaf.der().clone()],
        key: leaf_key.serialize_der().try_into().unwrap(),
    };
    let certified = || client(store.clone(), Credential::Certificate(identity()));
    assert_eq!(certified().fetch(&kv("password")).await.unwrap_err(), StoreError::Denied);
    server.client(leaf.der());
    certified().fetch(&kv("password")).await.unwrap();
    let manifest = manifest(store, json!({ "KV": { "Path": "a", "Field": "b" } }));
    let text = open(&manifest.stores()["s"], text(TOKEN), clock::fixed(NOW), None).err().unwrap();
    assert!(matches!(text, StoreError::Credential(_)));
}

#[tokio::test]
async fn namespaces_are_named_in_every_request() {
    let server = served().await;
    server.role("role", "the-secret-id");
    server.in_namespace();
    assert_eq!(refusal(&server, kv("password")).await, StoreError::Denied);
    let mut store = by_role(&server);
    store["Namespace"] = json!(NAMESPACE);
    client(store, text("the-secret-id")).fetch(&kv("password")).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_missing() {
    let server = served().await;
    let missing = |path: &str, field: &str| place(json!({ "KV": { "Path": path, "Field": field } }));
    assert_eq!(refusal(&server, missing("db", "user")).await, StoreError::Missing);
    assert_eq!(refusal(&server, missing("other", "password")).await, StoreError::Missing);
    let version = place(json!({ "KV": { "Path": "db", "Field": "password", "Version": 9 } }));
    assert_eq!(refusal(&server, version).await, StoreError::Missing);
    server.put("db", Value::Null);
    assert_eq!(refusal(&server, kv("password")).await, StoreError::Missing, "the newest version was deleted");
    server.put("db", json!({ "password": "" }));
    assert_eq!(refusal(&server, kv("password")).await, StoreError::Missing);
}

#[tokio::test]
async fn answers_that_are_none_are_refused() {
    let server = served().await;
    assert_eq!(refusal(&server, kv("port")).await, StoreError::Malformed("the field is not text"));
    let blob = place(json!({ "KV": { "Path": "db", "Field": "password", "Encoding": "base64" } }));
    assert_eq!(refusal(&server, blob).await, StoreError::Malformed("the field is not base64"));
    server.put_unversioned("flat", json!({ "data": "x" }));
    let flat =
        place(json!({ "KV": { "Mount": "secret", "Path": "data/db", "Field": "password", "Engine": 1 } }));
    assert!(matches!(refusal(&server, flat).await, StoreError::Malformed(_) | StoreError::Missing));
    server.becomes(Mood::Garbage);
    assert!(matches!(refusal(&server, kv("password")).await, StoreError::Malformed(_)));
    server.becomes(Mood::Endless);
    assert!(matches!(refusal(&server, kv("password")).await, StoreError::TooLarge { .. }));
}

#[tokio::test]
async fn s30_a_redirection_is_not_followed() {
    let server = served().await;
    server.becomes(Mood::Redirecting);
    assert_eq!(refusal(&server, kv("password")).await, StoreError::Redirected);
}

#[tokio::test]
async fn passing_failures_are_asked_again_and_end() {
    let server = served().await;
    let store = client(by_token(&server), text(TOKEN));
    store.fetch(&kv("password")).await.unwrap();
    let before = server.asked().len();
    server.becomes(Mood::Sealed);
    let sealed = StoreError::Unavailable { status: 503 };
    assert_eq!(store.fetch(&kv("password")).await.unwrap_err(), sealed);
    assert_eq!(server.asked().len() - before, 3, "so often, and no more");
    server.becomes(Mood::Overloaded);
    let overloaded = StoreError::Unavailable { status: 429 };
    assert_eq!(store.fetch(&kv("password")).await.unwrap_err(), overloaded);
    server.becomes(Mood::Down);
    assert!(matches!(store.fetch(&kv("password")).await.unwrap_err(), StoreError::Unreachable(_)));
    server.becomes(Mood::Well);
    store.fetch(&kv("password")).await.unwrap();
    let nobody =
        json!({ "Address": "https://127.0.0.1:1", "RootCA": ROOT, "Auth": { "Token": "credential" } });
    let error = client(nobody, text(TOKEN)).fetch(&kv("password")).await.unwrap_err();
    assert_eq!(error, StoreError::Unreachable("the connection is refused"));
}

#[tokio::test]
async fn slow_servers_are_not_waited_for() {
    let late = StoreError::Unreachable("no answer came in time");
    for mood in [Mood::Silent, Mood::Trickling] {
        let server = served().await;
        server.becomes(mood);
        let within = std::time::Duration::from_secs(30);
        let store = client(by_token(&server), text(TOKEN));
        let error =
            tokio::time::timeout(within, store.fetch(&kv("password"))).await.expect("it ends by itself");
        assert_eq!(error.unwrap_err(), late, "{mood:?}");
    }
}

#[test]
fn s44_nothing_secret_is_shown() {
    let credential = text("the-canary");
    assert!(!format!("{credential:?}").contains("canary"));
    let fetched = secret_store::vault::answer::plaintext(br#"{"data":{"plaintext":"Y2FuYXJ5"}}"#).unwrap();
    assert_eq!(fetched.as_slice(), b"canary");
    let wrong =
        secret_store::vault::answer::plaintext(br#"{"data":{"plaintext":"the canary"}}"#).unwrap_err();
    assert!(!format!("{wrong} {wrong:?} {}", wrong.mend()).contains("the canary"));
}
