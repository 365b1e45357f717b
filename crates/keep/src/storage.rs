//! Where the host keeps the files of volumes.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use volume::remote::Link;

/// How long the host has for each answer where its files are behind a port.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the host keeps the files of volumes.
#[derive(Debug, Clone)]
pub enum Storage {
    /// In a folder.
    Folder(PathBuf),
    /// Behind a port, where it answers [`volume::remote`]: of machines that share no files with their host.
    Port(SocketAddr),
}

/// [`Storage`], reached.
pub(crate) enum Place {
    Folder(PathBuf),
    Link(Arc<Link>),
}

impl Storage {
    pub(crate) async fn reach(&self) -> io::Result<Place> {
        match self {
            Self::Folder(folder) => Ok(Place::Folder(folder.clone())),
            Self::Port(address) => {
                let address = *address;
                let linked = tokio::task::spawn_blocking(move || link(address)).await;
                Ok(Place::Link(linked.map_err(io::Error::other)??))
            }
        }
    }
}

fn link(address: SocketAddr) -> io::Result<Arc<Link>> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Link::new(stream))
}
