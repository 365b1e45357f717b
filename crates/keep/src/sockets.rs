//! `wasi:sockets` 0.2 over [`Net`]: a component that listens or connects gets TLS, or what else the configuration says,
//! and does not see it. It may listen where `[[listen]]` allows the port, and connect to what `[[connect]]` and the
//! manifest's peers allow.
//!
//! Names decide (S-30): a name that the configuration lists resolves to an address of this module's making, which
//! stands for the name; the host's resolver is asked when the connection is made, and believed by nobody. UDP is
//! refused: there is no DTLS here, and without it whatever is sent would be the host's to read and to write.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::{
    SocketError, UdpSocket,
    bindings::sockets::network::{self, ErrorCode, IpAddressFamily, Network},
};

use crate::net::Net;

mod bindings;
mod lookup;
pub(crate) mod rules;
mod streams;
mod tcp;

/// What one instance's sockets are made of.
pub(crate) struct Sockets<'a> {
    /// `None`: a workload without a network.
    pub(crate) net: Option<&'a Net>,
    pub(crate) table: &'a mut ResourceTable,
}

impl Sockets<'_> {
    /// The network, for components of 0.2.
    fn net(&self) -> Result<&Net, SocketError> {
        self.net.ok_or_else(|| ErrorCode::AccessDenied.into())
    }
}

pub(crate) struct HasSockets;

impl HasData for HasSockets {
    type Data<'a> = Sockets<'a>;
}

/// Links the interfaces of this module; `network`, `instance-network` and `udp` are wasmtime-wasi's.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    host: fn(&mut T) -> Sockets<'_>,
) -> wasmtime::Result<()> {
    bindings::tcp::add_to_linker::<T, HasSockets>(linker, host)?;
    bindings::tcp_create_socket::add_to_linker::<T, HasSockets>(linker, host)?;
    bindings::udp_create_socket::add_to_linker::<T, HasSockets>(linker, host)?;
    bindings::ip_name_lookup::add_to_linker::<T, HasSockets>(linker, host)
}

impl bindings::udp_create_socket::Host for Sockets<'_> {
    fn create_udp_socket(&mut self, _family: IpAddressFamily) -> Result<Resource<UdpSocket>, SocketError> {
        Err(ErrorCode::NotSupported.into())
    }
}

impl network::Host for Sockets<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?;
        Ok(error.downcast_ref::<std::io::Error>().map(ErrorCode::from))
    }
}

impl network::HostNetwork for Sockets<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        self.table.delete(network)?;
        Ok(())
    }
}
