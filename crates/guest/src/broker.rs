//! The broker, as a guest sees it: attest once, fetch what is wanted, and attest again when the session has ended.
//!
//! [`rcar::client`] says what is sent and what an answer means; here it is sent, again where that may help, and in
//! bounded time. What a broker denies it denies again, so nothing that was decided is asked more than
//! [`NEW_HANDSHAKES`] times over.

use std::{sync::Arc, time::Duration};

use hyper::{
    Method,
    header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, SET_COOKIE},
};
use rcar::{
    ErrorType, InitData, Invalid, KeyAlgorithm, MAX_JWE, PrivateKey, ResourceUri,
    client::{Exchange, ExchangeError, HttpAnswer, HttpRequest, PREFIX, Session},
};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::{
    evidence::{Attester, EvidenceError},
    transport::{Answer, Connection, Transport, TransportError},
};

/// How often an exchange is tried that the network, or an overloaded broker, made fail.
pub const ATTEMPTS: u32 = 5;
/// How often a refused session is made anew for one resource.
pub const NEW_HANDSHAKES: u32 = 2;
/// How long to wait before the second attempt; each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest answer of a handshake, in bytes: a token about eight GPUs has some 170 KiB.
const MAX_HANDSHAKE: usize = 1024 * 1024 + 64 * 1024;

/// How a guest shows, when it fetches something, that it was attested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By the session's cookie: the broker appraises and releases (background check).
    Session,
    /// By the token: whoever accepts it releases (passport).
    Passport,
}

/// A broker that knows this guest, or will.
pub struct Broker {
    transport: Transport,
    attester: Attester,
    init_data: Option<InitData>,
    mode: Mode,
    first_wait: Duration,
    current: Mutex<Current>,
}

/// The session in force, and how many there were.
#[derive(Default)]
struct Current {
    generation: u64,
    session: Option<Arc<Session>>,
}

/// A token, and the key that it confirms. Whoever has both passes for this guest while the token lasts.
pub struct Token {
    session: Arc<Session>,
    keypair: Zeroizing<String>,
}

/// Why a broker gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It cannot be reached, or is another one.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It refused, or does not speak the protocol.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// There is no Evidence for it.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// There is no key for it.
    #[error("no key for the session could be made")]
    Key(#[source] Invalid),
}

impl BrokerError {
    /// Whether the broker decided so: denied, or not there, which a broker does not tell apart.
    pub fn denied(&self) -> bool {
        matches!(self, Self::Exchange(ExchangeError::Refused { status: 401 | 403 | 404, .. }))
    }

    /// Whether it may go otherwise the next time.
    fn passing(&self) -> bool {
        match self {
            Self::Transport(error) => error.passing(),
            Self::Exchange(ExchangeError::Refused { status, error }) => {
                let unconfigured =
                    error.as_ref().is_some_and(|error| error.kind == ErrorType::BrokerNotConfigured.as_str());
                matches!(status, 429 | 500 | 502 | 503 | 504) && !unconfigured
            }
            _ => false,
        }
    }

    fn unauthenticated(&self) -> bool {
        matches!(self, Self::Exchange(error) if error.is_unauthenticated())
    }

    /// What mends it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Transport(TransportError::Tls(_)) => {
                "the broker must speak TLS 1.3 and have a certificate for the URL's host under the given root; give the \
                 root of this broker's mesh with --broker-root"
            }
            Self::Transport(TransportError::Redirected { .. } | TransportError::TooLong { .. }) => {
                "what answers there is no key broker; look at the URL"
            }
            Self::Transport(_) => "look whether the broker runs and can be reached at its URL",
            Self::Exchange(ExchangeError::Refused { status: 400 | 409 | 413, .. }) => {
                "the broker does not take what this version sends; look at its version and its log"
            }
            Self::Exchange(ExchangeError::Refused { status: 429 | 500..=599, .. }) => {
                "the broker is overloaded, or not yet set up: ask its operator"
            }
            Self::Exchange(ExchangeError::Refused { .. }) => {
                "the broker does not say to guests why; its operator can ask it with `bailey broker explain`, which shows \
                 what this guest's Evidence is and what the policy wants"
            }
            Self::Exchange(_) => "what answers there speaks another protocol; look at the URL",
            Self::Evidence(error) => error.remedy(),
            Self::Key(_) => "start again; if it stays so, this build's cryptography does not work here",
        }
    }
}

impl Broker {
    /// A broker that was not asked anything yet.
    pub fn new(transport: Transport, attester: Attester, init_data: Option<InitData>, mode: Mode) -> Self {
        let current = Mutex::default();
        Self { transport, attester, init_data, mode, first_wait: FIRST_WAIT, current }
    }

    /// With another first wait between attempts, for tests.
    #[must_use]
    pub fn waiting(mut self, first: Duration) -> Self {
        self.first_wait = first;
        self
    }

    /// Fetches a resource, decrypted by the key that this guest's Evidence covers.
    ///
    /// # Errors
    /// When the broker cannot be reached, does not accept this guest, does not release the resource, or what it sends
    /// is not encrypted to this session's key.
    pub async fn resource(&self, uri: &ResourceUri) -> Result<Zeroizing<Vec<u8>>, BrokerError> {
        self.released(|session| session.request(uri)).await
    }

    /// Has the broker unwrap the packet of an encrypted image by a key, a resource, that it keeps. Only our own brokers
    /// do that; others answer that there is no such thing.
    ///
    /// # Errors
    /// As [`Broker::resource`].
    pub async fn unwrap_key(
        &self,
        key: &ResourceUri,
        packet: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, BrokerError> {
        let body = String::from_utf8_lossy(packet).into_owned();
        self.released(|session| HttpRequest {
            method: "POST",
            target: format!("{PREFIX}/unwrap-key"),
            body: Some(body.clone()),
            ..session.request(key)
        })
        .await
    }

    /// Has the broker issue SVIDs. Only our own brokers do that; others answer that there is no such thing.
    ///
    /// # Errors
    /// As [`Broker::resource`].
    pub async fn svids(&self, kind: &str, body: &str) -> Result<Zeroizing<Vec<u8>>, BrokerError> {
        self.released(|session| session.asking(&format!("svid/{kind}"), body.to_owned())).await
    }

    /// By what SVIDs are verified, as the broker says it: JSON.
    ///
    /// # Errors
    /// When the broker cannot be reached, or issues no SVIDs.
    pub async fn svid_bundle(&self) -> Result<Zeroizing<Vec<u8>>, BrokerError> {
        let mut connection = self.transport.connect().await?;
        let path = format!("{PREFIX}/svid/bundle");
        let answer = connection.send(Method::GET, &path, HeaderMap::new(), Vec::new(), MAX_JWE).await?;
        match answer.status {
            200 => Ok(answer.body),
            status => {
                let error = rcar::ErrorBody::parse(&answer.body).ok();
                Err(ExchangeError::Refused { status, error }.into())
            }
        }
    }

    async fn released(
        &self,
        request: impl Fn(&Session) -> HttpRequest,
    ) -> Result<Zeroizing<Vec<u8>>, BrokerError> {
        let mut refused = None;
        let mut handshakes = 0;
        loop {
            let (generation, session) = self.session(refused).await?;
            let request = self.shown(&session, request(&session));
            match self.patiently(|| self.fetch(&session, &request)).await {
                Err(error) if error.unauthenticated() && handshakes < NEW_HANDSHAKES => {
                    handshakes += 1;
                    refused = Some(generation);
                }
                outcome => return outcome,
            }
        }
    }

    /// With what shows that this guest was attested.
    fn shown(&self, session: &Session, request: HttpRequest) -> HttpRequest {
        match self.mode {
            Mode::Session => request,
            Mode::Passport => HttpRequest {
                cookie: None,
                authorization: Some(format!("Bearer {}", session.token())),
                ..request
            },
        }
    }

    /// A new token: the broker's attestation result about this guest.
    ///
    /// # Errors
    /// When the broker cannot be reached or does not accept this guest.
    pub async fn token(&self) -> Result<Token, BrokerError> {
        let refused = Some(self.current.lock().await.generation);
        let (_, session) = self.session(refused).await?;
        let keypair = session.key().to_pem().map_err(BrokerError::Key)?;
        Ok(Token { session, keypair })
    }

    /// The session in force; a new one when there is none, or that one was refused. Of several that want one, the first
    /// makes it and the others wait for it.
    async fn session(&self, refused: Option<u64>) -> Result<(u64, Arc<Session>), BrokerError> {
        let mut current = self.current.lock().await;
        if refused == Some(current.generation) {
            current.session = None;
        }
        if let Some(session) = &current.session {
            return Ok((current.generation, Arc::clone(session)));
        }
        let session = Arc::new(self.patiently(|| self.attest()).await?);
        current.generation += 1;
        current.session = Some(Arc::clone(&session));
        Ok((current.generation, session))
    }

    /// One handshake, whole: a nonce is for one attempt, and so is a key.
    async fn attest(&self) -> Result<Session, BrokerError> {
        let key = PrivateKey::generate(KeyAlgorithm::EcdhP256).map_err(BrokerError::Key)?;
        let exchange = Exchange::new(self.attester.tee()?, key, self.init_data.clone());
        let mut connection = self.transport.connect().await?;
        let answer = send(&mut connection, &exchange.request(), MAX_HANDSHAKE).await?;
        let challenged = read(&answer, |answer| exchange.challenged(answer))?;
        // No device has Evidence of its own here.
        let evidence = self.attester.evidence(&challenged.digest("")).await?;
        let attesting = challenged.attest(&evidence, "");
        let answer = send(&mut connection, attesting.request(), MAX_HANDSHAKE).await?;
        read(&answer, |answer| attesting.answered(answer))
    }

    async fn fetch(
        &self,
        session: &Session,
        request: &HttpRequest,
    ) -> Result<Zeroizing<Vec<u8>>, BrokerError> {
        let mut connection = self.transport.connect().await?;
        let answer = send(&mut connection, request, MAX_JWE).await?;
        read(&answer, |answer| session.resource(answer))
    }

    /// Tries again what may go otherwise the next time, with longer and longer waits.
    async fn patiently<T, F: Future<Output = Result<T, BrokerError>>>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, BrokerError> {
        let mut wait = self.first_wait;
        for _ in 1..ATTEMPTS {
            match attempt().await {
                Err(error) if error.passing() => tokio::time::sleep(wait).await,
                outcome => return outcome,
            }
            wait *= 2;
        }
        attempt().await
    }
}

impl Token {
    /// The JWT.
    pub fn jwt(&self) -> &str {
        self.session.token()
    }

    /// As the attestation agent of Confidential Containers has it: the JWT, and the key pair as PEM.
    pub fn to_json(&self) -> Value {
        json!({ "token": self.session.token(), "tee_keypair": self.keypair.as_str() })
    }
}

/// Without either.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

async fn send(
    connection: &mut Connection,
    request: &HttpRequest,
    limit: usize,
) -> Result<Answer, BrokerError> {
    let mut headers = HeaderMap::new();
    for (name, value) in [(COOKIE, &request.cookie), (AUTHORIZATION, &request.authorization)] {
        if let Some(value) = value {
            let mut value =
                HeaderValue::from_str(value).map_err(|error| TransportError::Request(error.into()))?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    let method = if request.method == "POST" { Method::POST } else { Method::GET };
    let body = request.body.clone().unwrap_or_default().into_bytes();
    Ok(connection.send(method, &request.target, headers, body, limit).await?)
}

fn read<T>(
    answer: &Answer,
    step: impl FnOnce(&HttpAnswer<'_>) -> Result<T, ExchangeError>,
) -> Result<T, BrokerError> {
    let set_cookie: Vec<&str> =
        answer.headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
    let answer = HttpAnswer { status: answer.status, set_cookie: &set_cookie, body: &answer.body };
    Ok(step(&answer)?)
}
