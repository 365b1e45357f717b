//! Keys of container images: wrapped at the coordinator, unwrapped there for guests that attest; and the whole way with
//! real skopeo on both sides.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use evidence::Platform;
use hyper::Method;
use image_keys::{
    BackendError, Kek, KeyName, Packet, Parameter, Provider, Unwrapper, Wrapper,
    grpc::{self, Listener},
};
use rcar::Jwe;
use serde_json::{Value, json};
use testkit::oci::{Images, skopeo};
use tokio_util::sync::{CancellationToken, DropGuard};
use zeroize::Zeroizing;

use crate::{
    broker::{Answer, Pod, brokered, call, explained, resource, session_of, under},
    running::{Running, logs},
    world::people,
};

const KEPT: &str = "kbs:///default/image/kept";
const ALIAS: &str = "kbs:///default/image/alias";
const READABLE: &str = "kbs:///default/image/readable";
const UPLOADED: &str = "kbs:///default/image/uploaded";
const OPTIONS: &[u8] =
    br#"{"symkey":"CANARY-51ac-layer-key","cipheroptions":{"nonce":"AA=="},"digest":"sha256:00"}"#;

/// [`brokered`], with keys for images: one that never leaves, under two names, and one that guests may read.
fn imaging() -> Value {
    let mut manifest = brokered();
    manifest["Secrets"]["kept-kek"] = json!({ "Type": "symmetric-key", "Size": 256, "Shared": true });
    manifest["Secrets"]["readable-kek"] =
        json!({ "Type": "symmetric-key", "Size": 256, "UserDefined": true });
    let broker = &mut manifest["Broker"];
    broker["Policies"]["nobody"] = json!({ "Packages": ["kata"] });
    let repository = &mut broker["Repositories"]["default"];
    repository["Policy"] = json!("pods");
    let kept = |policy: &str| json!({ "Secret": "kept-kek", "Policy": policy, "Use": "unwrap" });
    repository["Resources"]["image/kept"] = kept("pods");
    repository["Resources"]["image/alias"] = kept("pods");
    repository["Resources"]["image/nobody"] = kept("nobody");
    repository["Resources"]["image/readable"] = json!({ "Secret": "readable-kek", "Policy": "pods" });
    manifest["Roles"]["write"]["ResourceNames"] = json!(["question", "key", "db", "readable-kek"]);
    manifest["Roles"]["explain"]["Actions"] = json!(["ExplainSessions", "WrapKey", "WriteResource"]);
    manifest["Roles"]["rotate-kek"] =
        json!({ "ResourceType": "Secrets", "ResourceNames": ["kept-kek"], "Actions": ["RotateSecret"] });
    let roles = manifest["Users"]["writer"]["Roles"].as_array_mut().unwrap();
    roles.push(json!("rotate-kek"));
    manifest
}

async fn running() -> Running {
    let running = under(&imaging()).await;
    let answer = running.write(Some(&people().writer), "readable-kek", &"r".repeat(32)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    running
}

async fn wrap(running: &Running, key: &str) -> Result<Value, (u16, String)> {
    wrap_as(running, Some(&people().writer), key, OPTIONS).await
}

async fn wrap_as(
    running: &Running,
    who: Option<&attested_tls::key::TeeKey>,
    key: &str,
    options: &[u8],
) -> Result<Value, (u16, String)> {
    let body = json!({ "key": key, "data": BASE64.encode(options) }).to_string();
    let answer = running.post(who, "/api/v3/broker/wrap", body).await;
    if answer.status == 200 { Ok(answer.json()["data"]["packet"].clone()) } else { Err(answer.code()) }
}

async fn unwrap(running: &Running, cookie: &str, packet: &Value) -> Answer {
    let headers = [("cookie", cookie)];
    call(running, Method::POST, "/kbs/v0/unwrap-key", &headers, packet.to_string()).await
}

fn opened(pod: &Pod, answer: &Answer) -> Vec<u8> {
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    pod.key.decrypt(&Jwe::parse(&answer.body).unwrap()).unwrap().to_vec()
}

async fn attested(running: &Running) -> (Pod, String) {
    let pod = Pod::on(Platform::Snp);
    let (cookie, answer) = pod.attest(running).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    (pod, cookie)
}

/// What was uploaded by whoever may write resources.
async fn upload(running: &Running, value: &[u8]) {
    let body = json!({ "value": BASE64.encode(value) }).to_string();
    let path = "/api/v3/broker/resources/default/image/uploaded";
    let answer = running.request(Some(&people().writer), Method::PUT, path, body.into_bytes()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_never_leaves_wraps_and_unwraps() {
    let running = running().await;
    let (pod, cookie) = attested(&running).await;
    let packet = wrap(&running, KEPT).await.unwrap();
    assert_eq!((&packet["kid"], &packet["provider"]), (&json!(KEPT), &json!("bailey")));
    assert_eq!(opened(&pod, &unwrap(&running, &cookie, &packet).await), OPTIONS);
    // It is read by nobody: neither a guest, nor a user.
    assert_eq!(resource(&running, &cookie, "default/image/kept").await.error(), (403, "PolicyDeny".into()));
    let path = "/api/v3/broker/resources/default/image/kept";
    assert_ne!(running.get(Some(&people().writer), path).await.status, 200);
}

/// CoCo's own clients read the key, and unwrap by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_guests_may_read_wraps_as_cocos_clients_unwrap() {
    let running = running().await;
    let (pod, cookie) = attested(&running).await;
    upload(&running, &[9; 32]).await;
    for key in [READABLE, UPLOADED] {
        let packet = wrap(&running, key).await.unwrap();
        assert_eq!((&packet["provider"], &packet["version"]), (&json!("kbs"), &json!("0.1.0")), "{key}");
        let path = key.strip_prefix("kbs:///").unwrap();
        let kek = opened(&pod, &resource(&running, &cookie, path).await);
        let read = Packet::parse(packet.to_string().as_bytes()).unwrap();
        assert_eq!(Kek::new(&kek).unwrap().unwrap(&read).unwrap().as_slice(), OPTIONS);
        // Or have it unwrapped.
        assert_eq!(opened(&pod, &unwrap(&running, &cookie, &packet).await), OPTIONS);
    }
    let bytes = wrap(&running, UPLOADED).await.unwrap();
    assert!(bytes["provider_settings"].as_object().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn s39_only_an_attested_guest_has_something_unwrapped() {
    let running = running().await;
    let packet = wrap(&running, KEPT).await.unwrap();
    let nobody = call(&running, Method::POST, "/kbs/v0/unwrap-key", &[], packet.to_string()).await;
    assert_eq!(nobody.error(), (401, "TokenNotFound".into()));
    let stolen = unwrap(&running, "kbs-session-id=AAAA", &packet).await;
    assert_eq!(stolen.status, 401);
    // A session that has not attested.
    let challenge = crate::broker::auth(&running, "0.4.0", rcar::Tee::Snp).await;
    assert_eq!(unwrap(&running, &challenge.cookie(), &packet).await.status, 401);
    let other = Pod { code: b"other code", ..Pod::on(Platform::Snp) };
    let (cookie, _) = other.attest(&running).await;
    assert_eq!(unwrap(&running, &cookie, &packet).await.status, 401);
    // What a thief of the cookie gets is encrypted to the guest's key.
    let (pod, cookie) = attested(&running).await;
    let answer = unwrap(&running, &cookie, &packet).await;
    let thief = Pod::on(Platform::Snp);
    assert!(thief.key.decrypt(&Jwe::parse(&answer.body).unwrap()).is_err());
    assert_eq!(opened(&pod, &answer), OPTIONS);
    // By the token as well, which is encrypted to the same key; and not by both.
    let (cookie, answer) = pod.attest(&running).await;
    let token = format!("Bearer {}", answer.json()["token"].as_str().unwrap());
    let by = |headers: Vec<(&'static str, String)>| {
        let (running, body) = (&running, packet.to_string());
        async move {
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            call(running, Method::POST, "/kbs/v0/unwrap-key", &headers, body).await
        }
    };
    assert_eq!(opened(&pod, &by(vec![("authorization", token.clone())]).await), OPTIONS);
    assert_eq!(by(vec![("authorization", token), ("cookie", cookie)]).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn s45_a_policy_that_changes_counts_at_once() {
    let mut manifest = imaging();
    manifest["Roles"]["update"] = json!({ "ResourceType": "Manifest", "Actions": ["UpdateManifest"] });
    manifest["Users"]["writer"]["Roles"].as_array_mut().unwrap().push(json!("update"));
    let running = under(&manifest).await;
    let packet = wrap(&running, KEPT).await.unwrap();
    let (_, cookie) = attested(&running).await;
    assert_eq!(unwrap(&running, &cookie, &packet).await.status, 200);
    manifest["Broker"]["Repositories"]["default"]["Resources"]["image/kept"]["Policy"] = json!("nobody");
    let answer = running.post(Some(&people().writer), "/api/v2/update", manifest.to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(unwrap(&running, &cookie, &packet).await.error(), (401, "AttestationError".into()));
    let (_, cookie) = attested(&running).await;
    assert_eq!(unwrap(&running, &cookie, &packet).await.error(), (403, "PolicyDeny".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn s58_an_absent_key_and_one_that_is_denied_look_the_same() {
    let running = running().await;
    let (_, cookie) = attested(&running).await;
    let packet = wrap(&running, KEPT).await.unwrap();
    let moved = |key: &str| {
        let mut packet = packet.clone();
        packet["kid"] = json!(key);
        packet
    };
    let denied = unwrap(&running, &cookie, &moved("kbs:///default/image/nobody")).await;
    let absent = unwrap(&running, &cookie, &moved("kbs:///default/image/absent")).await;
    assert_eq!(denied.error(), (403, "PolicyDeny".into()));
    assert_eq!(denied.body, absent.body);
    // The operator is told which it was.
    let session = session_of(&denied);
    let known = explained(&running, Some(&people().writer), &session).await.to_string();
    assert!(known.contains("EMULATED_NOT_GRANTED") && known.contains("RESOURCE_UNKNOWN"), "{known}");

    // Whoever may not wrap learns the same of both.
    let reader = Some(&people().reader);
    let refused = wrap_as(&running, reader, KEPT, OPTIONS).await.unwrap_err();
    assert_eq!(refused, (403, "NOT_GRANTED".into()));
    assert_eq!(wrap_as(&running, reader, "kbs:///default/image/absent", OPTIONS).await.unwrap_err(), refused);
    assert_eq!(wrap_as(&running, None, KEPT, OPTIONS).await.unwrap_err().0, 401);
}

/// `alias` is another name of the same key, with a policy of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_packet_is_not_moved_to_another_name() {
    let running = running().await;
    let (pod, cookie) = attested(&running).await;
    let packet = wrap(&running, KEPT).await.unwrap();
    for (member, value) in [
        ("kid", json!(ALIAS)),
        ("kid", json!(READABLE)),
        ("provider", json!("kbs")),
        ("iv", json!(BASE64.encode([0; 12]))),
        ("wrapped_data", json!(BASE64.encode([0; 64]))),
        ("provider_settings", json!({ "data_key": BASE64.encode([0; 60]) })),
    ] {
        let mut changed = packet.clone();
        changed[member] = value;
        let answer = unwrap(&running, &cookie, &changed).await;
        assert_eq!(answer.error(), (400, "UnwrapFailed".into()), "{changed}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(!detail.contains("image") && !detail.contains("kek"), "{detail}");
    }
    assert_eq!(opened(&pod, &unwrap(&running, &cookie, &packet).await), OPTIONS);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_packets_are_refused() {
    let running = running().await;
    let (_, cookie) = attested(&running).await;
    let packet = wrap(&running, KEPT).await.unwrap();
    let changed = |member: &str, value: Value| {
        let mut packet = packet.clone();
        packet[member] = value;
        packet
    };
    for body in [
        json!(null),
        json!({}),
        changed("kid", json!("kbs:///../../etc/passwd")),
        changed("kid", json!("kbs:///default/image/%6bept")),
        changed("wrap_type", json!("A256CTR")),
        changed("wrapped_data", json!([0])),
        changed("provider", json!("aliyun")),
        changed("version", json!("9")),
    ] {
        let answer = unwrap(&running, &cookie, &body).await;
        assert_eq!(answer.error(), (400, "SerdeError".into()), "{body}");
    }
    let long = json!({ "kid": "x".repeat(40_000) });
    assert_eq!(unwrap(&running, &cookie, &long).await.status, 400);
    for key in ["", "kept", "kbs:///../../x", "kbs:///default/image/kept/x", "kbs+pkcs11:///a/b/c"] {
        let refused = wrap(&running, key).await.unwrap_err();
        assert_eq!(refused, (400, "RESOURCE_PATH_MALFORMED".into()), "{key}");
    }
    let nothing = wrap_as(&running, Some(&people().writer), KEPT, b"").await.unwrap_err();
    assert_eq!(nothing, (422, "IMAGE_KEY".into()));
    upload(&running, b"no key of 32 bytes").await;
    assert_eq!(wrap(&running, UPLOADED).await.unwrap_err(), (422, "IMAGE_KEY".into()));
    assert_eq!(wrap(&running, "kbs:///default/image/absent").await.unwrap_err().0, 404);
}

/// Keys are replaced; images that were encrypted before are still there.
#[tokio::test(flavor = "multi_thread")]
async fn images_from_before_a_rotation_open() {
    let running = running().await;
    let (pod, cookie) = attested(&running).await;
    let before = wrap(&running, KEPT).await.unwrap();
    let body = json!({ "names": ["kept-kek"] }).to_string();
    let answer = running.post(Some(&people().writer), "/api/v3/secrets/rotate", body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let after = wrap(&running, KEPT).await.unwrap();
    for packet in [&before, &after] {
        assert_eq!(opened(&pod, &unwrap(&running, &cookie, packet).await), OPTIONS);
    }
    upload(&running, &[1; 32]).await;
    let before = wrap(&running, UPLOADED).await.unwrap();
    upload(&running, &[2; 32]).await;
    assert_eq!(opened(&pod, &unwrap(&running, &cookie, &before).await), OPTIONS);
}

#[tokio::test(flavor = "multi_thread")]
async fn s44_no_key_and_no_name_of_one_is_in_logs_or_metrics() {
    let running = running().await;
    let (pod, cookie) = attested(&running).await;
    let packet = wrap(&running, KEPT).await.unwrap();
    opened(&pod, &unwrap(&running, &cookie, &packet).await);
    let mut moved = packet.clone();
    moved["kid"] = json!("kbs:///default/image/CANARY-51ac-name");
    unwrap(&running, &cookie, &moved).await;
    wrap(&running, "kbs:///default/image/CANARY-51ac-name").await.unwrap_err();
    let logs = String::from_utf8_lossy(&logs().lock().unwrap()).into_owned();
    let metrics = crate::observability::metrics(&running).await;
    for text in [logs, metrics] {
        assert!(!text.contains("CANARY-51ac"), "in a log or metric");
    }
}

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const IN_TOKEN: &str = "kbs:///default/image/in-token";

/// SoftHSM reads where its tokens are from the environment, so this is done in a process of its own.
#[test]
fn a_key_in_a_token_wraps_and_unwraps() {
    if !std::path::Path::new(MODULE).exists() {
        eprintln!("\n*** NOT RUN: {MODULE} is absent: apt-get install softhsm2 ***\n");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tokens")).unwrap();
    let (configuration, tokens) = (folder.path().join("softhsm2.conf"), folder.path().join("tokens"));
    std::fs::write(&configuration, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    std::fs::write(folder.path().join("key"), [0x5a; 32]).unwrap();
    let run = |program: &std::path::Path, arguments: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(arguments).env("SOFTHSM2_CONF", &configuration).current_dir(folder.path());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{text}");
        text
    };
    let util = std::path::Path::new("softhsm2-util");
    let init = ["--init-token", "--free", "--label", "bailey", "--pin", "1234", "--so-pin", "567890"];
    run(util, &init);
    let label = ["--token", "bailey", "--label", "images", "--id", "a1", "--pin", "1234"];
    run(util, &[&["--import", "key", "--aes"][..], &label].concat());
    let part = ["--exact", "images::in_a_token", "--ignored"];
    let text = run(&std::env::current_exe().unwrap(), &part);
    assert!(text.contains("1 passed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by a_key_in_a_token_wraps_and_unwraps"]
async fn in_a_token() {
    let library = attested_tls::key::sha256(&std::fs::read(MODULE).unwrap());
    let mut manifest = imaging();
    let library = format!("sha256:{}", hex::encode(library));
    manifest["SecretStores"] =
        json!({ "hsm": { "Pkcs11": { "Library": library, "Token": "bailey", "Pin": "pin" } } });
    manifest["Secrets"]["pin"] = json!({ "Type": "plain", "UserDefined": true });
    let place = json!({ "Name": "hsm", "Key": { "Label": "images", "Mechanism": "AES-GCM" } });
    manifest["Secrets"]["hsm-kek"] = json!({ "Type": "plain", "Store": place });
    let resources = &mut manifest["Broker"]["Repositories"]["default"]["Resources"];
    resources["image/in-token"] = json!({ "Secret": "hsm-kek", "Policy": "pods", "Use": "unwrap" });
    manifest["Roles"]["write"]["ResourceNames"] = json!(["question", "key", "db", "pin"]);
    let running = Running::start_with_tokens(MODULE.into()).await;
    let answer = running.set_manifest(Some(&people().owner), &manifest.to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let (pod, cookie) = attested(&running).await;
    // Without the PIN nothing is wrapped.
    assert_eq!(wrap(&running, IN_TOKEN).await.unwrap_err().0, 502);
    running.write(Some(&people().writer), "pin", "1234").await;
    let packet = wrap(&running, IN_TOKEN).await.unwrap();
    assert!(packet["provider_settings"]["data_key"].is_string(), "{packet}");
    assert_eq!(opened(&pod, &unwrap(&running, &cookie, &packet).await), OPTIONS);
    assert_eq!(resource(&running, &cookie, "default/image/in-token").await.error(), (403, "PolicyDeny".into()));
    for (member, value) in
        [("provider_settings", json!({})), ("wrapped_data", json!(BASE64.encode([0; 64]))), ("kid", json!(KEPT))]
    {
        let mut changed = packet.clone();
        changed[member] = value;
        assert_eq!(unwrap(&running, &cookie, &changed).await.error(), (400, "UnwrapFailed".into()), "{changed}");
    }
    let mut changed = packet.clone();
    changed["provider_settings"]["data_key"] = json!(BASE64.encode([0; 60]));
    assert_ne!(unwrap(&running, &cookie, &changed).await.status, 200);
    assert_eq!(opened(&pod, &unwrap(&running, &cookie, &packet).await), OPTIONS, "the token is not lost by it");
}

/// The person who encrypts: the coordinator wraps.
struct AtTheCoordinator(Arc<Running>);

#[async_trait]
impl Wrapper for AtTheCoordinator {
    async fn wrap(&self, parameter: &Parameter, options: &[u8]) -> Result<Packet, BackendError> {
        let Parameter::Kept(key) = parameter else { panic!("a file") };
        let packet = wrap_as(&self.0, Some(&people().writer), &key.to_string(), options).await;
        let packet = packet.map_err(|(_, code)| BackendError::Refused(code))?;
        Ok(Packet::parse(packet.to_string().as_bytes()).unwrap())
    }
}

/// A guest: keys that it may read it reads, by others the coordinator unwraps.
struct InTheGuest {
    running: Arc<Running>,
    pod: Pod,
    cookie: String,
}

#[async_trait]
impl Unwrapper for InTheGuest {
    async fn unwrap(&self, packet: &Packet) -> Result<Zeroizing<Vec<u8>>, BackendError> {
        let read = resource(&self.running, &self.cookie, packet.key.path()).await;
        if read.status == 200 {
            return Ok(Kek::new(&opened(&self.pod, &read))?.unwrap(packet)?);
        }
        let packet: Value = serde_json::from_slice(&packet.to_json()).unwrap();
        let answer = unwrap(&self.running, &self.cookie, &packet).await;
        match answer.status.is_success() {
            true => Ok(Zeroizing::new(opened(&self.pod, &answer))),
            false => Err(BackendError::Refused(answer.error().1)),
        }
    }
}

async fn served(provider: Provider) -> (Value, DropGuard) {
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::loopback(address).await.unwrap();
    let config = json!({ "key-providers": { "bailey": { "grpc": listener.target().unwrap() } } });
    let stop = CancellationToken::new();
    tokio::spawn(grpc::serve(provider, listener, stop.clone()));
    (config, stop.drop_guard())
}

/// Keyprovider, coordinator, skopeo, an attested guest, skopeo: layers come out as they went in, and of nobody else's.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_encrypted_for_guests_that_attest() {
    if skopeo().is_none() {
        return;
    }
    let running = Arc::new(running().await);
    let images = Images::plain();
    let (encrypting, _encrypting) =
        served(Provider::default().wrapping(AtTheCoordinator(running.clone()))).await;
    let (pod, cookie) = attested(&running).await;
    let guest = InTheGuest { running: running.clone(), pod, cookie };
    let (decrypting, _decrypting) = served(Provider::default().unwrapping(guest)).await;
    let other = Pod { code: b"other code", ..Pod::on(Platform::Snp) };
    let (cookie, _) = other.attest(&running).await;
    let stranger = InTheGuest { running: running.clone(), pod: other, cookie };
    let (strange, _strange) = served(Provider::default().unwrapping(stranger)).await;
    let decrypt = ["--decryption-key", "provider:bailey:any"];
    for (name, key) in [("kept", KEPT), ("readable", READABLE)] {
        let key: KeyName = key.parse().unwrap();
        let how = ["--encryption-key", &format!("provider:bailey:{key}")];
        images.copy(&encrypting, &how, "plain", name).unwrap();
        images.copy(&decrypting, &decrypt, name, &format!("{name}-decrypted")).unwrap();
        assert_eq!(images.layers(&format!("{name}-decrypted")), images.layers("plain"));
        let said = images.copy(&strange, &decrypt, name, &format!("{name}-stolen")).unwrap_err();
        assert!(said.contains("AttestationError"), "{said}");
    }
    // Another name of the same key, with another policy.
    images.repacked("kept", "moved", "bailey", |packet| packet["kid"] = json!(ALIAS));
    let said = images.copy(&decrypting, &decrypt, "moved", "moved-decrypted").unwrap_err();
    assert!(said.contains("UnwrapFailed"), "{said}");
    // Who may not wrap encrypts nothing.
    let how = ["--encryption-key", "provider:bailey:kbs:///other/image/kept"];
    let said = images.copy(&encrypting, &how, "plain", "refused").unwrap_err();
    assert!(said.contains("NOT_GRANTED"), "{said}");
}
