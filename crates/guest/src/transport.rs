//! HTTPS to one broker: TLS 1.3, the roots that were given and no others, no redirections, and a bound on everything
//! that a hostile broker could draw out: time, headers, body.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::settings::BrokerUrl;

/// How long a connection, and then each answer, may take.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Where the broker is, and how it is known.
#[derive(Clone)]
pub struct Transport {
    connector: TlsConnector,
    url: BrokerUrl,
    name: ServerName<'static>,
    answer_within: Duration,
}

/// One connection; dropped, it ends.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    prefix: String,
    answer_within: Duration,
}

/// What the broker answered.
pub struct Answer {
    /// The status, which is no redirection.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, within the bound that was asked for.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The roots are none.
    #[error("the broker's root certificate cannot be used")]
    Root(#[source] rustls::Error),
    /// The URL's host is no name that a certificate could have.
    #[error("the host in the broker's URL is neither a DNS name nor an address")]
    Name,
    /// Nobody there.
    #[error("no connection to the broker")]
    Connect(#[source] io::Error),
    /// Somebody else there, or a broken connection.
    #[error("no TLS with the broker")]
    Tls(#[source] io::Error),
    /// HTTP failed.
    #[error("the exchange with the broker failed")]
    Http(#[from] hyper::Error),
    /// Something of the request cannot be said in HTTP.
    #[error("the request cannot be said in HTTP")]
    Request(#[from] hyper::http::Error),
    /// Too slow.
    #[error("the broker did not answer within {} s", .0.as_secs())]
    Slow(Duration),
    /// Too much.
    #[error("the broker's answer is longer than the {limit} bytes that it may have")]
    TooLong {
        /// What it may have.
        limit: usize,
    },
    /// The broker sends us elsewhere.
    #[error("the broker answered {status}, a redirection, which is not followed")]
    Redirected {
        /// The status.
        status: u16,
    },
}

impl TransportError {
    /// Whether it may be otherwise the next time: what the network does, not what the broker is.
    pub fn passing(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Slow(_) | Self::Http(_) => true,
            Self::Tls(error) => !error
                .get_ref()
                .is_some_and(|inner| matches!(inner.downcast_ref(), Some(error) if is_verdict(error))),
            Self::Root(_)
            | Self::Name
            | Self::Request(_)
            | Self::TooLong { .. }
            | Self::Redirected { .. } => false,
        }
    }
}

/// Whether TLS ended by a decision of either side, which will be the same again.
fn is_verdict(error: &rustls::Error) -> bool {
    use rustls::Error;
    matches!(
        error,
        Error::InvalidCertificate(_)
            | Error::AlertReceived(_)
            | Error::PeerIncompatible(_)
            | Error::NoCertificatesPresented
            | Error::PeerMisbehaved(_)
    )
}

impl Transport {
    /// To the broker at `url`, whose certificate must be issued under one of `roots`.
    ///
    /// # Errors
    /// When the roots are none, or the URL's host can have no certificate.
    pub fn new(url: BrokerUrl, roots: &[CertificateDer<'static>]) -> Result<Self, TransportError> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone()).map_err(TransportError::Root)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TransportError::Root)?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        let name = ServerName::try_from(url.host().to_owned()).map_err(|_| TransportError::Name)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), url, name, answer_within: ANSWER_WITHIN })
    }

    /// With another bound on time, for tests of slow brokers.
    #[must_use]
    pub fn answering_within(mut self, limit: Duration) -> Self {
        self.answer_within = limit;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// When nobody is there, or somebody who is not known by the roots.
    pub async fn connect(&self) -> Result<Connection, TransportError> {
        let connecting = async {
            let address = (self.url.host(), self.url.port());
            let stream = TcpStream::connect(address).await.map_err(TransportError::Connect)?;
            stream.set_nodelay(true).map_err(TransportError::Connect)?;
            let stream =
                self.connector.connect(self.name.clone(), stream).await.map_err(TransportError::Tls)?;
            let (sender, connection) =
                http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
            // It ends with its sender; what fails in it fails the request, which says so.
            tokio::spawn(connection);
            Ok::<_, TransportError>(sender)
        };
        let sender = timeout(self.answer_within, connecting)
            .await
            .map_err(|_| TransportError::Slow(self.answer_within))??;
        Ok(Connection {
            sender,
            host: HeaderValue::from_str(&self.url.authority()).map_err(hyper::http::Error::from)?,
            prefix: self.url.prefix().to_owned(),
            answer_within: self.answer_within,
        })
    }
}

impl Connection {
    /// Asks, and waits for the whole answer, whose body has at most `limit` bytes. A `body` is JSON.
    ///
    /// # Errors
    /// When there is no answer, it is too slow or too long, or it is a redirection.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Vec<u8>,
        limit: usize,
    ) -> Result<Answer, TransportError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        if method == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.prefix).parse().map_err(hyper::http::Error::from)?;
        request.headers_mut().extend(headers);
        request.headers_mut().insert(HOST, self.host.clone());
        timeout(self.answer_within, self.exchange(request, limit))
            .await
            .map_err(|_| TransportError::Slow(self.answer_within))?
    }

    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Answer, TransportError> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let status = head.status.as_u16();
        if head.status.is_redirection() {
            return Err(TransportError::Redirected { status });
        }
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return TransportError::TooLong { limit };
            }
            match error.downcast::<hyper::Error>() {
                Ok(error) => TransportError::Http(*error),
                Err(error) => TransportError::Connect(io::Error::other(error)),
            }
        })?;
        let body = Zeroizing::new(body.to_bytes().to_vec());
        Ok(Answer { status, headers: head.headers, body })
    }
}
