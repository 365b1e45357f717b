//! The one door to the network: GET over HTTP/1.1, with TLS by rustls. Redirects are not followed, nothing is
//! decompressed, and no answer is read beyond its limit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};

use crate::{Cause, Config, PlainHttp};

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The proxy's address.
    #[error("the proxy's address {0:?} is not of the form http://host:port")]
    Proxy(String),
    /// A root for the services' TLS.
    #[error("a root for the services' TLS cannot be used: {0}")]
    Root(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

pub(crate) struct Response {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) struct Http {
    client: Connection,
    plain_http: PlainHttp,
}

enum Connection {
    Direct(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>),
    Proxied(Client<HttpsConnector<Tunnel<HttpConnector>>, Empty<Bytes>>),
}

impl Http {
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        let tls = tls(config)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        // Retries are ours alone, and counted. Headers carry certificate chains of about 5 KiB.
        builder.retry_canceled_requests(false).http1_max_headers(100).http1_max_buf_size(64 * 1024);
        let client = match &config.proxy {
            None => Connection::Direct(
                builder.build(
                    HttpsConnectorBuilder::new()
                        .with_tls_config(tls)
                        .https_or_http()
                        .enable_http1()
                        .wrap_connector(tcp),
                ),
            ),
            Some(address) => {
                let proxy = address.parse().ok().filter(is_proxy);
                let proxy = proxy.ok_or_else(|| ConfigError::Proxy(address.clone()))?;
                Connection::Proxied(
                    builder.build(
                        HttpsConnectorBuilder::new()
                            .with_tls_config(tls)
                            .https_or_http()
                            .enable_http1()
                            .wrap_connector(Tunnel::new(proxy, tcp)),
                    ),
                )
            }
        };
        Ok(Self { client, plain_http: config.plain_http })
    }

    /// One try: a body of at most `limit` bytes, of status 200.
    pub(crate) async fn get(&self, address: &str, limit: usize) -> Result<Response, Cause> {
        let uri = self.allowed(address)?;
        let request = Request::get(uri)
            .header(header::ACCEPT, "*/*")
            .header(header::USER_AGENT, concat!("bailey/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|_| Cause::Address(address.to_owned()))?;
        let answer = match &self.client {
            Connection::Direct(client) => client.request(request).await,
            Connection::Proxied(client) => client.request(request).await,
        };
        let (head, body) = answer.map_err(|error| Cause::Unreachable(innermost(&error)))?.into_parts();
        match head.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(Cause::NotFound),
            StatusCode::TOO_MANY_REQUESTS => return Err(Cause::RateLimited(retry_after(&head.headers))),
            other => return Err(Cause::Status(other.as_u16())),
        }
        let encoding = head.headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
        if let Some(encoding) = encoding.filter(|value| !value.eq_ignore_ascii_case(b"identity")) {
            return Err(Cause::Encoded(String::from_utf8_lossy(encoding).chars().take(40).collect()));
        }
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            match error.downcast_ref::<LengthLimitError>() {
                Some(_) => Cause::TooLarge(limit),
                None => Cause::Unreachable(innermost(error.as_ref())),
            }
        })?;
        Ok(Response { headers: head.headers, body: body.to_bytes() })
    }

    fn allowed(&self, address: &str) -> Result<Uri, Cause> {
        let refused = || Cause::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| refused())?;
        let host = uri.host().ok_or_else(refused)?;
        match uri.scheme_str() {
            Some("https") => Ok(uri),
            Some("http") if self.plain_http == PlainHttp::Allowed || is_loopback(host) => Ok(uri),
            _ => Err(refused()),
        }
    }
}

fn is_proxy(uri: &Uri) -> bool {
    uri.scheme_str() == Some("http") && uri.host().is_some() && uri.path().len() <= 1
}

/// Names are not resolved for that: `localhost` is what RFC 6761, §6.3 says it is.
fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Ordinary web TLS: the answers are signed, so this keeps honest what is asked, not what is believed. TLS 1.2 is
/// what some of these services and many PCCS still speak.
fn tls(config: &Config) -> Result<ClientConfig, ConfigError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in &config.tls_roots {
        let der = rustls::pki_types::CertificateDer::from(root.0.clone());
        roots.add(der).map_err(|error| ConfigError::Root(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| ConfigError::Tls(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Retry-After (RFC 9110, §10.2.3): seconds, or a date, which is compared with the answer's own.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let after = text(header::RETRY_AFTER)?.trim();
    if let Ok(seconds) = after.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let until = httpdate::parse_http_date(after).ok()?;
    let date = httpdate::parse_http_date(text(header::DATE)?).ok()?;
    Some(until.duration_since(date).unwrap_or_default())
}

/// The error at the bottom: those above it say only that there was one.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_unless_allowed() {
        let http = |plain_http| Http::new(&Config { plain_http, ..Config::default() }).unwrap();
        let strict = http(PlainHttp::LoopbackOnly);
        for allowed in
            ["https://pcs.example/x", "http://127.0.0.1:8081/x", "http://[::1]/x", "http://localhost/x"]
        {
            assert!(strict.allowed(allowed).is_ok(), "{allowed}");
        }
        for refused in
            ["http://10.0.0.1/", "http://localhost.example/", "ftp://127.0.0.1/", "file:///etc", "x", ""]
        {
            assert!(strict.allowed(refused).is_err(), "{refused}");
        }
        assert!(http(PlainHttp::Allowed).allowed("http://pccs.example:8081/x").is_ok());
    }

    #[test]
    fn a_proxy_is_an_http_address() {
        let with = |proxy: &str| Http::new(&Config { proxy: Some(proxy.into()), ..Config::default() });
        assert!(with("http://proxy.example:3128").is_ok());
        for refused in ["https://proxy.example", "proxy.example:3128", "http://proxy.example/path", ""] {
            assert!(with(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |after: &'static str, date: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, after.parse().unwrap());
            date.map(|date| headers.insert(header::DATE, date.parse().unwrap()));
            retry_after(&headers)
        };
        assert_eq!(read("7", None), Some(Duration::from_secs(7)));
        let date = Some("Sat, 21 Nov 2026 07:00:00 GMT");
        assert_eq!(read("Sat, 21 Nov 2026 07:00:09 GMT", date), Some(Duration::from_secs(9)));
        assert_eq!(read("Sat, 21 Nov 2026 06:00:00 GMT", date), Some(Duration::ZERO));
        for nonsense in ["-1", "99999999999999999999", "soon"] {
            assert_eq!(read(nonsense, date), None, "{nonsense}");
        }
    }
}
