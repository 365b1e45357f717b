//! The network: one card, at an address that every guest has, as QEMU's user networking expects it.

use std::{fs, net::Ipv4Addr};

use crate::{InitError, system};

/// The guest's address, of 10.0.2.0/24.
pub(crate) const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// The host's, to the guest.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
const CARD: &str = "/sys/class/net/eth0";

/// Brings it up; a machine without a card goes without.
pub(crate) fn up() -> Result<(), InitError> {
    if !fs::exists(CARD).unwrap_or(false) {
        return Ok(());
    }
    system::configure_network(OWN, MASK, GATEWAY).map_err(InitError::system("configuring the network"))?;
    let settings = format!("nameserver {RESOLVER}\n");
    fs::create_dir_all("/etc")
        .and_then(|()| fs::write("/etc/resolv.conf", settings))
        .map_err(InitError::system("writing /etc/resolv.conf"))
}
