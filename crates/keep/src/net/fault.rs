//! What goes wrong, and its stable codes. The log has the reasons; a workload gets an error of its interface, which says
//! no more than a plain socket would.

use std::{io, net::SocketAddr};

use attested_tls::marble;

/// Why there is no listener or no connection.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// `[roots]` holds what cannot be read.
    #[error("roots.{name}: {problem}; write one or more CERTIFICATE blocks of PEM")]
    Roots {
        /// The key in `[roots]`.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A name that is no key of `[roots]`.
    #[error("{0:?} is no key of [roots]")]
    UnknownRoots(String),
    /// Chain and key of this Keep cannot be used.
    #[error("this Keep's certificate and key cannot be used for TLS")]
    Identity(#[source] rustls::Error),
    /// Marbles are asked for where there is no mesh.
    #[error("\"marbles\" was asked for, and this Keep is no Marble: deploy it by a manifest, or name roots")]
    NoMesh,
    /// Only Marbles may call, and the manifest names none.
    #[error("only Marbles may connect, and the manifest lets anyone in: name the callers in the manifest")]
    NoMarbleNamed,
    /// A listener that lets in whom the manifest does not.
    #[error(
        "the manifest lets only named Marbles in, and this listener would let in others: write client = \"marbles\""
    )]
    ListenerOpen,
    /// The host does not let us listen there.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A Marble that this one may not call, or of which the host says no address.
    #[error(
        "Marble {0:?} is not one that the manifest lets this one call, or the host gives no address for it"
    )]
    UnknownMarble(String),
    /// No address for the name, or no connection to any of them.
    #[error("{host}:{port} cannot be reached")]
    Unreachable {
        /// Who.
        host: String,
        /// Which port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// Not in time.
    #[error("{host}:{port} did not take the connection in time")]
    TimedOut {
        /// Who.
        host: String,
        /// Which port.
        port: u16,
    },
    /// TLS failed: the peer is not who was asked for, or refuses us, or speaks no TLS 1.3.
    #[error("the TLS handshake with {host}:{port} failed")]
    Handshake {
        /// Who.
        host: String,
        /// Which port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// As many connections as the configuration allows.
    #[error("{0} connections are open, as many as limits.connections allows")]
    TooMany(usize),
}

impl NetError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Roots { .. } | Self::UnknownRoots(_) => "ROOTS_UNUSABLE",
            Self::Identity(_) => "IDENTITY_UNUSABLE",
            Self::NoMesh => "NOT_A_MARBLE",
            Self::NoMarbleNamed => "NO_MARBLE_NAMED",
            Self::ListenerOpen => "LISTENER_TOO_OPEN",
            Self::Listen { .. } => "LISTEN_FAILED",
            Self::UnknownMarble(_) => "MARBLE_UNKNOWN",
            Self::Unreachable { .. } => "PEER_UNREACHABLE",
            Self::TimedOut { .. } => "PEER_SILENT",
            Self::Handshake { source, .. } => marble::handshake_refusal(source).0,
            Self::TooMany(_) => "CONNECTION_LIMIT",
        }
    }
}

/// Why a connection carries nothing more in one direction. Said again each time it is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// TCP ended without TLS's own end: bytes may be missing, and whoever is on the path may have cut them off.
    #[error("the connection was cut off: it ended without close_notify")]
    Truncated,
    /// The peer, or the network, ended it.
    #[error("the connection was reset")]
    Reset,
    /// What came is no TLS of this connection, or the peer refuses us.
    #[error("TLS failed: {reason}")]
    Tls {
        /// Stable code.
        code: &'static str,
        /// For the log.
        reason: String,
    },
    /// Written to after its write side was shut.
    #[error("the write side is shut")]
    Shut,
    /// Ended by the Keep: its peer counts no more in the mesh.
    #[error("the Keep ended the connection: its peer counts no more")]
    Cut,
}

impl Broken {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Truncated => "CONNECTION_TRUNCATED",
            Self::Reset => "CONNECTION_RESET",
            Self::Tls { code, .. } => code,
            Self::Shut => "WRITE_SIDE_SHUT",
            Self::Cut => "CONNECTION_CUT",
        }
    }

    pub(super) fn of_tls(error: rustls::Error) -> Self {
        let (code, reason) = marble::handshake_refusal(&error);
        let code = if code == "HANDSHAKE_FAILED" { "CONNECTION_TLS_FAILED" } else { code };
        Self::Tls { code, reason }
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        let kind = match broken {
            Broken::Truncated => io::ErrorKind::UnexpectedEof,
            Broken::Reset | Broken::Cut => io::ErrorKind::ConnectionReset,
            Broken::Tls { .. } => io::ErrorKind::InvalidData,
            Broken::Shut => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, broken)
    }
}
