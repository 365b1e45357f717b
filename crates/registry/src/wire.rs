//! One request to one server: TCP, TLS 1.3, HTTP/1.1, a bounded answer. A connection is used once: a package takes a
//! handful of requests, and no pool has anything to get wrong.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::RegistryError;

/// From name resolution to the end of the handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// For a whole answer: 64 MiB in it is 2 Mbit/s.
const ANSWER: Duration = Duration::from_secs(300);

/// Whom one speaks to: `HOST` or `HOST:PORT`, with TLS or without.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) authority: String,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// What is asked.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

/// What came.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn get(target: String) -> Self {
        Self { method: Method::GET, target, headers: Vec::new(), body: Bytes::new() }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Result<Self, RegistryError> {
        let value = HeaderValue::from_str(value);
        self.headers.push((name, value.map_err(|_| RegistryError::Malformed("it fits no header"))?));
        Ok(self)
    }

    pub(crate) fn carrying(mut self, kind: &str, body: Bytes) -> Result<Self, RegistryError> {
        self.body = body;
        self.with(CONTENT_TYPE, kind)
    }
}

impl Place {
    /// One request; of the answer no more than `limit` bytes are read.
    pub(crate) async fn ask(
        &self,
        asked: &Asked,
        authorisation: Option<&HeaderValue>,
        limit: u64,
    ) -> Result<Answer, RegistryError> {
        let exchange = async {
            let stream = tokio::time::timeout(CONNECT, self.connect()).await;
            let stream = stream.map_err(|_| self.unreachable("no answer came in time"))??;
            match &self.tls {
                None => self.exchange(stream, asked, authorisation, limit).await,
                Some(tls) => {
                    let name = ServerName::try_from(self.host().to_owned())
                        .map_err(|_| self.unreachable("its name is none"))?;
                    let handshake = TlsConnector::from(tls.clone()).connect(name, stream);
                    let stream = tokio::time::timeout(CONNECT, handshake).await;
                    let stream = stream.map_err(|_| self.unreachable("no answer came in time"))?;
                    let stream = stream.map_err(|error| self.refused(&error))?;
                    self.exchange(stream, asked, authorisation, limit).await
                }
            }
        };
        let answer = tokio::time::timeout(ANSWER, exchange).await;
        answer.unwrap_or_else(|_| Err(self.unreachable("its answer did not end in time")))
    }

    fn host(&self) -> &str {
        match self.authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => self.authority.rsplit_once(':').map_or(&self.authority, |(host, _)| host),
        }
    }

    fn port(&self) -> u16 {
        let port = match self.authority.rsplit_once(':') {
            Some((_, port)) if !port.contains(']') => port.parse().ok(),
            _ => None,
        };
        port.unwrap_or(if self.tls.is_some() { 443 } else { 80 })
    }

    async fn connect(&self) -> Result<TcpStream, RegistryError> {
        let stream = TcpStream::connect((self.host(), self.port())).await.map_err(|error| {
            self.unreachable(match error.kind() {
                io::ErrorKind::ConnectionRefused => "the connection is refused",
                _ => "there is no way to its address, or its name is not known",
            })
        })?;
        // Only a delay is at stake.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        asked: &Asked,
        authorisation: Option<&HeaderValue>,
        limit: u64,
    ) -> Result<Answer, RegistryError> {
        let mut request = Request::builder().method(asked.method.clone()).uri(&asked.target);
        request = request.header(HOST, &self.authority);
        for (name, value) in asked.headers.iter() {
            request = request.header(name, value);
        }
        if let Some(value) = authorisation {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(asked.body.clone()));
        let request = request.map_err(|_| RegistryError::Malformed("the request would be no HTTP"))?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.ended(&error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| self.ended(&error))?;
            let (head, body) = response.into_parts();
            let body = if asked.method == Method::HEAD { Vec::new() } else { self.body(body, limit).await? };
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::pin!(answer, connection);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // The connection may end first, and what it has read is still to be taken.
            _ = &mut connection => answer.await,
        }
    }

    async fn body(&self, mut body: Incoming, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        loop {
            let frame = tokio::time::timeout(SILENCE, body.frame()).await;
            let frame = frame.map_err(|_| self.unreachable("it fell silent"))?;
            let Some(frame) = frame else { return Ok(bytes) };
            let Ok(data) = frame.map_err(|error| self.ended(&error))?.into_data() else { continue };
            if (bytes.len() + data.len()) as u64 > limit {
                return Err(RegistryError::TooLarge { limit });
            }
            bytes.extend_from_slice(&data);
        }
    }

    fn unreachable(&self, why: &'static str) -> RegistryError {
        RegistryError::Unreachable { host: self.authority.clone(), why }
    }

    /// TLS says who it is; anything else is a connection that failed.
    fn refused(&self, error: &io::Error) -> RegistryError {
        let untrusted = |why| RegistryError::Untrusted { host: self.authority.clone(), why };
        match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(fault)) => untrusted(match fault {
                CertificateError::UnknownIssuer => "no known CA signed its certificate",
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "its certificate is for another name"
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "its certificate has expired"
                }
                _ => "its certificate is not accepted",
            }),
            Some(_) => self.unreachable("it does not speak TLS 1.3"),
            None => self.unreachable("the connection ended in the handshake"),
        }
    }

    fn ended(&self, error: &hyper::Error) -> RegistryError {
        if error.is_parse() || error.is_parse_too_large() {
            RegistryError::Malformed("it is not HTTP")
        } else {
            self.unreachable("the connection ended before the answer")
        }
    }
}
