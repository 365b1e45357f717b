//! The broker over TLS: guests that attest as CoCo's do, by an implementation of their side that shares no code with the
//! broker's but JWK and JWE.

use attested_tls::{clock, key::TeeKey, service::unverified_client};
use axum::body::Bytes;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use evidence::{LaunchConfiguration, Measurement, Platform, ReportData};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rcar::{HashAlgorithm, KeyAlgorithm, PrivateKey, Tee, canonical};
use serde_json::{Value, json};
use testkit::tee::{EmulatedTee, NOW, machine};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    running::Running,
    world::{manifest, people},
};

pub const KATA: &[u8] = b"kata's guest";
pub const SECRET: &str = "what only pods may know";

/// An answer of the broker.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Status and the protocol's type, without its prefix.
    pub fn error(&self) -> (u16, String) {
        let kind = self.json()["type"].as_str().unwrap_or("none").to_owned();
        let kind =
            kind.strip_prefix("https://github.com/confidential-containers/kbs/errors/").unwrap_or(&kind);
        (self.status.as_u16(), kind.to_owned())
    }

    /// `name=value` of the session's cookie.
    pub fn cookie(&self) -> String {
        let field = self.headers["set-cookie"].to_str().unwrap();
        field.split(';').next().unwrap().to_owned()
    }
}

pub type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// A connection to the broker.
pub async fn connect(running: &Running) -> Sender {
    let config = unverified_client(None, clock::fixed(NOW)).unwrap();
    let stream = TcpStream::connect(running.broker).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let stream = TlsConnector::from(config).connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// One request on a connection that is there.
pub async fn ask(
    sender: &mut Sender,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Answer, hyper::Error> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.ready().await?;
    let response = sender.send_request(request.body(Full::new(body.into())).unwrap()).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    Ok(Answer { status, headers, body: response.into_body().collect().await?.to_bytes().to_vec() })
}

/// One request on a connection of its own.
pub async fn call(
    running: &Running,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    ask(&mut connect(running).await, method, path, headers, body).await.unwrap()
}

pub async fn auth(running: &Running, version: &str, tee: Tee) -> Answer {
    let request = json!({
        "version": version, "tee": tee.as_str(),
        "extra-params": { "supported-hash-algorithms": ["sha256", "sha384", "sha512"] },
    });
    call(running, Method::POST, "/kbs/v0/auth", &[], request.to_string()).await
}

/// What a guest is, and says.
pub struct Pod {
    pub platform: Platform,
    pub code: &'static [u8],
    pub key: PrivateKey,
    pub init_data: Option<String>,
    /// What it was started with, where it is not `init_data`.
    pub started_with: Option<String>,
    pub version: &'static str,
}

impl Pod {
    pub fn on(platform: Platform) -> Self {
        Self::with(platform, KeyAlgorithm::EcdhP256)
    }

    pub fn with(platform: Platform, key: KeyAlgorithm) -> Self {
        let key = PrivateKey::generate(key).unwrap();
        Self { platform, code: KATA, key, init_data: None, started_with: None, version: "0.4.0" }
    }

    pub fn tee(&self) -> Tee {
        Tee::of(self.platform).unwrap()
    }

    /// Evidence over these 48 bytes, in CoCo's envelope.
    pub fn evidence(&self, digest: &[u8]) -> Value {
        let tee = EmulatedTee::launch(self.platform, self.code, b"");
        let mut configuration = match self.started_with.as_ref().or(self.init_data.as_ref()) {
            Some(text) => HashAlgorithm::Sha384.digest(text.as_bytes()),
            None => Vec::new(),
        };
        configuration.resize(field(self.platform), 0);
        let configuration = LaunchConfiguration::new(&configuration).unwrap();
        let mut covered = [0; 64];
        covered[..digest.len()].copy_from_slice(digest);
        let covered = ReportData(covered);
        let quote = machine().issue(self.platform, tee.measurement(), &configuration, &covered).unwrap();
        match self.platform {
            Platform::Snp => json!({ "attestation_report": BASE64.encode(quote) }),
            _ => json!({ "quote": BASE64.encode(quote) }),
        }
    }

    pub fn runtime_data(&self, nonce: &str) -> Value {
        json!({ "nonce": nonce, "tee-pubkey": self.key.public().to_json() })
    }

    /// What its Evidence covers, by the protocol's documents.
    pub fn digest(&self, nonce: &str) -> Vec<u8> {
        let mut covered = self.runtime_data(nonce);
        if self.version == "0.4.0" {
            covered["additional-evidence"] = json!("");
        }
        HashAlgorithm::Sha384.digest(canonical(&covered).as_bytes())
    }

    pub fn attestation(&self, nonce: &str) -> Value {
        self.attestation_with(nonce, self.evidence(&self.digest(nonce)))
    }

    pub fn attestation_with(&self, nonce: &str, evidence: Value) -> Value {
        let evidence = match self.version {
            "0.4.0" => json!({ "primary_evidence": evidence, "additional_evidence": "" }),
            _ => evidence,
        };
        let init_data = self.init_data.as_ref().map(|body| json!({ "format": "toml", "body": body }));
        json!({ "init-data": init_data, "runtime-data": self.runtime_data(nonce), "tee-evidence": evidence })
    }

    /// The handshake; the cookie, and the answer to the Evidence.
    pub async fn attest(&self, running: &Running) -> (String, Answer) {
        let challenge = auth(running, self.version, self.tee()).await;
        assert_eq!(challenge.status, 200, "{:?}", challenge.json());
        let nonce = challenge.json()["nonce"].as_str().unwrap().to_owned();
        let cookie = challenge.cookie();
        let answer = send(running, &cookie, &self.attestation(&nonce)).await;
        (cookie, answer)
    }
}

fn field(platform: Platform) -> usize {
    match platform {
        Platform::Snp => 32,
        Platform::Tdx => 48,
        _ => 64,
    }
}

pub async fn send(running: &Running, cookie: &str, attestation: &Value) -> Answer {
    let headers = [("cookie", cookie), ("content-type", "application/json")];
    call(running, Method::POST, "/kbs/v0/attest", &headers, attestation.to_string()).await
}

pub async fn resource(running: &Running, cookie: &str, path: &str) -> Answer {
    let path = format!("/kbs/v0/resource/{path}");
    call(running, Method::GET, &path, &[("cookie", cookie)], "").await
}

/// [`manifest`], with a broker: guests of the package `kata` on emulated platforms may read `default/key/db`.
pub fn brokered() -> Value {
    let mut manifest = manifest();
    let measured =
        |platform| -> Measurement { EmulatedTee::launch(platform, KATA, b"").measurement().clone() };
    manifest["Packages"]["kata"] = json!({ "Measurements": {
        "Snp": measured(Platform::Snp).to_string(),
        "Tdx": measured(Platform::Tdx).to_string(),
        "Sgx": measured(Platform::Sgx).to_string(),
    } });
    let intel = manifest["Platforms"]["Tdx"].clone();
    manifest["Platforms"]["Sgx"] = intel;
    manifest["Secrets"]["db"] = json!({ "Type": "plain", "UserDefined": true });
    manifest["Broker"] = json!({
        "Policies": { "pods": { "Packages": ["kata"], "Emulated": true } },
        "Repositories": { "default": { "Resources": { "key/db": { "Secret": "db", "Policy": "pods" } } } },
    });
    manifest["Users"]["writer"]["Roles"] = json!(["write", "read-own", "explain"]);
    manifest["Roles"]["write"]["ResourceNames"] = json!(["question", "key", "db"]);
    manifest["Roles"]["explain"] = json!({
        "ResourceType": "Repositories", "ResourceNames": ["default"], "Actions": ["ExplainSessions"],
    });
    manifest
}

/// A coordinator with a broker.
pub async fn brokering() -> Running {
    under(&brokered()).await
}

pub async fn under(manifest: &Value) -> Running {
    let running = Running::start().await;
    let answer = running.set_manifest(Some(&people().owner), &manifest.to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let answer = running.write(Some(&people().writer), "db", SECRET).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    running
}

/// What the operator sees of a session.
pub async fn explained(running: &Running, who: Option<&TeeKey>, session: &str) -> Value {
    let answer = running.get(who, &format!("/api/v3/broker/sessions/{session}")).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    answer.json()["data"].clone()
}

/// The session that an error names.
pub fn session_of(answer: &Answer) -> String {
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    let (_, rest) = detail.split_once("session ").unwrap();
    rest.chars().take_while(char::is_ascii_hexdigit).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_of_every_platform_attest() {
    let running = brokering().await;
    for platform in [Platform::Snp, Platform::Tdx, Platform::Sgx] {
        let (_, answer) = Pod::on(platform).attest(&running).await;
        assert_eq!(answer.status, 200, "{platform}: {:?}", answer.json());
        assert!(answer.json()["token"].is_string());
    }
    let listed = running.get(Some(&people().writer), "/api/v3/broker/sessions").await.json();
    let sessions = listed["data"]["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 3);
    assert!(sessions.iter().all(|it| it["outcome"] == "attested" && it["packages"] == json!(["kata"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn older_clients_attest() {
    let running = brokering().await;
    for version in ["0.2.0", "0.3.0"] {
        let pod = Pod { version, ..Pod::on(Platform::Tdx) };
        let (_, answer) = pod.attest(&running).await;
        assert_eq!(answer.status, 200, "{version}: {:?}", answer.json());
    }
    let refused = auth(&running, "0.5.0", Tee::Snp).await;
    assert_eq!(refused.error(), (400, "UnsupportedVersion".into()));
    assert!(refused.json()["detail"].as_str().unwrap().contains("0.4.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_goes_back_to_the_broker_alone() {
    let running = brokering().await;
    let challenge = auth(&running, "0.4.0", Tee::Snp).await;
    let field = challenge.headers["set-cookie"].to_str().unwrap().to_owned();
    for attribute in ["; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/kbs", "; Max-Age=300"] {
        assert!(field.contains(attribute), "{field}");
    }
    assert!(field.starts_with("kbs-session-id=") && field.len() < 512, "{field}");
    assert_eq!(challenge.json()["extra-params"], "");
    assert_eq!(challenge.json()["nonce"].as_str().unwrap().len(), 44);
    assert_eq!(challenge.headers["content-type"], "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_is_no_package_is_refused_and_the_operator_is_told_why() {
    let running = brokering().await;
    let pod = Pod { code: b"other code", ..Pod::on(Platform::Snp) };
    let (_, answer) = pod.attest(&running).await;
    assert_eq!(answer.error(), (401, "AttestationError".into()));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(!detail.contains("measurement") && !detail.contains("kata"), "{detail}");
    let known = explained(&running, Some(&people().writer), &session_of(&answer)).await;
    assert_eq!(known["outcome"], "refused");
    assert_eq!(known["codes"], json!(["MEASUREMENT_MISMATCH"]));
    assert!(known["reason"].as_str().unwrap().contains("as package kata"), "{known}");
    assert_eq!(known["verdicts"][0]["verdict"]["verdict"], "refused");
    // Others are not shown it.
    let refused = running.get(Some(&people().reader), "/api/v3/broker/sessions").await;
    assert_eq!(refused.code(), (403, "NOT_GRANTED".into()));
    let refused = running.get(None, &format!("/api/v3/broker/sessions/{}", session_of(&answer))).await;
    assert_eq!(refused.code(), (401, "CLIENT_CERTIFICATE_REQUIRED".into()));
    let unknown = format!("/api/v3/broker/sessions/{}", "0".repeat(32));
    let unknown = running.get(Some(&people().writer), &unknown).await;
    assert_eq!(unknown.code(), (404, "SESSION_UNKNOWN".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn init_data_counts_if_the_evidence_proves_it() {
    let running = brokering().await;
    let text = "version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\n\"aa.toml\" = \"x = 1\"\n".to_owned();
    for platform in [Platform::Snp, Platform::Tdx, Platform::Sgx] {
        let pod = Pod { init_data: Some(text.clone()), ..Pod::on(platform) };
        let (_, answer) = pod.attest(&running).await;
        assert_eq!(answer.status, 200, "{platform}: {:?}", answer.json());
        let liar = Pod { started_with: Some("other".into()), ..pod };
        let (_, answer) = liar.attest(&running).await;
        assert_eq!(answer.error(), (401, "AttestationError".into()), "{platform}");
        let known = explained(&running, Some(&people().writer), &session_of(&answer)).await;
        assert_eq!(known["codes"], json!(["INIT_DATA_MISMATCH"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_in_the_manifest_there_is_none() {
    let running = Running::start().await;
    for _ in 0..2 {
        let answer = auth(&running, "0.4.0", Tee::Snp).await;
        assert_eq!(answer.error(), (503, "BrokerNotConfigured".into()));
        // Before a manifest, and under one without a broker.
        running.set_manifest(Some(&people().owner), &manifest().to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guests_answers_are_counted_and_name_nothing() {
    let running = brokering().await;
    Pod::on(Platform::Snp).attest(&running).await;
    Pod { code: b"other code", ..Pod::on(Platform::Snp) }.attest(&running).await;
    let metrics = crate::observability::metrics(&running).await;
    for line in [
        "coordinator_broker_guests_total{decision=\"attested\"} 1",
        "coordinator_broker_guests_total{decision=\"refused\"} 1",
        "coordinator_broker_requests_total{code=\"2xx\"} 3",
        "coordinator_broker_requests_total{code=\"4xx\"} 1",
        "coordinator_broker_sessions 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}
