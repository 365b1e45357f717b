//! What the host is told: decisions to a file and to a webhook, traces and figures to a collector; and what it is not
//! told (S-44).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::Uri};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coordinator::service::TelemetryHints;
use evidence::{CertificateDer, Platform};
use hyper::Method;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use mesh_api::{ActivateRequest, RenewRequest};
use serde_json::{Value, json};
use testkit::tee::EmulatedTee;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::{
    running::{Running, logs},
    service::join,
    world::{ASKER, TALLY, keep_on, manifest, people},
};

/// Everything that a server on loopback was sent: path and body.
type Heard = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A server that says yes to everything: over TLS with the certificate given, or in the clear.
async fn listener(tls: Option<Arc<rustls::ServerConfig>>) -> (u16, Heard) {
    let heard = Heard::default();
    let hear = async |State(heard): State<Heard>, uri: Uri, body: Bytes| {
        heard.lock().unwrap().push((uri.path().to_owned(), body.to_vec()));
    };
    let router = Router::new().fallback(hear).with_state(heard.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (service, tls) = (TowerToHyperService::new(router.clone()), tls.clone());
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                match tls {
                    None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
                    Some(tls) => {
                        let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                        drop(builder.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            });
        }
    });
    (port, heard)
}

/// A server certificate for localhost, and its own root in PEM.
fn certificate() -> (Arc<rustls::ServerConfig>, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    (Arc::new(config), evidence::pem::encode(&CertificateDer(certificate.der().to_vec())))
}

async fn until(what: &str, mut met: impl FnMut() -> bool) {
    for _ in 0..200 {
        if met() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not come");
}

async fn telling(hints: TelemetryHints) -> Running {
    let running = Running::start_telling(b"bailey-coordinator", tempfile::tempdir().unwrap(), hints).await;
    let answer = running.set_manifest(Some(&people().owner), &manifest().to_string()).await;
    assert_eq!(answer.status, 200);
    running
}

pub async fn metrics(running: &Running) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(running.metrics).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn each_decision_is_a_line_of_json_with_subject_codes_and_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decisions");
    let sink = format!("file:{}", path.display()).parse().unwrap();
    let running = telling(TelemetryHints { decisions: Some(sink), ..TelemetryHints::default() }).await;
    let people = people();

    assert_eq!(running.write(Some(&people.writer), "question", "why?").await.status, 200);
    assert_eq!(running.write(Some(&people.reader), "question", "why?").await.status, 403);
    assert_eq!(running.get(None, "/api/v2/secrets?s=question").await.status, 401);
    assert_eq!(running.get(None, "/api/v2/manifest").await.status, 200, "open to all, so no decision");
    assert_eq!(running.get(None, "/readyz").await.status, 200);
    let keep = keep_on(Platform::Snp);
    let mut tally = join(&running, keep.clone(), "tally", TALLY).await.unwrap();
    tally.activate(ActivateRequest {}).await.unwrap();
    tally.renew(RenewRequest {}).await.unwrap();
    let mut other = join(&running, keep.clone(), "tally", ASKER).await.unwrap();
    other.activate(ActivateRequest {}).await.unwrap_err();
    let changed = EmulatedTee::launch(Platform::Snp, b"another program", b"");
    assert!(join(&running, changed, "tally", TALLY).await.is_err());
    assert!(join(&running, keep, "nobody", TALLY).await.is_err());

    let read = || -> Vec<Value> {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    until("nine decisions", || read().len() >= 9).await;
    let decisions = read();
    let seen: Vec<_> = decisions
        .iter()
        .map(|it| json!([it["kind"], it["subject"], it["request"], it["decision"], it["codes"]]))
        .collect();
    let tally = json!({ "marble": "tally" });
    let secrets = ["GET /api/v2/secrets", "POST /api/v2/secrets"];
    let expected = [
        json!(["client-request", "owner", "POST /api/v2/manifest", "granted", []]),
        json!(["client-request", { "user": "writer" }, secrets[1], "granted", []]),
        json!(["client-request", { "user": "reader" }, secrets[1], "refused", ["NOT_GRANTED"]]),
        json!(["client-request", "unknown", secrets[0], "refused", ["CLIENT_CERTIFICATE_REQUIRED"]]),
        json!(["activation", tally, null, "admitted", []]),
        json!(["renewal", tally, null, "admitted", []]),
        json!(["activation", tally, null, "refused", ["WORKLOAD_MISMATCH"]]),
        json!(["activation", tally, null, "refused", ["MEASUREMENT_MISMATCH"]]),
        json!(["activation", "unknown", null, "refused", ["MARBLE_UNKNOWN"]]),
    ];
    assert_eq!(seen, expected);
    assert_eq!(decisions[0]["time"], testkit::tee::NOW.to_string());
    assert_eq!(decisions[4]["verdict"]["verdict"], "accepted");
    assert_eq!(decisions[7]["verdict"]["verdict"], "refused");
    assert_eq!(decisions[7]["verdict"]["reasons"][0]["code"], "MEASUREMENT_MISMATCH");
    assert_eq!(decisions[8]["verdict"], Value::Null, "nothing was appraised");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let metrics = metrics(&running).await;
    assert!(metrics.contains("coordinator_decisions_total{outcome=\"delivered\"} 9"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_reach_a_webhook_whose_certificate_is_of_the_roots_named() {
    let (tls, root) = certificate();
    let (port, heard) = listener(Some(tls)).await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, root).unwrap();
    let hook = |roots| TelemetryHints {
        decisions: Some(format!("https://localhost:{port}/hook").parse().unwrap()),
        roots,
        ..TelemetryHints::default()
    };
    let _running = telling(hook(Some(roots))).await;
    until("the decision", || heard.lock().unwrap().len() == 1).await;
    let (path, body) = heard.lock().unwrap()[0].clone();
    let decision: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((path.as_str(), &decision["request"]), ("/hook", &json!("POST /api/v2/manifest")));

    // By the web's roots it is nobody: not told, counted, and nobody waited for it.
    let running = telling(hook(None)).await;
    for _ in 0..200 {
        if metrics(&running).await.contains("coordinator_decisions_total{outcome=\"failed\"} 1") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(metrics(&running).await.contains("coordinator_decisions_total{outcome=\"failed\"} 1"));
    assert_eq!(heard.lock().unwrap().len(), 1);
}

/// A webhook that accepts connections and never answers holds no request up.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_never_answers_delays_nobody() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let running =
        telling(TelemetryHints { decisions: Some(url.parse().unwrap()), ..TelemetryHints::default() }).await;
    let started = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(running.write(Some(&people().reader), "question", "x").await.status, 403);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn s44_canaries_are_in_nothing_that_the_host_is_told() {
    const CANARY: &str = "CANARY-91be02";
    let (hook, decisions) = listener(None).await;
    let (collector, exported) = listener(None).await;
    let hints = TelemetryHints {
        decisions: Some(format!("http://127.0.0.1:{hook}/{CANARY}").parse().unwrap()),
        otlp: Some(format!("http://127.0.0.1:{collector}/{CANARY}").parse().unwrap()),
        roots: None,
    };
    let running = telling(hints).await;
    let people = people();
    // A secret's value, and words of callers in every place where they have any.
    assert_eq!(running.write(Some(&people.writer), "question", CANARY).await.status, 200);
    for who in [None, Some(&people.stranger), Some(&people.reader), Some(&people.writer)] {
        running.write(who, CANARY, CANARY).await;
        running.get(who, &format!("/api/v2/secrets?s={CANARY}")).await;
        running.get(who, &format!("/api/v2/{CANARY}")).await;
        running.get(who, &format!("/api/v3/secrets?s={CANARY}")).await;
        running.post(who, "/api/v3/secrets/rotate", json!({ "names": [CANARY] }).to_string()).await;
        running.post(who, "/api/v3/evictions", json!({ "machine": CANARY }).to_string()).await;
        running.post(who, "/api/v3/evictions", json!({ "instance": CANARY }).to_string()).await;
        let expiring = json!({ "secrets": { "question": { "Key": "YQ==", "Expires": CANARY } } });
        running.post(who, "/api/v2/secrets", expiring.to_string()).await;
        running.post(who, "/api/v2/update", json!({ "manifest": BASE64.encode(CANARY) }).to_string()).await;
        running
            .post(who, "/api/v2/monotonic-counter", json!({ "name": CANARY, "value": 1 }).to_string())
            .await;
        let method = Method::from_bytes(CANARY.as_bytes()).unwrap();
        running.request(who, method, "/api/v2/secrets", CANARY.into()).await;
    }
    assert!(join(&running, keep_on(Platform::Snp), CANARY, TALLY).await.is_err());
    let mut asker = join(&running, keep_on(Platform::Snp), "asker", ASKER).await.unwrap();
    let given = asker.activate(ActivateRequest {}).await.unwrap().into_inner().parameters.unwrap();
    assert_eq!(given.files["/question"], CANARY.as_bytes(), "and it does arrive where it should");
    let metrics = metrics(&running).await;
    running.stop.cancel();

    let contains = |heard: &Heard, path: &str, word: &str| {
        let heard = heard.lock().unwrap();
        heard.iter().any(|(at, body)| at.ends_with(path) && String::from_utf8_lossy(body).contains(word))
    };
    until("traces", || contains(&exported, "/v1/traces", "activation")).await;
    until("figures", || contains(&exported, "/v1/metrics", "coordinator_activations_total")).await;
    assert!(contains(&exported, "/v1/traces", "MARBLE_UNKNOWN"));
    assert!(contains(&exported, "/v1/traces", "bailey.marble"));
    assert!(contains(&exported, "/v1/traces", "/api/v2/secrets"));
    until("the activation", || contains(&decisions, CANARY, "asker")).await;

    let forms = [CANARY.to_owned(), BASE64.encode(CANARY), hex::encode(CANARY)];
    let logs = String::from_utf8(logs().lock().unwrap().clone()).unwrap();
    for form in &forms {
        for heard in [&decisions, &exported] {
            for (path, body) in heard.lock().unwrap().iter() {
                assert!(!String::from_utf8_lossy(body).contains(form), "{path}");
            }
        }
        assert!(!metrics.contains(form), "{metrics}");
        let line = logs.lines().find(|line| line.contains(form));
        assert!(line.is_none(), "{line:?}");
    }
}
