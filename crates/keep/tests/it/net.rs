//! Networks of Keeps on this machine, and connections to use them by.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use attested_tls::clock;
use keep::net::{Connection, Identity, Listener, Net, NetError, STREAM};
use keep_config::{KeepConfig, Listen};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tokio_rustls::client::TlsStream;

use crate::{client::handshake, pki::Root};

/// A network and the hold on its identity.
pub struct Network {
    pub net: Net,
    pub identity: watch::Sender<Arc<Identity>>,
}

/// The network of `config` with a certificate under `root`.
pub fn network(config: &str, root: &Root) -> Network {
    network_of(config, root.identity(), &[]).unwrap()
}

pub fn network_of(
    config: &str,
    identity: Identity,
    marbles: &[(&str, SocketAddr)],
) -> Result<Network, NetError> {
    let config = KeepConfig::parse(config).unwrap();
    let marbles: BTreeMap<String, String> =
        marbles.iter().map(|(name, address)| ((*name).to_owned(), address.to_string())).collect();
    let (identity, current) = watch::channel(Arc::new(identity));
    Ok(Network { net: Net::new(&config, marbles, current, clock::system())?, identity })
}

/// A listener on this machine, for `client` (as the configuration has it) over TLS, or over TCP.
pub fn listen(network: &Network, protection: &str) -> Listener {
    network.net.listen(&local(protection), STREAM).unwrap()
}

/// `[[listen]]` on any port of this machine.
pub fn local(protection: &str) -> Listen {
    let text = format!(
        "[[listen]]\naddr = \"127.0.0.1\"\nport = 0\n{protection}\n[roots]\ncallers = \"\"\"-----BEGIN CERTIFICATE-----\"\"\""
    );
    KeepConfig::parse(&text).unwrap().listen.remove(0)
}

pub const TLS: &str = "prot = \"tls\"";
pub const TCP: &str = "prot = \"tcp\"";

/// A connection as a Keep holds it, and its other end as anyone does.
pub async fn pair(root: &Root, network: &Network) -> (Connection, TlsStream<TcpStream>) {
    let listener = listen(network, TLS);
    let client = handshake(listener.local_addr(), root.client(root, &[])).await.unwrap();
    (within(listener.accept()).await, client)
}

/// What must happen, happens.
pub async fn within<T>(event: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), event).await.expect("nothing happened")
}

/// Reads until there are `length` bytes, the end, or a failure.
pub async fn read(connection: &Connection, length: usize) -> Result<Vec<u8>, keep::net::Broken> {
    let mut all = Vec::new();
    while all.len() < length {
        within(connection.readable()).await;
        let mut buffer = vec![0; length - all.len()];
        match connection.try_read(&mut buffer)? {
            None => {}
            Some(0) => break,
            Some(read) => all.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(all)
}

/// Writes all of it.
pub async fn write(connection: &Connection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        within(connection.writable()).await;
        bytes = &bytes[connection.try_write(bytes).unwrap().unwrap_or(0)..];
    }
}
