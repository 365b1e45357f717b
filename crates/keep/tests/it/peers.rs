//! Outgoing requests: named peers only, mutual TLS, reused connections, and failures that say whose they are.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use keep::admission::Admission;
use tokio::net::{TcpListener, TcpStream};

use crate::{client::Client, pki::Root, poll, running::Running, workloads};

async fn probe(root: &Root, peers: &[(&str, String)]) -> (Running, Client) {
    let mut admission = Admission { marble: "probe".into(), ..Admission::default() };
    admission.peers.extend(peers.iter().map(|(name, address)| ((*name).to_owned(), address.clone())));
    let keep = Running::start(workloads::probe(), admission, root.public("probe")).await;
    let client = Client::to(&keep, root).await;
    (keep, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_no_named_peer_is_denied() {
    let root = Root::new();
    let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    outside.set_nonblocking(true).unwrap();
    let address = outside.local_addr().unwrap();
    let (_keep, mut client) = probe(&root, &[("tally", address.to_string())]).await;
    let destinations = [
        format!("http://{address}/"),
        format!("https://{address}/"),
        format!("http://tally:{}/", address.port()),
        "https://tally/".to_owned(),
        "http://localhost/".to_owned(),
        "http://tally.example/".to_owned(),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ];
    for url in destinations {
        // Also while the workload still sends its body: it must learn why, not just that writing failed.
        for way in ["fetch", "send"] {
            let answer = client.get(&format!("/{way}?url={url}")).await;
            assert!(answer.text.contains("HttpRequestDenied"), "{way} {url}: {}", answer.text);
        }
    }
    assert!(outside.accept().is_err(), "a connection was opened");
}

/// Hands connections on to `address`, and counts them.
async fn counted(address: SocketAddr, count: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut far = TcpStream::connect(address).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    here
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_peer_are_reused_until_the_credential_changes() {
    let root = Arc::new(Root::new());
    let tally = Running::start(workloads::tally(), poll::tally(None), root.mutual("tally", &root)).await;
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = counted(tally.address, Arc::clone(&opened)).await;
    let (keep, mut client) = probe(&root, &[("tally", counted.to_string())]).await;
    for _ in 0..5 {
        assert!(client.get("/fetch?url=http://tally/votes").await.text.contains("\"total\":0"));
    }
    assert_eq!(opened.load(Ordering::SeqCst), 1, "each request opened a connection");

    keep.identity.send_replace(Arc::new(root.public("probe")));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut client = Client::to(&keep, &root).await;
    assert!(client.get("/fetch?url=http://tally/votes").await.text.contains("\"total\":0"));
    assert_eq!(opened.load(Ordering::SeqCst), 2, "a connection outlived its credential");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_ends_its_connections_is_reached_again() {
    let root = Root::new();
    let tally = Running::start(workloads::tally(), poll::tally(None), root.mutual("tally", &root)).await;
    let (_keep, mut client) = probe(&root, &[("tally", tally.address.to_string())]).await;
    for _ in 0..3 {
        assert!(client.get("/fetch?url=http://tally/votes").await.text.contains("\"total\":0"));
        tally.identity.send_replace(Arc::new(root.mutual("tally", &root)));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// h2 ends a connection on which more than a hundred empty frames came, which is what guests write for no body.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_carries_any_number_of_empty_bodies() {
    let root = Root::new();
    let tally = Running::start(workloads::tally(), poll::tally(None), root.mutual("tally", &root)).await;
    let (_keep, mut client) = probe(&root, &[("tally", tally.address.to_string())]).await;
    for round in 0..250 {
        let answer = client.get("/fetch?url=http://tally/votes").await;
        assert!(answer.text.contains("\"total\":0"), "{round}: {}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_cannot_be_trusted_gets_no_request() {
    let (root, other) = (Root::new(), Root::new());
    let stranger = Running::start(workloads::tally(), poll::tally(None), other.mutual("tally", &root)).await;
    let (_keep, mut client) = probe(&root, &[("tally", stranger.address.to_string())]).await;
    let answer = client.get("/fetch?url=http://tally/votes").await;
    assert!(answer.text.contains("TlsCertificateError"), "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_refuses_us_is_told_apart_from_one_that_is_away() {
    let (root, other) = (Root::new(), Root::new());
    let strict = Running::start(workloads::tally(), poll::tally(None), root.mutual("strict", &other)).await;
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let peers = [("strict", strict.address.to_string()), ("away", away.to_string())];
    let (_keep, mut client) = probe(&root, &peers).await;
    for _ in 0..3 {
        let refused = client.get("/fetch?url=http://strict/votes").await;
        assert!(refused.text.contains("TlsProtocolError"), "{}", refused.text);
    }
    let away = client.get("/fetch?url=http://away/").await;
    assert!(away.text.contains("ConnectionRefused"), "{}", away.text);
    assert_eq!(away.status, StatusCode::OK);
}
