//! Speaking to a coordinator or a database: appraise it once, pin its root, and from then on require that root.

use std::{fmt, str::FromStr, sync::Arc};

use anyhow::{Context, anyhow, bail};
use appraisal::{
    Appraised, Policy, ReferenceValue, Refused, Verdict, binding::Role, cluster::ClusterEvidence,
};
use attested_tls::{
    claims::{Claims, CoordinatorClaims},
    clock::Clock,
    key::SpkiDigest,
    service::{self, UserIdentity},
    statement::{Expected, Statement, StatementError},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
    sign::CertifiedKey,
};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// No honest answer is larger: a manifest of 1 MiB in base64 and JSON, or a statement.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Where a coordinator's client API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl FromStr for Endpoint {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let uri: hyper::Uri = text.parse().with_context(|| format!("{text:?} is not a URL"))?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") {
            bail!("{text:?} is not the URL of a coordinator, such as https://localhost:4433");
        }
        let host = uri.host().context("the URL names no host")?.trim_matches(['[', ']']).to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(4433) })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "https://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "https://{}:{}", self.host, self.port)
        }
    }
}

/// What a coordinator must be.
#[derive(Debug, Clone)]
pub struct Requirements {
    /// Acceptable platforms.
    pub policy: Policy,
    /// Acceptable code.
    pub measurements: Vec<ReferenceValue>,
    /// The manifest that must be in force, by its digest; `None` asks for nothing.
    pub manifest: Option<[u8; 32]>,
}

/// A coordinator that was appraised and whose root is pinned.
pub struct Verified {
    /// Every check that was made.
    pub verdict: Verdict,
    /// What it says of itself, covered by its Evidence.
    pub claims: CoordinatorClaims,
    /// All of it, nonce included, for whoever appraises it again.
    pub file: ClusterEvidence,
}

/// Why a coordinator or a database is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It could not be reached or does not speak the protocol.
    #[error("{endpoint} gave no Evidence")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: anyhow::Error,
    },
    /// What it sent does not parse.
    #[error("its Evidence is malformed")]
    Malformed(#[source] anyhow::Error),
    /// Its Evidence is refused.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// Another manifest is in force.
    #[error("another manifest is in force: expected {}, seen {}", hex::encode(expected), seen.map_or("none".into(), hex::encode))]
    Manifest {
        /// Required.
        expected: [u8; 32],
        /// In force.
        seen: Option<[u8; 32]>,
    },
    /// A database whose key is with another mesh than the one that is meant, or with one though none is.
    #[error("{} [MESH_DIFFERS]", mesh_differs(*expected, *seen))]
    Mesh {
        /// SHA-256 of the root of the mesh that is meant.
        expected: Option<[u8; 32]>,
        /// Of the one that the database is a Marble of.
        seen: Option<[u8; 32]>,
    },
}

fn mesh_differs(expected: Option<[u8; 32]>, seen: Option<[u8; 32]>) -> String {
    match (expected, seen) {
        (Some(expected), Some(seen)) => format!(
            "the database is a Marble of another mesh: expected the root {}, seen {}",
            hex::encode(expected),
            hex::encode(seen)
        ),
        (None, Some(seen)) => format!(
            "the database is a Marble of the mesh with the root {}, and whoever governs that mesh can have its key: \
             verify that coordinator, and name its root (--mesh-root)",
            hex::encode(seen)
        ),
        (_, None) => "the database is no Marble of a mesh: its key is sealed to its own TEE".to_owned(),
    }
}

/// Fetches Evidence with a fresh nonce, appraises it against the key of the connection that it came over, and
/// checks the claims. The root in the claims is then the one to pin.
pub async fn verify(
    endpoint: &Endpoint,
    required: &Requirements,
    clock: &Clock,
) -> Result<Verified, VerifyError> {
    verify_with(endpoint, required, fresh_nonce()?, clock).await
}

/// A nonce that was never used.
pub fn fresh_nonce() -> Result<[u8; 32], VerifyError> {
    let mut nonce = [0; 32];
    aws_lc_rs::rand::fill(&mut nonce)
        .map_err(|_| VerifyError::Malformed(anyhow!("no random numbers could be had")))?;
    Ok(nonce)
}

/// As [`verify`], with a nonce that somebody else made, who will look at [`Verified::file`].
pub async fn verify_with(
    endpoint: &Endpoint,
    required: &Requirements,
    nonce: [u8; 32],
    clock: &Clock,
) -> Result<Verified, VerifyError> {
    let asked = Asked { path: "/api/v3/evidence", role: Role::Coordinator };
    let Appraisal { key, statement, appraised } =
        appraise(endpoint, &asked, &required.policy, &required.measurements, &nonce, clock).await?;
    // Only now are the claims the word of code that is trusted.
    let claims = CoordinatorClaims::from_bytes(&statement.claims)
        .map_err(|error| VerifyError::Malformed(error.into()))?;
    let seen = claims.manifest.map(serde_bytes::ByteArray::into_array);
    if let Some(expected) = required.manifest
        && seen != Some(expected)
    {
        return Err(VerifyError::Manifest { expected, seen });
    }
    let file = ClusterEvidence {
        key: key.0,
        nonce,
        evidence: statement.evidence.into_vec(),
        endorsements: statement.endorsements.into_vec(),
        claims: statement.claims.into_vec(),
    };
    Ok(Verified { verdict: appraised.verdict().clone(), claims, file })
}

/// One request to a server that nothing is known of, for looking at what it says.
pub async fn raw(endpoint: &Endpoint, path: &str, clock: &Clock) -> anyhow::Result<(StatusCode, Bytes)> {
    let config = service::unverified_client(None, clock.clone())?;
    let answer = exchange(endpoint, config, Method::GET, path, None, None).await?;
    Ok((answer.status, answer.body))
}

/// Whose Evidence is asked for, and where.
pub struct Asked {
    /// The resource.
    pub path: &'static str,
    /// The role that it must have.
    pub role: Role,
}

/// Evidence that was appraised against the key of the connection that it came over.
pub struct Appraisal {
    /// That key.
    pub key: SpkiDigest,
    /// What was presented.
    pub statement: Statement,
    /// What came of it.
    pub appraised: Appraised,
}

/// Fetches Evidence over `nonce`, and appraises it.
pub async fn appraise(
    endpoint: &Endpoint,
    asked: &Asked,
    policy: &Policy,
    measurements: &[ReferenceValue],
    nonce: &[u8; 32],
    clock: &Clock,
) -> Result<Appraisal, VerifyError> {
    let (key, bytes) = evidence(endpoint, asked.path, nonce, clock)
        .await
        .map_err(|source| VerifyError::Unreachable { endpoint: endpoint.clone(), source })?;
    let statement = Statement::from_bytes(&bytes).map_err(|error| VerifyError::Malformed(error.into()))?;
    let expected = Expected { role: asked.role, key, nonce, measurements, policy, now: clock() };
    let appraised =
        statement.appraise(&expected, &attested_tls::statement::verifier()).map_err(|error| match error {
            StatementError::Refused(refused) => VerifyError::Refused(refused),
            other => VerifyError::Malformed(other.into()),
        })?;
    Ok(Appraisal { key, statement, appraised })
}

async fn evidence(
    endpoint: &Endpoint,
    path: &str,
    nonce: &[u8; 32],
    clock: &Clock,
) -> anyhow::Result<(SpkiDigest, Vec<u8>)> {
    let config = service::unverified_client(None, clock.clone())?;
    let path = format!("{path}?nonce={}", hex::encode(nonce));
    let answer = exchange(endpoint, config, Method::GET, &path, None, None).await?;
    if answer.status != StatusCode::OK {
        bail!("it answered {}: {}", answer.status, sentence(&answer.body));
    }
    Ok((SpkiDigest::of_certificate(&answer.server)?, answer.body.to_vec()))
}

/// A coordinator whose root is known.
pub struct Client {
    endpoint: Endpoint,
    config: Arc<ClientConfig>,
    token: Option<String>,
}

/// An answer that is not success.
#[derive(Debug, thiserror::Error)]
#[error("refused: {message} [{code}, HTTP {status}]")]
pub struct Declined {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable code.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// More, for programs.
    pub details: Value,
}

impl Client {
    /// Requests are made as `identity`, to whoever has a certificate below `root`.
    pub fn new(
        endpoint: Endpoint,
        root: &CertificateDer<'static>,
        identity: Option<&UserIdentity>,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        Ok(Self { endpoint, config: service::pinned_client(root, identity, clock.clone())?, token: None })
    }

    /// Requests are made with a key that is elsewhere, in a PKCS #11 token say.
    pub fn with_key(
        endpoint: Endpoint,
        root: &CertificateDer<'static>,
        key: CertifiedKey,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        Ok(Self { endpoint, config: service::pinned_client_with(root, key, clock.clone())?, token: None })
    }

    /// Requests carry this token, and only to the root that is pinned.
    pub fn with_token(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    /// `GET`, and the data of the answer's envelope.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.request(Method::GET, path, None).await
    }

    /// `POST` of JSON, and the data of the answer's envelope.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.request(Method::POST, path, Some(serde_json::to_vec(body)?)).await
    }

    /// `PUT` of JSON, and the data of the answer's envelope.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.request(Method::PUT, path, Some(serde_json::to_vec(body)?)).await
    }

    /// `POST` of what is no JSON, and the data of the answer's envelope.
    pub async fn post_text(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        self.request(Method::POST, path, Some(body)).await
    }

    /// `DELETE`, and the data of the answer's envelope.
    pub async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.request(Method::DELETE, path, None).await
    }

    /// `GET` of what is no envelope, and the bytes of the answer.
    pub async fn bytes(&self, path: &str) -> anyhow::Result<Bytes> {
        let config = self.config.clone();
        let token = self.token.as_deref();
        let answer = exchange(&self.endpoint, config, Method::GET, path, None, token).await?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        Err(declined(answer.status, &answer.body).into())
    }

    async fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> anyhow::Result<Value> {
        let answer =
            exchange(&self.endpoint, self.config.clone(), method, path, body, self.token.as_deref()).await?;
        let mut envelope: Value = serde_json::from_slice(&answer.body)
            .with_context(|| format!("{} did not answer in JSON", self.endpoint))?;
        if answer.status.is_success() {
            return Ok(envelope["data"].take());
        }
        Err(declined(answer.status, &answer.body).into())
    }
}

fn declined(status: StatusCode, body: &[u8]) -> Declined {
    let mut envelope: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut data = envelope["data"].take();
    Declined {
        status,
        code: data["code"].as_str().unwrap_or("UNKNOWN").to_owned(),
        message: envelope["message"].as_str().unwrap_or("no reason given").to_owned(),
        details: data["details"].take(),
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// The leaf certificate of the server.
    server: Vec<u8>,
}

pub(crate) async fn exchange(
    endpoint: &Endpoint,
    config: Arc<ClientConfig>,
    method: Method,
    path: &str,
    body: Option<Vec<u8>>,
    token: Option<&str>,
) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
        .await
        .with_context(|| format!("{endpoint} cannot be reached"))?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(endpoint.host.clone())?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .with_context(|| format!("{endpoint} failed the TLS handshake"))?;
    let server = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .map(|certificate| certificate.to_vec())
        .context("the server presented no certificate")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, format!("{}:{}", endpoint.host, endpoint.port))
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())))?;
    let response = sender.send_request(request).await.context("the connection broke")?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|error| anyhow!("the answer could not be read: {error}"))?
        .to_bytes();
    driver.abort();
    Ok(Answer { status, body, server })
}

fn sentence(body: &[u8]) -> String {
    let envelope: Value = serde_json::from_slice(body).unwrap_or_default();
    envelope["message"].as_str().unwrap_or("no reason given").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        assert_eq!("https://[::1]:5".parse::<Endpoint>().unwrap().to_string(), "https://[::1]:5");
        assert_eq!("https://a.example".parse::<Endpoint>().unwrap().to_string(), "https://a.example:4433");
        for wrong in ["http://localhost", "localhost:4433", "https://a/b", "https://", ""] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
