//! Requests that the coordinator makes, over HTTP: of telemetry, to where the host says. An answer is read only as far
//! as its status.

use std::{fmt, path::Path, str::FromStr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{Request, StatusCode, Uri, body::Bytes};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Whoever listens must not keep telemetry waiting for longer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An `http` or `https` URL without user and password, which libraries would log. Its path may still be a token, as
/// webhooks' are, so it is neither shown nor logged (S-44).
#[derive(Clone, PartialEq, Eq)]
pub struct Destination(Uri);

impl Destination {
    /// The URL with this behind its path.
    pub(super) fn below(&self, path: &str) -> String {
        format!("{}{path}", self.0.to_string().trim_end_matches('/'))
    }

    pub(super) fn uri(&self) -> Uri {
        self.0.clone()
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Destination")
    }
}

/// Not a URL that can be posted to.
#[derive(Debug, thiserror::Error)]
#[error("neither http://HOST… nor https://HOST…, without user and password")]
pub struct NotADestination;

impl FromStr for Destination {
    type Err = NotADestination;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| NotADestination)?;
        let http = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().is_some_and(|host| !host.is_empty());
        let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if http && host && !user { Ok(Self(uri)) } else { Err(NotADestination) }
    }
}

/// Why nothing could be sent.
#[derive(Debug, thiserror::Error)]
pub enum OutwardError {
    /// TLS settings.
    #[error("the TLS configuration is refused")]
    Tls(#[from] rustls::Error),
    /// The file of roots.
    #[error("there is no file of PEM certificates at the path for telemetry's roots")]
    Roots,
    /// No answer in time.
    #[error("no answer came in time")]
    Timeout,
    /// The connection.
    #[error("the connection failed")]
    Connection(#[from] hyper_util::client::legacy::Error),
}

/// A client for HTTP/1.1, over TLS where the URL says so.
#[derive(Clone)]
pub(super) struct Outward(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl fmt::Debug for Outward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outward")
    }
}

impl Outward {
    /// Servers are known by the web's roots, or by those of a PEM file and no others.
    pub(super) fn new(roots: Option<&Path>) -> Result<Self, OutwardError> {
        let mut store = RootCertStore::empty();
        match roots {
            None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let certificates = CertificateDer::pem_file_iter(path).map_err(|_| OutwardError::Roots)?;
                for certificate in certificates {
                    store.add(certificate.map_err(|_| OutwardError::Roots)?)?;
                }
                if store.is_empty() {
                    return Err(OutwardError::Roots);
                }
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Sends the request; its answer's status. What the answer says is not read.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<StatusCode, OutwardError> {
        let answer = tokio::time::timeout(TIMEOUT, self.0.request(request)).await;
        Ok(answer.map_err(|_| OutwardError::Timeout)??.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_urls_and_not_shown() {
        let collector: Destination = "http://127.0.0.1:4318/token/".parse().unwrap();
        assert_eq!(collector.below("/v1/traces"), "http://127.0.0.1:4318/token/v1/traces");
        assert!(!format!("{collector:?}").contains("token"));
        for wrong in
            ["", "collector:4318", "/path", "ftp://a", "https://", "https:///path", "https://user:word@a/"]
        {
            assert!(wrong.parse::<Destination>().is_err(), "{wrong}");
        }
    }
}
