//! Where a workload may listen and what it may connect to, each with the protection that the Keep gives and the
//! workload does not see.

use std::net::{IpAddr, Ipv6Addr};

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where: `::` if nothing is said.
    pub addr: IpAddr,
    /// The port: 443 for TLS, 80 for TCP, if nothing is said.
    pub port: u16,
    /// How.
    pub protection: Protection<Clients>,
}

/// Somebody to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// A DNS name, an address, or a Marble: never resolved to decide whom to trust.
    pub host: String,
    /// The port: 443 for TLS, 80 for TCP, if nothing is said.
    pub port: u16,
    /// How.
    pub protection: Protection<Roots>,
}

/// What is between the workload's bytes and the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection<P> {
    /// TLS 1.3, with these peers.
    Tls(P),
    /// Nothing.
    Tcp,
}

/// Who may connect to a listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Clients {
    /// Anyone; the client shows no certificate.
    #[default]
    Anyone,
    /// Marbles of this mesh that the manifest lets in.
    Marbles,
    /// Who has a certificate below these roots, a key of [`KeepConfig::roots`](crate::KeepConfig::roots).
    Named(String),
}

/// Which servers count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Roots {
    /// Those that browsers trust (Mozilla's), as in Enarx.
    #[default]
    Web,
    /// The Marble of that name in this mesh.
    Marbles,
    /// Those below these roots, a key of [`KeepConfig::roots`](crate::KeepConfig::roots).
    Named(String),
}

/// Where HTTP arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// The listener; port 0 takes any.
    pub listen: Listen,
}

impl Default for Http {
    fn default() -> Self {
        let protection = Protection::Tls(Clients::Anyone);
        Self { listen: Listen { addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED), port: 0, protection } }
    }
}
