//! A key broker over real TLS: the protocol as `rcar` has it, resources that are given, and misbehaviour on request.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use attester::Tee;
use evidence::Platform;
use guest::{
    Guest,
    broker::{Broker, Mode},
    evidence::Attester,
    settings::BrokerUrl,
    transport::Transport,
};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, header::SET_COOKIE, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcar::{Attestation, Challenge, Content, Opened, PublicKey, SESSION_COOKIE, Version};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, SupportedProtocolVersion, pki_types::CertificateDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// How one answer goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A status, with an error body of this type.
    Status(u16, &'static str),
    /// A redirection to this address.
    Redirect(SocketAddr),
    /// Many bytes.
    Endless,
    /// No answer.
    Silence,
    /// The connection ends.
    HangUp,
    /// 200 with this body instead.
    Body(String),
    /// The right body with these cookies instead.
    Cookies(Vec<&'static str>),
    /// A resource encrypted to a key of the broker's own.
    ForAnotherKey,
    /// Another resource than was asked for.
    Instead(&'static str),
}

/// What a broker saw and has.
#[derive(Default)]
pub struct State {
    pub requests: Vec<String>,
    pub headers: Vec<hyper::HeaderMap>,
    pub attestations: Vec<Attestation>,
    sessions: BTreeMap<String, Session>,
    pub resources: BTreeMap<String, Vec<u8>>,
    /// What it unwraps of any packet.
    unwrapped: Option<Vec<u8>>,
    /// For requests whose path contains the text: the next of their faults.
    faults: Vec<(&'static str, VecDeque<Fault>)>,
}

struct Session {
    opened: Opened,
    key: Option<PublicKey>,
}

#[derive(Clone)]
pub struct Fake {
    pub address: SocketAddr,
    pub root: CertificateDer<'static>,
    pub root_pem: String,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub async fn start() -> Self {
        Self::start_with(&[&rustls::version::TLS13], "localhost").await
    }

    pub async fn start_with(versions: &[&'static SupportedProtocolVersion], name: &str) -> Self {
        let (root, root_pem, config) = certificates(versions, name);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let fake = Self { address, root, root_pem, state };
        let serving = fake.clone();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(config));
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (acceptor, fake) = (acceptor.clone(), serving.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request| fake.answer(request));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        fake
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().expect("no test panics with it"))
    }

    pub fn put(&self, path: &str, value: &[u8]) {
        self.state(|state| state.resources.insert(path.to_owned(), value.to_vec()));
    }

    /// From now on it unwraps packets, and this is in them.
    pub fn unwraps(&self, options: &[u8]) {
        self.state(|state| state.unwrapped = Some(options.to_vec()));
    }

    /// The next answers to requests for what contains `path` go wrong so.
    pub fn faults(&self, path: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.state(|state| state.faults.push((path, faults.into_iter().collect())));
    }

    /// How often something whose path contains the text was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.state(|state| state.requests.iter().filter(|asked| asked.contains(path)).count())
    }

    /// All sessions end.
    pub fn forget(&self) {
        self.state(|state| state.sessions.clear());
    }

    pub fn transport(&self) -> Transport {
        let url: BrokerUrl = self.url().parse().expect("a URL");
        Transport::new(url, std::slice::from_ref(&self.root)).expect("a root")
    }

    pub fn broker(&self, mode: Mode) -> Broker {
        self.broker_over(self.transport(), mode)
    }

    pub fn broker_over(&self, transport: Transport, mode: Mode) -> Broker {
        Broker::new(transport, Attester::Tee(tee()), None, mode).waiting(Duration::from_millis(1))
    }

    pub fn guest(&self) -> Guest {
        Guest::new(Attester::Tee(tee()), self.broker(Mode::Session), None)
    }

    async fn answer(&self, request: Request<hyper::body::Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = head.uri.path().to_owned();
        let fault = self.state(|state| {
            state.requests.push(path.clone());
            state.headers.push(head.headers.clone());
            let mut faults = state.faults.iter_mut().filter(|(text, _)| path.contains(text));
            faults.find_map(|(_, faults)| faults.pop_front())
        });
        match fault {
            None => Ok(self.honest(&path, &head.headers, &body, None)),
            Some(fault) => self.faulty(&path, &head.headers, &body, fault).await,
        }
    }

    async fn faulty(
        &self,
        path: &str,
        headers: &hyper::HeaderMap,
        body: &[u8],
        fault: Fault,
    ) -> hyper::Result<Response<Full<Bytes>>> {
        Ok(match fault {
            Fault::Status(status, kind) => error(status, kind),
            Fault::Redirect(address) => {
                let target = format!("https://localhost:{}{path}", address.port());
                let response = Response::builder().status(307).header("location", target);
                response.body(Full::default()).expect("a response")
            }
            Fault::Endless => Response::new(Full::from(vec![b' '; rcar::MAX_JWE + 1])),
            Fault::Silence => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                error(500, "PluginInternalError")
            }
            // An error of the service ends the connection without an answer; one that hyper makes is at hand.
            Fault::HangUp => Err(hung_up().await)?,
            Fault::Body(text) => Response::new(Full::from(text)),
            Fault::Cookies(cookies) => {
                let mut response = self.honest(path, headers, body, None);
                response.headers_mut().remove(SET_COOKIE);
                for cookie in cookies {
                    response.headers_mut().append(SET_COOKIE, cookie.parse().expect("a header"));
                }
                response
            }
            Fault::ForAnotherKey => {
                let other = rcar::PrivateKey::generate(rcar::KeyAlgorithm::EcdhP256).expect("a key");
                let jwe = other.public().encrypt(b"of another").expect("encrypted");
                Response::new(Full::from(jwe.to_json().to_string()))
            }
            Fault::Instead(other) => self.honest(path, headers, body, Some(other)),
        })
    }

    fn honest(
        &self,
        path: &str,
        headers: &hyper::HeaderMap,
        body: &[u8],
        instead: Option<&str>,
    ) -> Response<Full<Bytes>> {
        match path.strip_prefix("/kbs/v0/") {
            Some("auth") => self.challenge(body),
            Some("attest") => self.appraise(headers, body),
            Some("unwrap-key") => {
                let unwrapped = self.state(|state| state.unwrapped.clone());
                self.released(unwrapped.as_ref(), headers)
            }
            Some(rest) => {
                self.release(instead.or(rest.strip_prefix("resource/")).unwrap_or_default(), headers)
            }
            None => error(404, "InvalidRequestPath"),
        }
    }

    fn challenge(&self, body: &[u8]) -> Response<Full<Bytes>> {
        let request = rcar::Request::parse(body).expect("a request");
        self.state(|state| {
            let number = state.requests.len() as u128;
            let challenge = Challenge::new(&[number as u8; 32]);
            let id = format!("{number:032x}");
            let opened =
                Opened { version: Version::V0_4_0, tee: request.tee, nonce: challenge.nonce().to_owned() };
            state.sessions.insert(id.clone(), Session { opened, key: None });
            let cookie = format!("{SESSION_COOKIE}={id}; Path=/kbs/v0; Secure; HttpOnly");
            Response::builder()
                .header(SET_COOKIE, cookie)
                .body(Full::from(challenge.to_json().to_string()))
                .expect("a response")
        })
    }

    /// As the Evidence covers nonce and key, it is good: what it is about is no concern of these tests.
    fn appraise(&self, headers: &hyper::HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
        self.state(|state| {
            let Some(session) = cookie(headers).and_then(|id| state.sessions.get_mut(&id)) else {
                return error(401, "AttestationError");
            };
            let attestation = Attestation::parse(body, &session.opened).expect("an attestation");
            let piece = &attestation.pieces()[0];
            let covered = match piece.read().expect("Evidence") {
                Content::Sample(sample) => piece.digest().is_in_sample(&sample.report_data),
                Content::Evidence(conveyed) => {
                    let evidence = &conveyed.evidence[0].1;
                    evidence.covered() == piece.digest().expected(evidence)
                }
            };
            if !covered {
                return error(401, "AttestationError");
            }
            session.key = Some(attestation.runtime_data.tee_pubkey.clone());
            state.attestations.push(attestation);
            let token = format!("head.{}.sign", cookie(headers).unwrap_or_default());
            Response::new(Full::from(json!({ "token": token }).to_string()))
        })
    }

    fn release(&self, path: &str, headers: &hyper::HeaderMap) -> Response<Full<Bytes>> {
        let value = self.state(|state| state.resources.get(path).cloned());
        self.released(value.as_ref(), headers)
    }

    fn released(&self, value: Option<&Vec<u8>>, headers: &hyper::HeaderMap) -> Response<Full<Bytes>> {
        self.state(|state| {
            let bearer = headers.get("authorization").and_then(|value| value.to_str().ok());
            let of_token = bearer.and_then(|value| {
                Some(value.strip_prefix("Bearer head.")?.strip_suffix(".sign")?.to_owned())
            });
            let session = cookie(headers).or(of_token).and_then(|id| state.sessions.get(&id));
            let Some(key) = session.and_then(|session| session.key.as_ref()) else {
                return error(401, "TokenNotFound");
            };
            match value {
                None => error(404, "PolicyDeny"),
                Some(value) => {
                    let jwe = key.encrypt(value).expect("encrypted");
                    Response::new(Full::from(jwe.to_json().to_string()))
                }
            }
        })
    }
}

fn error(status: u16, kind: &str) -> Response<Full<Bytes>> {
    let kind = format!("https://github.com/confidential-containers/kbs/errors/{kind}");
    let body = json!({ "type": kind, "detail": "as the test wants" }).to_string();
    Response::builder().status(status).body(Full::from(body)).expect("a response")
}

/// Some error of hyper: from a connection that its other end closed.
async fn hung_up() -> hyper::Error {
    let (ours, theirs) = tokio::io::duplex(64);
    drop(theirs);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.expect("nothing is said yet");
    tokio::spawn(connection);
    sender.send_request(Request::new(Full::<Bytes>::default())).await.expect_err("nobody answers")
}

fn cookie(headers: &hyper::HeaderMap) -> Option<String> {
    let value = headers.get("cookie")?.to_str().ok()?;
    value.strip_prefix(SESSION_COOKIE)?.strip_prefix('=').map(str::to_owned)
}

fn certificates(
    versions: &[&'static SupportedProtocolVersion],
    name: &str,
) -> (CertificateDer<'static>, String, ServerConfig) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).expect("a root");
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new([name.to_owned()]).expect("a name").signed_by(&leaf_key, &issuer);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.expect("a certificate").into()], leaf_key.into())
        .expect("a configuration");
    (root.der().clone(), root.pem(), config)
}

/// A TEE of this test's own process.
pub fn tee() -> Arc<dyn Tee> {
    testkit::tee::EmulatedTee::launch(Platform::Snp, b"a guest", b"")
}
