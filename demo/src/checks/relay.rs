//! A machine in the middle with a TLS key of its own: it hands every request on to the coordinator, and every
//! answer back, unchanged.

use std::{convert::Infallible, sync::Arc};

use anyhow::Result;
use attested_tls::{clock, key::TeeKey, service};
use bailey::{
    client::{Endpoint, raw},
    up::Up,
};
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

/// A running relay; it ends when dropped.
pub struct Relay {
    endpoint: Endpoint,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay to the coordinator of `up`.
    pub async fn start(up: &Up) -> Result<Self> {
        let key = TeeKey::generate()?;
        let config = service::server(vec![key.certificate().clone()], key.private_key(), clock::system())?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint = format!("https://localhost:{}", listener.local_addr()?.port()).parse()?;
        let behind = up.mesh.endpoint().clone();
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(config), Arc::new(behind)));
        Ok(Self { endpoint, task })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, behind: Arc<Endpoint>) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(stream) = acceptor.accept(stream).await else { continue };
        let behind = behind.clone();
        let relay = service_fn(move |request: Request<hyper::body::Incoming>| {
            let behind = behind.clone();
            async move {
                let path = request.uri().to_string();
                let answer = raw(&behind, &path, &clock::system()).await;
                let (status, body) = answer.unwrap_or((StatusCode::BAD_GATEWAY, Bytes::new()));
                let mut response = Response::new(Full::new(body));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), relay));
    }
}
