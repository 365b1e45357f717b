//! `wasi:sockets` 0.3: what [`crate::sockets`] is to 0.2, with the same rules. TCP is TLS as the configuration says, names
//! stand for who has them, and UDP is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use wasmtime::component::{Accessor, Resource, ResourceTableError};

use super::{
    Refusal,
    bindings::sockets::{
        ip_name_lookup,
        types::{
            self, ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress,
            Ipv6SocketAddress,
        },
    },
};
use crate::{
    net::{Broken, Net, NetError},
    sockets::{HasSockets, Sockets, rules},
};

mod streams;
pub(crate) mod tcp;

/// Why an operation fails.
pub type SocketError = Refusal<ErrorCode>;

type Result<T, E = SocketError> = std::result::Result<T, E>;

/// There is none.
#[derive(Debug)]
pub enum UdpSocket {}

impl From<ErrorCode> for SocketError {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<NetError> for SocketError {
    fn from(error: NetError) -> Self {
        match rules::failed(&error) {
            Ok(()) => Self::Code((&error).into()),
            Err(exceeded) => exceeded.into(),
        }
    }
}

/// A stream that was cut off is told apart from one that ended, as in 0.2.
impl From<Broken> for ErrorCode {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Truncated => Self::ConnectionAborted,
            Broken::Reset | Broken::Cut => Self::ConnectionReset,
            Broken::Tls { .. } | Broken::Shut => Self::ConnectionBroken,
        }
    }
}

impl From<SocketAddr> for IpSocketAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => {
                Self::Ipv4(Ipv4SocketAddress { port: v4.port(), address: v4.ip().octets().into() })
            }
            SocketAddr::V6(v6) => Self::Ipv6(Ipv6SocketAddress {
                port: v6.port(),
                flow_info: v6.flowinfo(),
                address: v6.ip().segments().into(),
                scope_id: v6.scope_id(),
            }),
        }
    }
}

impl From<IpSocketAddress> for SocketAddr {
    fn from(address: IpSocketAddress) -> Self {
        match address {
            IpSocketAddress::Ipv4(v4) => (Ipv4Addr::from(<[u8; 4]>::from(v4.address)), v4.port).into(),
            IpSocketAddress::Ipv6(v6) => {
                let address = Ipv6Addr::from(<[u16; 8]>::from(v6.address));
                SocketAddrV6::new(address, v6.port, v6.flow_info, v6.scope_id).into()
            }
        }
    }
}

impl From<IpAddr> for IpAddress {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::Ipv4(v4.octets().into()),
            IpAddr::V6(v6) => Self::Ipv6(v6.segments().into()),
        }
    }
}

impl Sockets<'_> {
    /// The network, for components of 0.3.
    fn network(&self) -> Result<Net> {
        self.net.cloned().ok_or_else(|| ErrorCode::AccessDenied.into())
    }

    /// No handle of a socket of UDP was ever given.
    fn never<T>(&self, socket: &Resource<UdpSocket>) -> Result<T, ResourceTableError> {
        match *self.table.get(socket)? {}
    }
}

impl types::Host for Sockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.code()
    }
}

impl ip_name_lookup::Host for Sockets<'_> {}

impl<T: Send + 'static> ip_name_lookup::HostWithStore<T> for HasSockets {
    async fn resolve_addresses(
        store: &Accessor<T, Self>,
        name: String,
    ) -> wasmtime::Result<Result<Vec<IpAddress>, ip_name_lookup::ErrorCode>> {
        let Some(net) = store.with(|mut store| store.get().net.cloned()) else {
            return Ok(Err(ip_name_lookup::ErrorCode::AccessDenied));
        };
        let addresses = net.resolve(&name);
        if addresses.is_empty() {
            return Ok(Err(ip_name_lookup::ErrorCode::NameUnresolvable));
        }
        Ok(Ok(addresses.into_iter().map(IpAddress::from).collect()))
    }
}

/// There is no DTLS here, and without it whatever is sent would be the host's to read and to write.
impl types::HostUdpSocket for Sockets<'_> {
    fn create(&mut self, _family: IpAddressFamily) -> Result<Resource<UdpSocket>> {
        Err(ErrorCode::NotSupported.into())
    }

    fn bind(&mut self, socket: Resource<UdpSocket>, _local: IpSocketAddress) -> Result<()> {
        Ok(self.never(&socket)?)
    }

    fn connect(&mut self, socket: Resource<UdpSocket>, _remote: IpSocketAddress) -> Result<()> {
        Ok(self.never(&socket)?)
    }

    fn disconnect(&mut self, socket: Resource<UdpSocket>) -> Result<()> {
        Ok(self.never(&socket)?)
    }

    fn get_local_address(&mut self, socket: Resource<UdpSocket>) -> Result<IpSocketAddress> {
        Ok(self.never(&socket)?)
    }

    fn get_remote_address(&mut self, socket: Resource<UdpSocket>) -> Result<IpSocketAddress> {
        Ok(self.never(&socket)?)
    }

    fn get_address_family(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        Ok(self.never(&socket)?)
    }

    fn get_unicast_hop_limit(&mut self, socket: Resource<UdpSocket>) -> Result<u8> {
        Ok(self.never(&socket)?)
    }

    fn set_unicast_hop_limit(&mut self, socket: Resource<UdpSocket>, _value: u8) -> Result<()> {
        Ok(self.never(&socket)?)
    }

    fn get_receive_buffer_size(&mut self, socket: Resource<UdpSocket>) -> Result<u64> {
        Ok(self.never(&socket)?)
    }

    fn set_receive_buffer_size(&mut self, socket: Resource<UdpSocket>, _value: u64) -> Result<()> {
        Ok(self.never(&socket)?)
    }

    fn get_send_buffer_size(&mut self, socket: Resource<UdpSocket>) -> Result<u64> {
        Ok(self.never(&socket)?)
    }

    fn set_send_buffer_size(&mut self, socket: Resource<UdpSocket>, _value: u64) -> Result<()> {
        Ok(self.never(&socket)?)
    }

    fn drop(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<()> {
        Ok(self.never(&socket)?)
    }
}

impl<T: Send + 'static> types::HostUdpSocketWithStore<T> for HasSockets {
    async fn send(
        store: &Accessor<T, Self>,
        socket: Resource<UdpSocket>,
        _data: Vec<u8>,
        _remote: Option<IpSocketAddress>,
    ) -> Result<()> {
        Ok(store.with(|mut store| store.get().never(&socket))?)
    }

    async fn receive(
        store: &Accessor<T, Self>,
        socket: Resource<UdpSocket>,
    ) -> Result<(Vec<u8>, IpSocketAddress)> {
        Ok(store.with(|mut store| store.get().never(&socket))?)
    }
}
