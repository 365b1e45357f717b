//! `wasi:sockets` 0.3.

use futures::future::join_all;
use wasip3::{
    sockets::{
        ip_name_lookup::resolve_addresses,
        types::{
            ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
        },
    },
    wit_bindgen::StreamResult,
    wit_stream,
};

use crate::{said, say};

type Answer = Result<String, String>;

pub async fn addresses(host: &str) -> Result<Vec<IpAddress>, String> {
    resolve_addresses(host.to_owned()).await.map_err(said)
}

async fn connect(host: &str, port: u16) -> Result<TcpSocket, String> {
    let known = addresses(host).await?;
    let address = known.into_iter().find_map(|address| match address {
        IpAddress::Ipv4(address) => Some(address),
        IpAddress::Ipv6(_) => None,
    });
    let address = address.ok_or("it has no address of IPv4")?;
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(said)?;
    socket.connect(IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address })).await.map_err(said)?;
    Ok(socket)
}

/// What comes back for a word, from there to the end.
pub async fn ask(host: &str, port: u16) -> Answer {
    let socket = connect(host, port).await?;
    let (mut sender, data) = wit_stream::new();
    let sent = socket.send(data);
    let (incoming, received) = socket.receive();
    sender.write_all(b"ping".to_vec()).await;
    drop(sender);
    let heard = incoming.collect().await;
    sent.await.map_err(said)?;
    received.await.map_err(said)?;
    Ok(String::from_utf8(heard).unwrap())
}

pub async fn halves_are_had_once(host: &str, port: u16) -> Answer {
    let socket = connect(host, port).await?;
    let (_first, _) = socket.receive();
    let (second, ended) = socket.receive();
    assert!(second.collect().await.is_empty());
    let receiving = ended.await;
    let (_first, data) = wit_stream::new();
    let _sending = socket.send(data);
    let (_second, data) = wit_stream::new();
    let sending = socket.send(data).await;
    Ok(format!("{receiving:?} {sending:?}"))
}

pub async fn dial(host: &str, port: u16) -> Answer {
    let mut open = Vec::new();
    loop {
        open.push(connect(host, port).await?);
    }
}

/// Sends clients back what they say, all of them at once.
pub async fn serve(port: u16, clients: u64) -> Answer {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(said)?;
    let local = Ipv4SocketAddress { port, address: (127, 0, 0, 1) };
    socket.bind(IpSocketAddress::Ipv4(local)).map_err(said)?;
    let mut incoming = socket.listen().map_err(said)?;
    assert!(socket.get_is_listening());
    let IpSocketAddress::Ipv4(local) = socket.get_local_address().map_err(said)? else { unreachable!() };
    say(&format!("{}\n", local.port)).await;
    let mut accepted = Vec::new();
    for _ in 0..clients {
        accepted.push(incoming.next().await.ok_or("nobody comes any more")?);
    }
    let heard = join_all(accepted.iter().map(echo)).await;
    let heard: Vec<String> = heard.into_iter().map(|heard| heard.map_or_else(said, said)).collect();
    Ok(heard.join(" "))
}

async fn echo(socket: &TcpSocket) -> Result<usize, ErrorCode> {
    socket.get_remote_address()?;
    let (mut incoming, received) = socket.receive();
    let (mut sender, data) = wit_stream::new();
    let sent = socket.send(data);
    let mut total = 0;
    loop {
        let (result, bytes) = incoming.read(Vec::with_capacity(4096)).await;
        total += bytes.len();
        if !bytes.is_empty() {
            sender.write_all(bytes).await;
        }
        if result == StreamResult::Dropped {
            break;
        }
    }
    drop(sender);
    sent.await?;
    received.await?;
    Ok(total)
}

pub fn listen_unbound() -> Answer {
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(said)?;
    socket.listen().map(|_| "listens".into()).map_err(said)
}

pub fn udp() -> Answer {
    UdpSocket::create(IpAddressFamily::Ipv4).map(|_| "a socket".into()).map_err(said)
}
