//! The host agent's API, by its client.

use std::{fmt, sync::Arc};

use attested_tls::{clock::Clock, unattested};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use keep_protocol::{
    Message, ProtocolError,
    host::{CONTENT_TYPE, HostError, HostInfo, Keeps, Lease, NewKeep, UPGRADE},
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::{HOST_PATIENCE, endpoint::Endpoint};

/// How the host knows its client, and the client its host. It needs to know nothing: what matters is inside.
#[derive(Clone)]
pub enum Access {
    /// Nobody proves anything.
    Anyone,
    /// The host's certificate must be below these roots.
    Roots(Arc<RootCertStore>),
    /// The same; and the client shows this token, which therefore goes to no other host.
    Token(Arc<RootCertStore>, Zeroizing<String>),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anyone => "Anyone",
            Self::Roots(_) => "Roots",
            Self::Token(..) => "Token",
        })
    }
}

/// A host agent.
pub struct Host {
    endpoint: Endpoint,
    access: Access,
    clock: Clock,
    /// A connection that can be used again.
    idle: Mutex<Option<http1::SendRequest<Full<Bytes>>>>,
}

/// Why a host gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum HostFailure {
    /// It cannot be reached.
    #[error("{endpoint} cannot be reached")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not answer in time.
    #[error("{0} does not answer")]
    Silent(Endpoint),
    /// It says why not.
    #[error("the host says: {}", .0.message)]
    Refused(HostError),
    /// Its certificate, or that of whoever answers in its place, is not one that was asked for.
    #[error("{endpoint} shows a certificate that is not below the given roots")]
    Untrusted {
        /// Where.
        endpoint: Endpoint,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// It says what is no message of its API.
    #[error("this is no host agent, or one that speaks otherwise (status {status})")]
    Malformed {
        /// The HTTP status.
        status: u16,
        /// What is wrong with the body, where that is what is wrong.
        source: Option<ProtocolError>,
    },
}

impl HostFailure {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "HOST_UNREACHABLE",
            Self::Silent(_) => "HOST_SILENT",
            Self::Untrusted { .. } => "HOST_UNTRUSTED",
            Self::Refused(error) => error.code.as_str(),
            Self::Malformed { .. } => "HOST_MALFORMED",
        }
    }
}

impl Host {
    /// Connects when it is first asked.
    pub fn new(endpoint: Endpoint, access: Access, clock: Clock) -> Self {
        Self { endpoint, access, clock, idle: Mutex::new(None) }
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// What it has.
    ///
    /// # Errors
    /// As all of these: when it cannot be reached, says no, or is no host agent.
    pub async fn info(&self) -> Result<HostInfo, HostFailure> {
        self.ask(Method::GET, "/v1", Bytes::new()).await
    }

    /// A Keep.
    ///
    /// # Errors
    /// See [`HostFailure`].
    pub async fn lease(&self, wanted: &NewKeep) -> Result<Lease, HostFailure> {
        self.ask(Method::POST, "/v1/keeps", wanted.to_bytes().into()).await
    }

    /// The Keeps of this client.
    ///
    /// # Errors
    /// See [`HostFailure`].
    pub async fn keeps(&self) -> Result<Keeps, HostFailure> {
        self.ask(Method::GET, "/v1/keeps", Bytes::new()).await
    }

    /// Ends a Keep.
    ///
    /// # Errors
    /// See [`HostFailure`].
    pub async fn release(&self, id: &str) -> Result<(), HostFailure> {
        let response = self.send(Method::DELETE, &format!("/v1/keeps/{id}"), Bytes::new()).await?;
        if response.status().is_success() { Ok(()) } else { Err(self.refusal(response).await) }
    }

    /// The way to a Keep: bytes that the host relays.
    ///
    /// # Errors
    /// See [`HostFailure`].
    pub async fn channel(&self, id: &str) -> Result<TokioIo<Upgraded>, HostFailure> {
        let response = self.send(Method::GET, &format!("/v1/keeps/{id}/channel"), Bytes::new()).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refusal(response).await);
        }
        // The connection is the Keep's now.
        self.idle.lock().await.take();
        let upgraded = timeout(HOST_PATIENCE, hyper::upgrade::on(response)).await;
        upgraded
            .map_err(|_| HostFailure::Silent(self.endpoint.clone()))?
            .map(TokioIo::new)
            .map_err(|error| self.unreachable(error))
    }

    async fn ask<M: Message>(&self, method: Method, path: &str, body: Bytes) -> Result<M, HostFailure> {
        let response = self.send(method, path, body).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let status = response.status().as_u16();
        let bytes = self.body(response, M::MAX).await?;
        M::from_bytes(&bytes).map_err(|error| HostFailure::Malformed { status, source: Some(error) })
    }

    /// What the host says instead of what it was asked for.
    async fn refusal(&self, response: Response<Incoming>) -> HostFailure {
        let status = response.status().as_u16();
        match self.body(response, HostError::MAX).await.map(|bytes| HostError::from_bytes(&bytes)) {
            Ok(Ok(error)) => HostFailure::Refused(error),
            Ok(Err(error)) => HostFailure::Malformed { status, source: Some(error) },
            Err(failure) => failure,
        }
    }

    async fn body(&self, response: Response<Incoming>, max: usize) -> Result<Bytes, HostFailure> {
        let collecting = Limited::new(response.into_body(), max).collect();
        let collected = timeout(HOST_PATIENCE, collecting)
            .await
            .map_err(|_| HostFailure::Silent(self.endpoint.clone()))?;
        collected
            .map(|body| body.to_bytes())
            .map_err(|source| HostFailure::Unreachable { endpoint: self.endpoint.clone(), source })
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, HostFailure> {
        let exchange = async {
            let mut idle = self.idle.lock().await;
            let mut connection = match idle.take() {
                Some(connection) if !connection.is_closed() => connection,
                _ => self.connect().await?,
            };
            let sent = async {
                connection.ready().await?;
                connection.send_request(self.request(method, path, body)).await
            };
            let response = sent.await.map_err(|error| self.unreachable(error))?;
            *idle = Some(connection);
            Ok(response)
        };
        timeout(HOST_PATIENCE, exchange).await.unwrap_or(Err(HostFailure::Silent(self.endpoint.clone())))
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Request<Full<Bytes>> {
        let authority = self.endpoint.to_string();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, authority.trim_start_matches("https://"))
            .header(header::ACCEPT, CONTENT_TYPE);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, CONTENT_TYPE);
        }
        if path.ends_with("/channel") {
            request = request.header(header::CONNECTION, "upgrade").header(header::UPGRADE, UPGRADE);
        }
        if let Access::Token(_, token) = &self.access {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.as_str()));
        }
        request
            .body(Full::new(body))
            .expect("paths of the API, and ids that are hexadecimal, are parts of URLs")
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, HostFailure> {
        let (host, port) = (self.endpoint.host(), self.endpoint.port());
        let name = ServerName::try_from(host.to_owned()).map_err(|error| self.unreachable(error))?;
        let config = self.tls().map_err(|error| self.unreachable(error))?;
        let stream = TcpStream::connect((host, port)).await.map_err(|error| self.unreachable(error))?;
        stream.set_nodelay(true).map_err(|error| self.unreachable(error))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = TokioIo::new(stream.map_err(|error| self.not_secured(error))?);
        let (sender, connection) = http1::handshake(stream).await.map_err(|error| self.unreachable(error))?;
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    fn tls(&self) -> Result<ClientConfig, rustls::Error> {
        let mut config = match &self.access {
            Access::Anyone => unattested::client_config_for_anyone(self.clock.clone())?,
            Access::Roots(roots) | Access::Token(roots, _) => {
                unattested::client_config(Arc::clone(roots), None, self.clock.clone())?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn not_secured(&self, error: std::io::Error) -> HostFailure {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls @ rustls::Error::InvalidCertificate(_)) => {
                HostFailure::Untrusted { endpoint: self.endpoint.clone(), source: tls.clone() }
            }
            _ => self.unreachable(error),
        }
    }

    fn unreachable(&self, source: impl std::error::Error + Send + Sync + 'static) -> HostFailure {
        HostFailure::Unreachable { endpoint: self.endpoint.clone(), source: Box::new(source) }
    }
}
