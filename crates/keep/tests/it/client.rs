//! A plain HTTPS client, one connection for each `Client`.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{pki::Root, running::Running};

pub type Body = BoxBody<Bytes, std::io::Error>;

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

pub struct Client {
    sender: Sender,
    pub connection: JoinHandle<()>,
    pub certificate: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The Keep's own code, if the Keep answered.
    pub fn code(&self) -> Option<&str> {
        self.headers.get(keep::http::CODE_HEADER).map(|code| code.to_str().unwrap())
    }
}

pub async fn handshake(address: SocketAddr, tls: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(tls).connect(ServerName::from(address.ip()), tcp).await
}

impl Client {
    pub async fn connect(address: SocketAddr, tls: Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = handshake(address, tls).await?;
        let session = stream.get_ref().1;
        let h2 = session.alpn_protocol() == Some(b"h2");
        let certificate = session.peer_certificates().unwrap()[0].to_vec();
        let io = TokioIo::new(stream);
        let (sender, connection) = if h2 {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.map_err(std::io::Error::other)?;
            (Sender::Http2(sender), tokio::spawn(async { connection.await.unwrap_or(()) }))
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(std::io::Error::other)?;
            (Sender::Http1(sender), tokio::spawn(async { connection.await.unwrap_or(()) }))
        };
        Ok(Self { sender, connection, certificate })
    }

    /// HTTP/1.1 to a Keep whose certificate is under `root`.
    pub async fn to(keep: &Running, root: &Root) -> Self {
        Self::connect(keep.address, root.client(root, &[b"http/1.1"])).await.unwrap()
    }

    pub async fn send(&mut self, request: Request<Body>) -> Result<Answer, hyper::Error> {
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Ok(Answer { status: parts.status, headers: parts.headers, text })
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(request(Method::GET, path, "")).await.unwrap()
    }

    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(request(Method::POST, path, body)).await.unwrap()
    }
}

pub fn request(method: Method, path: &str, body: impl Into<Bytes>) -> Request<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed();
    Request::builder()
        .method(method)
        .uri(format!("https://keep.test{path}"))
        .header("host", "keep.test")
        .body(body)
        .unwrap()
}
