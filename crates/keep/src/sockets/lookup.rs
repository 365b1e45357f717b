//! `wasi:sockets/ip-name-lookup`: which address stands for a name.

use std::net::IpAddr;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    DynPollable, Pollable, SocketError,
    bindings::sockets::network::{ErrorCode, IpAddress, Network},
    subscribe,
};

use super::{
    Sockets,
    bindings::ip_name_lookup::{Host, HostResolveAddressStream},
};

/// What is left to tell.
pub struct Addresses(std::vec::IntoIter<IpAddr>);

impl Host for Sockets<'_> {
    fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Result<Resource<Addresses>, SocketError> {
        self.table.get(&network)?;
        let addresses = self.net()?.resolve(&name);
        if addresses.is_empty() {
            return Err(ErrorCode::NameUnresolvable.into());
        }
        Ok(self.table.push(Addresses(addresses.into_iter()))?)
    }
}

impl HostResolveAddressStream for Sockets<'_> {
    fn resolve_next_address(
        &mut self,
        stream: Resource<Addresses>,
    ) -> Result<Option<IpAddress>, SocketError> {
        Ok(self.table.get_mut(&stream)?.0.next().map(IpAddress::from))
    }

    fn subscribe(&mut self, stream: Resource<Addresses>) -> wasmtime::Result<Resource<DynPollable>> {
        subscribe(self.table, stream)
    }

    fn drop(&mut self, stream: Resource<Addresses>) -> wasmtime::Result<()> {
        self.table.delete(stream)?;
        Ok(())
    }
}

#[async_trait::async_trait]
impl Pollable for Addresses {
    /// Nobody is asked, so nothing is waited for.
    async fn ready(&mut self) {}
}
