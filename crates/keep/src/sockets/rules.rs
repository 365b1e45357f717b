//! What holds for a component's sockets in both generations of `wasi:sockets`: where it may listen, which addresses it
//! sees, what it may set, and what it is told when a socket fails.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use keep_config::Listen;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;

use crate::{
    limit::{Exceeded, Which},
    net::{Net, NetError},
    wasi03::bindings::sockets::types::ErrorCode as ErrorCode03,
};

/// A socket is of one family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// Whether a socket of this family can be given `address`.
    pub(crate) fn takes(self, address: SocketAddr) -> bool {
        match (self, address) {
            (Self::V4, SocketAddr::V4(_)) => true,
            (Self::V6, SocketAddr::V6(address)) => address.ip().to_ipv4_mapped().is_none(),
            _ => false,
        }
    }

    /// Whether it can be given `address` as the other end.
    pub(crate) fn reaches(self, address: SocketAddr) -> bool {
        self.takes(address) && !address.ip().is_unspecified() && address.port() != 0
    }

    /// A socket of one family never tells of the other's addresses: a listener of both families has clients of both.
    pub(crate) fn shows(self, address: SocketAddr) -> SocketAddr {
        let ip = match (self, address.ip()) {
            (Self::V4, IpAddr::V6(address)) => {
                address.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED).into()
            }
            (Self::V6, IpAddr::V4(address)) if address.is_unspecified() => Ipv6Addr::UNSPECIFIED.into(),
            (Self::V6, IpAddr::V4(address)) => address.to_ipv6_mapped().into(),
            (_, ip) => ip,
        };
        SocketAddr::new(ip, address.port())
    }

    /// Any address, and any port.
    pub(crate) fn unbound(self) -> SocketAddr {
        match self {
            Self::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
            Self::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }
}

/// A local address that a component asked for.
#[derive(Clone)]
pub(crate) struct Bound {
    /// As it asked.
    pub(crate) local: SocketAddr,
    /// Where it may listen; `None`: this socket can only connect.
    pub(crate) listen: Option<Listen>,
}

impl Bound {
    /// `None`: the configuration allows it neither to listen there nor to begin a connection there.
    pub(crate) fn new(net: &Net, local: SocketAddr) -> Option<Self> {
        let listen = listening(net, local);
        // Port 0 may also be the beginning of a connection.
        if listen.is_none() && local.port() != 0 {
            refuse_to_listen(local.port());
            return None;
        }
        Some(Self { local, listen })
    }
}

/// The component asked to listen where it may not.
pub(crate) fn refuse_to_listen(port: u16) {
    tracing::warn!(code = "LISTEN_NOT_ALLOWED", port, "no [[listen]] entry has this port");
}

/// The component asked for somebody whom it may not reach. It chose whom: what it says could be a secret, and stays here.
pub(crate) fn refuse_to_connect() {
    tracing::warn!(
        code = "DESTINATION_NOT_ALLOWED",
        "the workload may reach what [[connect]] and peers list"
    );
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

/// What a component may set on a socket. The Keep's own sockets have settings of their own; these are only remembered,
/// as if the kernel had rounded them.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) keep_alive: bool,
    pub(crate) idle: u64,
    pub(crate) interval: u64,
    pub(crate) count: u32,
    pub(crate) hops: u8,
    pub(crate) receive: u64,
    pub(crate) send: u64,
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

/// No option may be zero.
pub(crate) struct Zero;

impl Options {
    pub(crate) fn set<T: PartialEq + Default>(
        &mut self,
        value: T,
        place: fn(&mut Self) -> &mut T,
    ) -> Result<(), Zero> {
        if value == T::default() {
            return Err(Zero);
        }
        *place(self) = value;
        Ok(())
    }
}

/// Logs why there is no socket. One connection more than there may be ends the workload; any other reason is an error of
/// its call.
pub(crate) fn failed(error: &NetError) -> Result<(), Exceeded> {
    let reason = attested_tls::marble::handshake_refusal(error).1;
    tracing::warn!(code = error.code(), %error, reason, "the workload's socket failed");
    if matches!(error, NetError::TooMany(_)) { Err(Exceeded(Which::Connections)) } else { Ok(()) }
}

/// What a component is told; the log has the rest. Both generations have the same names for it.
macro_rules! told_as {
    ($($code:ty),*) => {$(
        impl From<&NetError> for $code {
            fn from(error: &NetError) -> Self {
                use std::io::ErrorKind;
                match error {
                    NetError::Listen { source, .. } => match source.kind() {
                        ErrorKind::AddrInUse => Self::AddressInUse,
                        ErrorKind::PermissionDenied => Self::AccessDenied,
                        _ => Self::AddressNotBindable,
                    },
                    NetError::Unreachable { source, .. } if source.kind() == ErrorKind::ConnectionRefused => {
                        Self::ConnectionRefused
                    }
                    NetError::Unreachable { .. } => Self::RemoteUnreachable,
                    NetError::TimedOut { .. } => Self::Timeout,
                    NetError::Handshake { .. } => Self::ConnectionAborted,
                    _ => Self::AccessDenied,
                }
            }
        }
    )*};
}

told_as!(ErrorCode, ErrorCode03);
