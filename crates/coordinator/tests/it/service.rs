//! The running service over real TLS on loopback: statuses, codes, Evidence, and nothing in the logs.

use std::{io, sync::Arc};

use appraisal::binding::Role;
use attested_tls::{
    channel::{self, ChannelError, ClaimsRefused, Expectations, Party, PeerPolicy},
    claims::{Claims, KeepClaims},
    clock,
    key::{SpkiDigest, TeeKey},
    service::{pinned_client, unverified_client},
    statement::Statement,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use evidence::Platform;
use hyper::Method;
use hyper_util::rt::TokioIo;
use mesh_api::{ActivateRequest, RenewRequest, mesh_client::MeshClient};
use rustls::pki_types::CertificateDer;
use serde_bytes::ByteArray;
use serde_json::{Value, json};
use testkit::tee::{EmulatedTee, NOW};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

use crate::world::{FRONTEND, TALLY, keep_on, manifest, people};

use crate::running::{Answer, Running, logs};

const CANARY: &str = "CANARY-5f0c77";

#[tokio::test(flavor = "multi_thread")]
async fn s15_evidence_covers_nonce_key_and_state() {
    let running = Running::start().await;
    let before = running.verify([1; 32]).await.unwrap();
    assert_eq!((before.epoch, before.log_length, &before.manifest), (0, 1, &None));
    assert_eq!(*before.owner, people().owner.digest().0);
    let text = manifest().to_string();
    assert_eq!(running.set_manifest(Some(&people().owner), &text).await.status, 200);
    let after = running.verify([2; 32]).await.unwrap();
    assert_eq!((after.epoch, after.log_length), (1, 2));
    assert_eq!(after.manifest, Some(ByteArray::new(attested_tls::key::sha256(text.as_bytes()))));
    assert_eq!(after.root, before.root);
    assert_ne!(after.log_head, before.log_head);

    let answer = running.get(None, &format!("/api/v3/evidence?nonce={}", hex::encode([3; 32]))).await;
    let statement = Statement::from_bytes(&answer.body).unwrap();
    let key = SpkiDigest::of_certificate(&answer.leaf).unwrap();
    assert!(running.appraise(&statement, key, &[4; 32]).unwrap_err().contains("REPORT_DATA_MISMATCH"));
    // S-01: under the key of another connection's end.
    let other = *TeeKey::generate().unwrap().digest();
    assert!(running.appraise(&statement, other, &[3; 32]).unwrap_err().contains("REPORT_DATA_MISMATCH"));
}

#[tokio::test(flavor = "multi_thread")]
async fn s15_evidence_without_a_nonce_passes_for_no_nonce_and_says_what_is_so_now() {
    let running = Running::start().await;
    let ask = async || {
        let answer = running.get(None, "/api/v3/evidence").await;
        (Statement::from_bytes(&answer.body).unwrap(), SpkiDigest::of_certificate(&answer.leaf).unwrap())
    };
    let (first, key) = ask().await;
    let claims = running.appraise(&first, key, &[0; 32]).unwrap();
    assert_eq!((claims.epoch, claims.log_length), (0, 1));
    assert!(running.appraise(&first, key, &[1; 32]).unwrap_err().contains("REPORT_DATA_MISMATCH"));
    assert_eq!(ask().await.0, first, "asked again, the TEE is not");
    running.set_manifest(Some(&people().owner), &manifest().to_string()).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let (second, _) = ask().await;
    assert_eq!(running.appraise(&second, key, &[0; 32]).unwrap().epoch, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_the_claims_can_be_pinned() {
    let running = Running::start().await;
    let root = CertificateDer::from(running.verify([1; 32]).await.unwrap().root.into_vec());
    let config = pinned_client(&root, None, clock::fixed(NOW)).unwrap();
    let answer = running.request_with(config, Method::GET, "/api/v2/status", Vec::new()).await.unwrap();
    assert_eq!(answer.json()["data"]["code"], 2);
    let elsewhere = Running::start().await;
    let config = pinned_client(&root, None, clock::fixed(NOW)).unwrap();
    let refused = elsewhere.request_with(config, Method::GET, "/api/v2/status", Vec::new()).await;
    assert!(refused.is_err(), "another mesh's root");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_get_stable_codes_and_change_nothing() {
    let running = Running::with_manifest().await;
    let before = running.verify([1; 32]).await.unwrap();
    let owner = Some(&people().owner);
    let long = "0".repeat(66);
    for nonce in [
        "?nonce=",
        "?nonce=00",
        "?nonces=00",
        &format!("?nonce={long}"),
        &format!("?nonce={}", "z".repeat(64)),
    ] {
        let answer = running.get(None, &format!("/api/v3/evidence{nonce}")).await;
        assert_eq!(answer.code(), (400, "NONCE_MALFORMED".into()), "{nonce}");
    }
    for path in ["/", "/api", "/api/v2", "/api/v2/manifest/", "/api/v2/Manifest", "/api/v4/evidence"] {
        assert_eq!(running.get(None, path).await.code(), (404, "NOT_FOUND".into()), "{path}");
    }
    for path in ["/api/v2/status", "/api/v2/manifest", "/api/v2/secrets", "/api/v3/evidence"] {
        let answer = running.request(None, Method::DELETE, path, Vec::new()).await;
        assert_eq!(answer.code(), (405, "METHOD_NOT_ALLOWED".into()), "{path}");
    }
    let answer = running.post(None, "/api/v2/status", "{}").await;
    assert_eq!(answer.code(), (405, "METHOD_NOT_ALLOWED".into()));
    for path in ["/api/v2/manifest", "/api/v2/secrets"] {
        for body in ["", "{", "[]", "null", "{\"x\":1}", "{\"manifest\":1}", "\u{0}", "{\"manifest\":\"*\"}"]
        {
            let answer = running.post(owner, path, body).await;
            assert_eq!(answer.code(), (400, "BODY_MALFORMED".into()), "{path} {body:?}");
        }
        let answer = running.post(owner, path, vec![b' '; 1536 * 1024 + 1]).await;
        assert_eq!(answer.code(), (413, "BODY_TOO_LARGE".into()), "{path}");
    }
    assert_eq!(running.verify([2; 32]).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_status_and_change_nothing() {
    let running = Running::start().await;
    let people = people();
    let good = manifest().to_string();
    let code = |answer: Answer| answer.code();
    let is = |status: u16, code: &str| (status, code.to_owned());

    assert_eq!(code(running.get(None, "/api/v2/manifest").await), is(404, "MANIFEST_NOT_SET"));
    assert_eq!(
        code(running.get(Some(&people.writer), "/api/v2/secrets?s=key").await),
        is(404, "MANIFEST_NOT_SET")
    );
    assert_eq!(code(running.set_manifest(None, &good).await), is(401, "CLIENT_CERTIFICATE_REQUIRED"));
    assert_eq!(code(running.set_manifest(Some(&people.stranger), &good).await), is(403, "OWNER_REQUIRED"));
    let faulty = running.set_manifest(Some(&people.owner), "{\"Pakages\": {}}").await;
    assert_eq!(faulty.json()["data"]["details"][0]["path"], "Pakages");
    assert_eq!(code(faulty), is(422, "MANIFEST_REFUSED"));
    assert_eq!(running.verify([1; 32]).await.unwrap().log_length, 1);

    assert_eq!(running.set_manifest(Some(&people.owner), &good).await.status, 200);
    assert_eq!(code(running.set_manifest(Some(&people.owner), &good).await), is(409, "MANIFEST_ALREADY_SET"));
    let got = running.get(None, "/api/v2/manifest").await.json();
    assert_eq!(BASE64.decode(got["data"]["manifest"].as_str().unwrap()).unwrap(), good.as_bytes());
    assert_eq!(code(running.write(None, "key", "x").await), is(401, "CLIENT_CERTIFICATE_REQUIRED"));
    assert_eq!(code(running.write(Some(&people.stranger), "key", "x").await), is(401, "USER_UNKNOWN"));
    assert_eq!(code(running.write(Some(&people.reader), "key", "x").await), is(403, "NOT_GRANTED"));
    assert_eq!(code(running.write(Some(&people.writer), "key", "short").await), is(422, "SECRET_REFUSED"));
    assert_eq!(code(running.get(Some(&people.writer), "/api/v2/secrets").await), is(422, "SECRETS_MISSING"));
    assert_eq!(
        code(running.get(Some(&people.writer), "/api/v2/secrets?s=salt").await),
        is(403, "NOT_GRANTED")
    );
    assert_eq!(running.verify([1; 32]).await.unwrap().log_length, 2);
}

/// S-58 on the wire: same status, same length, same words but for the name.
#[tokio::test(flavor = "multi_thread")]
async fn s58_denied_and_absent_answers_are_alike() {
    let running = Running::with_manifest().await;
    let ask = async |name: &str| {
        let answer = running.get(Some(&people().writer), &format!("/api/v2/secrets?s={name}")).await;
        (answer.status, String::from_utf8(answer.body).unwrap().replace(name, "NAME"))
    };
    assert_eq!(ask("salt").await, ask("tlas").await);
}

/// A TLS 1.2 ClientHello gets an alert and nothing else (RFC 8446, §6: protocol_version is 70).
#[tokio::test(flavor = "multi_thread")]
async fn s05_tls12_client_is_refused() {
    let running = Running::start().await;
    let mut hello = vec![22, 3, 1, 0, 63, 1, 0, 0, 59, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 16]);
    hello.extend([0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3]);
    for address in [running.api, running.mesh] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);
    }
}

struct AnyCoordinator<'a>(&'a Running);

impl PeerPolicy for AnyCoordinator<'_> {
    fn role(&self) -> Role {
        Role::Coordinator
    }

    fn expectations(&self, _: Platform, _: &[u8]) -> Result<Expectations, ClaimsRefused> {
        Ok(Expectations { policy: testkit::tee::policy(), measurements: vec![self.0.tee.reference()] })
    }
}

/// A Keep that attests to the running coordinator, and the client on that very connection.
pub async fn join(
    running: &Running,
    tee: Arc<EmulatedTee>,
    marble: &str,
    workload: [u8; 32],
) -> Result<MeshClient<tonic::transport::Channel>, ChannelError> {
    join_as(running, tee, marble, workload).await.map(MeshClient::new)
}

/// The same, for whatever service.
pub async fn join_as(
    running: &Running,
    tee: Arc<EmulatedTee>,
    marble: &str,
    workload: [u8; 32],
) -> Result<tonic::transport::Channel, ChannelError> {
    let (configuration, workload) = (ByteArray::new([0; 32]), ByteArray::new(workload));
    let claims = KeepClaims {
        marble: marble.into(),
        engine: "test".into(),
        workload: Some(workload),
        package: None,
        configuration,
    };
    attest(running, tee, Role::Keep, claims.to_bytes()).await
}

/// Something that says it is of this role, and makes no claims.
pub async fn join_in_role(
    running: &Running,
    tee: Arc<EmulatedTee>,
    role: Role,
) -> Result<tonic::transport::Channel, ChannelError> {
    attest(running, tee, role, Vec::new()).await
}

pub async fn attest(
    running: &Running,
    tee: Arc<EmulatedTee>,
    role: Role,
    claims: Vec<u8>,
) -> Result<tonic::transport::Channel, ChannelError> {
    let key = Arc::new(TeeKey::generate().unwrap());
    let verifier = Arc::new(attested_tls::statement::verifier());
    let party = Party { role, key, tee, clock: clock::fixed(NOW), verifier };
    let stream = TcpStream::connect(running.mesh).await.unwrap();
    let attested = channel::connect(stream, &party, claims, &AnyCoordinator(running)).await?;
    let mut once = Some(TokioIo::new(attested));
    let connector = tower::service_fn(move |_| {
        let stream = once.take().ok_or_else(|| io::Error::other("used up"));
        async move { stream }
    });
    Ok(Endpoint::from_static("http://coordinator").connect_with_connector(connector).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_are_activated_and_renewed_over_attested_connections_only() {
    let running = Running::with_manifest().await;
    let keep = keep_on(Platform::Snp);
    let mut tally = join(&running, keep.clone(), "tally", TALLY).await.unwrap();
    let refused = tally.renew(RenewRequest {}).await.unwrap_err();
    assert_eq!(refused.details(), b"NOT_ACTIVATED");
    let answer = tally.activate(ActivateRequest {}).await.unwrap().into_inner();
    let root = running.verify([1; 32]).await.unwrap().root.into_vec();
    assert_eq!(answer.certificate.unwrap().root, root);
    assert_eq!(answer.parameters.unwrap().env.len(), 3);
    tally.renew(RenewRequest {}).await.unwrap();
    assert_eq!(running.verify([2; 32]).await.unwrap().log_length, 4);

    let mut other = join(&running, keep.clone(), "tally", FRONTEND).await.unwrap();
    let refused = other.activate(ActivateRequest {}).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.details()),
        (tonic::Code::PermissionDenied, &b"WORKLOAD_MISMATCH"[..])
    );
    let changed = EmulatedTee::launch(Platform::Snp, b"another program", b"");
    let refused = join(&running, changed, "tally", TALLY).await.map(drop).unwrap_err();
    assert_eq!(refused.codes(), ["MEASUREMENT_MISMATCH"]);
    let refused = join(&running, keep, "nobody", TALLY).await.map(drop).unwrap_err();
    assert_eq!(refused.codes(), ["MARBLE_UNKNOWN"]);
    let sgx = EmulatedTee::launch(Platform::Sgx, b"bailey-keep", b"");
    let refused = join(&running, sgx, "tally", TALLY).await.map(drop).unwrap_err();
    assert_eq!(refused.codes(), ["PLATFORM_NOT_ACCEPTED"]);
    assert_eq!(running.verify([3; 32]).await.unwrap().log_length, 4);
}

/// Secrets are in no log line and in no answer to those who may not read them, whatever goes wrong.
#[tokio::test(flavor = "multi_thread")]
async fn s44_canary_is_in_no_log_and_no_error() {
    let running = Running::with_manifest().await;
    let people = people();
    let writer = Some(&people.writer);
    assert_eq!(running.write(writer, "question", CANARY).await.status, 200);
    let mut bodies = Vec::new();
    for who in [None, Some(&people.stranger), Some(&people.reader), Some(&people.owner)] {
        bodies.push(running.write(who, "question", CANARY).await);
        bodies.push(running.get(who, "/api/v2/secrets?s=question").await);
    }
    bodies.push(running.write(writer, "key", CANARY).await);
    let key = |value: Value| json!({ "secrets": { "question": value } }).to_string();
    for wrong in [
        key(json!(CANARY)),
        key(json!({ "Kee": CANARY })),
        key(json!({ CANARY: "x" })),
        key(json!({ "Key": CANARY, "Extra": CANARY })),
        json!({ "secrets": CANARY }).to_string(),
        json!({ CANARY: {} }).to_string(),
        format!("{{\"secrets\": {{\"question\": {{\"Key\": \"{CANARY}\""),
    ] {
        bodies.push(running.post(writer, "/api/v2/secrets", wrong).await);
    }
    bodies.push(running.post(writer, "/api/v2/secrets", CANARY).await);
    bodies.push(running.set_manifest(Some(&people.owner), CANARY).await);
    let mut asker = join(&running, keep_on(Platform::Snp), "asker", crate::world::ASKER).await.unwrap();
    let given = asker.activate(ActivateRequest {}).await.unwrap().into_inner().parameters.unwrap();
    assert_eq!(given.files["/question"], CANARY.as_bytes(), "and it does arrive where it should");

    let forms = [CANARY.to_owned(), BASE64.encode(CANARY), hex::encode(CANARY)];
    for answer in bodies {
        assert!(!answer.status.is_success());
        let body = String::from_utf8(answer.body).unwrap();
        assert!(!forms.iter().any(|form| body.contains(form)), "{body}");
    }
    let logs = String::from_utf8(logs().lock().unwrap().clone()).unwrap();
    assert!(logs.contains("a Marble was activated") && logs.contains("USER_UNKNOWN"), "logs are captured");
    for form in &forms {
        let line = logs.lines().find(|line| line.contains(form));
        assert!(line.is_none(), "{line:?}");
    }
}

/// A body without an announced length is refused once it is too long, and never held whole.
#[tokio::test(flavor = "multi_thread")]
async fn endless_bodies_are_refused() {
    let running = Running::start().await;
    let config = unverified_client(None, clock::fixed(NOW)).unwrap();
    let stream = TcpStream::connect(running.api).await.unwrap();
    let stream = TlsConnector::from(config).connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let send = async move {
        let head = "POST /api/v2/manifest HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut written = writer.write_all(head.as_bytes()).await;
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        let mut chunks = 0;
        while written.is_ok() && chunks < 1000 {
            written = writer.write_all(chunk.as_bytes()).await;
            chunks += 1;
        }
        chunks
    };
    let receive = async {
        let mut answer = [0; 12];
        reader.read_exact(&mut answer).await.map(|_| answer)
    };
    let sender = tokio::spawn(send);
    assert_eq!(&receive.await.unwrap(), b"HTTP/1.1 413");
    drop(reader);
    sender.abort();
    assert_eq!(running.verify([1; 32]).await.unwrap().log_length, 1);
}

/// What was decided is there again after a restart, and the mesh is the same.
#[tokio::test(flavor = "multi_thread")]
async fn restarted_coordinator_is_the_same_mesh() {
    let running = Running::with_manifest().await;
    assert_eq!(running.write(Some(&people().writer), "question", "why?").await.status, 200);
    let before = running.verify([1; 32]).await.unwrap();
    // The file is copied while the first coordinator still has it: as after a crash.
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(running.directory.path().join("state.redb"), copy.path().join("state.redb")).unwrap();
    drop(running);
    let again = Running::start_in(copy).await;
    let after = again.verify([2; 32]).await.unwrap();
    assert_eq!(before, after);
    let read = again.get(Some(&people().writer), "/api/v2/secrets?s=question").await.json();
    assert_eq!(read["data"]["secrets"]["question"]["Private"], BASE64.encode("why?"));
}
