//! `wasi:sockets` 0.2: a component written for plain sockets speaks TLS, and reaches what its configuration lists.

use std::{net::SocketAddr, sync::Arc};

use keep::admission::Admission;
use testkit::port::free;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{client::Client, client::handshake, net::within, pki::Root, running::Running, workloads};

/// Sends back what comes, over TLS as `localhost`. `cut`: ends TCP where TLS's end would be.
pub async fn echo(root: &Root, cut: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(root.server());
    tokio::spawn(async move {
        loop {
            let Ok(mut stream) = acceptor.accept(listener.accept().await.unwrap().0).await else { continue };
            let mut heard = Vec::new();
            if stream.read_to_end(&mut heard).await.is_ok() {
                stream.write_all(&heard).await.unwrap();
                stream.flush().await.unwrap();
            }
            let _ = if cut { stream.get_mut().0.shutdown().await } else { stream.shutdown().await };
        }
    });
    address
}

async fn probe(root: &Root, config: &str) -> Running {
    let admission = Admission { marble: "probe".into(), ..Admission::default() };
    Running::configured(config, workloads::probe(), admission, root.public("probe"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_connects_by_name_over_tls_that_it_does_not_see() {
    let root = Arc::new(Root::new());
    let (port, cut) = (echo(&root, false).await.port(), echo(&root, true).await.port());
    let entry = |port, prot| format!("[[connect]]\nhost = \"localhost\"\nport = {port}\nprot = {prot}\n");
    let ours = "\"tls\"\nroots = \"ours\"";
    let config =
        format!("{}{}[roots]\nours = \"\"\"{}\"\"\"", entry(port, ours), entry(cut, ours), root.pem());
    let keep = probe(&root, &config).await;
    let mut client = Client::to(&keep, &root).await;
    let answer = within(client.get(&format!("/echo?p=localhost:{port}"))).await.text;
    assert_eq!(answer, "\"ping\"");
    // Cut off is not the end.
    let answer = within(client.get(&format!("/echo?p=localhost:{cut}"))).await.text;
    assert!(answer.starts_with("error "), "{answer}");
    // What is not listed: another port, another name, the address behind the name.
    for unlisted in [format!("localhost:{}", free()), format!("127.0.0.1:{port}"), "example.com:443".into()] {
        let answer = within(client.get(&format!("/echo?p={unlisted}"))).await.text;
        assert!(answer.starts_with("error "), "{unlisted}: {answer}");
    }
    // A server that is not below the roots.
    let web = probe(&root, &entry(port, "\"tls\"")).await;
    let answer = within(Client::to(&web, &root).await.get(&format!("/echo?p=localhost:{port}"))).await.text;
    assert!(answer.starts_with("error "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_listens_where_it_may_over_tls_that_it_does_not_see() {
    let root = Root::new();
    let (tls, tcp, other) = (free(), free(), free());
    let config =
        format!("[[listen]]\nprot = \"tls\"\nport = {tls}\n[[listen]]\nprot = \"tcp\"\nport = {tcp}\n");
    let keep = probe(&root, &config).await;
    for (port, secured) in [(tls, true), (tcp, false)] {
        let mut asking = Client::to(&keep, &root).await;
        let serving =
            tokio::spawn(async move { asking.get(&format!("/serve?p=127.0.0.1:{port}")).await.text });
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut heard = Vec::new();
        let tcp = within(async {
            loop {
                if let Ok(stream) = TcpStream::connect(address).await {
                    return stream;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
        if secured {
            // The first connection was only to know that it listens; it says nothing, and costs nothing.
            drop(tcp);
            let mut stream = within(handshake(address, root.client(&root, &[]))).await.unwrap();
            stream.write_all(b"hello over TLS").await.unwrap();
            stream.shutdown().await.unwrap();
            within(stream.read_to_end(&mut heard)).await.unwrap();
            assert_eq!(heard, b"hello over TLS");
        } else {
            let mut stream = tcp;
            stream.write_all(b"hello over TCP").await.unwrap();
            stream.shutdown().await.unwrap();
            within(stream.read_to_end(&mut heard)).await.unwrap();
            assert_eq!(heard, b"hello over TCP");
        }
        assert_eq!(within(serving).await.unwrap(), "14");
    }
    let mut client = Client::to(&keep, &root).await;
    let answer = client.get(&format!("/listen?p=127.0.0.1:{other}")).await.text;
    assert!(answer.starts_with("error "), "{answer}");
}

/// There is no DTLS here, and without it whatever is sent would be the host's to read.
#[tokio::test(flavor = "multi_thread")]
async fn udp_is_refused() {
    let root = Root::new();
    let keep = probe(&root, "").await;
    let answer = Client::to(&keep, &root).await.get("/udp?p=127.0.0.1:0").await.text;
    assert!(answer.starts_with("error Unsupported"), "{answer}");
}
