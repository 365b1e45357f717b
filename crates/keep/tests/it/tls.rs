//! The listener: slow and silent clients, renewed certificates, orderly ends.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use keep::admission::{Admission, Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    client::{Client, handshake},
    pki::Root,
    running::Running,
    workloads,
};

async fn keep(root: &Root, limits: Limits) -> Running {
    let admission = Admission { marble: "probe".into(), limits, ..Admission::default() };
    Running::start(workloads::probe(), admission, root.public("probe")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_do_not_block_the_others() {
    let root = Root::new();
    let keep = keep(&root, Limits::default()).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(keep.address).await.unwrap());
    }
    let begun = Instant::now();
    assert_eq!(Client::to(&keep, &root).await.get("/").await.text, "hello");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());

    // None of them is kept for ever.
    let ended = timeout(Duration::from_secs(15), silent[0].read_u8()).await;
    assert!(ended.expect("a client without a handshake was kept").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_answered_with_a_client_error() {
    let root = Root::new();
    let keep = keep(&root, Limits::default()).await;
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    let requests = [
        ("GET / HTTP/1.0\r\n\r\n", "REQUEST_MALFORMED"),
        ("no request at all\r\n\r\n", "400"),
        (head.as_str(), "431"),
    ];
    for (request, expected) in requests {
        let mut stream = handshake(keep.address, root.client(&root, &[b"http/1.1"])).await.unwrap();
        // The answer may come before all of a long request was taken.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.") && answer.contains(expected), "{expected}: {answer}");
    }
    assert_eq!(Client::to(&keep, &root).await.get("/").await.text, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_limited_and_places_come_back() {
    let root = Root::new();
    let keep = keep(&root, Limits { max_connections: 2, ..Limits::default() }).await;
    let tls = root.client(&root, &[b"http/1.1"]);
    let address = keep.address;
    // Whoever was answered has a place; with a handshake alone another may yet overtake it.
    let mut first = Client::connect(address, tls.clone()).await.unwrap();
    let mut second = Client::connect(address, tls.clone()).await.unwrap();
    for client in [&mut first, &mut second] {
        assert_eq!(client.get("/").await.text, "hello");
    }
    let third = tokio::spawn(async move { Client::connect(address, tls).await.unwrap().get("/").await.text });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!third.is_finished(), "there was a third place");
    drop(first);
    assert_eq!(timeout(Duration::from_secs(5), third).await.unwrap().unwrap(), "hello");
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_used_at_once_and_old_connections_end() {
    let root = Root::new();
    let keep = keep(&root, Limits::default()).await;
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        let tls = root.client(&root, &[alpn]);
        let mut before = Client::connect(keep.address, tls.clone()).await.unwrap();
        assert_eq!(before.get("/").await.text, "hello");

        // A request in work is answered over the old connection.
        let long = tokio::spawn(async move { (before.get("/sleep?ms=500").await, before) });
        tokio::time::sleep(Duration::from_millis(100)).await;
        keep.identity.send_replace(Arc::new(root.public("probe")));
        let mut after = Client::connect(keep.address, tls).await.unwrap();
        assert_eq!(after.get("/").await.text, "hello");
        let (answer, before) = long.await.unwrap();
        assert_eq!(answer.text, "slept");
        assert_ne!(before.certificate, after.certificate);
        timeout(Duration::from_secs(5), before.connection)
            .await
            .expect("an old connection lived on")
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_work_end_before_the_keep_does() {
    let root = Root::new();
    let keep = keep(&root, Limits::default()).await;
    let address = keep.address;
    let mut client = Client::to(&keep, &root).await;
    let long = tokio::spawn(async move { client.get("/sleep?ms=800").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    keep.stop().await;
    assert_eq!(long.await.unwrap().text, "slept");
    assert!(reached(address).await.is_err(), "the Keep still listens");
}

async fn reached(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(address).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_certificate_is_refused_and_told_why() {
    let (root, other) = (Root::new(), Root::new());
    let admission = Admission { marble: "probe".into(), ..Admission::default() };
    let keep = Running::start(workloads::probe(), admission, root.mutual("probe", &root)).await;
    // TLS 1.3: the client's handshake ends before the server has seen its certificate.
    let mut stream = handshake(keep.address, other.client(&root, &[b"h2"])).await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    assert!(error.to_string().contains("alert"), "{error}");
}
