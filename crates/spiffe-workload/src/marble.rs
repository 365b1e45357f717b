//! The coordinator's client API as a source, for Marbles: a Marble is known there by its certificate, which the
//! coordinator issued, and by nothing that it asks for.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request,
    body::Bytes,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, client::Resumption};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    clock::{Clock, TlsTime},
    source::{SourceError, SvidSource},
    wire::{BundleWire, JwtAnswer, JwtRequest, X509Answer, X509Request},
};

/// For one request, from connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(15);
const LONGEST_ANSWER: usize = 1024 * 1024;

/// Asks the coordinator as a Marble.
pub struct MarbleSource {
    /// Host and port.
    address: String,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

/// What of a Marble's credentials or of the address is not usable.
#[derive(Debug, thiserror::Error)]
pub enum MarbleSourceError {
    /// Not host and port.
    #[error("the coordinator's address is not of the form HOST:PORT")]
    Address,
    /// Not PEM.
    #[error("{0} is not PEM, or holds not what it should")]
    Pem(&'static str),
    /// Certificate and key do not belong together, or the root is none.
    #[error("TLS could not be set up with the Marble's certificate and key")]
    Tls(#[from] rustls::Error),
}

#[derive(Deserialize)]
struct Success<T> {
    data: T,
}

#[derive(Deserialize)]
struct Failure {
    data: FailureData,
}

#[derive(Deserialize)]
struct FailureData {
    code: String,
}

impl MarbleSource {
    /// With what a Marble finds in its environment, PEM: `MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN`,
    /// `MARBLE_PREDEFINED_PRIVATE_KEY` and `MARBLE_PREDEFINED_COORDINATOR_ROOT_CA`.
    pub fn new(
        address: &str,
        chain: &[u8],
        key: &[u8],
        root: &[u8],
        clock: Clock,
    ) -> Result<Self, MarbleSourceError> {
        let (host, port) = address.rsplit_once(':').ok_or(MarbleSourceError::Address)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| MarbleSourceError::Address)?;
        port.parse::<u16>().map_err(|_| MarbleSourceError::Address)?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|_| MarbleSourceError::Pem("the certificate chain"))?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|_| MarbleSourceError::Pem("the private key"))?;
        let root = CertificateDer::from_pem_slice(root)
            .map_err(|_| MarbleSourceError::Pem("the coordinator's root certificate"))?;
        let mut roots = RootCertStore::empty();
        roots.add(root)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_details(provider, Arc::new(TlsTime(clock)))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.resumption = Resumption::disabled();
        Ok(Self { address: address.to_owned(), name, tls: Arc::new(tls) })
    }

    async fn ask<T: DeserializeOwned>(&self, path: &str, body: Option<Vec<u8>>) -> Result<T, SourceError> {
        let asked = tokio::time::timeout(TIMEOUT, self.exchange(path, body)).await;
        let (status, body) = asked.map_err(SourceError::unavailable)??;
        if status.is_success() {
            let answer: Success<T> = serde_json::from_slice(&body).map_err(SourceError::unavailable)?;
            return Ok(answer.data);
        }
        let code =
            serde_json::from_slice::<Failure>(&body).map_or_else(|_| "none".to_owned(), |it| it.data.code);
        match status.as_u16() {
            401 | 403 => Err(SourceError::Refused { code }),
            status => Err(SourceError::unavailable(format!("the coordinator answered {status} ({code})"))),
        }
    }

    async fn exchange(
        &self,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(hyper::StatusCode, Bytes), SourceError> {
        let stream = TcpStream::connect(&self.address).await.map_err(SourceError::unavailable)?;
        let tls = TlsConnector::from(self.tls.clone()).connect(self.name.clone(), stream);
        let stream = TokioIo::new(tls.await.map_err(SourceError::unavailable)?);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.map_err(SourceError::unavailable)?;
        let connection = tokio::spawn(connection);
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.address)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(SourceError::unavailable)?;
        let response = sender.send_request(request).await.map_err(SourceError::unavailable)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        connection.abort();
        Ok((status, body.map_err(SourceError::unavailable)?.to_bytes()))
    }
}

fn json(request: &impl Serialize) -> Result<Option<Vec<u8>>, SourceError> {
    serde_json::to_vec(request).map(Some).map_err(SourceError::unavailable)
}

impl SvidSource for MarbleSource {
    async fn x509(&self, csr: &[u8]) -> Result<X509Answer, SourceError> {
        self.ask("/api/v3/svid/x509", json(&X509Request { csr: BASE64.encode(csr) })?).await
    }

    async fn jwt(&self, audiences: &[String]) -> Result<JwtAnswer, SourceError> {
        self.ask("/api/v3/svid/jwt", json(&JwtRequest { audiences: audiences.to_vec() })?).await
    }

    async fn bundle(&self) -> Result<BundleWire, SourceError> {
        self.ask("/api/v3/svid/bundle", None).await
    }
}
