//! `wasi:sockets/tcp`: the states of one socket.

use std::{net::SocketAddr, sync::Arc};

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
    rules::{self, Bound, Family, Options, Zero},
    streams::{Input, Output},
};
use crate::net::{Connection, Listener, NetError, STREAM, Side};

type Result<T, E = SocketError> = std::result::Result<T, E>;
type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

/// A socket as the component sees it.
pub struct TcpSocket {
    family: Family,
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

impl TcpSocket {
    fn set<T: PartialEq + Default>(&mut self, value: T, place: fn(&mut Options) -> &mut T) -> Result<()> {
        self.options.set(value, place).map_err(|Zero| ErrorCode::InvalidArgument.into())
    }
}

/// What a component is told when there is no socket, or its end.
fn failed(error: &NetError) -> SocketError {
    match rules::failed(error) {
        Ok(()) => ErrorCode::from(error).into(),
        Err(exceeded) => SocketError::trap(exceeded),
    }
}

impl From<IpAddressFamily> for Family {
    fn from(family: IpAddressFamily) -> Self {
        match family {
            IpAddressFamily::Ipv4 => Self::V4,
            IpAddressFamily::Ipv6 => Self::V6,
        }
    }
}

impl tcp_create_socket::Host for Sockets<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> Result<Resource<TcpSocket>> {
        self.net()?;
        Ok(self.table.push(TcpSocket {
            family: family.into(),
            state: State::New,
            options: Options::default(),
        })?)
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
        let net = self.net()?.clone();
        let socket = self.table.get_mut(&this)?;
        match socket.state {
            State::New => {}
            State::Binding(_) | State::Starting(_) | State::Connecting(_) => {
                return Err(ErrorCode::ConcurrencyConflict.into());
            }
            _ => return Err(ErrorCode::InvalidState.into()),
        }
        if !socket.family.takes(local) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        socket.state = State::Binding(Bound::new(&net, local).ok_or(ErrorCode::AccessDenied)?);
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
        if !socket.family.reaches(remote) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let Some(to) = net.destination_at(remote) else {
            rules::refuse_to_connect();
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
            outcome => {
                socket.state = State::Closed;
                Err(outcome.and_then(Result::err).map_or(ErrorCode::Unknown.into(), |error| failed(&error)))
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
            rules::refuse_to_listen(0);
            return Err(ErrorCode::AccessDenied.into());
        };
        let listener = net.listen(&listen, STREAM).map_err(|error| failed(&error))?;
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
        Ok(socket.family.shows(address).into())
    }

    fn remote_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        let State::Connected { remote, .. } = &socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        Ok(socket.family.shows(*remote).into())
    }

    fn is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(matches!(self.table.get(&this)?.state, State::Listening(_)))
    }

    fn address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(match self.table.get(&this)?.family {
            Family::V4 => IpAddressFamily::Ipv4,
            Family::V6 => IpAddressFamily::Ipv6,
        })
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
