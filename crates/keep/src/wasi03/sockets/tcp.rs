//! `tcp-socket` of 0.3: the states of one socket. A connection's two halves are streams, each of which is had once.

use std::{iter, net::SocketAddr, sync::Arc};

use keep_config::Connect;
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};

use super::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Result,
    streams::{Incoming, Receiving, Sending},
    types::{HostTcpSocket, HostTcpSocketWithStore},
};
use crate::{
    net::{Connection, Listener, Net, STREAM},
    sockets::{
        HasSockets, Sockets,
        rules::{self, Bound, Family, Options, Zero},
    },
    wasi03::End,
};

type Ended = FutureReader<std::result::Result<(), ErrorCode>>;

/// A socket as the component sees it.
pub struct TcpSocket {
    family: Family,
    state: State,
    options: Options,
}

enum State {
    New,
    Bound(Bound),
    Connecting,
    /// Where; the stream of what comes in has the listener.
    Listening(SocketAddr),
    Connected(Connected),
    Closed,
}

struct Connected {
    connection: Arc<Connection>,
    /// As the component named it.
    remote: SocketAddr,
    sends: bool,
    receives: bool,
}

impl TcpSocket {
    /// One that came in.
    pub(super) fn accepted(connection: Connection, family: Family, options: Options) -> Self {
        let remote = connection.peer_addr();
        Self { family, state: State::connected(connection, remote), options }
    }

    /// The connection, if `half` of it was not yet had.
    fn half(&mut self, half: fn(&mut Connected) -> &mut bool) -> Option<Arc<Connection>> {
        let State::Connected(connected) = &mut self.state else { return None };
        let had = std::mem::replace(half(connected), true);
        (!had).then(|| Arc::clone(&connected.connection))
    }

    fn set<T: PartialEq + Default>(&mut self, value: T, place: fn(&mut Options) -> &mut T) -> Result<()> {
        self.options.set(value, place).map_err(|Zero| ErrorCode::InvalidArgument.into())
    }
}

impl State {
    fn connected(connection: Connection, remote: SocketAddr) -> Self {
        let connection = Arc::new(connection);
        Self::Connected(Connected { connection, remote, sends: false, receives: false })
    }
}

impl Sockets<'_> {
    /// Whom a socket is to be connected to, and by which network.
    fn connecting(&mut self, socket: &Resource<TcpSocket>, remote: SocketAddr) -> Result<(Net, Connect)> {
        let net = self.network()?;
        let socket = self.table.get_mut(socket)?;
        if !matches!(socket.state, State::New | State::Bound(_)) {
            return Err(ErrorCode::InvalidState.into());
        }
        if !socket.family.reaches(remote) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        let Some(to) = net.destination_at(remote) else {
            rules::refuse_to_connect();
            socket.state = State::Closed;
            return Err(ErrorCode::AccessDenied.into());
        };
        socket.state = State::Connecting;
        Ok((net, to))
    }

    /// Begins to listen. A socket that is not bound listens anywhere, if it may.
    fn listening(&mut self, socket: &Resource<TcpSocket>) -> Result<(Listener, Family, Options)> {
        let net = self.network()?;
        let socket = self.table.get_mut(socket)?;
        let bound = match &socket.state {
            State::Bound(bound) => Some(bound.clone()),
            State::New => Bound::new(&net, socket.family.unbound()),
            _ => return Err(ErrorCode::InvalidState.into()),
        };
        let Some(listen) = bound.and_then(|bound| bound.listen) else {
            rules::refuse_to_listen(0);
            return Err(ErrorCode::AccessDenied.into());
        };
        let listener = net.listen(&listen, STREAM)?;
        socket.state = State::Listening(listener.local_addr());
        Ok((listener, socket.family, socket.options.clone()))
    }
}

impl<T: Send + 'static> HostTcpSocketWithStore<T> for HasSockets {
    async fn connect(
        store: &Accessor<T, Self>,
        socket: Resource<TcpSocket>,
        remote: IpSocketAddress,
    ) -> Result<()> {
        let remote = SocketAddr::from(remote);
        let (net, to) = store.with(|mut store| store.get().connecting(&socket, remote))?;
        let connected = net.connect(&to, STREAM).await;
        store.with(|mut store| -> Result<()> {
            let socket = store.get().table.get_mut(&socket)?;
            // A socket connects once, whatever comes of it.
            socket.state = State::Closed;
            socket.state = State::connected(connected?, remote);
            Ok(())
        })
    }

    fn listen(
        mut store: Access<'_, T, Self>,
        socket: Resource<TcpSocket>,
    ) -> Result<StreamReader<Resource<TcpSocket>>> {
        let view = store.getter();
        let (listener, family, options) = store.get().listening(&socket)?;
        Ok(StreamReader::new(&mut store, Incoming::new(listener, family, options, view))?)
    }

    fn send(
        mut store: Access<'_, T, Self>,
        socket: Resource<TcpSocket>,
        mut data: StreamReader<u8>,
    ) -> wasmtime::Result<Ended> {
        let connection = store.get().table.get_mut(&socket)?.half(|connected| &mut connected.sends);
        let (mut end, ended) = End::new();
        match connection {
            Some(connection) => data.pipe(&mut store, Sending { connection, end })?,
            None => {
                end.tell(Err(ErrorCode::InvalidState));
                data.close(&mut store)?;
            }
        }
        FutureReader::new(&mut store, ended)
    }

    fn receive(
        mut store: Access<'_, T, Self>,
        socket: Resource<TcpSocket>,
    ) -> wasmtime::Result<(StreamReader<u8>, Ended)> {
        let connection = store.get().table.get_mut(&socket)?.half(|connected| &mut connected.receives);
        let (mut end, ended) = End::new();
        let stream = match connection {
            Some(connection) => StreamReader::new(&mut store, Receiving { connection, end })?,
            None => {
                end.tell(Err(ErrorCode::InvalidState));
                StreamReader::new(&mut store, iter::empty())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, ended)?))
    }
}

impl HostTcpSocket for Sockets<'_> {
    fn create(&mut self, family: IpAddressFamily) -> Result<Resource<TcpSocket>> {
        self.network()?;
        let family = match family {
            IpAddressFamily::Ipv4 => Family::V4,
            IpAddressFamily::Ipv6 => Family::V6,
        };
        Ok(self.table.push(TcpSocket { family, state: State::New, options: Options::default() })?)
    }

    fn bind(&mut self, this: Resource<TcpSocket>, local: IpSocketAddress) -> Result<()> {
        let local = SocketAddr::from(local);
        let net = self.network()?;
        let socket = self.table.get_mut(&this)?;
        if !matches!(socket.state, State::New) {
            return Err(ErrorCode::InvalidState.into());
        }
        if !socket.family.takes(local) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        socket.state = State::Bound(Bound::new(&net, local).ok_or(ErrorCode::AccessDenied)?);
        Ok(())
    }

    fn get_local_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        let address = match &socket.state {
            State::Bound(bound) => bound.local,
            State::Listening(address) => *address,
            State::Connected(connected) => connected.connection.local_addr(),
            _ => return Err(ErrorCode::InvalidState.into()),
        };
        Ok(socket.family.shows(address).into())
    }

    fn get_remote_address(&mut self, this: Resource<TcpSocket>) -> Result<IpSocketAddress> {
        let socket = self.table.get(&this)?;
        let State::Connected(connected) = &socket.state else {
            return Err(ErrorCode::InvalidState.into());
        };
        Ok(socket.family.shows(connected.remote).into())
    }

    fn get_is_listening(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<bool> {
        Ok(matches!(self.table.get(&this)?.state, State::Listening(_)))
    }

    fn get_address_family(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<IpAddressFamily> {
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

    fn get_keep_alive_enabled(&mut self, this: Resource<TcpSocket>) -> Result<bool> {
        Ok(self.table.get(&this)?.options.keep_alive)
    }

    fn set_keep_alive_enabled(&mut self, this: Resource<TcpSocket>, value: bool) -> Result<()> {
        self.table.get_mut(&this)?.options.keep_alive = value;
        Ok(())
    }

    fn get_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        Ok(self.table.get(&this)?.options.idle)
    }

    fn set_keep_alive_idle_time(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.idle)
    }

    fn get_keep_alive_interval(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        Ok(self.table.get(&this)?.options.interval)
    }

    fn set_keep_alive_interval(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.interval)
    }

    fn get_keep_alive_count(&mut self, this: Resource<TcpSocket>) -> Result<u32> {
        Ok(self.table.get(&this)?.options.count)
    }

    fn set_keep_alive_count(&mut self, this: Resource<TcpSocket>, value: u32) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.count)
    }

    fn get_hop_limit(&mut self, this: Resource<TcpSocket>) -> Result<u8> {
        Ok(self.table.get(&this)?.options.hops)
    }

    fn set_hop_limit(&mut self, this: Resource<TcpSocket>, value: u8) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.hops)
    }

    fn get_receive_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        Ok(self.table.get(&this)?.options.receive)
    }

    fn set_receive_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.receive)
    }

    fn get_send_buffer_size(&mut self, this: Resource<TcpSocket>) -> Result<u64> {
        Ok(self.table.get(&this)?.options.send)
    }

    fn set_send_buffer_size(&mut self, this: Resource<TcpSocket>, value: u64) -> Result<()> {
        self.table.get_mut(&this)?.set(value, |options| &mut options.send)
    }

    fn drop(&mut self, this: Resource<TcpSocket>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
