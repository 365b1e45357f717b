//! The same over real connections: what users may ask, what Keeps hear, what clients can check.

use std::sync::Arc;

use appraisal::UnixTime;
use attested_tls::{key::TeeKey, marble::MarbleIdentity};
use coordinator::core::{NativePeer, activate_native, raise_counter};
use evidence::Platform;
use hyper::Method;
use mesh_api::{ActivateRequest, RenewRequest, WatchRevocationsRequest};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{self, CertificateDer, CertificateRevocationListDer},
};
use serde_json::{Value, json};
use testkit::tee::{EmulatedTee, NOW};

use crate::{
    rotation::{other_machine, rotatable, running_with},
    running::Running,
    service::join,
    world::{ASKER, FRONTEND, TALLY, attest, caller, code, keep_on, people, step},
};

async fn running() -> Running {
    let running = Running::start().await;
    let answer = running.set_manifest(Some(&people().owner), &rotatable().to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    running
}

async fn evict(running: &Running, body: Value) -> Value {
    let answer = running.post(Some(&people().reader), "/api/v3/evictions", body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()["data"].clone()
}

async fn instances(running: &Running) -> Vec<Value> {
    let answer = running.get(Some(&people().reader), "/api/v3/instances").await;
    answer.json()["data"]["instances"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_listed_and_rotated_by_those_who_may() {
    let running = running().await;
    let (reader, writer) = (Some(&people().reader), Some(&people().writer));
    let line = async |name: &str| {
        let lines = running.get(reader, "/api/v3/secrets").await.json()["data"]["secrets"].clone();
        lines.as_array().unwrap().iter().find(|line| line["name"] == name).cloned()
    };
    assert_eq!(line("salt").await.unwrap()["version"], 1);
    assert_eq!(line("question").await, None, "what a user may do nothing with is not shown");
    let value = async |path: &str| running.get(reader, path).await.json()["data"]["secrets"]["salt"].clone();
    let (old, versioned) = (value("/api/v2/secrets?s=salt").await, value("/api/v3/secrets?s=salt").await);
    assert_eq!((&versioned["Version"], &versioned["Private"]), (&json!(1), &old["Private"]));
    assert_eq!(old.as_object().unwrap().len(), 8, "MarbleRun's shape is as it was: {old}");

    let rotate = async |who, names: Value| {
        running.post(who, "/api/v3/secrets/rotate", json!({ "names": names }).to_string()).await
    };
    let answer = rotate(reader, json!(["salt"])).await;
    assert_eq!(answer.json()["data"]["versions"], json!({ "salt": 2 }));
    assert_ne!(value("/api/v2/secrets?s=salt").await["Private"], old["Private"]);
    assert_eq!(rotate(writer, json!(["salt"])).await.code(), (403, "NOT_GRANTED".into()));
    assert_eq!(rotate(None, json!(["salt"])).await.code(), (401, "CLIENT_CERTIFICATE_REQUIRED".into()));
    assert_eq!(rotate(reader, json!([])).await.code(), (422, "SECRETS_MISSING".into()));
    assert_eq!(rotate(reader, json!("salt")).await.code(), (400, "BODY_MALFORMED".into()));
    assert_eq!(running.get(reader, "/api/v3/secrets/rotate").await.status, 405);
    assert_eq!(running.get(None, "/api/v3/secrets").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn evicted_keeps_hear_so_and_their_peers_too() {
    let running = running().await;
    let keep = keep_on(Platform::Snp);
    let mut tally = join(&running, keep.clone(), "tally", TALLY).await.unwrap();
    let mut frontend = join(&running, keep, "frontend", FRONTEND).await.unwrap();
    let given = tally.activate(ActivateRequest {}).await.unwrap().into_inner();
    frontend.activate(ActivateRequest {}).await.unwrap();
    let watch = WatchRevocationsRequest {};
    let mut peer = frontend.watch_revocations(watch).await.unwrap().into_inner();
    let mut own = tally.watch_revocations(watch).await.unwrap().into_inner();
    assert!(peer.message().await.unwrap().unwrap().certificates.is_empty(), "at once");
    assert!(own.message().await.unwrap().unwrap().certificates.is_empty());

    let known = instances(&running).await;
    assert_eq!(known.len(), 2);
    let line = known.iter().find(|line| line["marble"] == "tally").unwrap();
    assert_eq!((&line["secrets"]["salt"], &line["secrets"]["own"]), (&json!([1]), &json!("own")));
    let target = json!({ "instance": line["instance"] });
    let mut dry = target.clone();
    dry["dryRun"] = json!(true);
    let named = evict(&running, dry).await;
    assert_eq!((&named["evicted"], instances(&running).await.len()), (&json!(false), 2));
    let done = evict(&running, target.clone()).await;
    assert_eq!(done["found"]["secrets"], named["found"]["secrets"]);

    let heard = peer.message().await.unwrap().unwrap();
    let chain = given.certificate.unwrap().chain;
    let leaf = x509_parser::parse_x509_certificate(&chain[0]).unwrap().1;
    assert_eq!(heard.certificates, [leaf.raw_serial().to_vec()]);
    let refused = own.message().await.unwrap_err();
    assert_eq!(refused.details(), b"EVICTED");
    for refused in [
        tally.renew(RenewRequest {}).await.unwrap_err(),
        tally.activate(ActivateRequest {}).await.unwrap_err(),
    ] {
        assert_eq!(refused.details(), b"EVICTED");
    }
    frontend.renew(RenewRequest {}).await.unwrap();
    let again = running.post(Some(&people().reader), "/api/v3/evictions", target.to_string()).await;
    assert_eq!(again.code(), (403, "EVICTED".into()));
    let gone = running.get(None, "/api/v3/evictions").await.json()["data"].clone();
    assert_eq!(gone["instances"][line["instance"].as_str().unwrap()]["user"], "reader");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_evictions_are_strict() {
    let running = running().await;
    let reader = Some(&people().reader);
    let post = async |body: &str| running.post(reader, "/api/v3/evictions", body).await.code();
    let both = format!(r#"{{"instance": "{}", "machine": "snp:00"}}"#, "00".repeat(32));
    for body in ["", "[]", "{}", r#"{"instance": "00"}"#, r#"{"machine": 1}"#, r#"{"node": "x"}"#, &both] {
        assert_eq!(post(body).await, (400, "BODY_MALFORMED".into()), "{body}");
    }
    assert_eq!(post(r#"{"machine": "snp:00"}"#).await, (404, "MACHINE_UNKNOWN".into()));
    let nobody = format!(r#"{{"instance": "{}"}}"#, "00".repeat(32));
    assert_eq!(post(&nobody).await, (404, "INSTANCE_UNKNOWN".into()));
    let answer = running.post(None, "/api/v3/evictions", nobody).await;
    assert_eq!(answer.code(), (401, "CLIENT_CERTIFICATE_REQUIRED".into()));
    assert_eq!(running.get(None, "/api/v3/instances").await.status, 401);
    assert_eq!(running.get(Some(&people().writer), "/api/v3/instances").await.status, 403);
    assert_eq!(running.request(reader, Method::DELETE, "/api/v3/evictions", Vec::new()).await.status, 405);
    let fresh = Running::start().await;
    assert_eq!(fresh.get(None, "/api/v3/crl").await.status, 404);
}

/// Clients that know no mesh, and native Marbles, look at the list as they look at any CA's.
#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_revoked_certificates_is_one_that_clients_verify() {
    let running = running().await;
    let keep = keep_on(Platform::Snp);
    let mut frontend = join(&running, keep.clone(), "frontend", FRONTEND).await.unwrap();
    let certificate = frontend.activate(ActivateRequest {}).await.unwrap().into_inner().certificate.unwrap();
    let chain: Vec<CertificateDer<'static>> =
        certificate.chain.into_iter().map(CertificateDer::from).collect();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.root)).unwrap();
    let roots = Arc::new(roots);
    let visit = async || {
        let list = running.get(None, "/api/v3/crl").await;
        assert_eq!(list.status, 200);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider)
            .with_crls([CertificateRevocationListDer::from(list.body)])
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration()
            .build()
            .unwrap();
        let now = pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.0 as u64));
        let name = "localhost".try_into().unwrap();
        verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now).map(|_| ())
    };
    assert_eq!(visit().await, Ok(()));
    let line = &instances(&running).await[0];
    evict(&running, json!({ "machine": line["machine"] })).await;
    let revoked = rustls::Error::InvalidCertificate(rustls::CertificateError::Revoked);
    assert_eq!(visit().await, Err(revoked));
    let again = join(&running, keep, "asker", ASKER).await.unwrap().activate(ActivateRequest {}).await;
    assert_eq!(again.unwrap_err().details(), b"EVICTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_how_long_uploads_live_and_who_is_gone() {
    let running = running().await;
    let expires = UnixTime(NOW.0 + 90).to_string();
    let body = json!({ "secrets": { "question": { "Key": "YQ==", "Expires": expires } } }).to_string();
    assert_eq!(running.post(Some(&people().writer), "/api/v2/secrets", body).await.status, 200);
    let mut tally = join(&running, keep_on(Platform::Snp), "tally", TALLY).await.unwrap();
    tally.activate(ActivateRequest {}).await.unwrap();
    evict(&running, json!({ "instance": instances(&running).await[0]["instance"] })).await;
    let text = metrics(&running).await;
    for line in [
        "coordinator_secret_expiry_seconds{secret=\"question\"} 90",
        "coordinator_evicted{what=\"instance\"} 1",
        "coordinator_marble_instances{marble=\"tally\"} 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

async fn metrics(running: &Running) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(running.metrics).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// The host chooses the UUID of a native program, and may take one that it saw elsewhere.
#[test]
fn s46_a_uuid_of_another_marble_or_machine_gives_no_secret_of_theirs() {
    const UUID: &str = "6f2e1c9a-0000-4000-8000-0123456789ab";
    let mut text = rotatable();
    text["Config"] = json!({ "FeatureGates": ["MonotonicCounter"] });
    text["Marbles"]["native"]["Parameters"] = json!({ "Env": { "OWN": "{{ hex .Secrets.own }}" } });
    text["Marbles"]["other"] = text["Marbles"]["native"].clone();
    let state = running_with(&text);
    let here = keep_on(Platform::Snp);
    let there =
        EmulatedTee::launch_on(other_machine(), Platform::Snp, b"bailey-keep", b"the Keep's configuration");
    let joins = |state: &coordinator::core::State, tee: &EmulatedTee, marble: &str| {
        let peer = attest(state, tee, &TeeKey::generate().unwrap(), marble, [0; 32]).unwrap();
        let native = NativePeer { appraised: &peer.appraised, marble, uuid: UUID };
        activate_native(state, &native, &coordinator::core::Stored::default(), NOW)
    };
    let own = |tee, marble| joins(&state, tee, marble).unwrap().env["OWN"].clone();
    let first = own(&here, "native");
    assert_eq!(first, own(&here, "native"), "the same program starts again");
    assert_ne!(first, own(&here, "other"));
    assert_ne!(first, own(&there, "native"));

    // And of counters: each has its own, and an evicted one has none.
    let raised = |state: &coordinator::core::State, env: &std::collections::BTreeMap<String, Vec<u8>>| {
        let chain = evidence::pem::certificates(&env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"]).unwrap();
        assert!(MarbleIdentity::of_certificate(&chain[0].0).is_ok());
        let marble = coordinator::core::Caller::by_certificate(chain[0].0.clone());
        raise_counter(state, &marble, "starts", 5, NOW)
    };
    let (one, other) = (joins(&state, &here, "native").unwrap(), joins(&state, &there, "native").unwrap());
    assert_eq!(code(raised(&state, &one.env)), "MARBLE_CERTIFICATE_REQUIRED", "not admitted yet");
    let state = step(state.clone(), one.admit(&state, NOW).unwrap());
    let state = step(state.clone(), other.admit(&state, NOW).unwrap());
    let (event, before) = raised(&state, &one.env).unwrap();
    let state = step(state, event.unwrap());
    assert_eq!(
        (before, raised(&state, &one.env).unwrap().1, raised(&state, &other.env).unwrap().1),
        (0, 5, 0)
    );
    let reader = caller(&people().reader);
    let lines = coordinator::core::instances(&state, &reader, NOW).unwrap();
    let of_machine = |line: &&coordinator::core::InstanceLine| line.machine == lines[0].machine;
    assert_eq!((lines.len(), lines.iter().filter(of_machine).count()), (2, 1));
    let all: Vec<_> = lines.iter().map(|line| line.machine.clone().unwrap()).collect();
    let mut gone = state;
    for machine in all {
        let target = coordinator::core::Target::Machine(machine);
        let eviction = coordinator::core::prepare_eviction(&gone, &reader, &target, false, NOW);
        // The reader may not evict `other`, so a whole machine is not theirs to send away.
        assert_eq!(code(eviction.map(|_| ())), "NOT_GRANTED");
    }
    for line in lines {
        let mut key = [0; 32];
        hex::decode_to_slice(&line.instance, &mut key).unwrap();
        let target = coordinator::core::Target::Instance(key);
        let eviction = coordinator::core::prepare_eviction(&gone, &reader, &target, false, NOW).unwrap();
        let event = eviction.admit(&gone, &reader, NOW).unwrap().0;
        gone = step(gone, event);
    }
    for env in [&one.env, &other.env] {
        assert_eq!(code(raised(&gone, env)), "MARBLE_CERTIFICATE_REQUIRED");
    }
    assert_eq!(
        code(joins(&gone, &here, "native").map(|_| ())),
        "EVICTED",
        "the same UUID on the same machine"
    );
}
