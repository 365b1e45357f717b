//! Whoever connects costs its own connection only, and the workload accepts what is ready for use.

use std::{collections::BTreeSet, io::Write as _, sync::Arc, time::Duration};

use attested_tls::marble::{Access, Revoked};
use keep::net::{Broken, Identity};
use keep_config::Protection;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    client::handshake,
    net::{TCP, TLS, listen, local, network, network_of, read, within},
    pki::Root,
};

/// In Enarx one silent client held up all others, and seven bytes kept a core busy for ever (RUSTSEC-2024-0336).
#[tokio::test(flavor = "multi_thread")]
async fn hostile_clients_cost_their_own_connection_only() {
    let root = Root::new();
    let listener = listen(&network("", &root), TLS);
    let address = listener.local_addr();
    let mut held = Vec::new();
    let openings: [&[u8]; 5] = [
        b"",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        &[0x15, 0x03, 0x03, 0x00, 0x02, 0x01, 0x00],
        &[0x16, 0x03, 0x01, 0xff, 0xff],
        &[0x16, 0x03, 0x01, 0x00, 0x05, 0x01, 0x00, 0x00],
    ];
    for opening in openings.iter().cycle().take(40) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(opening).await.unwrap();
        held.push(stream);
    }
    let mut client = within(handshake(address, root.client(&root, &[]))).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    let connection = within(listener.accept()).await;
    assert_eq!(read(&connection, 5).await.unwrap(), b"hello");
    assert!(listener.try_accept().is_none(), "a connection without a handshake was accepted");
}

/// In TLS 1.3 a client may speak in the same packet in which its handshake ends. No socket announces that again.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_together_with_the_end_of_a_handshake_is_read() {
    let root = Root::new();
    let listener = listen(&network("", &root), TLS);
    let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
    let server = "localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(root.client(&root, &[]), server).unwrap();
    let mut flight = Vec::new();
    client.write_tls(&mut flight).unwrap();
    stream.write_all(&flight).await.unwrap();
    while client.is_handshaking() {
        let mut buffer = vec![0; 16 << 10];
        let count = within(stream.read(&mut buffer)).await.unwrap();
        client.read_tls(&mut &buffer[..count]).unwrap();
        client.process_new_packets().unwrap();
    }
    client.writer().write_all(b"hello").unwrap();
    client.send_close_notify();
    let mut flight = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut flight).unwrap();
    }
    stream.write_all(&flight).await.unwrap();
    let connection = within(listener.accept()).await;
    within(connection.readable()).await;
    assert_eq!(connection.available(), 5);
    assert_eq!(read(&connection, 5).await.unwrap(), b"hello");
    within(connection.readable()).await;
    assert_eq!(connection.try_read(&mut [0; 8]), Ok(Some(0)), "its end came with it too");
}

#[tokio::test]
async fn a_client_of_tls_1_2_is_told_and_not_accepted() {
    let root = Root::new();
    let listener = listen(&network("", &root), TLS);
    let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
    // A ClientHello of TLS 1.2: version, random, no session, two suites, no compression, no extensions.
    let mut hello = vec![0x03, 0x03];
    hello.extend([7; 32]);
    hello.extend([0x00, 0x00, 0x04, 0xc0, 0x2f, 0xc0, 0x2b, 0x01, 0x00]);
    let mut record =
        vec![0x16, 0x03, 0x01, 0x00, (hello.len() + 4) as u8, 0x01, 0x00, 0x00, hello.len() as u8];
    record.extend(hello);
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer.first(), Some(&0x15), "no alert came: {answer:?}");
    assert!(listener.try_accept().is_none());
}

/// More silent clients than there are places for handshakes: the oldest make room.
#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_by_the_hundred_keep_nobody_out() {
    let root = Root::new();
    let listener = listen(&network("", &root), TLS);
    let address = listener.local_addr();
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let _client = timeout(Duration::from_secs(5), handshake(address, root.client(&root, &[])))
        .await
        .expect("held up by silent clients")
        .unwrap();
    within(listener.accept()).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_ends() {
    let root = Root::new();
    let network = network("[limits]\nconnections = 2", &root);
    let listener = listen(&network, TCP);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(TcpStream::connect(listener.local_addr()).await.unwrap());
    }
    let first = within(listener.accept()).await;
    let _second = within(listener.accept()).await;
    assert!(timeout(Duration::from_millis(300), listener.accept()).await.is_err(), "the limit is exceeded");
    let to = keep_config::Connect {
        host: "127.0.0.1".into(),
        port: listener.local_addr().port(),
        protection: Protection::Tcp,
    };
    assert_eq!(network.net.connect(&to, keep::net::STREAM).await.unwrap_err().code(), "CONNECTION_LIMIT");
    drop(first);
    within(listener.accept()).await;
}

#[tokio::test]
async fn named_roots_decide_which_clients_come_in() {
    let (root, callers) = (Root::new(), Root::new());
    let config = format!("[roots]\ncallers = \"\"\"{}\"\"\"", callers.pem());
    let network = network(&config, &root);
    let listener = listen(&network, "prot = \"tls\"\nclient = \"callers\"");
    let address = listener.local_addr();
    let _known = handshake(address, callers.client(&root, &[])).await.unwrap();
    within(listener.accept()).await;
    // TLS 1.3: the client's handshake ends before the server has seen its certificate.
    let mut stranger = handshake(address, root.client(&root, &[])).await.unwrap();
    assert!(within(stranger.read_u8()).await.unwrap_err().to_string().contains("alert"));
    assert!(listener.try_accept().is_none());
}

fn peers(names: &[&str]) -> Access {
    Access::Peers(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>())
}

#[tokio::test]
async fn marbles_reach_each_other_by_name_and_strangers_do_not() {
    let root = Root::new();
    let server =
        Identity::marble(Arc::new(root.credential("tally", &root, Revoked::default())), peers(&["frontend"]));
    let server = network_of("", server, &[]).unwrap();
    let listener = listen(&server, "prot = \"tls\"\nclient = \"marbles\"");
    let address = listener.local_addr();
    let caller = |name: &str, calls: &str| {
        let identity =
            Identity::marble(Arc::new(root.credential(name, &root, Revoked::default())), Access::Public);
        let network = network_of("", identity, &[(calls, address)]).unwrap();
        let to = network.net.destination(calls, 80).unwrap();
        async move { network.net.connect(&to, keep::net::STREAM).await }
    };
    let connection = caller("frontend", "tally").await.unwrap();
    let accepted = within(listener.accept()).await;
    crate::net::write(&connection, b"hi").await;
    assert_eq!(read(&accepted, 2).await.unwrap(), b"hi");

    // Another Marble: it learns so when it reads.
    let refused = caller("stranger", "tally").await.unwrap();
    within(refused.readable()).await;
    assert_eq!(refused.try_read(&mut [0; 1]).unwrap_err().code(), "PEER_REFUSED_US");
    // The right address, and another Marble than the one asked for.
    assert_eq!(caller("frontend", "ledger").await.unwrap_err().code(), "PEER_WRONG_MARBLE");
    assert!(listener.try_accept().is_none());
}

#[tokio::test]
async fn a_peer_that_counts_no_more_loses_its_streams() {
    let root = Root::new();
    let credential = |revoked| Arc::new(root.credential("tally", &root, revoked));
    let identity = |revoked| Identity::marble(credential(revoked), peers(&["frontend"]));
    let server = network_of("", identity(Revoked::default()), &[]).unwrap();
    let listener = listen(&server, "prot = \"tls\"\nclient = \"marbles\"");
    let caller =
        Identity::marble(Arc::new(root.credential("frontend", &root, Revoked::default())), Access::Public);
    let caller = network_of("", caller, &[("tally", listener.local_addr())]).unwrap();
    let to = caller.net.destination("tally", 80).unwrap();
    let _connection = caller.net.connect(&to, keep::net::STREAM).await.unwrap();
    let accepted = within(listener.accept()).await;
    // A renewed certificate of the same identity ends nothing.
    server.identity.send_replace(Arc::new(identity(Revoked::default())));
    assert!(timeout(Duration::from_millis(200), accepted.readable()).await.is_err());
    server.identity.send_replace(Arc::new(identity(Revoked::new([vec![1, 2, 3]]))));
    within(accepted.readable()).await;
    assert_eq!(accepted.try_read(&mut [0; 1]), Err(Broken::Cut));
}

/// The manifest's word about who may call is not widened by a configuration.
#[tokio::test]
async fn a_listener_lets_in_no_more_than_the_manifest() {
    let root = Root::new();
    let identity =
        |access| Identity::marble(Arc::new(root.credential("tally", &root, Revoked::default())), access);
    let closed = network_of("", identity(peers(&["frontend"])), &[]).unwrap();
    let code = |network: &crate::net::Network, protection| {
        network.net.listen(&local(protection), keep::net::STREAM).unwrap_err().code()
    };
    assert_eq!(code(&closed, TCP), "LISTENER_TOO_OPEN");
    assert_eq!(code(&closed, "prot = \"tls\"\nclient = \"callers\""), "LISTENER_TOO_OPEN");
    let listener = listen(&closed, TLS);
    let mut anyone = handshake(listener.local_addr(), root.client(&root, &[])).await.unwrap();
    assert!(within(anyone.read_u8()).await.is_err());
    assert!(listener.try_accept().is_none());

    let public = network_of("", identity(Access::Public), &[]).unwrap();
    assert_eq!(code(&public, "prot = \"tls\"\nclient = \"marbles\""), "NO_MARBLE_NAMED");
    let alone = network("", &root);
    assert_eq!(code(&alone, "prot = \"tls\"\nclient = \"marbles\""), "NOT_A_MARBLE");
}

#[tokio::test]
async fn a_new_identity_is_shown_to_the_next_client() {
    let (old, new) = (Root::new(), Root::new());
    let network = network("", &old);
    let listener = listen(&network, TLS);
    handshake(listener.local_addr(), old.client(&old, &[])).await.unwrap();
    network.identity.send_replace(Arc::new(new.identity()));
    handshake(listener.local_addr(), old.client(&new, &[])).await.unwrap();
    assert!(handshake(listener.local_addr(), old.client(&old, &[])).await.is_err());
}

#[tokio::test]
async fn a_port_that_is_taken_is_said() {
    let root = Root::new();
    let network = network("", &root);
    let taken = listen(&network, TCP);
    let mut again = local(TCP);
    again.port = taken.local_addr().port();
    let error = network.net.listen(&again, keep::net::STREAM).unwrap_err();
    assert_eq!(error.code(), "LISTEN_FAILED");
    drop(taken);
}

/// What speaks no TLS 1.3 is not spoken with.
#[tokio::test]
async fn an_outdated_server_is_no_server() {
    let root = Root::new();
    let raw = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = raw.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = raw.accept().await.unwrap();
            // ServerHello of TLS 1.2, as far as anyone would read it.
            let _ = stream.write_all(&[0x16, 0x03, 0x03, 0x00, 0x04, 0x02, 0x00, 0x00, 0x00]).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let config = format!(
        "[roots]\nours = \"\"\"{}\"\"\"\n[[connect]]\nprot = \"tls\"\nhost = \"localhost\"\nport = {port}\nroots = \"ours\"",
        root.pem()
    );
    let network = network(&config, &root);
    let to = network.net.destination("localhost", port).unwrap();
    let error = within(network.net.connect(&to, keep::net::STREAM)).await.unwrap_err();
    assert_eq!(error.code(), "HANDSHAKE_FAILED");
}
