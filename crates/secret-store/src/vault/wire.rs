//! One request to one server: TCP, TLS 1.3 with the manifest's roots, HTTP/1.1, a bounded answer. A connection is used
//! once: a value is asked for once a minute at most, and no pool has anything to get wrong.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use zeroize::Zeroizing;

use crate::{MAX_ANSWER, StoreError};

/// For one try, from name resolution to the answer's last byte.
const TRY: Duration = Duration::from_secs(4);

/// Where a server is, and how it is known.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) name: ServerName<'static>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) namespace: Option<HeaderValue>,
}

/// What is asked.
pub(super) struct Asked {
    pub(super) method: Method,
    /// Below `/v1/`, encoded.
    pub(super) path: String,
    /// JSON; none with `GET`.
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
}

impl Server {
    /// The body of a successful answer.
    pub(super) async fn ask(
        &self,
        asked: &Asked,
        token: Option<&str>,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let answer = tokio::time::timeout(TRY, self.exchange(asked, token)).await;
        answer.unwrap_or(Err(StoreError::Unreachable("no answer came in time")))
    }

    async fn exchange(&self, asked: &Asked, token: Option<&str>) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let request = self.request(asked, token)?;
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ended(&error))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| ended(&error))?;
            judged(response.status())?;
            body(response.into_body()).await
        };
        tokio::pin!(answer, connection);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // The connection may end first, and what it has read is still to be taken.
            _ = &mut connection => answer.await,
        }
    }

    fn request(&self, asked: &Asked, token: Option<&str>) -> Result<Request<Full<Bytes>>, StoreError> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let body = asked.body.as_ref().map_or_else(Bytes::new, |body| Bytes::copy_from_slice(body));
        let mut request = Request::builder()
            .method(asked.method.clone())
            .uri(format!("/v1/{}", asked.path))
            .header(HOST, format!("{host}:{}", self.port))
            .header(CONTENT_TYPE, "application/json")
            // What servers can be told to insist on, against requests that a browser was made to send.
            .header("x-vault-request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace.clone());
        }
        if let Some(token) = token {
            let mut token =
                HeaderValue::from_str(token).map_err(|_| StoreError::Credential("it is no token"))?;
            token.set_sensitive(true);
            request = request.header("x-vault-token", token);
        }
        request.body(Full::new(body)).map_err(|_| StoreError::Malformed("the request would be no HTTP"))
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, StoreError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|error| {
            StoreError::Unreachable(match error.kind() {
                io::ErrorKind::ConnectionRefused => "the connection is refused",
                io::ErrorKind::TimedOut => "no answer came in time",
                _ => "there is no way to its address, or its name is not known",
            })
        })?;
        let connector = TlsConnector::from(self.tls.clone());
        connector.connect(self.name.clone(), stream).await.map_err(|error| refused(&error))
    }
}

/// TLS says who it is; anything else is a connection that failed.
fn refused(error: &io::Error) -> StoreError {
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(fault)) => StoreError::Untrusted(match fault {
            CertificateError::UnknownIssuer => "no root of the manifest signed its certificate",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet"
            }
            _ => "its certificate is not accepted",
        }),
        Some(rustls::Error::AlertReceived(_)) => StoreError::Unreachable("the TLS handshake is refused"),
        Some(_) => StoreError::Unreachable("it does not speak TLS 1.3"),
        None => StoreError::Unreachable("the connection ended in the handshake"),
    }
}

fn ended(error: &hyper::Error) -> StoreError {
    if error.is_parse() || error.is_parse_too_large() {
        StoreError::Malformed("it is not HTTP")
    } else {
        StoreError::Unreachable("the connection ended before the answer")
    }
}

/// Vault's "HTTP API", section "HTTP status codes".
fn judged(status: StatusCode) -> Result<(), StoreError> {
    match status.as_u16() {
        200..=204 => Ok(()),
        301 | 302 | 303 | 307 | 308 => Err(StoreError::Redirected),
        401 | 403 => Err(StoreError::Denied),
        404 => Err(StoreError::Missing),
        status @ (412 | 429 | 472 | 473 | 500..=599) => Err(StoreError::Unavailable { status }),
        status @ 400..=499 => Err(StoreError::Rejected { status }),
        _ => Err(StoreError::Malformed("its status is not one of the API's")),
    }
}

async fn body(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    // At once as large as it can be, for growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_ANSWER));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ended(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > MAX_ANSWER - bytes.len() {
            return Err(StoreError::TooLarge { most: MAX_ANSWER });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}
