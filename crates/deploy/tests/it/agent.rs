//! A host agent with a mind of its own: it speaks the API, and does to the channel what it likes.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use deploy::{Access, Host};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use keep_protocol::{
    Message,
    host::{Backend, BackendKind, HostInfo, Lease, NewKeep, Platform, Tee, UPGRADE},
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use testkit::tee::NOW;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub const TEE: Tee = Tee { emulated: false, platform: Platform::Snp };

type Relay = Arc<
    dyn Fn(TokioIo<hyper::upgrade::Upgraded>, SocketAddr) -> Pin<Box<dyn Future<Output = ()> + Send>>
        + Send
        + Sync,
>;

/// What the agent answers with, and what it does.
#[derive(Clone)]
pub struct Agent {
    /// The Keep that it leads to.
    pub keep: SocketAddr,
    /// What it does with the channel.
    pub relay: Relay,
    /// Bytes in the place of an answer to a path.
    pub instead: Option<(&'static str, StatusCode, Vec<u8>)>,
    /// What it was asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
}

/// Forwards every byte.
pub async fn honest(mut client: TokioIo<hyper::upgrade::Upgraded>, keep: SocketAddr) {
    let mut keep = TcpStream::connect(keep).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut keep).await;
}

impl Agent {
    pub fn of(keep: SocketAddr) -> Self {
        Self {
            keep,
            relay: Arc::new(|client, keep| Box::pin(honest(client, keep))),
            instead: None,
            asked: Arc::default(),
        }
    }

    /// Serves the API, and gives a client of it.
    pub async fn serve(self) -> Host {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["nobody.example".into()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, agent) = (acceptor.clone(), self.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let agent = agent.clone();
                        async move { Ok::<_, Infallible>(agent.answer(request).await) }
                    });
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        let endpoint = format!("https://localhost:{port}").parse().unwrap();
        Host::new(endpoint, Access::Anyone, attested_tls::clock::fixed(NOW))
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        self.asked.lock().unwrap().push(format!("{} {path}", request.method()));
        if let Some((at, status, bytes)) = self.instead.clone().filter(|(at, ..)| *at == path) {
            assert_eq!(at, path);
            return body(status, bytes);
        }
        match path.as_str() {
            "/v1" => body(StatusCode::OK, info().to_bytes()),
            "/v1/keeps" => {
                let wanted = request.into_body().collect().await.unwrap().to_bytes();
                NewKeep::from_bytes(&wanted).unwrap();
                body(StatusCode::OK, lease().to_bytes())
            }
            _ => {
                assert_eq!(request.headers()[header::UPGRADE], UPGRADE);
                tokio::spawn(async move {
                    let client = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                    (self.relay)(client, self.keep).await;
                });
                let mut response = body(StatusCode::SWITCHING_PROTOCOLS, Vec::new());
                response.headers_mut().insert(header::UPGRADE, UPGRADE.parse().unwrap());
                response.headers_mut().insert(header::CONNECTION, "upgrade".parse().unwrap());
                response
            }
        }
    }
}

pub fn info() -> HostInfo {
    let backend = Backend { tee: TEE, free: 1, kind: BackendKind::Snp, warm: 1, product: "Milan".into() };
    HostInfo {
        agent: "agent of the test".into(),
        backends: vec![backend],
        draining: false,
        versions: vec![1],
    }
}

pub fn lease() -> Lease {
    Lease { id: "0f".repeat(16), tee: TEE, kind: BackendKind::Snp, warm: true, ttl_ms: 1000 }
}

fn body(status: StatusCode, bytes: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(bytes.into()));
    *response.status_mut() = status;
    response
}
