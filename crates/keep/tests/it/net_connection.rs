//! A connection behaves like a plain socket, whatever protects it.

use std::{net::SocketAddr, time::Duration};

use keep::net::{Broken, Connection, Side};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    client::handshake,
    net::{TCP, TLS, listen, network, pair, read, within, write},
    pki::Root,
};

const LONG: Duration = Duration::from_millis(200);

async fn tcp_pair(root: &Root) -> (Connection, TcpStream) {
    let listener = listen(&network("", root), TCP);
    let client = TcpStream::connect(listener.local_addr()).await.unwrap();
    (within(listener.accept()).await, client)
}

#[tokio::test]
async fn nothing_there_is_not_the_end() {
    let root = Root::new();
    let network = network("", &root);
    let (tls, _client) = pair(&root, &network).await;
    let (tcp, _other) = tcp_pair(&root).await;
    for connection in [tls, tcp] {
        assert_eq!(connection.try_read(&mut [0; 8]), Ok(None));
        assert_eq!(connection.peek(&mut [0; 8]), Ok(None));
        assert_eq!(connection.available(), 0);
        assert!(timeout(LONG, connection.readable()).await.is_err(), "ready without anything to read");
    }
}

/// Enarx' polling looked at the TCP socket: what was decrypted already was invisible (enarx.md §3).
#[tokio::test]
async fn decrypted_bytes_are_seen_by_polling_and_counted() {
    let root = Root::new();
    let network = network("", &root);
    let (connection, mut client) = pair(&root, &network).await;
    client.write_all(b"0123456789").await.unwrap();
    within(connection.readable()).await;
    assert_eq!(connection.available(), 10);
    let mut two = [0; 2];
    assert_eq!(connection.try_read(&mut two), Ok(Some(2)));
    // The socket is empty now, and the rest is within TLS.
    within(connection.readable()).await;
    assert_eq!(connection.available(), 8);
    assert_eq!(read(&connection, 8).await.unwrap(), b"23456789");
    assert_eq!(connection.available(), 0);
}

#[tokio::test]
async fn peek_leaves_what_it_sees() {
    let root = Root::new();
    let network = network("", &root);
    let (tls, mut client) = pair(&root, &network).await;
    let (tcp, mut other) = tcp_pair(&root).await;
    // Two records, and two segments.
    for part in [b"abc", b"def"] {
        client.write_all(part).await.unwrap();
        other.write_all(part).await.unwrap();
    }
    for connection in [tls, tcp] {
        let mut seen = [0; 32];
        while connection.available() < 6 {
            tokio::task::yield_now().await;
        }
        for _ in 0..2 {
            assert_eq!(connection.peek(&mut seen), Ok(Some(6)));
            assert_eq!(&seen[..6], b"abcdef");
        }
        assert_eq!(connection.peek(&mut seen[..2]), Ok(Some(2)));
        assert_eq!(connection.available(), 6);
        within(connection.readable()).await;
        assert_eq!(read(&connection, 4).await.unwrap(), b"abcd");
        assert_eq!(connection.peek(&mut seen), Ok(Some(2)));
        assert_eq!(read(&connection, 2).await.unwrap(), b"ef");
        assert_eq!(connection.peek(&mut seen), Ok(None));
    }
}

#[tokio::test]
async fn a_shut_write_side_ends_the_stream_in_order_and_reading_goes_on() {
    let root = Root::new();
    let network = network("", &root);
    let (connection, mut client) = pair(&root, &network).await;
    write(&connection, b"last words").await;
    connection.shutdown(Side::Write);
    connection.shutdown(Side::Write);
    let mut heard = Vec::new();
    // rustls says UnexpectedEof where there was no close_notify.
    within(client.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"last words");
    // And the FIN came with it.
    let mut raw = [0; 1];
    assert_eq!(within(client.get_mut().0.read(&mut raw)).await.unwrap(), 0);
    assert_eq!(connection.try_write(b"more"), Err(Broken::Shut));
    client.write_all(b"still here").await.unwrap();
    assert_eq!(read(&connection, 10).await.unwrap(), b"still here");
}

#[tokio::test]
async fn the_peer_may_shut_its_side_and_be_written_to() {
    let root = Root::new();
    let network = network("", &root);
    let (connection, mut client) = pair(&root, &network).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read(&connection, 100).await.unwrap(), b"question");
    for _ in 0..2 {
        within(connection.readable()).await;
        assert_eq!(connection.try_read(&mut [0; 8]), Ok(Some(0)), "the end is the end each time");
    }
    write(&connection, b"answer").await;
    connection.shutdown(Side::Write);
    let mut heard = Vec::new();
    within(client.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"answer");
}

#[tokio::test]
async fn a_shut_read_side_says_the_end_and_writing_goes_on() {
    let root = Root::new();
    let network = network("", &root);
    let (connection, mut client) = pair(&root, &network).await;
    client.write_all(b"unheard").await.unwrap();
    within(connection.readable()).await;
    connection.shutdown(Side::Read);
    assert_eq!(connection.try_read(&mut [0; 8]), Ok(Some(0)));
    write(&connection, b"hello").await;
    let mut heard = [0; 5];
    within(client.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello");
}

/// Whoever is on the path can end TCP, and only the peer can end TLS.
#[tokio::test]
async fn a_stream_that_is_cut_off_is_no_end() {
    let root = Root::new();
    let network = network("", &root);
    let (connection, mut client) = pair(&root, &network).await;
    client.write_all(b"amount: 100").await.unwrap();
    client.flush().await.unwrap();
    let (mut tcp, _session) = client.into_inner();
    tcp.shutdown().await.unwrap();
    assert_eq!(read(&connection, 11).await.unwrap(), b"amount: 100");
    for _ in 0..2 {
        within(connection.readable()).await;
        assert_eq!(connection.try_read(&mut [0; 8]), Err(Broken::Truncated));
    }
    assert_eq!(Broken::Truncated.code(), "CONNECTION_TRUNCATED");
}

#[tokio::test]
async fn a_record_that_was_changed_breaks_the_connection() {
    let root = Root::new();
    let network = network("", &root);
    let (connection, client) = pair(&root, &network).await;
    let (mut tcp, _session) = client.into_inner();
    tcp.write_all(&[0x17, 0x03, 0x03, 0x00, 0x20]).await.unwrap();
    tcp.write_all(&[0xaa; 0x20]).await.unwrap();
    within(connection.readable()).await;
    let broken = connection.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(broken.code(), "CONNECTION_TLS_FAILED");
    assert!(connection.try_write(b"x").is_err());
}

/// The peer does not read: what is taken is bounded, and all of it arrives when it reads again.
#[tokio::test]
async fn back_pressure_reaches_the_writer() {
    let root = Root::new();
    let network = network("", &root);
    let (tls, mut client) = pair(&root, &network).await;
    let (tcp, mut other) = tcp_pair(&root).await;
    let chunk = vec![0x5a; 32 << 10];
    for (connection, client) in [
        (tls, &mut client as &mut (dyn tokio::io::AsyncRead + Unpin)),
        (tcp, &mut other as &mut (dyn tokio::io::AsyncRead + Unpin)),
    ] {
        let mut taken = 0;
        while timeout(LONG, connection.writable()).await.is_ok() {
            taken += connection.try_write(&chunk).unwrap().unwrap_or(0);
            assert!(taken < 64 << 20, "the peer does not read, and everything is taken");
        }
        assert_eq!(connection.try_write(&chunk), Ok(None));
        let mut heard = 0;
        let mut buffer = vec![0; 64 << 10];
        while heard < taken {
            heard += within(client.read(&mut buffer)).await.unwrap();
        }
        assert_eq!(heard, taken);
        within(connection.writable()).await;
    }
}

/// A kernel sends what it took, and so does this: nobody polls the connection, and all of it arrives.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_is_sent_without_another_call() {
    let root = Root::new();
    let network = network("", &root);
    let (connection, mut client) = pair(&root, &network).await;
    let chunk = vec![1; 64 << 10];
    let mut taken = 0;
    while connection.try_take(&chunk).unwrap() {
        taken += chunk.len();
    }
    assert!(!connection.try_flush().unwrap(), "the socket took everything, so this test shows nothing");
    let mut heard = vec![0; taken];
    within(client.read_exact(&mut heard)).await.unwrap();
    // The same for a connection that is dropped.
    while connection.try_take(&chunk).unwrap() {
        taken += chunk.len();
    }
    let left = taken - heard.len();
    drop(connection);
    let mut rest = Vec::new();
    within(client.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest.len(), left, "a dropped connection lost what was written, or its end");
}

#[tokio::test]
async fn large_transfers_arrive_whole_in_both_directions() {
    let root = Root::new();
    let network = network("", &root);
    let (connection, client) = pair(&root, &network).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let echo = tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(client);
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
    });
    let (mut heard, mut at, mut buffer) = (Vec::new(), 0, vec![0; 100_000]);
    while heard.len() < sent.len() {
        tokio::select! {
            () = connection.writable(), if at < sent.len() => {
                at += connection.try_write(&sent[at..]).unwrap().unwrap_or(0);
                if at == sent.len() {
                    connection.shutdown(Side::Write);
                }
            }
            () = connection.readable() => {
                let read = connection.try_read(&mut buffer).unwrap().unwrap_or(0);
                heard.extend_from_slice(&buffer[..read]);
            }
        }
    }
    assert!(heard == sent);
    within(echo).await.unwrap();
}

#[tokio::test]
async fn tls_is_1_3_with_the_hybrid_exchange_and_without_tickets() {
    let root = Root::new();
    let listener = listen(&network("", &root), TLS);
    let address: SocketAddr = listener.local_addr();
    let client = handshake(address, root.client(&root, &[])).await.unwrap();
    let session = client.get_ref().1;
    assert_eq!(session.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    let group = session.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    assert_eq!(session.tls13_tickets_received(), 0);
}
