//! A coordinator that serves on loopback, over real TLS, in this process.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

use appraisal::binding::Role;
use attested_tls::{
    claims::{Claims, CoordinatorClaims},
    clock,
    key::{SpkiDigest, TeeKey},
    launch::{CoordinatorConfiguration, RequiredTpm},
    service::{UserIdentity, unverified_client},
    statement::{Expected, Statement},
};
use axum::body::Bytes;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coordinator::service::{Coordinator, EtcdHints, HostHints, Listeners, TelemetryHints};
use evidence::Platform;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::tee::{EmulatedTee, NOW};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::world::{manifest, people};

/// Everything that any coordinator of this test binary logs.
pub fn logs() -> Arc<Mutex<Vec<u8>>> {
    static LOGS: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    LOGS.get_or_init(|| {
        let logs = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&logs);
        tracing_subscriber::fmt()
            .json()
            .with_env_filter("debug,coordinator=trace,attested_tls=trace")
            .with_writer(move || Memory(Arc::clone(&writer)))
            .init();
        logs
    })
    .clone()
}

pub struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct Running {
    pub api: SocketAddr,
    pub mesh: SocketAddr,
    pub marbles: SocketAddr,
    pub metrics: SocketAddr,
    pub broker: SocketAddr,
    pub stop: CancellationToken,
    pub tee: Arc<EmulatedTee>,
    pub directory: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
    pub leaf: CertificateDer<'static>,
    pub headers: hyper::HeaderMap,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn code(&self) -> (u16, String) {
        let code = self.json()["data"]["code"].as_str().unwrap_or("none").to_owned();
        (self.status.as_u16(), code)
    }
}

pub fn user(key: &TeeKey) -> UserIdentity {
    UserIdentity { chain: vec![key.certificate().clone()], key: key.private_key() }
}

impl Running {
    /// A copy of what lies on the disk, as if the machine had died just now.
    pub fn left(&self) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(self.directory.path().join("state.redb"), copy.path().join("state.redb")).unwrap();
        copy
    }

    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub async fn start_in(directory: TempDir) -> Self {
        Self::start_as(b"bailey-coordinator", directory).await
    }

    /// A coordinator of this code: another one cannot unseal its state.
    pub async fn start_as(code: &[u8], directory: TempDir) -> Self {
        Self::start_telling(code, directory, TelemetryHints::default()).await
    }

    /// A coordinator that tells its host what happens.
    pub async fn start_telling(code: &[u8], directory: TempDir, telemetry: TelemetryHints) -> Self {
        Self::start_with(code, directory, telemetry, None, None, None).await
    }

    /// A coordinator that shares its state with others.
    pub async fn replica(code: &[u8], directory: TempDir, etcd: EtcdHints) -> Self {
        Self::start_with(code, directory, TelemetryHints::default(), Some(etcd), None, None).await
    }

    /// A coordinator whose state a TPM anchors.
    pub async fn start_anchored(code: &[u8], directory: TempDir, tpm: tpm_anchor::Address) -> Self {
        Self::start_with(code, directory, TelemetryHints::default(), None, Some(tpm), None).await
    }

    /// A coordinator whose host has a library for PKCS #11.
    pub async fn start_with_tokens(library: PathBuf) -> Self {
        let (code, folder) = (b"bailey-coordinator", tempfile::tempdir().unwrap());
        Self::start_with(code, folder, TelemetryHints::default(), None, None, Some(library)).await
    }

    async fn start_with(
        code: &[u8],
        directory: TempDir,
        telemetry: TelemetryHints,
        etcd: Option<EtcdHints>,
        tpm: Option<tpm_anchor::Address>,
        pkcs11_library: Option<PathBuf>,
    ) -> Self {
        logs();
        let configuration = CoordinatorConfiguration {
            owner: *people().owner.digest(),
            names: vec!["localhost".into(), "127.0.0.1".into()],
            tpm: tpm.as_ref().map(|_| RequiredTpm { key: None }),
        };
        let tee = EmulatedTee::launch(Platform::Tdx, code, &configuration.to_json());
        let (client, mesh) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let (api, mesh_address) = (client.local_addr().unwrap(), mesh.local_addr().unwrap());
        let endorsements = directory.path().join("endorsements");
        std::fs::create_dir_all(&endorsements).unwrap();
        let sgx = testkit::tee::machine().endorsements(Platform::Sgx).to_bytes();
        std::fs::write(endorsements.join("sgx.cbor"), sgx).unwrap();
        // Of the machines that guests of the broker run on.
        let snp = testkit::tee::machine().endorsements(Platform::Snp).to_bytes();
        std::fs::write(endorsements.join("snp.cbor"), snp).unwrap();
        let hints = HostHints {
            state: directory.path().into(),
            endorsements: vec![endorsements],
            telemetry,
            etcd,
            tpm,
            pkcs11_library,
        };
        let coordinator = Coordinator::open(tee.clone(), configuration, &hints, clock::fixed(NOW)).unwrap();
        let stop = CancellationToken::new();
        let (marbles, metrics) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let guests = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = guests.local_addr().unwrap();
        let addresses = (marbles.local_addr().unwrap(), metrics.local_addr().unwrap());
        let listeners =
            Listeners { client, mesh, marbles: Some(marbles), metrics: Some(metrics), broker: Some(guests) };
        tokio::spawn(coordinator.serve(listeners, stop.clone()));
        let (marbles, metrics) = addresses;
        Self { api, mesh: mesh_address, marbles, metrics, broker, stop, tee, directory }
    }

    pub async fn with_manifest() -> Self {
        let running = Self::start().await;
        let answer = running.set_manifest(Some(&people().owner), &manifest().to_string()).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        running
    }

    pub async fn request(&self, who: Option<&TeeKey>, method: Method, path: &str, body: Vec<u8>) -> Answer {
        let identity = who.map(user);
        let config = unverified_client(identity.as_ref(), clock::fixed(NOW)).unwrap();
        self.request_with(config, method, path, body).await.unwrap()
    }

    pub async fn request_with(
        &self,
        config: Arc<rustls::ClientConfig>,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> io::Result<Answer> {
        self.send(config, method, path, body, &[]).await
    }

    /// With these values of the header `Authorization`.
    pub async fn request_as(
        &self,
        who: Option<&UserIdentity>,
        method: Method,
        path: &str,
        authorization: &[String],
    ) -> Answer {
        let config = unverified_client(who, clock::fixed(NOW)).unwrap();
        self.send(config, method, path, Vec::new(), authorization).await.unwrap()
    }

    async fn send(
        &self,
        config: Arc<rustls::ClientConfig>,
        method: Method,
        path: &str,
        body: Vec<u8>,
        authorization: &[String],
    ) -> io::Result<Answer> {
        let stream = TcpStream::connect(self.api).await?;
        let name = "localhost".try_into().unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for value in authorization {
            request = request.header("authorization", value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes().to_vec();
        Ok(Answer { status, body, leaf, headers })
    }

    pub async fn get(&self, who: Option<&TeeKey>, path: &str) -> Answer {
        self.request(who, Method::GET, path, Vec::new()).await
    }

    pub async fn post(&self, who: Option<&TeeKey>, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.request(who, Method::POST, path, body.into()).await
    }

    pub async fn set_manifest(&self, who: Option<&TeeKey>, text: &str) -> Answer {
        let body = json!({ "manifest": BASE64.encode(text) }).to_string();
        self.post(who, "/api/v2/manifest", body).await
    }

    pub async fn write(&self, who: Option<&TeeKey>, name: &str, value: &str) -> Answer {
        let body = json!({ "secrets": { name: { "Key": BASE64.encode(value) } } }).to_string();
        self.post(who, "/api/v2/secrets", body).await
    }

    /// Evidence over a nonce, appraised; the claims.
    pub async fn verify(&self, nonce: [u8; 32]) -> Result<CoordinatorClaims, String> {
        let answer = self.get(None, &format!("/api/v3/evidence?nonce={}", hex::encode(nonce))).await;
        assert_eq!(answer.status, 200);
        let statement = Statement::from_bytes(&answer.body).unwrap();
        let key = SpkiDigest::of_certificate(&answer.leaf).unwrap();
        self.appraise(&statement, key, &nonce)
    }

    pub fn appraise(
        &self,
        statement: &Statement,
        key: SpkiDigest,
        nonce: &[u8; 32],
    ) -> Result<CoordinatorClaims, String> {
        let expected = Expected {
            role: Role::Coordinator,
            key,
            nonce,
            measurements: &[self.tee.reference()],
            policy: &testkit::tee::policy(),
            now: NOW,
        };
        statement
            .appraise(&expected, &attested_tls::statement::verifier())
            .map_err(|error| error.to_string())?;
        Ok(CoordinatorClaims::from_bytes(&statement.claims).unwrap())
    }
}
