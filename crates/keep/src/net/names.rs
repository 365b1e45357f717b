//! Addresses that stand for names, so that what a component connects to is decided by the name that it asked for
//! (S-30). They are of this module's making, mean nothing outside, and collide with none that can be routed:
//! 240.0.0.0/4 is reserved (RFC 1112 §4), and so is the prefix of a site of our own (RFC 4193 §3.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use keep_config::Connect;

use super::Net;

const V4: u32 = 0xf000_0000;
const V6: u128 = 0xfd62_6169_6c65_7900_0000_0000_0000_0000;
/// Names at most; a configuration of 1 MiB has fewer.
const MAX_NAMES: u32 = 1 << 20;

impl Net {
    /// The addresses of `name` in the eyes of a component: of each family one. A literal address is itself, and no
    /// address means that the configuration does not list the name.
    pub fn resolve(&self, name: &str) -> Vec<IpAddr> {
        if let Ok(literal) = name.parse() {
            return vec![literal];
        }
        let place = self.hosts().position(|host| host.eq_ignore_ascii_case(name));
        let Some(place) = place.and_then(|place| u32::try_from(place + 1).ok()).filter(|n| *n < MAX_NAMES)
        else {
            return Vec::new();
        };
        vec![Ipv4Addr::from_bits(V4 + place).into(), Ipv6Addr::from_bits(V6 + u128::from(place)).into()]
    }

    /// Whom a component reaches at `address`: who has the name that it stands for, or a literal address that the
    /// configuration lists.
    pub fn destination_at(&self, address: SocketAddr) -> Option<Connect> {
        match self.name_of(address.ip()) {
            Some(name) => self.destination(name, address.port()),
            None => self.destination(&address.ip().to_string(), address.port()),
        }
    }

    fn name_of(&self, address: IpAddr) -> Option<&str> {
        let place = match address {
            IpAddr::V4(address) => address.to_bits().checked_sub(V4),
            IpAddr::V6(address) => {
                address.to_bits().checked_sub(V6).and_then(|place| u32::try_from(place).ok())
            }
        };
        let place = usize::try_from(place.filter(|place| *place < MAX_NAMES)?).ok()?;
        self.hosts().nth(place.checked_sub(1)?)
    }
}
