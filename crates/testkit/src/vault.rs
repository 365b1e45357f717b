//! A server that plays the part of Vault's HTTP API that a secret store needs, over real TLS, as its documentation has
//! it: "HTTP API", `secret/kv` versions 1 and 2, `secret/transit` (decrypt), `auth/token` (lookup-self, renew-self),
//! `auth/approle` and `auth/cert` (login). It misbehaves on request.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
    time_provider::TimeProvider,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::tee::NOW;

/// The namespace that [`Vault::in_namespace`] asks for.
pub const NAMESPACE: &str = "team/a";

/// How the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As documented.
    Well,
    /// It takes connections and ends them.
    Down,
    /// Everything is answered 503 `Vault is sealed`.
    Sealed,
    /// Everything is answered 429.
    Overloaded,
    /// It takes the request and never answers.
    Silent,
    /// It begins an answer and sends a byte a second.
    Trickling,
    /// 307 to another place.
    Redirecting,
    /// 200 and no JSON.
    Garbage,
    /// 200 and more than anybody takes.
    Endless,
}

struct Token {
    ttl: u64,
    renewable: bool,
}

struct World {
    mood: Mood,
    tokens: BTreeMap<String, Token>,
    roles: BTreeMap<String, String>,
    kv2: BTreeMap<String, Vec<Value>>,
    kv1: BTreeMap<String, Value>,
    transit: BTreeMap<(String, String), Vec<u8>>,
    namespaced: bool,
    client: Option<Vec<u8>>,
    asked: Vec<String>,
    logins: u64,
}

/// The server.
pub struct Vault {
    address: SocketAddr,
    root: String,
    world: Arc<Mutex<World>>,
}

impl Vault {
    /// Serves on loopback with a certificate for these names, of a root of its own; clients' certificates are taken if
    /// `clients` signed them.
    pub async fn start(names: &[&str], clients: Option<&[u8]>) -> Self {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::new(Vec::new()).expect("no names");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).expect("a root");
        let key = KeyPair::generate().expect("a key");
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let leaf = CertificateParams::new(names).expect("names");
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier: Arc<dyn ClientCertVerifier> = match clients {
            None => Arc::new(NoClientAuth),
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from(root.to_vec())).expect("a root");
                let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
                builder.allow_unauthenticated().build().expect("a verifier")
            }
        };
        let config = ServerConfig::builder_with_details(provider, Arc::new(Fixed))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().expect("a key"))
            .expect("a configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let world = Arc::new(Mutex::new(World {
            mood: Mood::Well,
            tokens: BTreeMap::new(),
            roles: BTreeMap::new(),
            kv2: BTreeMap::new(),
            kv1: BTreeMap::new(),
            transit: BTreeMap::new(),
            namespaced: false,
            client: None,
            asked: Vec::new(),
            logins: 0,
        }));
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), world.clone()));
        Self { address, root: root.pem(), world }
    }

    /// As a manifest names it.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// PEM.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// From now on.
    pub fn becomes(&self, mood: Mood) {
        self.with(|world| world.mood = mood);
    }

    /// Everything outside [`NAMESPACE`] is denied.
    pub fn in_namespace(&self) {
        self.with(|world| world.namespaced = true);
    }

    /// A token that lasts so many seconds, or without end (0).
    pub fn token(&self, token: &str, ttl: u64, renewable: bool) {
        self.with(|world| world.tokens.insert(token.to_owned(), Token { ttl, renewable }));
    }

    /// All tokens end.
    pub fn revoke_all(&self) {
        self.with(|world| world.tokens.clear());
    }

    /// A role of AppRole, by its ID, with its secret ID.
    pub fn role(&self, id: &str, secret: &str) {
        self.with(|world| world.roles.insert(id.to_owned(), secret.to_owned()));
    }

    /// The leaf certificate, DER, that may log in by `auth/cert`.
    pub fn client(&self, leaf: &[u8]) {
        self.with(|world| world.client = Some(leaf.to_vec()));
    }

    /// A new version of a secret of engine 2, mounted at `secret`; `null` for one that was deleted.
    pub fn put(&self, path: &str, fields: Value) {
        self.with(|world| world.kv2.entry(path.to_owned()).or_default().push(fields));
    }

    /// A secret of engine 1, mounted at `kv`.
    pub fn put_unversioned(&self, path: &str, fields: Value) {
        self.with(|world| world.kv1.insert(path.to_owned(), fields));
    }

    /// A ciphertext under a key of the engine at `transit`.
    pub fn encrypt(&self, key: &str, plaintext: &[u8]) -> String {
        self.with(|world| {
            let body = STANDARD.encode(format!("{key} {}", world.transit.len()));
            let ciphertext = format!("vault:v1:{body}");
            world.transit.insert((key.to_owned(), ciphertext.clone()), plaintext.to_vec());
            ciphertext
        })
    }

    /// What was asked: method and path.
    pub fn asked(&self) -> Vec<String> {
        self.with(|world| world.asked.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The time of all tests.
#[derive(Debug)]
struct Fixed;

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        u64::try_from(NOW.0).ok().map(|seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, world: Arc<Mutex<World>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, world) = (acceptor.clone(), world.clone());
        tokio::spawn(async move {
            if mood(&world) == Mood::Down {
                return;
            }
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let leaf =
                stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|leaf| leaf.to_vec());
            if mood(&world) == Mood::Trickling {
                return trickle(stream).await;
            }
            let service = service_fn(move |request| answer(world.clone(), leaf.clone(), request));
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

fn mood(world: &Mutex<World>) -> Mood {
    world.lock().unwrap_or_else(PoisonError::into_inner).mood
}

async fn trickle(mut stream: impl tokio::io::AsyncWrite + Unpin) {
    use tokio::io::AsyncWriteExt;
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    drop(stream.write_all(head).await);
    while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(
    world: Arc<Mutex<World>>,
    leaf: Option<Vec<u8>>,
    request: Request<hyper::body::Incoming>,
) -> Result<Answer, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let now = mood(&world);
    if now == Mood::Silent {
        std::future::pending::<()>().await;
    }
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    world.asked.push(format!("{} {path}", head.method));
    let errors = |status, errors: &[&str]| json_answer(status, &json!({ "errors": errors }));
    Ok(match now {
        Mood::Sealed => errors(503, &["Vault is sealed"]),
        Mood::Overloaded => errors(429, &["request path \"x\": rate limit quota exceeded"]),
        Mood::Garbage => Response::new(Full::from("<html>not JSON</html>")),
        Mood::Endless => Response::new(Full::from(vec![b' '; 3 << 20])),
        Mood::Redirecting => {
            let mut answer = errors(307, &[]);
            let there = "https://elsewhere.example.org/v1/".parse().expect("a value");
            answer.headers_mut().insert("location", there);
            answer
        }
        _ if header("x-vault-request") != Some("true") => errors(400, &["missing 'X-Vault-Request' header"]),
        _ if world.namespaced && header("x-vault-namespace") != Some(NAMESPACE) => {
            errors(403, &["permission denied"])
        }
        _ => {
            let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let (status, body) = world.route(&head.method, path, header("x-vault-token"), leaf, &body);
            json_answer(status, &body)
        }
    })
}

fn json_answer(status: u16, body: &Value) -> Answer {
    let mut answer = Response::new(Full::from(body.to_string()));
    *answer.status_mut() = status.try_into().expect("a status");
    answer.headers_mut().insert("content-type", "application/json".parse().expect("a value"));
    answer
}

impl World {
    fn route(
        &mut self,
        method: &Method,
        path: &str,
        token: Option<&str>,
        leaf: Option<Vec<u8>>,
        body: &Value,
    ) -> (u16, Value) {
        let path = path.strip_prefix("/v1/").unwrap_or("");
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if (method, path) == (&Method::POST, "auth/approle/login") {
            let secret = body["role_id"].as_str().and_then(|id| self.roles.get(id));
            return if secret.is_some_and(|secret| body["secret_id"] == **secret) {
                self.logged_in()
            } else {
                (400, json!({ "errors": ["invalid role or secret ID"] }))
            };
        }
        if (method, path) == (&Method::POST, "auth/cert/login") {
            return if leaf.is_some() && leaf == self.client {
                self.logged_in()
            } else {
                (400, json!({ "errors": ["invalid certificate or no client certificate supplied"] }))
            };
        }
        let Some((text, token)) = token.and_then(|text| Some((text, self.tokens.get(text)?))) else {
            return (403, json!({ "errors": ["permission denied"] }));
        };
        match (method, path) {
            (&Method::GET, "auth/token/lookup-self") => {
                (200, json!({ "data": { "id": text, "ttl": token.ttl, "renewable": token.renewable } }))
            }
            (&Method::POST, "auth/token/renew-self") => (
                200,
                json!({ "auth": {
                    "client_token": text, "lease_duration": token.ttl, "renewable": token.renewable
                } }),
            ),
            (&Method::GET, path) if path.starts_with("secret/data/") => {
                self.versioned(path.trim_start_matches("secret/data/"), query)
            }
            (&Method::GET, path) if path.starts_with("kv/") => {
                match self.kv1.get(path.trim_start_matches("kv/")) {
                    Some(fields) => (200, json!({ "lease_duration": 2_764_800, "data": fields })),
                    None => (404, json!({ "errors": [] })),
                }
            }
            (&Method::POST, path) if path.starts_with("transit/decrypt/") => {
                let key = path.trim_start_matches("transit/decrypt/").to_owned();
                let ciphertext = body["ciphertext"].as_str().unwrap_or("").to_owned();
                match self.transit.get(&(key, ciphertext)) {
                    Some(plaintext) => (200, json!({ "data": { "plaintext": STANDARD.encode(plaintext) } })),
                    None => (400, json!({ "errors": ["cipher: message authentication failed"] })),
                }
            }
            _ => (404, json!({ "errors": ["no handler for route"] })),
        }
    }

    fn logged_in(&mut self) -> (u16, Value) {
        self.logins += 1;
        let token = format!("hvs.login-{}", self.logins);
        self.tokens.insert(token.clone(), Token { ttl: 3600, renewable: true });
        (200, json!({ "auth": { "client_token": token, "lease_duration": 3600, "renewable": true } }))
    }

    fn versioned(&self, path: &str, query: &str) -> (u16, Value) {
        let versions = self.kv2.get(path).map_or(&[][..], Vec::as_slice);
        let version = match query.strip_prefix("version=") {
            Some(version) => version.parse().unwrap_or(0),
            None => versions.len(),
        };
        match version.checked_sub(1).and_then(|index| versions.get(index)) {
            None => (404, json!({ "errors": [] })),
            Some(data) => {
                let status = if data.is_null() { 404 } else { 200 };
                (
                    status,
                    json!({ "data": { "data": data, "metadata": { "version": version, "destroyed": false } } }),
                )
            }
        }
    }
}
