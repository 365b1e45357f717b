//! `wasi:sockets/tcp`: the states of one socket.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use keep_config::Listen;
use tokio::{sync::oneshot, task::AbortHandle};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, Pollable, SocketError,
    bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Network},
    subscribe,
};

use super::{
    Sockets,
    bindings::{
        tcp::{Host, HostTcpSocket, ShutdownType},
        tcp_create_socket,
    },
    streams::{Input, Output},
};
use crate::net::{Connection, Listener, Net, NetError, STREAM, Side};

type Result<T, E = SocketError> = std::result::Result<T, E>;
type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

/// A socket as the component sees it.
pub struct TcpSocket {
    family: IpAddressFamily,
    state: State,
    options: Options,
}

enum State {
    New,
    /// `finish-bind` is due.
    Binding(Bound),
    Bound(Bound),
    /// `finish-listen` is due.
    Starting(Listener),
    Listening(Listener),
    Connecting(Connecting),
    /// `remote`: as the component named it.
    Connected {
        connection: Arc<Connection>,
        remote: SocketAddr,
    },
    Closed,
}

#[derive(Clone)]
struct Bound {
    /// As the component asked.
    local: SocketAddr,
    /// Where it may listen; `None`: this socket can only connect.
    listen: Option<Listen>,
}

struct Connecting {
    remote: SocketAddr,
    outcome: Option<Result<Connection, NetError>>,
    arrival: oneshot::Receiver<Result<Connection, NetError>>,
    task: AbortHandle,
}

impl Connecting {
    /// Waits until it is known how it went.
    async fn arrived(&mut self) {
        if !self.poll() {
            self.outcome = (&mut self.arrival).await.ok();
        }
    }

    fn poll(&mut self) -> bool {
        if self.outcome.is_none() {
            self.outcome = self.arrival.try_recv().ok();
        }
        self.outcome.is_some()
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a component may set on a socket. The Keep's own sockets have settings of their own; these are only remembered,
/// as if the kernel had rounded them.
struct Options {
    keep_alive: bool,
    idle: u64,
    interval: u64,
    count: u32,
    hops: u8,
    receive: u64,
    send: u64,
}

impl Default for Options {
    fn default() -> Self {
        const SECOND: u64 = 1_000_000_000;
        const BUFFER: u64 = 64 << 10;
        // The defaults of Linux.
        let (idle, interval, count) = (7200 * SECOND, 75 * SECOND, 9);
        Self { keep_alive: false, idle, interval, count, hops: 64, receive: BUFFER, send: BUFFER }
    }
}

impl TcpSocket {
    fn set<T: PartialEq + Default>(&mut self, value: T, place: fn(&mut Options) -> &mut T) -> Result<()> {
        if value == T::default() {
            return Err(ErrorCode::InvalidArgument.into());
        }
        *place(&mut self.options) = value;
        Ok(())
    }

    fn matches(&self, address: SocketAddr) -> bool {
        match (self.family, address) {
            (IpAddressFamily::Ipv4, SocketAddr::V4(_)) => true,
            (IpAddressFamily::Ipv6, SocketAddr::V6(address)) => address.ip().to_ipv4_mapped().is_none(),
            _ => false,
        }
    }
}

/// Where a component that asks for `local` listens, or `None` if the configuration does not let it. It may ask for less
/// than the configuration allows, and for everything, which is what the configuration allows.
fn listening(net: &Net, local: SocketAddr) -> Option<Listen> {
    let listen = net.listening_on(local.port())?;
    let addr = match (listen.addr, local.ip()) {
        (allowed, asked) if allowed.is_unspecified() => asked,
        (allowed, asked) if asked.is_unspecified() || allowed == asked => allowed,
        _ => return None,
    };
    Some(Listen { addr, ..listen.clone() })
}

/// What a component is told; the log has the rest.
fn told(error: &NetError) -> ErrorCode {
    use std::io::ErrorKind;
    match error {
        NetError::Listen { source, .. } => match source.kind() {
            ErrorKind::AddrInUse => ErrorCode::AddressInUse,
            ErrorKind::PermissionDenied => ErrorCode::AccessDenied,
            _ => ErrorCode::AddressNotBindable,
        },
        NetError::Unreachable { source, .. } if source.kind() == ErrorKind::ConnectionRefused => {
            ErrorCode::ConnectionRefused
        }
        NetError::Unreachable { .. } => ErrorCode::RemoteUnreachable,
        NetError::TimedOut { .. } => ErrorCode::Timeout,
        NetError::Handshake { .. } => ErrorCode::ConnectionAborted,
        NetError::TooMany(_) => ErrorCode::NewSocketLimit,
        _ => ErrorCode::AccessDenied,
    }
}

fn log(error: &NetError) -> ErrorCode {
    let reason = attested_tls::marble::handshake_refusal(error).1;
    tracing::warn!(code = error.code(), %error, reason, "the workload's socket failed");
    told(error)
}

impl tcp_create_socket::Host for Sockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> Result<Resource<TcpSocket>> {
        self.net()?;
        Ok(self.table.push(TcpSocket { family, state: State::New, options: Options::default() })?)
    }
}

impl Sockets<'_> {
    fn streams(&mut self, socket: &Resource<TcpSocket>, connection: Arc<Connection>) -> Result<Streams> {
        let input: DynInputStream = Box::new(Input::new(Arc::clone(&connection)));
        let output: DynOutputStream = Box::new(Output::new(connection));
        Ok((self.table.push_child(input, socket)?, self.table.push_child(output, socket)?))
    }
}

impl Host for Sockets<'_> {}

impl HostTcpSocket for Sockets<'_> {
    fn start_bind(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        local: IpSocketAddress,
    ) -> Result<()> {
        self.table.get(&network)?;
        let local = SocketAddr::from(local);
        let listen = listening(self.net()?, local);
        let socket = self.table.get_mut(&this)?;
        match socket.state {
            State::New => {}
            State::Binding(_) | State::Starting(_) | State::Connecting(_) => {
                return Err(ErrorCode::ConcurrencyConflict.into());
            }
            _ => return Err(ErrorCode::InvalidState.into()),
        }
        if !socket.matches(local) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        // Port 0 may also be the beginning of a connection.
        if listen.is_none() && local.port() != 0 {
            tracing::warn!(
                code = "LISTEN_NOT_ALLOWED",
                port = local.port(),
                "no [[listen]] entry has this port"
            );
            return Err(ErrorCode::AccessDenied.into());
        }
        socket.state = State::Binding(Bound { local, listen });
        Ok(())
    }

    fn finish_bind(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        let State::Binding(bound) = &socket.state else { return Err(ErrorCode::NotInProgress.into()) };
        socket.state = State::Bound(bound.clone());
        Ok(())
    }

    fn start_connect(
        &mut self,
        this: Resource<TcpSocket>,
        network: Resource<Network>,
        remote: IpSocketAddress,
    ) -> Result<()> {
        self.table.get(&network)?;
        let net = self.net()?.clone();
        let remote = SocketAddr::from(remote);
        let socket = self.table.get_mut(&this)?;
        match socket.state {
            State::New | State::Bound(_) => {}
            State::Binding(_) | State::Starting(_) | State::Connecting(_) => {
                return Err(ErrorCode::ConcurrencyConflict.into());
            }
            _ => return Err(ErrorCode::InvalidState.into()),
        }
        if !socket.matches(remote) || remote.ip().is_unspecified() || remote.port() == 0 {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let Some(to) = net.destination_at(remote) else {
            // The component chose it: what it says could be a secret, and stays here.
            tracing::warn!(
                code = "DESTINATION_NOT_ALLOWED",
                "the workload may reach what [[connect]] and peers list"
            );
            socket.state = State::Closed;
            return Err(ErrorCode::AccessDenied.into());
        };
        let (sender, arrival) = oneshot::channel();
        let task = tokio::spawn(async move {
            let connected = net.connect(&to, STREAM).await;
            // Nobody waits for it any more: it is closed.
            let _ = sender.send(connected);
        });
        let task = task.abort_handle();
        socket.state = State::Connecting(Connecting { remote, outcome: None, arrival, task });
        Ok(())
    }

    fn finish_connect(&mut self, this: Resource<TcpSocket>) -> Result<Streams> {
        let socket = self.table.get_mut(&this)?;
        let State::Connecting(connecting) = &mut socket.state else {
            return Err(ErrorCode::NotInProgress.into());
        };
        if !connecting.poll() {
            return Err(ErrorCode::WouldBlock.into());
        }
        let (remote, outcome) = (connecting.remote, connecting.outcome.take());
        match outcome {
            Some(Ok(connection)) => {
                let connection = Arc::new(connection);
                socket.state = State::Connected { connection: Arc::clone(&connection), remote };
                self.streams(&this, connection)
            }
            failed => {
                socket.state = State::Closed;
                let code = failed.and_then(Result::err).map_or(ErrorCode::Unknown, |error| log(&error));
                Err(code.into())
            }
        }
    }

    fn start_listen(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let net = self.net()?.clone();
        let socket = self.table.get_mut(&this)?;
        let listen = match &socket.state {
            State::Bound(Bound { listen, .. }) => listen.clone(),
            State::Binding(_) | State::Starting(_) | State::Connecting(_) => {
                return Err(ErrorCode::ConcurrencyConflict.into());
            }
            _ => return Err(ErrorCode::InvalidState.into()),
        };
        let Some(listen) = listen else {
            tracing::warn!(code = "LISTEN_NOT_ALLOWED", port = 0, "no [[listen]] entry has this port");
            return Err(ErrorCode::AccessDenied.into());
        };
        let listener = net.listen(&listen, STREAM).map_err(|error| log(&error))?;
        socket.state = State::Starting(listener);
        Ok(())
    }

    fn finish_listen(&mut self, this: Resource<TcpSocket>) -> Result<()> {
        let socket = self.table.get_mut(&this)?;
        match std::mem::replace(&mut socket.state, State::Closed) {
            State::Starting(listener) => {
                socket.state = State::Listening(listener);
                Ok(())
            }
            other => {
                socket.state = other;
                Err(ErrorCode::NotInProgress.into())
            }
        }
    }

    fn accept(
        &mut self,
        this: Resource<TcpSocket>,
    ) -> Result<(Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let socket = self.table.get_mut(&this)?;
        let State::Listening(listener) = &socket.state else { return Err(ErrorCode::InvalidState.into()) };
        let connection = Arc::new(listener.try_accept().ok_or(ErrorCode::WouldBlock)?);
        let (family, remote) = (socket.family, connection.peer_addr());
        let state = State::Connected { connection: Arc::clone(&connection), remote };
        let accepted = self.table.push(TcpSocket { family, state, options: Options::default() })?;
        let (input, output) = self.streams(&accepted, connection)?;
        Ok((accepted, input, output))
    }

    fn local_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        let address = match &socket.state {
            State::Bound(bound) => bound.local,
            State::Starting(listener) | State::Listening(listener) => listener.local_addr(),
            State::Connected { connection, .. } => connection.local_addr(),
            _ => return Err(ErrorCode::InvalidState.into()),
        };
        Ok(of_family(socket.family, address).into())
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        let State::Connected { remote, .. } = &socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        Ok(of_family(socket.family, *remote).into())
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(matches!(self.table.get(&this)?.state, State::Listening(_)))
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.table.get(&this)?.family)
    }

    /// The Keep's own backlog is what it is.
    fn set_listen_backlog_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        self.table.get(&this)?;
        if value == 0 { Err(ErrorCode::InvalidArgument.into()) } else { Ok(()) }
    }

    fn keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> Result<bool> {
        Ok(self.table.get(&this)?.options.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> Result<()> {
        self.table.get_mut(&this)?.options.keep_alive = value;
        Ok(())
    }

    fn keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        Ok(self.table.get(&this)?.options.idle)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.idle)
    }

    fn keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        Ok(self.table.get(&this)?.options.interval)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.interval)
    }

    fn keep_alive_count(&mut self, this: Resource<TcpSocket>) -> Result<u32> {
        Ok(self.table.get(&this)?.options.count)
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.count)
    }

    fn hop_limit(&mut self, this: Resource<TcpSocket>) -> Result<u8> {
        Ok(self.table.get(&this)?.options.hops)
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.hops)
    }

    fn receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        Ok(self.table.get(&this)?.options.receive)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.receive)
    }

    fn send_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        Ok(self.table.get(&this)?.options.send)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.send)
    }

    fn subscribe(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, this)
    }

    fn shutdown(&mut self, this: Resource<TcpSocket>, which: ShutdownType) -> Result<()> {
        let State::Connected { connection, .. } = &self.table.get(&this)?.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        connection.shutdown(match which {
            ShutdownType::Receive => Side::Read,
            ShutdownType::Send => Side::Write,
            ShutdownType::Both => Side::Both,
        });
        Ok(())
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

#[async_trait::async_trait]
impl Pollable for TcpSocket {
    async fn ready(&mut self) {
        match &mut self.state {
            State::Listening(listener) => listener.readable().await,
            State::Connecting(connecting) => connecting.arrived().await,
            _ => {}
        }
    }
}

/// A socket of one family never tells of the other's addresses: a listener of both families has clients of both.
fn of_family(family: IpAddressFamily, address: SocketAddr) -> SocketAddr {
    let ip = match (family, address.ip()) {
        (IpAddressFamily::Ipv4, IpAddr::V6(address)) => {
            address.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED).into()
        }
        (IpAddressFamily::Ipv6, IpAddr::V4(address)) if address.is_unspecified() => {
            Ipv6Addr::UNSPECIFIED.into()
        }
        (IpAddressFamily::Ipv6, IpAddr::V4(address)) => address.to_ipv6_mapped().into(),
        (_, ip) => ip,
    };
    SocketAddr::new(ip, address.port())
}
