//! Where programs connect: a Unix socket, or loopback. On a Unix socket the kernel says who a peer is; on loopback
//! nobody does, and every program of this machine is served.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tonic::transport::server::Connected;

/// Connections at a time.
const MOST_CONNECTIONS: usize = 64;

/// Who may connect to a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Peers {
    /// Programs of the user that this one runs as.
    #[default]
    SameUser,
    /// Whomever the socket's mode lets in: its user and its group.
    Group,
}

/// Where to listen.
#[derive(Debug)]
pub enum Listener {
    /// A socket in the file system.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Where; it is removed at the end.
        path: PathBuf,
        /// Who may connect.
        peers: Peers,
    },
    /// Loopback.
    Tcp(TcpListener),
}

/// Why nothing can listen there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another file is there.
    #[error("{0:?} is there and is no socket: name another path, or remove it")]
    NotASocket(PathBuf),
    /// Another program listens.
    #[error("another program listens at {0:?}")]
    InUse(PathBuf),
    /// Not on this machine only.
    #[error("{0} is not a loopback address: the Workload API is for programs of the same machine only")]
    NotLoopback(SocketAddr),
    /// The operating system refused.
    #[error("listening at {place} failed")]
    System {
        /// Where.
        place: String,
        /// Its error.
        source: io::Error,
    },
}

impl Listener {
    /// A Unix socket of mode 0660. What a program that is gone left there is removed.
    pub fn unix(path: &Path, peers: Peers) -> Result<Self, ListenError> {
        let failed = |source| ListenError::System { place: path.display().to_string(), source };
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.into())),
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(ListenError::InUse(path.into()));
            }
            Ok(_) => std::fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        Ok(Self::Unix { listener, path: path.into(), peers })
    }

    /// Loopback, and no other address.
    pub async fn tcp(address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        let bound = TcpListener::bind(address).await;
        bound.map(Self::Tcp).map_err(|source| ListenError::System { place: address.to_string(), source })
    }

    /// Sends each connection that is let in, until nobody takes them.
    pub(crate) async fn accept(self, connections: mpsc::Sender<io::Result<Connection>>) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let own = rustix::process::geteuid().as_raw();
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = tokio::select! {
                stream = self.next(own) => stream,
                () = connections.closed() => return,
            };
            let Some(stream) = stream else { continue };
            if connections.send(Ok(Connection { stream, _place: place })).await.is_err() {
                return;
            }
        }
    }

    async fn next(&self, own: u32) -> Option<Stream> {
        let accepted = match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix { listener, peers, .. } => match listener.accept().await {
                Ok((stream, _)) if admits(*peers, stream.peer_cred().ok()?.uid(), own) => {
                    Ok(Stream::Unix(stream))
                }
                Ok(_) => {
                    tracing::warn!("a program of another user was turned away from the Workload API");
                    return None;
                }
                Err(error) => Err(error),
            },
        };
        match accepted {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::debug!(%error, "a connection to the Workload API could not be taken");
                // Out of descriptors, mostly: they come back.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                None
            }
        }
    }
}

fn admits(peers: Peers, peer: u32, own: u32) -> bool {
    match peers {
        Peers::SameUser => peer == own,
        Peers::Group => true,
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A connection, which has a place among those that are served.
pub(crate) struct Connection {
    stream: Stream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_user_unless_the_group_may() {
        assert!(admits(Peers::SameUser, 1000, 1000));
        assert!(!admits(Peers::SameUser, 1001, 1000));
        assert!(!admits(Peers::SameUser, 0, 1000));
        assert!(admits(Peers::Group, 1001, 1000));
        assert_eq!(Peers::default(), Peers::SameUser);
    }
}
