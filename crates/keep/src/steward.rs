//! The identity of a Keep that is in no mesh: certified by Enarx' Steward when the configuration names one, and of its
//! own making otherwise.

use std::{sync::Arc, time::Duration};

use attested_tls::{
    clock::Clock,
    key::TeeKey,
    steward::{MAX_PATH, Request, StewardError},
    unattested,
};
use attester::Tee;
use bytes::Bytes;
use evidence::Endorsements;
use http::{StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use keep_config::KeepConfig;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::net::{self, Identity};

/// For the whole exchange: Steward verifies Evidence, and may fetch nothing.
const PATIENCE: Duration = Duration::from_secs(30);
/// The key of `[roots]` below which Steward's own certificate may be, instead of the web's roots.
const ROOTS: &str = "steward";

/// Why a Keep has no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The address is none.
    #[error("steward = {0:?} is no https URL with a host")]
    Url(String),
    /// Its roots, or this Keep's own key.
    #[error("TLS with Steward cannot be had")]
    Tls(#[source] net::NetError),
    /// No connection, or no HTTP.
    #[error("Steward at {url} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        reason: String,
    },
    /// It said no.
    #[error("Steward at {url} refused this Keep: {status} {reason}; it says why in its own log")]
    Refused {
        /// Where.
        url: String,
        /// HTTP status: 400 for Evidence that does not hold, 401 for none.
        status: StatusCode,
        /// The beginning of its words, without control characters.
        reason: String,
    },
    /// The request, or the answer.
    #[error(transparent)]
    Steward(#[from] StewardError),
    /// The Keep's own key.
    #[error("a key could not be made")]
    Key(#[from] attested_tls::key::KeyError),
}

impl IdentityError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "STEWARD_URL_UNUSABLE",
            Self::Tls(error) => error.code(),
            Self::Unreachable { .. } => "STEWARD_UNREACHABLE",
            Self::Refused { .. } => "STEWARD_REFUSED",
            Self::Steward(error) => error.code(),
            Self::Key(_) => "INTERNAL",
        }
    }
}

/// What the Keep shows to its clients: Steward's certificate for a fresh key, or one that the key signs itself.
///
/// # Errors
/// When Steward is asked for and gives none: the workload must then not run.
pub async fn identity(
    config: &KeepConfig,
    tee: &Arc<dyn Tee>,
    clock: Clock,
) -> Result<Identity, IdentityError> {
    let Some(url) = &config.steward else { return Ok(Identity::self_signed(&TeeKey::generate()?)) };
    let request = Request::new(tee.platform())?;
    let (tee, data) = (Arc::clone(tee), request.report_data());
    let none = |reason: String| StewardError::Evidence(reason);
    let raw = tokio::task::spawn_blocking(move || tee.evidence(&data)).await;
    let raw = raw.map_err(|error| none(error.to_string()))?.map_err(|error| none(error.to_string()))?;
    let endorsements =
        Endorsements::from_bytes(&raw.endorsements).map_err(|error| none(error.to_string()))?;
    let csr = request.to_der(&raw.evidence, &endorsements)?;
    let unreachable = |reason: String| IdentityError::Unreachable { url: url.clone(), reason };
    let posted = timeout(PATIENCE, post(url, config, clock, csr)).await;
    let path = posted.map_err(|_| unreachable("no answer in time".into()))??;
    let (chain, key) = request.accept(&path)?;
    tracing::info!(
        code = "STEWARD_CERTIFIED",
        certificates = chain.len(),
        "Steward certified this Keep's key"
    );
    Ok(Identity::of_chain(chain, key))
}

async fn post(url: &str, config: &KeepConfig, clock: Clock, csr: Vec<u8>) -> Result<Bytes, IdentityError> {
    let unreachable = |reason: &dyn std::fmt::Display| IdentityError::Unreachable {
        url: url.to_owned(),
        reason: reason.to_string(),
    };
    let bad = || IdentityError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or_else(bad)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| bad())?;
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(bad)?;

    let roots = net::roots_or_web(config, ROOTS).map_err(IdentityError::Tls)?;
    let tls = unattested::client_config(roots, None, clock);
    let tls = tls.map_err(|error| IdentityError::Tls(net::NetError::Identity(error)))?;
    let tcp = TcpStream::connect((bare, uri.port_u16().unwrap_or(443))).await;
    let tcp = tcp.map_err(|error| unreachable(&error))?;
    let stream = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await;
    let stream = stream.map_err(|error| unreachable(&attested_tls::marble::handshake_refusal(&error).1))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let connection = tokio::spawn(connection);
    let request = http::Request::post(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "application/pkcs10")
        .body(Full::new(Bytes::from(csr)))
        .map_err(|_| bad())?;
    let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_PATH).collect().await;
    connection.abort();
    let body = body.map_err(|error| unreachable(&error))?.to_bytes();
    if status == StatusCode::OK {
        return Ok(body);
    }
    let words = String::from_utf8_lossy(&body[..body.len().min(200)]);
    let reason = words.chars().filter(|letter| !letter.is_control()).collect();
    Err(IdentityError::Refused { url: url.to_owned(), status, reason })
}
