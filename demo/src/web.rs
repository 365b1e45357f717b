//! The page over HTTPS, as a browser without a window would use it: TLS to the coordinator's root, and plain
//! HTTP inside.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use attested_tls::{clock, service};
use bailey::up::{RunningKeep, Up};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, StatusCode, body::Bytes};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The Keep of a name.
pub fn keep<'a>(up: &'a Up, name: &str) -> Result<&'a RunningKeep> {
    up.keep(name).with_context(|| format!("the deployment has no Keep {name}"))
}

/// Votes once, and finds the vote counted.
pub async fn vote(up: &Up) -> Result<String> {
    let address = keep(up, "frontend")?.serving.address;
    let before = votes(up, address, "winter").await?;
    let answer = request(up, address, Method::POST, "/vote", "option=winter").await?;
    ensure!(answer.status() == StatusCode::SEE_OTHER, "voting was answered with {}", answer.status());
    let after = votes(up, address, "winter").await?;
    ensure!(after == before + 1, "the count went from {before} to {after}");
    Ok("a vote over HTTPS that chains to the pinned root is counted, through two attested Keeps".into())
}

/// The count of one option.
pub async fn votes(up: &Up, address: SocketAddr, option: &str) -> Result<u64> {
    let answer = request(up, address, Method::GET, "/results.json", "").await?;
    ensure!(answer.status() == StatusCode::OK, "the result was answered with {}", answer.status());
    let result: Value = serde_json::from_slice(answer.body())?;
    let counts = result["counts"].as_array().context("the result has no counts")?;
    let Some(count) = counts.iter().find(|count| count["option"] == option) else {
        bail!("no option {option}")
    };
    count["votes"].as_u64().context("a count is no number")
}

/// One request to a Keep that anyone may open.
pub async fn request(
    up: &Up,
    address: SocketAddr,
    method: Method,
    path: &str,
    body: &str,
) -> Result<Response<Bytes>> {
    let stream = connect(up, address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", format!("localhost:{}", address.port()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    driver.abort();
    Ok(Response::from_parts(parts, body))
}

/// TLS to a Keep, below the pinned root, without a client certificate.
pub async fn connect(up: &Up, address: SocketAddr) -> Result<TlsStream<TcpStream>> {
    let config = service::pinned_client(up.mesh.root(), None, clock::system())?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(TlsConnector::from(config).connect(ServerName::try_from("localhost")?, stream).await?)
}
