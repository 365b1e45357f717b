//! The whole service in an emulated TEE: founded, attested, used over SQL and HTTPS, started again, recovered.

#[path = "service/anchored.rs"]
mod anchored;
#[path = "service/crashes.rs"]
mod crashes;
#[path = "service/founding.rs"]
mod founding;
#[path = "service/leaving.rs"]
mod leaving;
#[path = "service/mesh.rs"]
mod mesh;
#[path = "service/mesh_recovered.rs"]
mod mesh_recovered;
#[path = "service/recovering.rs"]
mod recovering;
#[path = "service/replicas.rs"]
mod replicas;
#[path = "service/restoring.rs"]
mod restoring;
#[path = "service/restoring_all.rs"]
mod restoring_all;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use appraisal::{ReferenceValue, binding::Role};
use attested_tls::{
    claims::{Claims, DatabaseClaims, DatabaseMode},
    clock,
    key::{SpkiDigest, sha256},
    launch::{DatabaseConfiguration, KeepConfiguration, RequiredTpm},
    service::{UserIdentity, unverified_client},
    statement::{Expected, Statement, verifier},
};
use database::{
    engine::binaries,
    service::{HostHints, Listeners, Promotion, ServiceError, serve},
};
use emulator::vendor;
use evidence::Platform;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    parties::{Authority, Holder, Parties},
    tee::{EmulatedTee, NOW, machine, policy},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_postgres::{Client, Config, NoTls};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::postgres::memory;

const CODE: &[u8] = b"bailey-database under test";

/// Parties, their manifest, the host's folders.
struct World {
    parties: Parties,
    manifest: Vec<u8>,
    state: TempDir,
    memory: TempDir,
    tpm: Option<tpm_anchor::Address>,
    /// As what it is launched in a mesh, and where the coordinator is.
    marble: Option<(KeepConfiguration, String)>,
}

impl World {
    /// `None` where there is no PostgreSQL.
    fn new() -> Option<Self> {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Value)) -> Option<Self> {
        if binaries().is_err() {
            println!("NOT RUN: there is no PostgreSQL of version 15 or later; mend: cargo xtask tools");
            return None;
        }
        let parties = Parties::new();
        let mut manifest = parties.manifest();
        change(&mut manifest);
        let (state, memory) = (tempfile::tempdir().unwrap(), memory());
        open(memory.path());
        std::fs::write(state.path().join("manifest.json"), manifest.to_string()).unwrap();
        Some(Self {
            parties,
            manifest: manifest.to_string().into_bytes(),
            state,
            memory,
            tpm: None,
            marble: None,
        })
    }

    fn configuration(&self) -> DatabaseConfiguration {
        let names = vec!["localhost".into()];
        let tpm = self.tpm.as_ref().map(|_| RequiredTpm { key: None });
        let marble = self.marble.as_ref().map(|(configuration, _)| configuration.clone());
        DatabaseConfiguration { manifest: sha256(&self.manifest), names, tpm, marble }
    }

    fn hints(&self) -> HostHints {
        HostHints {
            state: self.state.path().join("state"),
            manifest: Some(self.state.path().join("manifest.json")),
            memory: self.memory.path().to_owned(),
            binaries: None,
            tpm: self.tpm.clone(),
            coordinator: self.marble.as_ref().map(|(_, address)| address.clone()),
            replicas: Vec::new(),
            promotion: Promotion::default(),
        }
    }

    fn log(&self) -> PathBuf {
        self.hints().state.join("log")
    }

    async fn start(&self) -> Served {
        self.start_on(machine()).await
    }

    async fn start_on(&self, machine: Arc<vendor::Platform>) -> Served {
        self.launched(machine, self.configuration()).await
    }

    async fn start_with(&self, configuration: DatabaseConfiguration) -> Served {
        self.launched(machine(), configuration).await
    }

    async fn launched(&self, machine: Arc<vendor::Platform>, configuration: DatabaseConfiguration) -> Served {
        let tee = EmulatedTee::launch_on(machine, Platform::Tdx, CODE, &configuration.to_json());
        self.launched_as(tee, configuration, self.hints()).await
    }

    async fn launched_as(
        &self,
        tee: Arc<EmulatedTee>,
        configuration: DatabaseConfiguration,
        hints: HostHints,
    ) -> Served {
        self.launched_reading(tee, configuration, hints, None).await
    }

    /// A replica, where it has a listener for queries.
    async fn launched_reading(
        &self,
        tee: Arc<EmulatedTee>,
        configuration: DatabaseConfiguration,
        hints: HostHints,
        reads: Option<TcpListener>,
    ) -> Served {
        let reference = tee.reference();
        let listeners = Listeners {
            sql: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            api: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            reads,
        };
        let (sql, api) = (listeners.sql.local_addr().unwrap(), listeners.api.local_addr().unwrap());
        let stop = CancellationToken::new();
        let serving = serve(tee, configuration, hints, listeners, clock::fixed(NOW), stop.clone());
        let serving = tokio::spawn(serving);
        Served { way: Way { sql, api, reference }, stop, serving: Some(serving) }
    }

    /// Why it does not start.
    async fn refused(&self) -> ServiceError {
        self.start().await.ended().await.expect_err("it does not start")
    }
}

/// PostgreSQL's user goes through it.
fn open(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).unwrap();
}

/// How clients reach it.
#[derive(Clone)]
struct Way {
    sql: SocketAddr,
    api: SocketAddr,
    reference: ReferenceValue,
}

/// A service that runs in this process.
struct Served {
    way: Way,
    stop: CancellationToken,
    serving: Option<JoinHandle<Result<(), ServiceError>>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Served {
    async fn ended(mut self) -> Result<(), ServiceError> {
        self.serving.take().expect("once").await.unwrap()
    }

    async fn stopped(self) {
        self.stop.cancel();
        self.ended().await.expect("it ends as it was told");
    }
}

impl std::ops::Deref for Served {
    type Target = Way;

    fn deref(&self) -> &Way {
        &self.way
    }
}

impl Way {
    async fn api(&self, holder: Option<&Holder>) -> TlsStream<TcpStream> {
        let identity = holder.map(|holder| UserIdentity {
            chain: vec![CertificateDer::from(holder.der.clone())],
            key: PrivateKeyDer::from_pem_slice(holder.key.as_bytes()).unwrap(),
        });
        let config = unverified_client(identity.as_ref(), clock::fixed(NOW)).unwrap();
        let stream = TcpStream::connect(self.api).await.unwrap();
        TlsConnector::from(config).connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }

    async fn asked(&self, holder: Option<&Holder>, request: &str, body: &str) -> (u16, Vec<u8>) {
        let stream = self.api(holder).await;
        answered(stream, request, body).await
    }

    /// Waits until a state that shares have opened serves. Whoever asks while one listener follows the other may get no
    /// answer at all.
    async fn opened(&self) {
        let waiting = async {
            while !attempted(self.api(None).await, "GET /v1/audit", "").await.starts_with(b"HTTP/1.1 401") {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it serves");
    }

    /// An answer's status and JSON.
    async fn json(&self, holder: Option<&Holder>, request: &str, body: &str) -> (u16, Value) {
        let (status, body) = self.asked(holder, request, body).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// The claims, of Evidence that was appraised.
    async fn claims(&self) -> DatabaseClaims {
        let stream = self.api(None).await;
        let key = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let nonce = [7; 32];
        let request = format!("GET /v1/attestation?nonce={}", hex::encode(nonce));
        let (status, body) = answered(stream, &request, "").await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let statement = Statement::from_bytes(&body).unwrap();
        let expected = Expected {
            role: Role::Database,
            key: SpkiDigest::of_certificate(&key).unwrap(),
            nonce: &nonce,
            measurements: std::slice::from_ref(&self.reference),
            policy: &policy(),
            now: NOW,
        };
        statement.appraise(&expected, &verifier()).expect("its Evidence is good");
        DatabaseClaims::from_bytes(&statement.claims).unwrap()
    }

    /// Waits until clients are served.
    async fn serving(&self) -> DatabaseClaims {
        self.stands(DatabaseMode::Running).await
    }

    /// Waits until it says this of itself.
    async fn stands(&self, mode: DatabaseMode) -> DatabaseClaims {
        let waiting = async {
            loop {
                let Ok(stream) = TcpStream::connect(self.api).await else { continue };
                drop(stream);
                let claims = tokio::time::timeout(Duration::from_secs(5), self.claims()).await;
                if let Ok(claims) = claims
                    && claims.mode == mode
                {
                    return claims;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), waiting)
            .await
            .unwrap_or_else(|_| panic!("it is never {mode:?}"))
    }

    async fn session(&self, party: &Authority) -> Client {
        self.attempt(&party.issue("client")).await.expect("a session")
    }

    async fn attempt(&self, holder: &Holder) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
        let mut stream = TcpStream::connect(self.sql).await?;
        stream.write_all(&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]).await?;
        if stream.read_u8().await? != b'S' {
            return Err("no TLS".into());
        }
        let identity = UserIdentity {
            chain: vec![CertificateDer::from(holder.der.clone())],
            key: PrivateKeyDer::from_pem_slice(holder.key.as_bytes())?,
        };
        let mut config = Arc::unwrap_or_clone(unverified_client(Some(&identity), clock::fixed(NOW))?);
        config.alpn_protocols.clear();
        let tls = TlsConnector::from(Arc::new(config)).connect("localhost".try_into()?, stream).await?;
        let mut config = Config::new();
        config.user("whoever").dbname("shared");
        let (client, connection) = config.connect_raw(tls, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

async fn answered(stream: TlsStream<TcpStream>, request: &str, body: &str) -> (u16, Vec<u8>) {
    let answer = attempted(stream, request, body).await;
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer[end..].to_vec())
}

/// All that comes back, if anything does.
async fn attempted(mut stream: TlsStream<TcpStream>, request: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}
