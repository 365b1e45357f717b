//! Bytes a second through a connection of a Keep, against tokio-rustls alone with the same peer, in each direction.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use attested_tls::clock;
use keep::net::{Net, STREAM};
use keep_config::KeepConfig;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::pki::Root;

const BYTES: usize = 256 << 20;
const CHUNK: usize = 64 << 10;
const ROUNDS: usize = 7;

pub async fn measure() {
    let root = Root::new();
    let (_identities, identity) = watch::channel(Arc::new(root.identity()));
    let text = "[[listen]]\nprot = \"tls\"\naddr = \"127.0.0.1\"\nport = 0";
    let config = KeepConfig::parse(text).expect("a configuration");
    let net = Net::new(&config, BTreeMap::new(), identity, clock::system()).expect("a network");
    let listener = net.listen(&config.listen[0], STREAM).expect("a port");
    let plain = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let acceptor = TlsAcceptor::from(root.server());
    let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    // In turns, so that whatever else the machine does falls on both.
    for _ in 0..ROUNDS {
        for inwards in [true, false] {
            let client = client(&root, listener.local_addr()).await;
            ours[usize::from(inwards)].push(run(listener.accept().await, client, inwards).await);
            let address = plain.local_addr().expect("an address");
            let accepting = async {
                let (stream, _) = plain.accept().await.expect("a connection");
                stream.set_nodelay(true).expect("a socket option");
                acceptor.accept(stream).await.expect("TLS")
            };
            let (server, client) = tokio::join!(accepting, self::client(&root, address));
            theirs[usize::from(inwards)].push(run(server, client, inwards).await);
        }
    }
    for (name, at) in [("into the Keep", 1), ("out of the Keep", 0)] {
        let (ours, theirs) = (rate(&mut ours[at]), rate(&mut theirs[at]));
        println!(
            "throughput {name:<37} {ours:>8.0} MiB/s   rustls alone {theirs:>8.0} MiB/s   ratio {:.2}",
            ours / theirs
        );
    }
}

async fn client(root: &Root, address: std::net::SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket option");
    let connector = TlsConnector::from(root.client(root, &[]));
    connector.connect(ServerName::from(address.ip()), stream).await.expect("TLS")
}

/// How long it takes to move [`BYTES`].
async fn run<S>(server: S, client: TlsStream<TcpStream>, inwards: bool) -> Duration
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let begun = Instant::now();
    let moved = if inwards {
        let sender = tokio::spawn(send(client));
        let moved = receive(server).await;
        drop(sender.await.expect("a sender"));
        moved
    } else {
        let sender = tokio::spawn(send(server));
        let moved = receive(client).await;
        drop(sender.await.expect("a sender"));
        moved
    };
    assert_eq!(moved, BYTES);
    begun.elapsed()
}

/// Returns the stream: closed before it is read to the end, it would be reset, for tickets of TLS that nobody read.
async fn send<S: AsyncWrite + Unpin>(mut stream: S) -> S {
    let chunk = vec![0x5a; CHUNK];
    for _ in 0..BYTES / CHUNK {
        stream.write_all(&chunk).await.expect("room");
    }
    stream.shutdown().await.expect("an end");
    stream
}

async fn receive(mut stream: impl AsyncRead + Unpin) -> usize {
    let (mut buffer, mut moved) = (vec![0; CHUNK], 0);
    loop {
        match stream.read(&mut buffer).await.expect("bytes") {
            0 => return moved,
            read => moved += read,
        }
    }
}

fn rate(durations: &mut [Duration]) -> f64 {
    durations.sort();
    (BYTES >> 20) as f64 / durations[durations.len() / 2].as_secs_f64()
}
