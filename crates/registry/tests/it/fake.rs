//! A server that answers what a test says, byte for byte, with or without TLS, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use registry::Security;
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// From the head of a request to the bytes of the answer.
pub type Answers = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

pub struct Fake {
    /// `localhost:PORT`.
    pub host: String,
    /// The heads of requests.
    pub asked: Arc<Mutex<Vec<String>>>,
}

/// A certificate for `localhost`, and what knows it.
pub struct Certified {
    server: Arc<ServerConfig>,
    pub root: Vec<u8>,
}

impl Certified {
    pub fn new() -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let chain = vec![certified.cert.der().clone()];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .unwrap();
        Self { server: Arc::new(server), root: certified.cert.der().to_vec() }
    }

    pub fn security(&self) -> Security {
        Security::roots([self.root.clone()], crate::world::clock()).unwrap()
    }
}

impl Fake {
    pub async fn start(
        tls: Option<&Certified>,
        answers: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let (answers, asked): (Answers, Arc<Mutex<Vec<String>>>) = (Arc::new(answers), Arc::default());
        let acceptor = tls.map(|tls| TlsAcceptor::from(tls.server.clone()));
        let heads = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, heads, acceptor) = (answers.clone(), heads.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, answers, heads).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, answers, heads).await;
                            }
                        }
                    }
                });
            }
        });
        Self { host, asked }
    }

    /// Whether anybody sent credentials.
    pub fn was_given_credentials(&self) -> bool {
        self.asked.lock().unwrap().iter().any(|head| head.to_ascii_lowercase().contains("authorization:"))
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: Answers,
    heads: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(1) => head.extend_from_slice(&byte),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let answer = answers(&head);
    heads.lock().unwrap().push(head);
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
    // What the client still sends is taken, so that it reads the answer.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

pub fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub fn ok(body: &[u8]) -> Vec<u8> {
    answer("200 OK", "", body)
}

pub fn missing() -> Vec<u8> {
    answer("404 Not Found", "", b"")
}
